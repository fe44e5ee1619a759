//! Operators that keep the order of channels: those that work along a few axes, and those that have operands
//! which may belong to single channels.

use crate::ir::Dim;

use super::elementwise::same_axis;
use super::view::normal_axis;
use super::{Flow, NodeView, OpRule, Operand};

/// Operators whose channels are separate if these lie on another axis than those that they work along.
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
        ]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        if let (Some(labels), Some(from)) = (node.labels(0), node.shape(0))
            && along(node, from.len()).is_some_and(|axes| !axes.contains(&labels.axis))
        {
            let mut operands = vec![Operand::Plain; node.node.inputs.len()];
            operands[0] = Operand::Channels;
            return same_axis(node, operands);
        }
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

/// The axes of the first operand along which a node works; `None` if they are not known.
fn along(node: &NodeView<'_>, rank: usize) -> Option<Vec<usize>> {
    let attribute = |name, default| normal_axis(node.node.int(name, default), rank);
    match node.node.op.as_str() {
        "CastLike" => Some(Vec::new()),
        "CumSum" => Some(vec![normal_axis(*node.ints(1)?.first()?, rank)?]),
        "Trilu" => Some((rank.checked_sub(2)?..rank).collect()),
        "Tile" => {
            let repeats = node.ints(1).filter(|repeats| repeats.len() == rank)?;
            Some((0..rank).filter(|axis| repeats[*axis] != 1).collect())
        }
        "ReverseSequence" => Some(vec![attribute("batch_axis", 1)?, attribute("time_axis", 0)?]),
        "GridSample" | "RoiAlign" | "MaxRoiPool" => Some((0..rank).filter(|a| *a != 1).collect()),
        _ => None,
    }
}
