//! Gradients of activations and normalisation.

use super::Tape;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Attribute, Node, NodeId, ValueId};

type Grads = Result<Vec<Option<ValueId>>>;

fn masked(tape: &mut Tape, dy: ValueId, factor: ValueId) -> Grads {
    Ok(vec![Some(tape.op("Mul", "grad", &[dy, factor]))])
}

pub(super) fn relu(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let y = tape.input_output(node)?;
    let on = tape.op("Sign", "grad.on", &[y]);
    masked(tape, dy, on)
}

pub(super) fn leaky_relu(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let zero = tape.scalar(0.0);
    let on = tape.indicator("Greater", x, zero);
    // slope = alpha + (1 − alpha)·[x > 0]
    let alpha = node.float("alpha", 0.01);
    let (rise, base) = (tape.scalar(1.0 - alpha), tape.scalar(alpha));
    let risen = tape.op("Mul", "grad", &[on, rise]);
    let slope = tape.op("Add", "grad", &[risen, base]);
    masked(tape, dy, slope)
}

pub(super) fn sigmoid(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let y = tape.input_output(node)?;
    let one = tape.scalar(1.0);
    let rest = tape.op("Sub", "grad", &[one, y]);
    let slope = tape.op("Mul", "grad", &[y, rest]);
    masked(tape, dy, slope)
}

pub(super) fn tanh(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let y = tape.input_output(node)?;
    let one = tape.scalar(1.0);
    let square = tape.op("Mul", "grad", &[y, y]);
    let slope = tape.op("Sub", "grad", &[one, square]);
    masked(tape, dy, slope)
}

pub(super) fn clip(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let mut gradient = dy;
    for (bound, relation) in [(node.input(1), "Greater"), (node.input(2), "Less")] {
        if let Some(bound) = bound {
            let inside = tape.indicator(relation, x, bound);
            gradient = tape.op("Mul", "grad", &[gradient, inside]);
        }
    }
    Ok(vec![Some(gradient)])
}

/// 1 where `lower < x < upper`, else 0.
fn between(tape: &mut Tape, x: ValueId, lower: f32, upper: f32) -> ValueId {
    let (lower, upper) = (tape.scalar(lower), tape.scalar(upper));
    let above = tape.indicator("Greater", x, lower);
    let below = tape.indicator("Less", x, upper);
    tape.op("Mul", "grad", &[above, below])
}

pub(super) fn hard_sigmoid(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let (alpha, beta) = (node.float("alpha", 0.2), node.float("beta", 0.5));
    let inside = between(tape, x, -beta / alpha, (1.0 - beta) / alpha);
    let alpha = tape.scalar(alpha);
    let slope = tape.op("Mul", "grad", &[inside, alpha]);
    masked(tape, dy, slope)
}

pub(super) fn hard_swish(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    // x·h(x) with h(x) = clamp(x/6 + 1/2, 0, 1): slope h(x) + x/6·[−3 < x < 3]
    let x = tape.input(node, 0)?;
    let attributes = [("alpha", Attribute::Float(1.0 / 6.0)), ("beta", Attribute::Float(0.5))];
    let gate = tape.op_with("HardSigmoid", &[x], attributes);
    let inside = between(tape, x, -3.0, 3.0);
    let sixth = tape.scalar(1.0 / 6.0);
    let scaled = tape.op("Mul", "grad", &[x, sixth]);
    let inner = tape.op("Mul", "grad", &[scaled, inside]);
    let slope = tape.op("Add", "grad", &[gate, inner]);
    masked(tape, dy, slope)
}

fn sum_along(tape: &mut Tape, node: &Node, value: ValueId) -> ValueId {
    let axes = tape.ints(&[node.int("axis", -1)]);
    tape.op_with("ReduceSum", &[value, axes], [("keepdims", Attribute::Int(1))])
}

pub(super) fn softmax(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    // y·(dy − Σ dy·y)
    let y = tape.input_output(node)?;
    let weighted = tape.op("Mul", "grad", &[dy, y]);
    let sum = sum_along(tape, node, weighted);
    let centred = tape.op("Sub", "grad", &[dy, sum]);
    masked(tape, centred, y)
}

pub(super) fn log_softmax(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    // dy − exp(y)·Σ dy
    let y = tape.input_output(node)?;
    let p = tape.op("Exp", "grad", &[y]);
    let sum = sum_along(tape, node, dy);
    let shared = tape.op("Mul", "grad", &[p, sum]);
    Ok(vec![Some(tape.op("Sub", "grad", &[dy, shared]))])
}

pub(super) fn batch_norm(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let constant = |tape: &Tape, i: usize| -> Result<Vec<f32>> {
        let tensor = tape.graph.initializer(tape.input(node, i)?).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "a normalisation with computed parameters")
        })?;
        Ok(tensor.to_f32()?.iter().copied().collect())
    };
    let (scale, variance) = (constant(tape, 1)?, constant(tape, 4)?);
    let epsilon = node.float("epsilon", 1e-5);
    let slope: Vec<f32> =
        scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
    let rank = tape.shape(id, tape.input(node, 0)?)?.len();
    let mut dims = vec![1; rank.saturating_sub(1)];
    if let Some(first) = dims.first_mut() {
        *first = slope.len();
    }
    let slope = tape.floats(&dims, slope)?;
    masked(tape, dy, slope)
}
