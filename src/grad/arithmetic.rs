//! Gradients of element-wise arithmetic with broadcasting.

use super::Tape;
use crate::error::Result;
use crate::ir::{Attribute, Dim, Node, NodeId, ValueId};

type Grads = Result<Vec<Option<ValueId>>>;

impl Tape {
    /// `gradient` (of the node's output shape) summed over the axes along which input `index` was
    /// broadcast; `None` where that input's gradient is not needed.
    fn reduced(
        &mut self,
        id: NodeId,
        node: &Node,
        index: usize,
        gradient: impl FnOnce(&mut Tape) -> ValueId,
    ) -> Result<Option<ValueId>> {
        if !self.wants(node, index) {
            return Ok(None);
        }
        let input = self.input(node, index)?;
        let (own, out) = (self.shape(id, input)?, self.shape(id, self.input_output(node)?)?);
        let lead = out.len().saturating_sub(own.len());
        let axes: Vec<i64> = (0..out.len())
            .filter(|axis| {
                *axis < lead || (own[axis - lead] == Dim::Known(1) && out[*axis] != Dim::Known(1))
            })
            .map(|axis| axis as i64)
            .collect();
        let mut value = gradient(self);
        if !axes.is_empty() {
            let axes = self.ints(&axes);
            value = self.op_with("ReduceSum", &[value, axes], [("keepdims", Attribute::Int(1))]);
        }
        if lead > 0 {
            let shape = self.op("Shape", "grad.shape", &[input]);
            value = self.op("Reshape", "grad", &[value, shape]);
        }
        Ok(Some(value))
    }
}

pub(super) fn add(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    Ok(vec![tape.reduced(id, node, 0, |_| dy)?, tape.reduced(id, node, 1, |_| dy)?])
}

pub(super) fn sub(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let left = tape.reduced(id, node, 0, |_| dy)?;
    let right = tape.reduced(id, node, 1, |t| t.op("Neg", "grad", &[dy]))?;
    Ok(vec![left, right])
}

pub(super) fn mul(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (a, b) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let left = tape.reduced(id, node, 0, |t| t.op("Mul", "grad", &[dy, b]))?;
    let right = tape.reduced(id, node, 1, |t| t.op("Mul", "grad", &[dy, a]))?;
    Ok(vec![left, right])
}

pub(super) fn div(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (b, y) = (tape.input(node, 1)?, tape.input_output(node)?);
    let left = tape.reduced(id, node, 0, |t| t.op("Div", "grad", &[dy, b]))?;
    // d(a/b)/db = −y/b
    let right = tape.reduced(id, node, 1, |t| {
        let scaled = t.op("Div", "grad", &[y, b]);
        let product = t.op("Mul", "grad", &[dy, scaled]);
        t.op("Neg", "grad", &[product])
    })?;
    Ok(vec![left, right])
}
