//! Sensitivity of the outputs to each channel of a layer's pre-activations.

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::{Array2, ArrayD, Axis, IxDyn};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Tape;
use super::decided::deciding;
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
    let mut tape = Tape::new(model.graph.clone(), layers)?;
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
            *samples = Dim::Unknown;
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
mod tests {
    use super::*;
    use crate::calib::data::DataOptions;
    use crate::ir::builder::GraphBuilder;
    use crate::runtime::{self, RuntimeOptions};

    const CHANNELS: usize = 4;
    const CLASSES: usize = 3;

    /// The sensitivities of a convolution over a plane of 5×5 and of the layer behind it.
    fn measured(behind: fn(&mut GraphBuilder, ValueId) -> ValueId) -> (Model, Vec<Sensitivity>) {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "batch,2,5,5");
        let weight = b.weights("conv.w", &[CHANNELS, 2, 1, 1]);
        let conv = b.op("Conv", "conv", &[x, weight], []);
        let out = behind(&mut b, conv);
        let mut model = b.build(&[out]);
        crate::canon::infer_types(&mut model.graph).unwrap();
        let coupling = Coupling::of(&model.graph).unwrap();
        let backend = runtime::open(&RuntimeOptions::default()).unwrap();
        let session = backend.load(ModelSource::Graph(&model)).unwrap();
        let options = DataOptions::default();
        let data = Dataset::synthetic(session.inputs(), 512, 3, &options).unwrap();
        let sample = Sample {
            backend: backend.as_ref(),
            data: &data,
            samples: 512,
            batch: 64,
            seed: 0,
            together: true,
        };
        let found = sensitivities(&model, &coupling, sample).unwrap();
        (model, found.into_values().collect())
    }

    fn classes(b: &mut GraphBuilder, flat: ValueId, inputs: usize) -> ValueId {
        let weight = b.weights("fc.w", &[CLASSES, inputs]);
        b.op("Gemm", "fc", &[flat, weight], [("transB", 1.into())])
    }

    #[test]
    fn samples_that_do_not_fill_a_fixed_batch_are_left_out() {
        let found = |batch: &str, samples: usize| {
            let mut b = GraphBuilder::new("net", 13);
            let x = b.input("x", &format!("{batch},4"));
            let y = classes(&mut b, x, 4);
            let mut model = b.build(&[y]);
            crate::canon::infer_types(&mut model.graph).unwrap();
            let coupling = Coupling::of(&model.graph).unwrap();
            let backend = runtime::open(&RuntimeOptions::default()).unwrap();
            let session = backend.load(ModelSource::Graph(&model)).unwrap();
            let options = DataOptions::default();
            let data = Dataset::synthetic(session.inputs(), 20, 3, &options).unwrap().take(samples);
            let backend = backend.as_ref();
            let (data, together) = (&data, true);
            let sample = Sample { backend, data, samples: 20, batch: 7, seed: 0, together };
            sensitivities(&model, &coupling, sample)
        };
        let open = found("batch", 14).unwrap();
        assert_eq!(found("7", 20).unwrap(), open);
        assert!(found("batch", 20).unwrap() != open);
        let error = found("7", 6).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Calibration);
        assert!(error.to_string().contains("a batch of 7 takes more than 6 samples"), "{error}");
    }

    #[test]
    fn errors_before_a_mean_add_up_over_positions_and_channels() {
        let (model, found) = measured(|b, conv| {
            let pooled = b.op("GlobalAveragePool", "pool", &[conv], []);
            let flat = b.op("Flatten", "flat", &[pooled], []);
            classes(b, flat, CHANNELS)
        });
        assert_eq!((found[0].coherence, found[1].coherence), (25.0, 1.0));
        let weight = model.graph.initializer(model.graph.value_named("fc.w").unwrap()).unwrap();
        let weight = weight.to_f32().unwrap().mapv(f64::from);
        let weight = weight.into_dimensionality::<ndarray::Ix2>().unwrap();
        // Each of 25 positions has a 25th of the effect.
        let wanted = weight.t().dot(&weight) / 25.0;
        let metric = found[0].metric.as_ref().unwrap();
        let scale = wanted.diag().sum();
        assert!((metric - &wanted).iter().all(|d| d.abs() < 0.1 * scale), "{metric} {wanted}");
        assert_eq!(metric.diag(), found[0].channels);
        let off = found[1].metric.as_ref().unwrap() - Array2::<f64>::eye(CLASSES);
        assert!(off.iter().all(|d| d.abs() < 0.2), "{off}");
    }

    #[test]
    fn errors_do_not_add_up_where_each_position_has_weights_of_its_own() {
        let (_, found) = measured(|b, conv| {
            let flat = b.op("Flatten", "flat", &[conv], []);
            classes(b, flat, CHANNELS * 25)
        });
        assert!((1.0..2.5).contains(&found[0].coherence), "{}", found[0].coherence);
    }

    #[test]
    fn a_class_number_as_the_output_counts_as_its_scores() {
        let (_, wanted) = measured(|b, conv| {
            let flat = b.op("Flatten", "flat", &[conv], []);
            classes(b, flat, CHANNELS * 25)
        });
        let (_, found) = measured(|b, conv| {
            let flat = b.op("Flatten", "flat", &[conv], []);
            let scores = classes(b, flat, CHANNELS * 25);
            b.op("ArgMax", "best", &[scores], [("axis", 1.into())])
        });
        assert_eq!(found, wanted);
    }
}
