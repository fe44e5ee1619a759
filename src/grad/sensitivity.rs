//! Sensitivity of the outputs to each channel of a layer's pre-activations.

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::{Array2, ArrayD, Axis, IxDyn};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Tape;
use super::decided::deciding;
use super::unrounded::unround;
use crate::calib::data::Dataset;
use crate::calib::sensitivity::Sensitivity;
use crate::couple::{Coupling, LayerId};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{DataType, Dim, Model, TensorType, ValueId};
use crate::runtime::{Backend, HostArray, ModelSource, feeds};

/// The samples that sensitivities are estimated from, and how they are run.
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    /// Runs the net with its backward pass.
    pub backend: &'a dyn Backend,
    /// The data set; its first samples are used.
    pub data: &'a Dataset,
    /// Number of samples at most.
    pub samples: usize,
    /// Samples per run.
    pub batch: usize,
    /// Seed of the random signs.
    pub seed: u64,
    /// Whether to measure how errors of channels add up.
    pub together: bool,
}

/// The sensitivity of the outputs to each layer.
///
/// One backward pass gives Σₖ (∂outputₖ/∂z)² without bias: the outputs are contracted with random
/// signs r, and E[(∂ rᵀoutputs/∂z)²] = Σₖ (∂outputₖ/∂z)² because different outputs' signs cancel.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if an operator between a layer and an output has no gradient, or gradients are
/// not finite.
pub fn sensitivities(
    model: &Model,
    coupling: &Coupling,
    sample: Sample<'_>,
) -> Result<BTreeMap<LayerId, Sensitivity>> {
    let layers: Vec<ValueId> = coupling.layers.iter().map(|l| l.layer.output).collect();
    let Squares { graph, signs, positions } =
        squared_gradients(model, coupling, &layers, sample.together).in_model(&model.name)?;
    let backward = Model { graph, ..model.without_graph() };
    let data = sample.data.take(sample.samples);
    let ranges = data.runs(model.graph.fixed_batch(), sample.batch).in_model(&model.name)?;
    let taken = Sample { data: &data, ..sample };
    let sums = summed(&backward, &signs, taken, &ranges).in_model(&model.name)?;
    let found = of_sums(coupling, &positions, sums, ranges.iter().map(Range::len).sum());
    match found.values().all(Sensitivity::is_sound) {
        true => Ok(found),
        false => Err(Error::new(ErrorKind::Unsupported, "its gradients are not finite")
            .in_model(&model.name)),
    }
}

/// The outputs of the backward pass, summed up over the batches `ranges`.
fn summed(
    backward: &Model,
    signs: &[Signs],
    sample: Sample<'_>,
    ranges: &[Range<usize>],
) -> Result<Vec<Array2<f64>>> {
    let Sample { backend, data, seed, .. } = sample;
    let mut session = backend.load(ModelSource::Graph(backward))?;
    let mut sums: Vec<Array2<f64>> = Vec::new();
    // Samples draw alike whatever the size of batches.
    let mut random: Vec<ChaCha8Rng> = (0..)
        .zip(signs)
        .map(|(stream, _)| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(stream);
            random
        })
        .collect();
    for range in ranges {
        let samples = range.len();
        let mut fed = data.batch(range.clone())?;
        for (sign, random) in signs.iter().zip(&mut random) {
            fed.push((sign.name.clone(), HostArray::F32(sign.drawn(samples, random))));
        }
        let results = session.run(&feeds(&fed))?;
        sums.resize_with(results.len(), || Array2::zeros((0, 0)));
        for (sum, result) in sums.iter_mut().zip(&results) {
            add(sum, result)?;
        }
    }
    Ok(sums)
}

/// Adds a result, with a row per channel.
fn add(sum: &mut Array2<f64>, result: &HostArray) -> Result<()> {
    let values = result.as_f32()?.mapv(f64::from);
    let channels = values.shape().first().copied().unwrap_or(1);
    let shape = (channels, values.len() / channels.max(1));
    let values = values.into_shape_with_order(shape).map_err(|e| uneven().because(e))?;
    if sum.is_empty() {
        *sum = values;
        return Ok(());
    }
    if sum.dim() != values.dim() {
        return Err(uneven());
    }
    *sum += &values;
    Ok(())
}

/// The sensitivities of layers with so many positions, from the sums of so many samples.
fn of_sums(
    coupling: &Coupling,
    positions: &[Option<f64>],
    sums: Vec<Array2<f64>>,
    samples: usize,
) -> BTreeMap<LayerId, Sensitivity> {
    let mut sums = sums.into_iter();
    let layers = coupling.layers.iter().zip(positions).enumerate();
    let found = layers.filter_map(|(place, (coupled, positions))| {
        let sum = sums.next()?;
        let each = if sum.ncols() > 1 { sum.diag().sum() } else { sum.sum() };
        let coherence = match positions {
            Some(positions) => coherence(*positions, each, sums.next()?.sum()),
            None => 1.0,
        };
        let mean = sum / samples.max(1) as f64;
        let (mut channels, mut metric) = match mean.ncols() > 1 {
            true => (mean.diag().to_owned(), Some(mean)),
            false => (mean.column(0).to_owned(), None),
        };
        if let Some(rows) = &coupled.layer.rows {
            channels = channels.select(Axis(0), rows);
            metric = metric.map(|metric| metric.select(Axis(0), rows).select(Axis(1), rows));
        }
        Some((LayerId(place), Sensitivity { channels, metric, coherence }))
    });
    found.collect()
}

fn uneven() -> Error {
    Error::new(ErrorKind::Backend, "a backward pass gave a result of another shape")
}

/// From Σ g² and Σ (Σ g)² over samples and channels, with the inner sum over so many positions: the square
/// of the mean gradient over the mean square of what differs from it, times the number of positions.
fn coherence(positions: f64, each: f64, together: f64) -> f64 {
    let apart = positions * each - together;
    match apart > 0.0 {
        true => (positions * together / apart).clamp(1.0, positions),
        false => positions,
    }
}

/// The backward pass.
struct Squares {
    /// Its outputs are, per layer, Σ g² over batch and positions per channel, and where the layer has
    /// a known number of positions, Σ (Σ g)², the inner sum over positions.
    graph: crate::ir::Graph,
    signs: Vec<Signs>,
    /// Positions per sample of each layer.
    positions: Vec<Option<f64>>,
}

/// Channels of a layer up to which it is measured how their errors add up.
const TOGETHER: usize = 1024;

/// An input for random signs of an output.
struct Signs {
    name: String,
    /// Sizes without that of the axis that counts samples.
    sizes: Vec<usize>,
    /// The axis that counts samples.
    axis: usize,
}

impl Signs {
    /// Signs for so many samples, drawn sample by sample.
    fn drawn(&self, samples: usize, random: &mut ChaCha8Rng) -> ArrayD<f32> {
        let dims: Vec<usize> = std::iter::once(samples).chain(self.sizes.iter().copied()).collect();
        let sign = |_| if random.random::<bool>() { 1.0f32 } else { -1.0 };
        let signs = ArrayD::from_shape_fn(IxDyn(&dims), sign);
        let mut order: Vec<usize> = (1..dims.len()).collect();
        order.insert(self.axis, 0);
        signs.permuted_axes(order).as_standard_layout().into_owned()
    }
}

/// The net with its backward pass.
fn squared_gradients(
    model: &Model,
    coupling: &Coupling,
    layers: &[ValueId],
    together: bool,
) -> Result<Squares> {
    let mut graph = model.graph.clone();
    unround(&mut graph)?;
    let mut tape = Tape::new(graph, layers)?;
    let mut signs = Vec::new();
    for (i, output) in deciding(&tape.graph).iter().enumerate() {
        let shape = tape.graph.value(*output).ty.as_ref().and_then(|t| t.shape.clone());
        let axis = model.graph.sample_axis(*output);
        let of_sample = |shape: &Vec<Dim>| -> Option<Vec<usize>> {
            let dims = shape.iter().enumerate().filter(|(own, _)| *own != axis);
            dims.map(|(_, dim)| dim.known()).collect()
        };
        let sizes = shape.as_ref().filter(|shape| axis < shape.len()).and_then(of_sample);
        let (Some(mut shape), Some(sizes)) = (shape, sizes) else {
            return Err(Error::new(ErrorKind::Unsupported, "an output of unknown shape"));
        };
        if let Some(samples) = shape.get_mut(axis) {
            if samples.known().is_some() && model.graph.fixed_batch().is_none() {
                let message = "an output whose size does not depend on the number of samples";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            // ONNX Runtime loads a graph faster if all samples have one name.
            if samples.known().is_some() {
                *samples = Dim::Unknown;
            }
        }
        let ty = TensorType { dtype: DataType::F32, shape: Some(shape) };
        let sign = tape.graph.add_input(&format!("signs.{i}"), ty);
        signs.push(Signs { name: tape.graph.value(sign).name.clone(), sizes, axis });
        tape.seed(*output, sign);
    }
    tape.run()?;
    tape.graph.outputs.clear();
    let mut positions = Vec::new();
    for (value, coupled) in layers.iter().zip(&coupling.layers) {
        let Some(gradient) = tape.gradient(*value) else {
            return Err(Error::new(ErrorKind::Unsupported, "a layer that reaches no output")
                .at_node(&coupled.name));
        };
        let axis = coupled.layer.out_axis;
        let together = together && !coupled.per_channel;
        positions.push(add_sums(&mut tape, (*value, gradient), axis, together)?);
    }
    tape.graph.remove_dead_nodes();
    Ok(Squares { graph: tape.graph, signs, positions })
}

/// Adds the outputs for a layer's pre-activation and its gradient: Σ g gᵀ over channels (`together`) or
/// Σ g², and Σ (Σ g)² where there are several positions per sample, whose number it returns.
fn add_sums(
    tape: &mut Tape,
    (value, gradient): (ValueId, ValueId),
    axis: usize,
    together: bool,
) -> Result<Option<f64>> {
    let shape = tape.shape(value)?;
    let between: Vec<usize> = (1..shape.len()).filter(|other| *other != axis).collect();
    let sum = match together && shape[axis].known().is_some_and(|n| (2..=TOGETHER).contains(&n)) {
        true => gram(tape, gradient, axis, shape.len()),
        false => squares(tape, gradient, &between),
    };
    tape.graph.outputs.push(sum);
    let extents = between.iter().map(|axis| shape[*axis].known().map(|n| n as f64));
    let several = extents.product::<Option<f64>>().filter(|n| *n > 1.0);
    if several.is_some() {
        let whole = tape.summed(gradient, &between, false);
        let sum = squares(tape, whole, &[]);
        tape.graph.outputs.push(sum);
    }
    Ok(several)
}

/// Σ g² over the batch and the axes `between`.
fn squares(tape: &mut Tape, gradient: ValueId, between: &[usize]) -> ValueId {
    let mut energy = tape.op("Mul", &[gradient, gradient]);
    if !between.is_empty() {
        energy = tape.summed(energy, between, false);
    }
    tape.summed(energy, &[0], false)
}

/// Σ g gᵀ over all other axes than that of the channels.
fn gram(tape: &mut Tape, gradient: ValueId, axis: usize, rank: usize) -> ValueId {
    let others = (0..rank).filter(|other| *other != axis);
    let order: Vec<i64> = std::iter::once(axis).chain(others).map(|axis| axis as i64).collect();
    let first = tape.permuted(gradient, &order);
    let rows = tape.reshaped(first, &[0, -1]);
    let columns = tape.permuted(rows, &[1, 0]);
    tape.op("MatMul", &[rows, columns])
}

#[cfg(test)]
mod tests;
