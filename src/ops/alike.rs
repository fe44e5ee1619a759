//! Operators that keep the order of channels, but may have operands that belong to single channels.

use crate::ir::Dim;

use super::{Flow, NodeView, OpRule};

/// Operators that get their channels whole, since other operands may belong to single channels.
pub struct Alike;

impl OpRule for Alike {
    fn ops(&self) -> &'static [&'static str] {
        &[
            "CumSum",
            "Trilu",
            "Tile",
            "GridSample",
            "RoiAlign",
            "MaxRoiPool",
            "MaxUnpool",
            "ReverseSequence",
            "CastLike",
            "GatherElements",
        ]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        mixed(node)
    }
}

/// The flow of a node that may mix the channels of its first input, and keeps their order.
pub(super) fn mixed(node: &NodeView<'_>) -> Flow {
    let reason = "an operator that may mix channels";
    let shapes = node.shape(0).zip(node.output_shape(0));
    match node.labels(0).zip(shapes) {
        Some((labels, (from, to)))
            if from.len() == to.len()
                && to.get(labels.axis).and_then(Dim::known) == Some(labels.atoms.len()) =>
        {
            Flow::whole_with(reason, labels.clone())
        }
        _ => Flow::whole(reason),
    }
}
