//! Gradients of normalisation.

use crate::error::Result;
use crate::ir::{Attribute, Node, NodeId, ValueId};
use crate::ops::normal_axis;

use super::activation::times;
use super::pool::channels;
use super::{Grads, Tape, unsupported};

/// A per-channel vector as [C, 1, …], to go with a value of `rank` axes whose channels are on axis 1.
fn along_channels(tape: &mut Tape, vector: ValueId, rank: usize) -> ValueId {
    let dims: Vec<i64> = std::iter::once(-1).chain((2..rank).map(|_| 1)).collect();
    tape.reshaped(vector, &dims)
}

/// All axes but that of the channels.
fn beside_channels(rank: usize) -> Vec<usize> {
    (0..rank).filter(|a| *a != 1).collect()
}

/// 1/√(variance + epsilon)
fn inverse_deviation(tape: &mut Tape, variance: ValueId, epsilon: f32) -> ValueId {
    let epsilon = tape.scalar(epsilon);
    let raised = tape.op("Add", &[variance, epsilon]);
    let deviation = tape.op("Sqrt", &[raised]);
    tape.op("Reciprocal", &[deviation])
}

/// Inference mode: mean and variance are constants.
pub(super) fn batch_norm(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let rank = tape.shape(x)?.len();
    let (scale, mean) = (tape.input(node, 1)?, tape.input(node, 3)?);
    let variance = tape.input(node, 4)?;
    let inverse = inverse_deviation(tape, variance, node.float("epsilon", 1e-5));
    let slope = tape.op("Mul", &[scale, inverse]);
    let slope = along_channels(tape, slope, rank);
    let dx = tape.op("Mul", &[dy, slope]);
    let (mean, inverse) = (along_channels(tape, mean, rank), along_channels(tape, inverse, rank));
    let centred = tape.op("Sub", &[x, mean]);
    let normal = tape.op("Mul", &[centred, inverse]);
    let weighted = tape.op("Mul", &[dy, normal]);
    let axes = beside_channels(rank);
    let dscale = tape.summed(weighted, &axes, false);
    let dbias = tape.summed(dy, &axes, false);
    Ok(vec![Some(dx), Some(dscale), Some(dbias)])
}

/// A value normalised over some of its axes.
struct Normalised {
    axes: Vec<usize>,
    count: usize,
    /// Mean 0 and variance 1.
    value: ValueId,
    inverse_deviation: ValueId,
}

impl Normalised {
    fn of(tape: &mut Tape, x: ValueId, axes: Vec<usize>, epsilon: f32) -> Result<Self> {
        let count = count(tape, x, &axes)?;
        let mean = average(tape, x, &axes, count);
        let centred = tape.op("Sub", &[x, mean]);
        let square = tape.op("Mul", &[centred, centred]);
        let variance = average(tape, square, &axes, count);
        let inverse_deviation = inverse_deviation(tape, variance, epsilon);
        let value = tape.op("Mul", &[centred, inverse_deviation]);
        Ok(Normalised { axes, count, value, inverse_deviation })
    }

    /// The gradient of the input, from that of the normalised value.
    fn back(&self, tape: &mut Tape, gradient: ValueId) -> ValueId {
        let mean = average(tape, gradient, &self.axes, self.count);
        let along = tape.op("Mul", &[gradient, self.value]);
        let along = average(tape, along, &self.axes, self.count);
        let along = tape.op("Mul", &[self.value, along]);
        let centred = tape.op("Sub", &[gradient, mean]);
        let rest = tape.op("Sub", &[centred, along]);
        tape.op("Mul", &[rest, self.inverse_deviation])
    }
}

/// The number of elements of a value over which a mean along `axes` is taken.
fn count(tape: &Tape, x: ValueId, axes: &[usize]) -> Result<usize> {
    let shape = tape.shape(x)?;
    let count: Option<usize> = axes.iter().map(|axis| shape.get(*axis)?.known()).product();
    count.ok_or_else(|| unsupported("a mean over extents known at run time"))
}

/// The axes of a value from the node's `axis` on.
fn trailing_axes(tape: &Tape, node: &Node, x: ValueId) -> Result<Vec<usize>> {
    let rank = tape.shape(x)?.len();
    let first = normal_axis(node.int("axis", -1), rank)
        .ok_or_else(|| unsupported("a normalisation over an axis that is not there"))?;
    Ok((first..rank).collect())
}

fn average(tape: &mut Tape, value: ValueId, axes: &[usize], count: usize) -> ValueId {
    let sum = tape.summed(value, axes, true);
    tape.scaled(sum, 1.0 / count.max(1) as f32)
}

pub(super) fn instance_norm(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (x, scale) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let rank = tape.shape(x)?.len();
    let normal = Normalised::of(tape, x, (2..rank).collect(), node.float("epsilon", 1e-5))?;
    let scale = along_channels(tape, scale, rank);
    let scaled = tape.op("Mul", &[dy, scale]);
    let dx = normal.back(tape, scaled);
    let weighted = tape.op("Mul", &[dy, normal.value]);
    let axes = beside_channels(rank);
    let (dscale, dbias) = (tape.summed(weighted, &axes, false), tape.summed(dy, &axes, false));
    Ok(vec![Some(dx), Some(dscale), Some(dbias)])
}

pub(super) fn layer_norm(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (x, scale) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let axes = trailing_axes(tape, node, x)?;
    let normal = Normalised::of(tape, x, axes, node.float("epsilon", 1e-5))?;
    let scaled = tape.op("Mul", &[dy, scale]);
    let dx = normal.back(tape, scaled);
    let dscale = tape.reduced(node, 1, |t| t.op("Mul", &[dy, normal.value]))?;
    let dbias = tape.reduced(node, 2, |_| dy)?;
    Ok(vec![Some(dx), dscale, dbias])
}

/// y = x·r·scale with r = 1/√(mean of x² + epsilon): dx = r·(g − n·mean of g·n) with g = dy·scale, n = x·r
pub(super) fn rms_norm(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (x, scale) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let axes = trailing_axes(tape, node, x)?;
    let count = count(tape, x, &axes)?;
    let square = tape.op("Mul", &[x, x]);
    let mean = average(tape, square, &axes, count);
    let root = inverse_deviation(tape, mean, node.float("epsilon", 1e-5));
    let normal = tape.op("Mul", &[x, root]);
    let scaled = tape.op("Mul", &[dy, scale]);
    let along = tape.op("Mul", &[scaled, normal]);
    let along = average(tape, along, &axes, count);
    let along = tape.op("Mul", &[normal, along]);
    let rest = tape.op("Sub", &[scaled, along]);
    let dx = tape.op("Mul", &[rest, root]);
    let dscale = tape.reduced(node, 1, |t| t.op("Mul", &[dy, normal]))?;
    Ok(vec![Some(dx), dscale])
}

/// y = x·D⁻ᵝ with D = bias + α/size·Σ x² over neighbouring channels:
/// dx = dy·D⁻ᵝ − 2αβ/size · x · Σ dy·x·D⁻ᵝ⁻¹ over the channels that have this one as a neighbour
pub(super) fn local_response(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let (rank, c) = (tape.shape(x)?.len(), channels(tape, x)?);
    let size = node.int("size", 1).max(1);
    let (alpha, beta) = (node.float("alpha", 1e-4), node.float("beta", 0.75));
    // Summing over neighbours is a 1×1 convolution with a band of ones.
    let is_near = |from: usize, to: usize| {
        let distance = to as i64 - from as i64;
        (-((size - 1) / 2)..=size / 2).contains(&distance)
    };
    let band = |transposed: bool| -> Vec<f32> {
        let pairs =
            (0..c).flat_map(|a| (0..c).map(move |b| if transposed { (b, a) } else { (a, b) }));
        pairs.map(|(a, b)| f32::from(u8::from(is_near(a, b)))).collect()
    };
    let dims: Vec<usize> = [c, c].into_iter().chain((2..rank).map(|_| 1)).collect();
    let (near, back) = (tape.floats(&dims, band(false))?, tape.floats(&dims, band(true))?);
    let square = tape.op("Mul", &[x, x]);
    let energy = tape.op("Conv", &[square, near]);
    let scaled = tape.scaled(energy, alpha / size as f32);
    let bias = tape.scalar(node.float("bias", 1.0));
    let base = tape.op("Add", &[scaled, bias]);
    let exponent = tape.scalar(-beta);
    let factor = tape.op("Pow", &[base, exponent]);
    let direct = tape.op("Mul", &[dy, factor]);
    let weighted = tape.op("Mul", &[direct, x]);
    let weighted = tape.op("Div", &[weighted, base]);
    let gathered = tape.op("Conv", &[weighted, back]);
    let indirect = tape.op("Mul", &[x, gathered]);
    let indirect = tape.scaled(indirect, 2.0 * alpha * beta / size as f32);
    Ok(vec![Some(tape.op("Sub", &[direct, indirect]))])
}

fn sum_along(tape: &mut Tape, node: &Node, value: ValueId) -> ValueId {
    let axes = tape.ints(&[node.int("axis", -1)]);
    tape.op_with("ReduceSum", &[value, axes], [("keepdims", Attribute::Int(1))])
}

pub(super) fn softmax(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    // y·(dy − Σ dy·y)
    let y = tape.output(node)?;
    let weighted = tape.op("Mul", &[dy, y]);
    let sum = sum_along(tape, node, weighted);
    let centred = tape.op("Sub", &[dy, sum]);
    times(tape, centred, y)
}

pub(super) fn log_softmax(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    // dy − exp(y)·Σ dy
    let y = tape.output(node)?;
    let p = tape.op("Exp", &[y]);
    let sum = sum_along(tape, node, dy);
    let shared = tape.op("Mul", &[p, sum]);
    Ok(vec![Some(tape.op("Sub", &[dy, shared]))])
}
