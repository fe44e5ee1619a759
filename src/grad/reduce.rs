//! Gradients of reductions.

use crate::error::Result;
use crate::ir::{Attribute, Node, NodeId, ValueId};
use crate::ops::{NodeView, reduced_axes};

use super::elementary::over_positive;
use super::{Grads, Tape, unsupported};

/// A reduction with its result and gradient in the rank of the input.
struct Reduction {
    x: ValueId,
    y: ValueId,
    dy: ValueId,
    axes: Vec<usize>,
}

impl Reduction {
    fn of(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Result<Self> {
        let (x, y) = (tape.input(node, 0)?, tape.output(node)?);
        let rank = tape.shape(x)?.len();
        let axes = reduced_axes(&NodeView::new(&tape.graph, id, &[]), rank)
            .ok_or_else(|| unsupported("a reduction over computed axes"))?;
        let mut reduction = Reduction { x, y, dy, axes };
        if node.int("keepdims", 1) == 0 {
            let axes: Vec<i64> = reduction.axes.iter().map(|a| *a as i64).collect();
            let axes = tape.ints(&axes);
            reduction.y = tape.op("Unsqueeze", &[y, axes]);
            reduction.dy = tape.op("Unsqueeze", &[dy, axes]);
        }
        Ok(reduction)
    }
}

/// `dy` for every element of `x` that contributes to it.
fn spread(tape: &mut Tape, x: ValueId, dy: ValueId) -> ValueId {
    let shape = tape.op("Shape", &[x]);
    tape.op("Expand", &[dy, shape])
}

/// `dy` for every element of `x` that equals the result.
pub(super) fn chosen(tape: &mut Tape, x: ValueId, y: ValueId, dy: ValueId) -> ValueId {
    let hit = tape.indicator("Equal", x, y);
    tape.op("Mul", &[hit, dy])
}

pub(super) fn sum(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let reduction = Reduction::of(tape, id, node, dy)?;
    Ok(vec![Some(spread(tape, reduction.x, reduction.dy))])
}

pub(super) fn mean(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let reduction = Reduction::of(tape, id, node, dy)?;
    let shape = tape.shape(reduction.x)?;
    let count: Option<usize> = reduction.axes.iter().map(|a| shape[*a].known()).product();
    let share = match count {
        Some(count) => tape.scaled(reduction.dy, 1.0 / count.max(1) as f32),
        None => {
            let [all, left] = [reduction.x, reduction.dy].map(|value| {
                let size = tape.op("Size", &[value]);
                tape.cast(size)
            });
            let part = tape.op("Div", &[left, all]);
            tape.op("Mul", &[reduction.dy, part])
        }
    };
    Ok(vec![Some(spread(tape, reduction.x, share))])
}

pub(super) fn extremum(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let Reduction { x, y, dy, .. } = Reduction::of(tape, id, node, dy)?;
    Ok(vec![Some(chosen(tape, x, y, dy))])
}

pub(super) fn l1(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let reduction = Reduction::of(tape, id, node, dy)?;
    let sign = tape.op("Sign", &[reduction.x]);
    Ok(vec![Some(tape.op("Mul", &[sign, reduction.dy]))])
}

pub(super) fn l2(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let reduction = Reduction::of(tape, id, node, dy)?;
    let share = over_positive(tape, reduction.dy, reduction.y);
    Ok(vec![Some(tape.op("Mul", &[reduction.x, share]))])
}

pub(super) fn sum_square(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let reduction = Reduction::of(tape, id, node, dy)?;
    let twice = tape.scaled(reduction.x, 2.0);
    Ok(vec![Some(tape.op("Mul", &[twice, reduction.dy]))])
}

pub(super) fn log_sum(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let reduction = Reduction::of(tape, id, node, dy)?;
    let sum = tape.op("Exp", &[reduction.y]);
    let share = tape.op("Div", &[reduction.dy, sum]);
    Ok(vec![Some(spread(tape, reduction.x, share))])
}

pub(super) fn log_sum_exp(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let reduction = Reduction::of(tape, id, node, dy)?;
    let exponent = tape.op("Sub", &[reduction.x, reduction.y]);
    let share = tape.op("Exp", &[exponent]);
    Ok(vec![Some(tape.op("Mul", &[share, reduction.dy]))])
}

/// The running sum from the other end.
pub(super) fn running_sum(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let axis = tape.input(node, 1)?;
    let attributes = [
        ("exclusive", Attribute::Int(node.int("exclusive", 0))),
        ("reverse", Attribute::Int(1 - node.int("reverse", 0))),
    ];
    Ok(vec![Some(tape.op_with("CumSum", &[dy, axis], attributes))])
}
