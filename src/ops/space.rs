//! Operators that move positions between channels and images.

use crate::ir::{Dim, TensorType};

use super::elementwise::same_axis;
use super::{Atom, Flow, Labels, NodeView, OpRule, Operand};

/// `SpaceToDepth`.
pub struct SpaceToDepth;
/// `DepthToSpace`.
pub struct DepthToSpace;

/// The side of the blocks of positions that become channels, or are made from them.
fn side(node: &NodeView<'_>) -> Option<usize> {
    usize::try_from(node.node.int("blocksize", 0)).ok().filter(|side| (1..=1 << 12).contains(side))
}

/// The type of images whose channels become more by `more` and fewer by `fewer`, and whose sides do the
/// opposite.
fn moved(node: &NodeView<'_>, more: usize, fewer: usize) -> Option<TensorType> {
    let ty = node.ty(0)?;
    let scaled = |dim: &Dim, by: usize, parts: usize| {
        let size = dim.known().and_then(|size| Some(size.checked_mul(by)? / parts));
        size.map_or(Dim::Unknown, Dim::Known)
    };
    let shape = ty.shape.and_then(|shape| match shape.as_slice() {
        [n, c, h, w] => {
            let channels = scaled(c, more * more, fewer * fewer);
            Some(vec![n.clone(), channels, scaled(h, fewer, more), scaled(w, fewer, more)])
        }
        _ => None,
    });
    Some(TensorType { dtype: ty.dtype, shape })
}

impl OpRule for SpaceToDepth {
    fn ops(&self) -> &'static [&'static str] {
        &["SpaceToDepth"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        vec![side(node).and_then(|side| moved(node, side, 1))]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let copies = side(node).and_then(|side| side.checked_mul(side));
        let labels = node.labels(0).filter(|labels| labels.axis == 1);
        let (Some(copies), Some(labels)) = (copies, labels) else {
            return Flow::whole("a move of positions into channels");
        };
        match same_axis(node, vec![Operand::Channels]) {
            // All channels of one position come before those of the next.
            Flow::Partwise(mut partwise) => {
                partwise.output.atoms = labels.atoms.repeat(copies);
                partwise.expand = (copies, 1);
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

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        vec![side(node).and_then(|side| moved(node, 1, side))]
    }

    /// A channel that comes out goes by the first of those that it is made from.
    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let reason = "a move of channels into positions";
        let copies = side(node).and_then(|side| side.checked_mul(side));
        let labels = node.labels(0).filter(|labels| labels.axis == 1);
        let (Some(copies), Some(labels)) = (copies, labels) else { return Flow::whole(reason) };
        let channels = labels.atoms.len() / copies;
        let step = if node.node.str("mode") == Some("CRD") { copies } else { 1 };
        let atoms: Vec<Atom> = labels.atoms.iter().copied().step_by(step).take(channels).collect();
        Flow::whole_with(reason, Labels { axis: 1, atoms })
    }
}
