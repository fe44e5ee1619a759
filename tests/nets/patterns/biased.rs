//! Attention with one table of relative positions for all layers.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{DataType, ValueId};

use super::net::Pattern;

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("two layers with one table of biases per head", two_layers),
    ("table of biases before all layers", table_first),
];

fn product(b: &mut GraphBuilder, name: &str, x: ValueId, dims: [usize; 2]) -> ValueId {
    let (w, bias) = (b.weights(&format!("{name}.w"), &dims), b.weights("bias", &dims[1..]));
    let x = b.op("MatMul", name, &[x, w], []);
    b.op("Add", "biased", &[x, bias], [])
}

/// Channels as two heads of four.
fn heads(b: &mut GraphBuilder, name: &str, x: ValueId, order: [i64; 4]) -> ValueId {
    let x = product(b, name, x, [8, 8]);
    let shape = b.ints("shape", &[0, 4, 2, 4]);
    let x = b.op("Reshape", "heads", &[x, shape], []);
    b.op("Transpose", "stacked", &[x], [("perm", order.into())])
}

fn attention(b: &mut GraphBuilder, x: ValueId, bias: ValueId, number: usize) -> ValueId {
    let orders = [("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])];
    let [q, k, v] = orders.map(|(name, order)| heads(b, &format!("{name}{number}"), x, order));
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Add", "near", &[scores, bias], []);
    let scores = b.op("Softmax", "weights", &[scores], [("axis", (-1).into())]);
    let y = b.op("MatMul", "mixed", &[scores, v], []);
    let y = b.op("Transpose", "tokens", &[y], [("perm", [0, 2, 1, 3].into())]);
    let shape = b.ints("shape", &[0, 4, 8]);
    let y = b.op("Reshape", "joined", &[y, shape], []);
    let y = product(b, &format!("o{number}"), y, [8, 8]);
    b.op("Add", "residual", &[x, y], [])
}

/// A bias per head and token.
fn biases(b: &mut GraphBuilder, ids: ValueId) -> ValueId {
    let table = b.weights("relative", &[10, 2]);
    let bias = b.op("Gather", "relative", &[table, ids], []);
    let bias = b.op("Transpose", "per_head", &[bias], [("perm", [0, 2, 1].into())]);
    let axes = b.ints("axes", &[2]);
    b.op("Unsqueeze", "per_query", &[bias, axes], [])
}

fn two_layers(b: &mut GraphBuilder) -> Vec<ValueId> {
    let ids = b.typed_input("ids", DataType::I64, "n,4");
    let table = b.weights("embedding", &[10, 8]);
    let x = b.op("Gather", "embedding", &[table, ids], []);
    let q = product(b, "first", x, [8, 8]);
    let x = b.op("Tanh", "bound", &[q], []);
    let bias = biases(b, ids);
    let x = attention(b, x, bias, 1);
    let x = attention(b, x, bias, 2);
    let w = b.weights("head.w", &[8, 5]);
    vec![b.op("MatMul", "head", &[x, w], [])]
}

fn table_first(b: &mut GraphBuilder) -> Vec<ValueId> {
    let ids = b.typed_input("ids", DataType::I64, "n,4");
    let bias = biases(b, ids);
    let table = b.weights("embedding", &[10, 8]);
    let x = b.op("Gather", "embedding", &[table, ids], []);
    let x = attention(b, x, bias, 1);
    let x = attention(b, x, bias, 2);
    let w = b.weights("head.w", &[8, 5]);
    vec![b.op("MatMul", "head", &[x, w], [])]
}
