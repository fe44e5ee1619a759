//! Masks of steps: in the samples that a mask leaves out, a step changes nothing.
//!
//! Keras computes each step for all samples, and then chooses between the new values and the old ones.

use crate::ir::{DataType, Dim, Node, NodeId, Tensor, ValueId};
use crate::ops::NodeView;

use super::body::Body;

impl Body<'_> {
    /// Whether the operand of a node holds in the samples whose step counts (`true`), or in the others.
    pub(super) fn flag(&self, node: &Node, slot: usize) -> Option<bool> {
        self.mask.flags.get(&node.input(slot)?).copied()
    }

    /// Makes an input of the body the step's part of a mask.
    pub(super) fn set_mask(&mut self, value: ValueId, mask: ValueId, axis: usize) -> Option<()> {
        let ty = self.outer().type_of(mask).filter(|ty| ty.dtype == DataType::Bool)?;
        let is_column = matches!(ty.shape?.as_slice(), [_, _, Dim::Known(1)]);
        let is_first = self.mask.all.is_none_or(|own| own == (mask, axis));
        if !is_column || !is_first || axis > 1 {
            return None;
        }
        self.mask.all = Some((mask, axis));
        self.mask.flags.insert(value, true);
        Some(())
    }

    /// Notes the output of a node that is the mask of the step; returns whether it is.
    pub(super) fn follow_mask(&mut self, id: NodeId) -> bool {
        let node = self.graph().node(id);
        let Some(output) = node.output(0) else { return false };
        if node.is("Gather")
            && let Some((mask, axis)) = self.picked_by_step(node)
            && self.set_mask(output, mask, axis).is_some()
        {
            return true;
        }
        let Some(counts) = self.moved_flag(&NodeView::new(self.graph(), id, &[])) else {
            return false;
        };
        self.mask.flags.insert(output, counts);
        true
    }

    /// What a node makes of a mask that it reads first.
    fn moved_flag(&self, view: &NodeView<'_>) -> Option<bool> {
        let (node, counts) = (view.node, self.flag(view.node, 0)?);
        match node.op.as_str() {
            "Not" => Some(!counts),
            "Identity" => Some(counts),
            "Cast" => {
                let to = i32::try_from(node.int("to", 0)).map(DataType::from_code);
                matches!(to, Ok(DataType::F32 | DataType::Bool)).then_some(counts)
            }
            // The column is repeated.
            "Tile" | "Expand" => {
                let repeats = self.constants.get(&node.input(1)?).and_then(Tensor::to_i64);
                let is_plain = node.is("Expand") || repeats?.first() == Some(&1);
                let is_matrix = view.output_shape(0).is_some_and(|shape| shape.len() == 2);
                (is_plain && is_matrix).then_some(counts)
            }
            _ => None,
        }
    }
}
