//! Gradients of element-wise operators of several tensors, with broadcasting.

use crate::error::Result;
use crate::ir::{DataType, Dim, Node, NodeId, ValueId};

use super::{Grads, Tape};

impl Tape {
    /// `gradient` (of the node's output shape) summed over the axes along which input `index` was
    /// broadcast; `None` where that input's gradient is not needed.
    pub(super) fn reduced(
        &mut self,
        node: &Node,
        index: usize,
        gradient: impl FnOnce(&mut Tape) -> ValueId,
    ) -> Result<Option<ValueId>> {
        if !self.wants(node, index) {
            return Ok(None);
        }
        let input = self.input(node, index)?;
        let value = gradient(self);
        self.reduced_to(node, input, value).map(Some)
    }

    /// `value` (of the node's output shape) summed to the shape of `input`.
    pub(super) fn reduced_to(
        &mut self,
        node: &Node,
        input: ValueId,
        value: ValueId,
    ) -> Result<ValueId> {
        let (own, out) = (self.shape(input)?, self.shape(self.output(node)?)?);
        let lead = out.len().saturating_sub(own.len());
        let axes: Vec<usize> = (0..out.len())
            .filter(|axis| {
                *axis < lead || (own[axis - lead] == Dim::Known(1) && out[*axis] != Dim::Known(1))
            })
            .collect();
        let mut value = value;
        if !axes.is_empty() {
            value = self.summed(value, &axes, true);
        }
        if lead > 0 {
            value = self.shaped_like(value, input);
        }
        Ok(value)
    }

    /// `gradient` of every input, reduced.
    fn each(
        &mut self,
        node: &Node,
        mut gradient: impl FnMut(&mut Tape, ValueId) -> ValueId,
    ) -> Grads {
        let inputs = (0..node.inputs.len()).map(|i| {
            let input = self.input(node, i)?;
            self.reduced(node, i, |tape| gradient(tape, input))
        });
        inputs.collect()
    }
}

pub(super) fn add(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    tape.each(node, |_, _| dy)
}

pub(super) fn sum(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    add(tape, id, node, dy)
}

pub(super) fn mean(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let share = tape.scaled(dy, 1.0 / node.inputs.len().max(1) as f32);
    add(tape, id, node, share)
}

pub(super) fn sub(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let left = tape.reduced(node, 0, |_| dy)?;
    let right = tape.reduced(node, 1, |t| t.op("Neg", &[dy]))?;
    Ok(vec![left, right])
}

pub(super) fn mul(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (a, b) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let left = tape.reduced(node, 0, |t| t.op("Mul", &[dy, b]))?;
    let right = tape.reduced(node, 1, |t| t.op("Mul", &[dy, a]))?;
    Ok(vec![left, right])
}

pub(super) fn div(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (b, y) = (tape.input(node, 1)?, tape.output(node)?);
    let left = tape.reduced(node, 0, |t| t.op("Div", &[dy, b]))?;
    // d(a/b)/db = −y/b
    let right = tape.reduced(node, 1, |t| {
        let scaled = t.op("Div", &[y, b]);
        let product = t.op("Mul", &[dy, scaled]);
        t.op("Neg", &[product])
    })?;
    Ok(vec![left, right])
}

pub(super) fn pow(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (a, exponent, y) = (tape.input(node, 0)?, tape.input(node, 1)?, tape.output(node)?);
    let dtype = tape.graph.initializer(exponent).map(|t| t.dtype);
    let b = if dtype == Some(DataType::F32) { exponent } else { tape.cast(exponent) };
    let left = tape.reduced(node, 0, |t| {
        let one = t.scalar(1.0);
        let less = t.op("Sub", &[b, one]);
        let power = t.op("Pow", &[a, less]);
        let slope = t.op("Mul", &[b, power]);
        t.op("Mul", &[dy, slope])
    })?;
    let right = tape.reduced(node, 1, |t| {
        let log = t.op("Log", &[a]);
        let slope = t.op("Mul", &[y, log]);
        t.op("Mul", &[dy, slope])
    })?;
    Ok(vec![left, right])
}

/// `Max` and `Min`: the gradient goes to whichever input is the result, to all that are equal.
pub(super) fn extremum(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let y = tape.output(node)?;
    tape.each(node, |t, input| {
        let chosen = t.indicator("Equal", input, y);
        t.op("Mul", &[dy, chosen])
    })
}

/// `Where`.
pub(super) fn choice(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let condition = tape.input(node, 0)?;
    let zero = tape.scalar(0.0);
    let left = tape.reduced(node, 1, |t| t.op("Where", &[condition, dy, zero]))?;
    let right = tape.reduced(node, 2, |t| t.op("Where", &[condition, zero, dy]))?;
    Ok(vec![None, left, right])
}
