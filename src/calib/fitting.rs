//! Samples that fit a net.

use super::data::Dataset;
use crate::couple::Coupling;
use crate::ir::Graph;

/// The samples in a form that the net takes: whole batches only, where the net fixes their size and has
/// features on the first axis of an input.
pub(crate) fn fitting(data: &Dataset, graph: &Graph, coupling: &Coupling) -> Dataset {
    let is_first = |input| coupling.axis(input).map(|channels| channels.axis) == Some(0);
    let has_features = graph.inputs.iter().any(|input| is_first(*input));
    match graph.fixed_batch().filter(|_| has_features) {
        Some(size) => data.filling(size),
        None => data.clone(),
    }
}
