//! Gradients of activation functions.

use std::f32::consts::{FRAC_1_SQRT_2, PI};

use crate::ir::{Attribute, Node, NodeId, ValueId};

use super::{Grads, Tape};

/// The gradient of a function of one tensor, from its slope.
pub(super) fn times(tape: &mut Tape, dy: ValueId, slope: ValueId) -> Grads {
    Ok(vec![Some(tape.op("Mul", &[dy, slope]))])
}

/// `slope` where the input is positive, else `other`.
fn where_positive(tape: &mut Tape, x: ValueId, slope: ValueId, other: ValueId) -> ValueId {
    let zero = tape.scalar(0.0);
    let positive = tape.op("Greater", &[x, zero]);
    tape.op("Where", &[positive, slope, other])
}

pub(super) fn relu(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let y = tape.output(node)?;
    let zero = tape.scalar(0.0);
    let on = tape.indicator("Greater", y, zero);
    times(tape, dy, on)
}

pub(super) fn leaky_relu(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let (one, alpha) = (tape.scalar(1.0), tape.scalar(node.float("alpha", 0.01)));
    let slope = where_positive(tape, x, one, alpha);
    times(tape, dy, slope)
}

pub(super) fn prelu(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (x, alpha) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let one = tape.scalar(1.0);
    let slope = where_positive(tape, x, one, alpha);
    let dx = tape.op("Mul", &[dy, slope]);
    let dalpha = tape.reduced(node, 1, |t| {
        let zero = t.scalar(0.0);
        let below = t.op("Min", &[x, zero]);
        t.op("Mul", &[dy, below])
    })?;
    Ok(vec![Some(dx), dalpha])
}

pub(super) fn thresholded_relu(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (x, alpha) = (tape.input(node, 0)?, tape.scalar(node.float("alpha", 1.0)));
    let on = tape.indicator("Greater", x, alpha);
    times(tape, dy, on)
}

/// The gradient of a function with slope `above` for positive inputs and `a·y + b` for others.
fn exponential(tape: &mut Tape, node: &Node, dy: ValueId, above: f32, a: f32, b: f32) -> Grads {
    let (x, y) = (tape.input(node, 0)?, tape.output(node)?);
    let scaled = tape.scaled(y, a);
    let b = tape.scalar(b);
    let below = tape.op("Add", &[scaled, b]);
    let above = tape.scalar(above);
    let slope = where_positive(tape, x, above, below);
    times(tape, dy, slope)
}

pub(super) fn elu(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    exponential(tape, node, dy, 1.0, 1.0, node.float("alpha", 1.0))
}

pub(super) fn selu(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let gamma = node.float("gamma", 1.050_701);
    exponential(tape, node, dy, gamma, 1.0, gamma * node.float("alpha", 1.673_263_2))
}

pub(super) fn celu(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    exponential(tape, node, dy, 1.0, 1.0 / node.float("alpha", 1.0), 1.0)
}

/// y·(1 − y), the slope of the logistic function.
fn logistic_slope(tape: &mut Tape, y: ValueId) -> ValueId {
    let one = tape.scalar(1.0);
    let rest = tape.op("Sub", &[one, y]);
    tape.op("Mul", &[y, rest])
}

pub(super) fn sigmoid(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let y = tape.output(node)?;
    let slope = logistic_slope(tape, y);
    times(tape, dy, slope)
}

/// 1 − y².
fn tanh_slope(tape: &mut Tape, y: ValueId) -> ValueId {
    let one = tape.scalar(1.0);
    let square = tape.op("Mul", &[y, y]);
    tape.op("Sub", &[one, square])
}

pub(super) fn tanh(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let y = tape.output(node)?;
    let slope = tanh_slope(tape, y);
    times(tape, dy, slope)
}

pub(super) fn clip(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let mut gradient = dy;
    for (bound, relation) in [(node.input(1), "Greater"), (node.input(2), "Less")] {
        if let Some(bound) = bound {
            let inside = tape.indicator(relation, x, bound);
            gradient = tape.op("Mul", &[gradient, inside]);
        }
    }
    Ok(vec![Some(gradient)])
}

/// 1 where `lower < x < upper`, else 0.
fn between(tape: &mut Tape, x: ValueId, lower: f32, upper: f32) -> ValueId {
    let (lower, upper) = (tape.scalar(lower), tape.scalar(upper));
    let above = tape.indicator("Greater", x, lower);
    let below = tape.indicator("Less", x, upper);
    tape.op("Mul", &[above, below])
}

pub(super) fn hard_sigmoid(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let (alpha, beta) = (node.float("alpha", 0.2), node.float("beta", 0.5));
    let inside = between(tape, x, -beta / alpha, (1.0 - beta) / alpha);
    let slope = tape.scaled(inside, alpha);
    times(tape, dy, slope)
}

pub(super) fn hard_swish(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    // x·h(x) with h(x) = clamp(x/6 + 1/2, 0, 1): slope h(x) + x/6·[−3 < x < 3]
    let x = tape.input(node, 0)?;
    let attributes = [("alpha", Attribute::Float(1.0 / 6.0)), ("beta", Attribute::Float(0.5))];
    let gate = tape.op_with("HardSigmoid", &[x], attributes);
    let inside = between(tape, x, -3.0, 3.0);
    let scaled = tape.scaled(x, 1.0 / 6.0);
    let inner = tape.op("Mul", &[scaled, inside]);
    let slope = tape.op("Add", &[gate, inner]);
    times(tape, dy, slope)
}

pub(super) fn softplus(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let slope = tape.op("Sigmoid", &[x]);
    times(tape, dy, slope)
}

pub(super) fn softsign(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    // (1 − |y|)²
    let y = tape.output(node)?;
    let (one, size) = (tape.scalar(1.0), tape.op("Abs", &[y]));
    let rest = tape.op("Sub", &[one, size]);
    let slope = tape.op("Mul", &[rest, rest]);
    times(tape, dy, slope)
}

pub(super) fn mish(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    // x·t with t = tanh(softplus(x)): slope t + x·(1 − t²)·σ(x)
    let x = tape.input(node, 0)?;
    let soft = tape.op("Softplus", &[x]);
    let t = tape.op("Tanh", &[soft]);
    let (rest, gate) = (tanh_slope(tape, t), tape.op("Sigmoid", &[x]));
    let scaled = tape.op("Mul", &[x, rest]);
    let inner = tape.op("Mul", &[scaled, gate]);
    let slope = tape.op("Add", &[t, inner]);
    times(tape, dy, slope)
}

pub(super) fn swish(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    // x·s with s = σ(αx): slope s + αx·s·(1 − s)
    let x = tape.input(node, 0)?;
    let scaled = tape.scaled(x, node.float("alpha", 1.0));
    let s = tape.op("Sigmoid", &[scaled]);
    let rise = logistic_slope(tape, s);
    let inner = tape.op("Mul", &[scaled, rise]);
    let slope = tape.op("Add", &[s, inner]);
    times(tape, dy, slope)
}

pub(super) fn gelu(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let slope = match node.str("approximate") {
        Some("tanh") => gelu_by_tanh(tape, x),
        _ => gelu_by_erf(tape, x),
    };
    times(tape, dy, slope)
}

/// Φ(x) + x·φ(x)
fn gelu_by_erf(tape: &mut Tape, x: ValueId) -> ValueId {
    let scaled = tape.scaled(x, FRAC_1_SQRT_2);
    let erf = tape.op("Erf", &[scaled]);
    let one = tape.scalar(1.0);
    let twice = tape.op("Add", &[erf, one]);
    let below = tape.scaled(twice, 0.5);
    let square = tape.op("Mul", &[x, x]);
    let exponent = tape.scaled(square, -0.5);
    let bell = tape.op("Exp", &[exponent]);
    let density = tape.scaled(bell, 1.0 / (2.0 * PI).sqrt());
    let inner = tape.op("Mul", &[x, density]);
    tape.op("Add", &[below, inner])
}

/// (1 + t)/2 + x/2·(1 − t²)·u′ with t = tanh(u), u = c·(x + 0.044715·x³), c = √(2/π)
fn gelu_by_tanh(tape: &mut Tape, x: ValueId) -> ValueId {
    let (c, cubic) = ((2.0 / PI).sqrt(), 0.044_715);
    let (one, half) = (tape.scalar(1.0), tape.scalar(0.5));
    let square = tape.op("Mul", &[x, x]);
    let bend = tape.scaled(square, cubic);
    let bent = tape.op("Add", &[bend, one]);
    let product = tape.op("Mul", &[x, bent]);
    let u = tape.scaled(product, c);
    let t = tape.op("Tanh", &[u]);
    let bend = tape.scaled(square, 3.0 * cubic);
    let bent = tape.op("Add", &[bend, one]);
    let rise = tape.scaled(bent, c);
    let raised = tape.op("Add", &[t, one]);
    let flat = tanh_slope(tape, t);
    let flat = tape.op("Mul", &[flat, rise]);
    let inner = tape.op("Mul", &[x, flat]);
    let total = tape.op("Add", &[raised, inner]);
    tape.op("Mul", &[total, half])
}
