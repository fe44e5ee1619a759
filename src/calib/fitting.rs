//! Samples that fit a net.

use super::data::Dataset;
use crate::ir::Graph;

/// Samples are repeated to fill a batch of this size at most, so that a few bytes in a file cannot fill the
/// memory.
const MOST_REPEATED: usize = 4096;

/// The samples in a form that the net takes: whole batches only, where the net fixes their size. Constants
/// inside the net may have that size, too.
pub(crate) fn fitting(data: &Dataset, graph: &Graph) -> Dataset {
    match graph.fixed_batch().filter(|size| *size <= data.len().max(MOST_REPEATED)) {
        Some(size) => data.filling(size),
        None => data.clone(),
    }
}
