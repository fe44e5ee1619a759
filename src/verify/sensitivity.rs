//! Measures how far rounding alone moves the outputs of a net that rounds activations to a few bits.
//!
//! A value halfway between two steps goes to either of them by the order of a sum. In a deep net, one step moves
//! others, so two nets that compute the same may differ by much. Then a small change of its weights does so, too.

use std::collections::BTreeSet;

use super::loading::able;
use super::measure::Gap;
use super::rounds_to_steps;
use crate::error::Result;
use crate::ir::{Model, Tensor, ValueId};
use crate::runtime::{Backend, HostArray, ModelSource, feeds};

/// Relative change of weights. It is less than what eight bits round away.
const CHANGE: f64 = 1e-3;

/// Number of changes that are tried.
const TRIALS: u32 = 4;

/// A net may differ by so many times what the largest of few changes does.
const MARGIN: f64 = 2.0;

/// Operators whose constants of two axes and more are weights.
const LAYERS: [&str; 7] = ["Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN"];

/// For each of the `outputs` of a net for a batch, the relative difference that rounding explains; nothing for a net
/// that does not round activations.
///
/// # Errors
/// Those of runtimes, except refusals.
pub(super) fn explained(
    net: &Model,
    batch: &[(String, HostArray)],
    outputs: &[HostArray],
    backend: &dyn Backend,
) -> Result<Vec<f64>> {
    if !rounds(net) {
        return Ok(Vec::new());
    }
    let mut largest = vec![0.0f64; outputs.len()];
    for trial in 0..TRIALS {
        let changed = neighbour(net, trial)?;
        let Some(found) = ran(&changed, batch, backend)? else { continue };
        for (largest, (found, own)) in largest.iter_mut().zip(found.iter().zip(outputs)) {
            let mut gap = Gap::default();
            if gap.add(found, own).is_ok() && gap.broken == 0 {
                *largest = largest.max(MARGIN * gap.deviation().relative);
            }
        }
    }
    Ok(largest)
}

/// The largest relative difference of an output of a net that rounding explains; `None` for a net that does not round
/// activations, or that the backend does not run.
///
/// # Errors
/// As [`explained`].
pub(super) fn most_explained(
    net: &Model,
    batch: &[(String, HostArray)],
    backend: &dyn Backend,
) -> Result<Option<f64>> {
    if !rounds(net) {
        return Ok(None);
    }
    let Some(outputs) = ran(net, batch, backend)? else { return Ok(None) };
    Ok(explained(net, batch, &outputs, backend)?.into_iter().reduce(f64::max))
}

fn rounds(net: &Model) -> bool {
    net.graph.nodes().any(|(_, node)| rounds_to_steps(node))
}

/// The outputs of a net, if the backend runs it.
fn ran(
    net: &Model,
    batch: &[(String, HostArray)],
    backend: &dyn Backend,
) -> Result<Option<Vec<HostArray>>> {
    let session = able(backend.load(ModelSource::Graph(net)))?;
    let Some(mut session) = session else { return Ok(None) };
    able(session.run(&feeds(batch)))
}

/// The net with weights that are a little larger and smaller in turn, in runs of another length in each trial.
fn neighbour(net: &Model, trial: u32) -> Result<Model> {
    let mut changed = net.clone();
    let layers = net.graph.nodes().map(|(_, node)| node);
    let layers = layers.filter(|node| LAYERS.iter().any(|op| node.is(op)));
    let read: BTreeSet<ValueId> =
        layers.flat_map(|node| node.inputs.iter().skip(1).flatten().copied()).collect();
    for value in read {
        let Some(tensor) = net.graph.initializer(value) else { continue };
        if tensor.dims.len() < 2 || !tensor.dtype.is_float() {
            continue;
        }
        let mut weights = tensor.to_f64()?;
        for (at, weight) in weights.iter_mut().enumerate() {
            *weight *= if (at >> trial) & 1 == 0 { 1.0 + CHANGE } else { 1.0 - CHANGE };
        }
        changed.graph.set_initializer(value, Tensor::from_f64(tensor.dtype, &weights)?);
    }
    Ok(changed)
}
