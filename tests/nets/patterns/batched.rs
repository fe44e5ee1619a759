//! Attention as products of named axes are written: heads are a part of the batch, beside axes of extent 1.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::heads::{behind, stream};
use super::net::{Pattern, dense, reshape, transpose};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("heads in the batch beside added axes", added),
    ("heads in the batch beside axes of a reshape", reshaped),
];

fn added(b: &mut GraphBuilder) -> Vec<ValueId> {
    attention(b, |b, x, place| {
        let x = reshape(b, x, &[-1, 5, 2, 4]);
        unsqueezed(b, x, place as i64)
    })
}

fn reshaped(b: &mut GraphBuilder) -> Vec<ValueId> {
    attention(b, |b, x, place| {
        let mut sizes = vec![-1, 5, 2, 4];
        sizes.insert(place, 1);
        reshape(b, x, &sizes)
    })
}

fn unsqueezed(b: &mut GraphBuilder, x: ValueId, axis: i64) -> ValueId {
    let axis = b.ints("axis", &[axis]);
    b.op("Unsqueeze", "apart", &[x, axis], [])
}

/// A product of stacked matrices with one axis more, which is taken away.
fn product(b: &mut GraphBuilder, name: &str, operands: [ValueId; 2], sizes: [i64; 5]) -> ValueId {
    let y = b.op("MatMul", name, &operands, []);
    let (y, axis) = (reshape(b, y, &sizes), b.ints("axis", &[4]));
    b.op("Squeeze", "together", &[y, axis], [])
}

/// Attention whose layers have their channels on the axes [batch, tokens, heads, depths], and one of extent 1 at any
/// place.
fn attention(
    b: &mut GraphBuilder,
    apart: fn(&mut GraphBuilder, ValueId, usize) -> ValueId,
) -> Vec<ValueId> {
    let x = stream(b);
    let layers = [
        ("q", 3, [0, 2, 1, 3, 4], [-1, 5, 4]),
        ("k", 1, [0, 3, 1, 2, 4], [-1, 5, 4]),
        ("v", 2, [0, 3, 2, 4, 1], [-1, 4, 5]),
    ];
    let [q, k, v] = layers.map(|(name, place, perm, sizes)| {
        let y = dense(b, name, x, [6, 8]);
        let y = apart(b, y, place);
        let y = transpose(b, y, &perm);
        reshape(b, y, &sizes)
    });
    let [k, v] = [k, v].map(|y| transpose(b, y, &[0, 2, 1]));
    let scores = product(b, "scores", [q, k], [-1, 2, 5, 5, 1]);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let scores = unsqueezed(b, scores, 3);
    let scores = reshape(b, scores, &[-1, 5, 5]);
    let mixed = product(b, "mixed", [scores, v], [-1, 2, 5, 4, 1]);
    behind(b, x, mixed)
}
