//! Batch sizes: the requested one, or a smaller one if values take too much memory.

use crate::calib::data::Dataset;
use crate::calib::stream::Source;
use crate::ir::{Dim, Model, TensorType};
use crate::mtz::joint::{JointModel, Task};

use super::Calibration;

/// Copies of a large value while a part of a net runs: in the runtime, as output, and at a cut.
const COPIES: u64 = 8;

/// Memory of a forward and backward pass relative to a forward pass.
const WITH_GRADIENTS: u64 = 3;

/// Limit of bytes of values at once. Larger arrays come from the system anew each time, which takes longer.
const ENOUGH: u64 = 1 << 28;

/// The part of `memory` for values of a batch; weights and statistics take the rest.
fn room(memory: u64) -> u64 {
    (memory / 4).min(ENOUGH)
}

impl Calibration {
    /// The same with samples that fit the nets.
    pub(super) fn fitting(&self, joint: &JointModel) -> Calibration {
        let fitted = |(task, data): (&Task, &Dataset)| data.fitting(task.graph().fixed_batch());
        let data = joint.tasks().iter().zip(&self.data).map(fitted).collect();
        Calibration { data, ..self.clone() }
    }

    /// Samples of a net whose values are not kept, in batches that fit the memory.
    pub(super) fn source<'a>(&'a self, model: &Model, data: &'a Dataset) -> Source<'a> {
        Source {
            backend: self.backend.as_ref(),
            data,
            batch: batch_in_parts(model, self.batch, self.memory),
            memory: self.memory,
        }
    }
}

/// The batch size that a model fixes, else `default`.
fn batch_size(model: &Model, default: usize) -> usize {
    model.graph.fixed_batch().unwrap_or(default).max(1)
}

/// The batch size for running a net whose values are not kept, within `memory` bytes.
pub fn batch_in_parts(model: &Model, default: usize, memory: u64) -> usize {
    let largest = values(model).max().unwrap_or(0);
    batch_size(model, default.min(fitting(room(memory), COPIES.saturating_mul(largest))))
}

/// The batch size for running a net forward and backward within `memory` bytes.
pub(super) fn batch_with_gradients(model: &Model, default: usize, memory: u64) -> usize {
    let all = values(model).fold(0u64, u64::saturating_add);
    batch_size(model, default.min(fitting(room(memory), WITH_GRADIENTS.saturating_mul(all))))
}

/// The largest number of bytes that the values of a batch take, with at most `batch` samples within
/// `memory` bytes.
pub fn values_of_batch(model: &Model, batch: usize, memory: u64) -> u64 {
    let largest = COPIES.saturating_mul(values(model).max().unwrap_or(0));
    let all = WITH_GRADIENTS.saturating_mul(values(model).fold(0u64, u64::saturating_add));
    let sample = largest.max(all);
    sample.saturating_mul(batch_size(model, batch) as u64).min(room(memory)).max(sample)
}

fn fitting(memory: u64, sample: u64) -> usize {
    usize::try_from(memory / sample.max(1)).unwrap_or(usize::MAX).max(1)
}

/// Bytes per sample of each computed value of known sizes.
fn values(model: &Model) -> impl Iterator<Item = u64> {
    let graph = &model.graph;
    let computed = graph.values().filter(|(id, _)| graph.initializer(*id).is_none());
    computed.filter_map(|(_, value)| value.ty.as_ref().and_then(bytes))
}

fn bytes(ty: &TensorType) -> Option<u64> {
    let sizes = ty.shape.as_ref()?.iter().skip(1).filter_map(Dim::known);
    let elements = sizes.fold(1u64, |product, size| product.saturating_mul(size as u64));
    Some(elements.saturating_mul(ty.dtype.size()? as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zipper::fixtures;

    #[test]
    fn batches_fit_into_memory() {
        let prepared = fixtures(&["lenet5_mnist_a", "lenet5_mnist_b"]);
        let model = prepared.joint.tasks()[0].model();
        assert_eq!(batch_in_parts(model, 128, 1 << 30), 128);
        // 20 channels of 24 × 24 are the largest value.
        assert_eq!(batch_in_parts(model, 128, 4 * COPIES * 4 * 20 * 24 * 24 * 10), 10);
        assert_eq!(batch_in_parts(model, 128, 1), 1);
        let both = batch_with_gradients(model, 128, 4 << 20);
        assert!((2..128).contains(&both), "{both}");
        assert!(batch_with_gradients(model, 128, 8 << 20) >= 2 * both);
        assert!(batch_in_parts(model, 1 << 30, u64::MAX) < 1 << 20);
    }
}
