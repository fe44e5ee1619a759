//! Finds equal weights of several nets, read by any operators.

use std::collections::HashSet;

use crate::ir::{DataType, Tensor};
use crate::mtz::joint::JointModel;

/// Constants with fewer elements are axes and bounds, not weights.
const FEWEST: usize = 16;

/// Whether several nets have bit-identical weights, which are stored once.
pub(super) fn have_equal_weights(joint: &JointModel) -> bool {
    let mut seen: HashSet<(&[usize], &[u8])> = HashSet::new();
    joint.tasks().iter().any(|task| {
        let graph = task.graph();
        let constants = graph.values().filter_map(|(id, _)| graph.initializer(id));
        let own: Vec<_> = constants
            .filter(|tensor| is_weight(tensor))
            .map(|tensor| (tensor.dims.as_slice(), tensor.data.as_ref()))
            .collect();
        let common = own.iter().any(|weight| seen.contains(weight));
        seen.extend(own);
        common
    })
}

/// Shapes and constant-filled tensors are not weights.
fn is_weight(tensor: &Tensor) -> bool {
    let Some(size) = tensor.dtype.size() else { return false };
    let mut elements = tensor.data.chunks(size);
    let first = elements.next();
    tensor.dtype != DataType::I64
        && tensor.len() >= FEWEST
        && elements.any(|element| Some(element) != first)
}
