//! Samples that fit a net.

use super::data::Dataset;
use crate::ir::Graph;

/// The samples in a form that the net takes: whole batches only, where the net fixes their size. Constants
/// inside the net may have that size, too.
pub(crate) fn fitting(data: &Dataset, graph: &Graph) -> Dataset {
    match graph.fixed_batch() {
        Some(size) => data.filling(size),
        None => data.clone(),
    }
}
