//! Attention over five tokens, with two heads of four depths.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::net::{dense, relu, reshape, transpose};

/// The residual stream.
pub fn stream(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "n,5,3");
    let x = dense(b, "first", x, [3, 6]);
    relu(b, x)
}

/// A layer whose rows are heads in front of tokens.
pub fn heads(b: &mut GraphBuilder, name: &str, x: ValueId) -> ValueId {
    let x = dense(b, name, x, [6, 8]);
    let x = reshape(b, x, &[0, 0, 2, 4]);
    transpose(b, x, &[0, 2, 1, 3])
}

/// The residual stream, and its queries, keys and values.
pub fn queries_keys_values(b: &mut GraphBuilder) -> (ValueId, [ValueId; 3]) {
    let x = stream(b);
    let parts = ["q", "k", "v"].map(|name| heads(b, name, x));
    (x, parts)
}

/// Attention with transposed keys, and what is behind it.
pub fn attention(b: &mut GraphBuilder, x: ValueId, [q, k, v]: [ValueId; 3]) -> Vec<ValueId> {
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    behind(b, x, mixed)
}

/// The layer behind heads of mixed values, and two more.
pub fn behind(b: &mut GraphBuilder, x: ValueId, mixed: ValueId) -> Vec<ValueId> {
    let mixed = transpose(b, mixed, &[0, 2, 1, 3]);
    let mixed = reshape(b, mixed, &[0, 0, 8]);
    let y = dense(b, "proj", mixed, [8, 6]);
    let x = b.op("Add", "stream", &[x, y], []);
    let x = dense(b, "last", x, [6, 7]);
    let x = relu(b, x);
    vec![dense(b, "head", x, [7, 5])]
}
