//! Gradients of elementary functions of one tensor.

use std::f32::consts::PI;

use crate::ir::{Node, NodeId, ValueId};

use super::activation::times;
use super::{Grads, Tape};

pub(super) fn exp(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let y = tape.output(node)?;
    times(tape, dy, y)
}

pub(super) fn log(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    Ok(vec![Some(tape.op("Div", &[dy, x]))])
}

pub(super) fn sqrt(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let y = tape.output(node)?;
    let twice = tape.scaled(y, 2.0);
    Ok(vec![Some(over_positive(tape, dy, twice))])
}

/// `a / b` where `b` is positive, else 0: the slope of a root is infinite at zero, where a dead channel stays.
pub(super) fn over_positive(tape: &mut Tape, a: ValueId, b: ValueId) -> ValueId {
    let (zero, one) = (tape.scalar(0.0), tape.scalar(1.0));
    let positive = tape.indicator("Greater", b, zero);
    let other = tape.op("Sub", &[one, positive]);
    let divisor = tape.op("Add", &[b, other]);
    let quotient = tape.op("Div", &[a, divisor]);
    tape.op("Mul", &[quotient, positive])
}

pub(super) fn reciprocal(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let y = tape.output(node)?;
    let square = tape.op("Mul", &[y, y]);
    let slope = tape.op("Neg", &[square]);
    times(tape, dy, slope)
}

pub(super) fn neg(tape: &mut Tape, _: NodeId, _: &Node, dy: ValueId) -> Grads {
    Ok(vec![Some(tape.op("Neg", &[dy]))])
}

pub(super) fn abs(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let sign = tape.op("Sign", &[x]);
    times(tape, dy, sign)
}

pub(super) fn erf(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    // 2/√π·exp(−x²)
    let x = tape.input(node, 0)?;
    let square = tape.op("Mul", &[x, x]);
    let exponent = tape.op("Neg", &[square]);
    let bell = tape.op("Exp", &[exponent]);
    let slope = tape.scaled(bell, 2.0 / PI.sqrt());
    times(tape, dy, slope)
}

pub(super) fn sin(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let slope = tape.op("Cos", &[x]);
    times(tape, dy, slope)
}

pub(super) fn cos(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let sine = tape.op("Sin", &[x]);
    let slope = tape.op("Neg", &[sine]);
    times(tape, dy, slope)
}
