//! Sensitivity of the outputs to each channel of a layer's pre-activations.

use std::collections::BTreeMap;

use ndarray::{Array1, ArrayD, Axis, IxDyn};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Tape;
use crate::calib::data::Dataset;
use crate::couple::{Coupling, LayerId};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{DataType, Dim, Model, TensorType, ValueId};
use crate::onnx;
use crate::runtime::{Backend, HostArray, ModelSource};

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
}

/// E[(∂outputs/∂z)²] per channel of each layer's pre-activation z, mean over samples, summed over positions.
///
/// One backward pass gives Σₖ (∂outputₖ/∂z)² without bias: the outputs are contracted with random
/// signs r, and E[(∂ rᵀoutputs/∂z)²] = Σₖ (∂outputₖ/∂z)² because different outputs' signs cancel.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if an operator between a layer and an output has no gradient.
pub fn sensitivities(
    model: &Model,
    coupling: &Coupling,
    sample: Sample<'_>,
) -> Result<BTreeMap<LayerId, Array1<f64>>> {
    let Sample { backend, data, batch, seed, .. } = sample;
    let layers: Vec<ValueId> = coupling.layers.iter().map(|l| l.layer.output).collect();
    let (graph, signs) = squared_gradients(model, coupling, &layers).in_model(&model.name)?;
    let bytes = onnx::encode(&Model { graph, ..model.without_graph() })?;
    let mut session = backend.load(ModelSource::Bytes(&bytes)).in_model(&model.name)?;
    let mut sums: Vec<Array1<f64>> = Vec::new();
    let samples = sample.samples.min(data.len());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut start = 0;
    while start < samples {
        let end = (start + batch).min(samples);
        let mut feeds = data.batch(start..end).in_model(&model.name)?;
        for (name, dims) in &signs {
            let dims: Vec<usize> =
                std::iter::once(end - start).chain(dims.iter().copied()).collect();
            let random = |_| if rng.random::<bool>() { 1.0f32 } else { -1.0 };
            feeds.push((name.clone(), HostArray::F32(ArrayD::from_shape_fn(IxDyn(&dims), random))));
        }
        let borrowed: Vec<(&str, &HostArray)> =
            feeds.iter().map(|(n, a)| (n.as_str(), a)).collect();
        let results = session.run(&borrowed).in_model(&model.name)?;
        for (i, result) in results.iter().enumerate() {
            let values: Array1<f64> = result.as_f32()?.iter().map(|v| f64::from(*v)).collect();
            match sums.get_mut(i) {
                Some(sum) => *sum += &values,
                None => sums.push(values),
            }
        }
        start = end;
    }
    let means = coupling.layers.iter().zip(sums).map(|(coupled, sum)| {
        let mean = sum / samples.max(1) as f64;
        match &coupled.layer.rows {
            Some(rows) => mean.select(Axis(0), rows),
            None => mean,
        }
    });
    Ok((0..layers.len()).map(LayerId).zip(means).collect())
}

/// Inputs for random signs: name and sizes without the batch axis.
type Signs = Vec<(String, Vec<usize>)>;

/// The net with its backward pass; outputs are Σ over batch and positions of the squared
/// gradient, per channel of each layer.
fn squared_gradients(
    model: &Model,
    coupling: &Coupling,
    layers: &[ValueId],
) -> Result<(crate::ir::Graph, Signs)> {
    let outputs = model.graph.outputs.clone();
    let mut tape = Tape::new(model.graph.clone(), layers)?;
    let mut signs = Vec::new();
    for (i, output) in outputs.iter().enumerate() {
        let shape = tape.graph.value(*output).ty.as_ref().and_then(|t| t.shape.clone());
        let sizes: Option<Vec<usize>> =
            shape.as_ref().and_then(|s| s.iter().skip(1).map(Dim::known).collect());
        let (Some(mut shape), Some(sizes)) = (shape, sizes) else {
            return Err(Error::new(ErrorKind::Unsupported, "an output of unknown shape"));
        };
        if let Some(first) = shape.first_mut() {
            *first = Dim::Unknown;
        }
        let ty = TensorType { dtype: DataType::F32, shape: Some(shape) };
        let sign = tape.graph.add_input(&format!("signs.{i}"), ty);
        signs.push((tape.graph.value(sign).name.clone(), sizes));
        tape.seed(*output, sign);
    }
    tape.run()?;
    tape.graph.outputs.clear();
    for (value, coupled) in layers.iter().zip(&coupling.layers) {
        let Some(gradient) = tape.gradient(*value) else {
            return Err(Error::new(ErrorKind::Unsupported, "a layer that reaches no output")
                .at_node(&coupled.name));
        };
        let rank = tape.shape(*value)?.len();
        let between: Vec<usize> = (1..rank).filter(|a| *a != coupled.layer.out_axis).collect();
        let mut energy = tape.op("Mul", &[gradient, gradient]);
        if !between.is_empty() {
            energy = tape.summed(energy, &between, false);
        }
        let sum = tape.summed(energy, &[0], false);
        tape.graph.outputs.push(sum);
    }
    tape.graph.remove_dead_nodes();
    Ok((tape.graph, signs))
}
