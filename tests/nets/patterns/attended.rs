//! Attention and products over pixels, tokens and patches, as nets for pictures and texts write them.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Node, ValueId, ValueKind};

use super::heads;
use super::net::{Pattern, conv, images, relu, reshape, rest, transpose};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("attention over pixels, depths first", depths_first),
    ("attention over pixels, one convolution on five axes", stacked),
    ("attention over pixels, heads in the batch", heads_in_batch),
    ("patches", patches),
    ("window over all features", covering_window),
    ("context of all pixels", context),
    ("fixed graph", fixed_graph),
    ("constant positions", constant_positions),
    ("perceptron of constant positions", perceptron_of_positions),
    ("tokens before an end", before_end),
    ("standardised weights", standardised),
    ("scalar product of two towers", towers),
];

/// Three parts along an axis, by one `Split`.
pub fn split(b: &mut GraphBuilder, x: ValueId, axis: i64, sizes: [i64; 3]) -> [ValueId; 3] {
    let sizes = b.ints("sizes", &sizes);
    let outputs = ["q", "k", "v"].map(|name| b.graph().add_value(name, ValueKind::Detached, None));
    b.graph().add_node(Node {
        name: "split".to_owned(),
        op: "Split".to_owned(),
        inputs: vec![Some(x), Some(sizes)],
        outputs: outputs.map(Some).to_vec(),
        attributes: [("axis".to_owned(), Attribute::Int(axis))].into(),
        ..Node::default()
    });
    outputs
}

/// As in YOLO11: queries and keys of two, values of three depths in each of two heads; the residual stream
/// goes on.
fn depths_first(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let qkv = conv(b, "qkv", x, 14, 6);
    let heads = reshape(b, qkv, &[-1, 2, 7, 64]);
    let [q, k, v] = split(b, heads, 2, [2, 2, 3]);
    let q = transpose(b, q, &[0, 1, 3, 2]);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let scores = transpose(b, scores, &[0, 1, 3, 2]);
    let mixed = b.op("MatMul", "mixed", &[v, scores], []);
    let maps = reshape(b, mixed, &[-1, 6, 8, 8]);
    let y = conv(b, "proj", maps, 6, 6);
    let x = b.op("Add", "stream", &[x, y], []);
    vec![rest(b, x, 6)]
}

fn stacked(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let qkv = conv(b, "qkv", x, 18, 3);
    let all = reshape(b, qkv, &[-1, 3, 2, 3, 64]);
    let all = transpose(b, all, &[1, 0, 2, 4, 3]);
    let parts = split(b, all, 0, [1, 1, 1]);
    let axis = b.ints("axis", &[0]);
    let [q, k, v] = parts.map(|part| b.op("Squeeze", "part", &[part, axis], []));
    let k = transpose(b, k, &[0, 1, 3, 2]);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    let mixed = transpose(b, mixed, &[0, 1, 3, 2]);
    let maps = reshape(b, mixed, &[-1, 6, 8, 8]);
    vec![rest(b, maps, 6)]
}

/// Attention to the first tokens of each sample, whose number is an input.
fn before_end(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = heads::queries_keys_values(b);
    let k = transpose(b, k, &[0, 1, 3, 2]);
    let ends = b.typed_input("ends", DataType::I64, "n");
    let [axis, axes] = [vec![1], vec![1, 2]].map(|axes| b.ints("axes", &axes));
    let ends = b.op("Unsqueeze", "ends.column", &[ends, axis], []);
    let places = b.ints("places", &[0, 1, 2, 3, 4]);
    let visible = b.op("Less", "visible", &[places, ends], []);
    let visible = b.op("Unsqueeze", "visible.wide", &[visible, axes], []);
    let (shown, hidden) = (b.scalar("shown", 0.0), b.scalar("hidden", -10_000.0));
    let lowered = b.op("Where", "lowered", &[visible, shown, hidden], []);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Add", "masked", &[scores, lowered], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    heads::behind(b, x, mixed)
}

fn heads_in_batch(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let [q, k, v] = ["q", "k", "v"].map(|name| {
        let x = conv(b, name, x, 6, 3);
        reshape(b, x, &[-1, 3, 64])
    });
    let [q, v] = [q, v].map(|x| transpose(b, x, &[0, 2, 1]));
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    let mixed = transpose(b, mixed, &[0, 2, 1]);
    let maps = reshape(b, mixed, &[-1, 6, 8, 8]);
    vec![rest(b, maps, 6)]
}

/// As in MobileViT: products over the pixels of all patches at the same place, and back.
fn patches(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = reshape(b, x, &[-1, 2, 4, 2]);
    let x = transpose(b, x, &[0, 2, 1, 3]);
    let x = reshape(b, x, &[-1, 6, 16, 4]);
    let x = transpose(b, x, &[0, 3, 2, 1]);
    let x = reshape(b, x, &[-1, 16, 6]);
    let w = b.weights("token.w", &[6, 6]);
    let x = b.op("MatMul", "token", &[x, w], []);
    let x = relu(b, x);
    let x = reshape(b, x, &[-1, 4, 16, 6]);
    let x = transpose(b, x, &[0, 3, 2, 1]);
    let x = reshape(b, x, &[-1, 4, 2, 2]);
    let x = transpose(b, x, &[0, 2, 1, 3]);
    let x = reshape(b, x, &[-1, 6, 8, 8]);
    vec![rest(b, x, 6)]
}

/// As in nets for texts: a convolution with one input channel over tokens and all their features.
fn covering_window(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,10,4");
    let w = b.weights("first.w", &[4, 6]);
    let x = b.op("MatMul", "first", &[x, w], []);
    let axis = b.ints("axis", &[1]);
    let x = b.op("Unsqueeze", "channel", &[x, axis], []);
    let (w, bias) = (b.weights("window.w", &[7, 1, 3, 6]), b.weights("window.b", &[7]));
    let x = b.op("Conv", "window", &[x, w, bias], []);
    let x = relu(b, x);
    let x = b.op("GlobalMaxPool", "largest", &[x], []);
    let x = b.op("Flatten", "flat", &[x], []);
    let w = b.weights("head.w", &[5, 7]);
    vec![b.op("Gemm", "head", &[x, w], [("transB", 1.into())])]
}

fn context(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let mask = conv(b, "mask", x, 1, 6);
    let mask = reshape(b, mask, &[-1, 1, 64]);
    let mask = b.op("Softmax", "attention", &[mask], [("axis", 2.into())]);
    let (first, last) = (b.ints("axis", &[1]), b.ints("axis", &[-1]));
    let mask = b.op("Unsqueeze", "column", &[mask, last], []);
    let pixels = reshape(b, x, &[-1, 6, 64]);
    let pixels = b.op("Unsqueeze", "pixels", &[pixels, first], []);
    let context = b.op("MatMul", "context", &[pixels, mask], []);
    let context = reshape(b, context, &[-1, 6, 1, 1]);
    let w = b.weights("change.w", &[6, 6, 1, 1]);
    let change = b.op("Conv", "change", &[context, w], []);
    let x = b.op("Add", "changed", &[x, change], []);
    vec![rest(b, x, 6)]
}

/// As in graph nets: products over nodes by a constant matrix, in front of one over features each.
fn fixed_graph(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,4,3");
    let edges = b.weights("edges", &[4, 4]);
    let w = b.weights("first.w", &[3, 6]);
    let x = b.op("MatMul", "first", &[x, w], []);
    let x = b.op("MatMul", "spread", &[edges, x], []);
    let x = relu(b, x);
    let w = b.weights("second.w", &[6, 7]);
    let x = b.op("MatMul", "second", &[x, w], []);
    let x = b.op("MatMul", "spread", &[edges, x], []);
    let x = relu(b, x);
    let w = b.weights("head.w", &[7, 2]);
    vec![b.op("MatMul", "head", &[x, w], [])]
}

/// As in relative attention: a layer of constant positions, which is before all others in no order.
fn constant_positions(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,4,3");
    let w = b.weights("first.w", &[3, 6]);
    let x = b.op("MatMul", "first", &[x, w], []);
    let x = relu(b, x);
    let w = b.weights("query.w", &[6, 6]);
    let q = b.op("MatMul", "query", &[x, w], []);
    let (positions, w) = (b.weights("positions", &[4, 2]), b.weights("keys.w", &[2, 6]));
    // No constant is computed by this function, so the layer stays.
    let positions = b.op("Erf", "bent", &[positions], []);
    let k = b.op("MatMul", "keys", &[positions, w], []);
    let k = transpose(b, k, &[1, 0]);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let x = b.op("MatMul", "mixed", &[scores, x], []);
    let w = b.weights("head.w", &[6, 2]);
    vec![b.op("MatMul", "head", &[x, w], [])]
}

/// As in Swin Transformer V2: what positions add to each channel, by a perceptron from their coordinates.
fn perceptron_of_positions(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,4,3");
    let w = b.weights("first.w", &[3, 6]);
    let x = b.op("MatMul", "first", &[x, w], []);
    let (table, w) = (b.weights("coordinates", &[4, 2]), b.weights("up.w", &[2, 9]));
    let up = b.op("MatMul", "up", &[table, w], []);
    let bias = b.weights("up.b", &[9]);
    let up = b.op("Add", "biased", &[up, bias], []);
    let up = b.op("Relu", "bent", &[up], []);
    let w = b.weights("down.w", &[9, 6]);
    let down = b.op("MatMul", "down", &[up, w], []);
    let positions = b.op("Sigmoid", "positions", &[down], []);
    let x = b.op("Add", "placed", &[x, positions], []);
    let x = relu(b, x);
    let w = b.weights("second.w", &[6, 7]);
    let x = b.op("MatMul", "second", &[x, w], []);
    let x = relu(b, x);
    let w = b.weights("head.w", &[7, 2]);
    vec![b.op("MatMul", "head", &[x, w], [])]
}

/// Weights that batch normalisation in training mode standardises, which torch exports so.
fn standardised(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let w = b.weights("first.w", &[6, 3, 3, 3]);
    let rows = reshape(b, w, &[1, 6, 27]);
    let params = ["gain", "shift", "mean", "variance"].map(|name| b.weights(name, &[6]));
    let outputs = ["rows", "means", "variances"]
        .map(|name| b.graph().add_value(name, ValueKind::Detached, None));
    b.graph().add_node(Node {
        name: "standardised".to_owned(),
        op: "BatchNormalization".to_owned(),
        inputs: std::iter::once(rows).chain(params).map(Some).collect(),
        outputs: outputs.map(Some).to_vec(),
        attributes: [("training_mode".to_owned(), Attribute::Int(1))].into(),
        ..Node::default()
    });
    let w = reshape(b, outputs[0], &[6, 3, 3, 3]);
    let x = b.op("Conv", "first", &[x, w], [("pads", [1, 1, 1, 1].into())]);
    let x = relu(b, x);
    vec![rest(b, x, 6)]
}

/// The scores do not depend on the order of channels.
fn towers(b: &mut GraphBuilder) -> Vec<ValueId> {
    let sides = ["user", "item"].map(|name| {
        let x = b.input(name, "n,3");
        let w = b.weights(&format!("{name}.first.w"), &[6, 3]);
        let x = b.op("Gemm", "first", &[x, w], [("transB", 1.into())]);
        let x = relu(b, x);
        let w = b.weights(&format!("{name}.last.w"), &[8, 6]);
        b.op("Gemm", "last", &[x, w], [("transB", 1.into())])
    });
    let both = b.op("Mul", "both", &sides, []);
    let axis = b.ints("axis", &[1]);
    vec![b.op("ReduceSum", "score", &[both, axis], [("keepdims", 1.into())])]
}
