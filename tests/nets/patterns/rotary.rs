//! Attention whose queries and keys a rotary embedding turns, with two heads of four depths.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Tensor, ValueId};

use super::heads::{attention, heads, stream};
use super::net::{Pattern, dense, reshape, transpose};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("rotary embeddings", apart),
    ("rotary embeddings of queries and keys side by side", side_by_side),
];

/// Rotates the last axis by tables of the given extents.
pub fn rotated(b: &mut GraphBuilder, x: ValueId, dims: &[usize]) -> ValueId {
    let (cos, sin) = (b.weights("cos", dims), b.weights("sin", dims));
    let axis = b.ints("axis", &[-1]);
    let [low, high] = [(0, 2), (2, 4)].map(|(from, to)| {
        let (from, to) = (b.ints("from", &[from]), b.ints("to", &[to]));
        b.op("Slice", "half", &[x, from, to, axis], [])
    });
    let high = b.op("Neg", "negative", &[high], []);
    let turned = b.op("Concat", "turned", &[high, low], [("axis", (-1).into())]);
    let (real, imaginary) =
        (b.op("Mul", "real", &[x, cos], []), b.op("Mul", "imaginary", &[turned, sin], []));
    b.op("Add", "rotated", &[real, imaginary], [])
}

fn apart(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = stream(b);
    let [q, k] = ["q", "k"].map(|name| {
        let own = heads(b, name, x);
        rotated(b, own, &[5, 4])
    });
    let k = transpose(b, k, &[0, 1, 3, 2]);
    let v = heads(b, "v", x);
    attention(b, x, [q, k, v])
}

/// Queries and keys are not followed; values and the layer behind them are.
fn side_by_side(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = stream(b);
    let both = dense(b, "both", x, [6, 16]);
    let both = reshape(b, both, &[0, 0, 2, 2, 4]);
    let both = rotated(b, both, &[5, 1, 1, 4]);
    let [q, k] = [0, 1].map(|at| {
        let at = b.constant("at", Tensor::from_i64(vec![], &[at]));
        b.op("Gather", "part", &[both, at], [("axis", 2.into())])
    });
    let (q, k) = (transpose(b, q, &[0, 2, 1, 3]), transpose(b, k, &[0, 2, 3, 1]));
    let v = heads(b, "v", x);
    attention(b, x, [q, k, v])
}
