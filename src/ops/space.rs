//! Operators that move positions between channels and images.

use super::elementwise::same_axis;
use super::{Atom, Expand, Flow, Labels, NodeView, OpRule, Operand};

/// `SpaceToDepth`.
pub struct SpaceToDepth;
/// `DepthToSpace`.
pub struct DepthToSpace;

/// The axis of channels behind a `DepthToSpace` whose channels are made of neighbouring ones, and their number.
pub(super) fn blocks(node: &NodeView<'_>) -> Option<(usize, usize)> {
    let are_neighbours = node.node.is("DepthToSpace") && node.node.str("mode") == Some("CRD");
    let labels = node.labels(0).filter(|l| are_neighbours && l.axis == 1 && l.within.is_none())?;
    let side = side(node)?;
    let (all, positions) = (labels.atoms.len(), side.checked_mul(side)?);
    let count = all / positions;
    let is_cut = count > 1 && positions > 1 && all == count * positions;
    is_cut.then_some((1, count))
}

/// The side of the blocks of positions that are converted to or from channels.
fn side(node: &NodeView<'_>) -> Option<usize> {
    usize::try_from(node.node.int("blocksize", 0)).ok().filter(|side| (1..=1 << 12).contains(side))
}

impl OpRule for SpaceToDepth {
    fn ops(&self) -> &'static [&'static str] {
        &["SpaceToDepth"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let copies = side(node).and_then(|side| side.checked_mul(side));
        let labels = node.labels(0).filter(|labels| labels.axis == 1);
        let (Some(copies), Some(labels)) = (copies, labels) else {
            return Flow::whole("a move of positions into channels");
        };
        match same_axis(node, vec![Operand::Channels]) {
            // The output has all channels of the first position, then those of the next one.
            Flow::Partwise(mut partwise) => {
                partwise.output.atoms = labels.atoms.repeat(copies);
                partwise.expand = Expand { outer: copies, ..Expand::NONE };
                Flow::Partwise(partwise)
            }
            other => other,
        }
    }
}

impl OpRule for DepthToSpace {
    fn ops(&self) -> &'static [&'static str] {
        &["DepthToSpace"]
    }

    /// Each output channel gets the label of the first input channel that it consists of.
    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let reason = "a move of channels into positions";
        let copies = side(node).and_then(|side| side.checked_mul(side));
        let labels = node.labels(0).filter(|labels| labels.axis == 1);
        let (Some(copies), Some(labels)) = (copies, labels) else { return Flow::whole(reason) };
        let channels = labels.atoms.len() / copies;
        let step = if node.node.str("mode") == Some("CRD") { copies } else { 1 };
        let atoms: Vec<Atom> = labels.atoms.iter().copied().step_by(step).take(channels).collect();
        Flow::whole_with(reason, Labels::along(1, atoms))
    }
}
