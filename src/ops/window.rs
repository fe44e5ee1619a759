//! Windows of convolutions and pooling that slide beside the axis of channels.

use super::{Labels, NodeView};

/// Whether windows of the extents `kernel` leave channels on another axis than axis 1 alone: on the axis of
/// samples, or on a spatial axis along which every window is one element in its own place.
pub(super) fn leaves_alone(node: &NodeView<'_>, labels: &Labels, kernel: &[usize]) -> bool {
    let Some(at) = labels.axis.checked_sub(2) else { return labels.axis == 0 };
    let is = |name: &str, place: usize, wanted: i64| {
        node.node.ints(name).is_none_or(|own| own.get(place) == Some(&wanted))
    };
    kernel.get(at) == Some(&1)
        && is("strides", at, 1)
        && is("pads", at, 0)
        && is("pads", at + kernel.len(), 0)
        && is("output_padding", at, 0)
}
