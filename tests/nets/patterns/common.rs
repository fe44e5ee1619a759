//! Attention in which all heads meet the same values, so that they have one order of depths.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::attended::split;
use super::heads;
use super::net::{Pattern, dense, relu, reshape, transpose};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("one head of keys and values", one_head),
    ("one head of keys and values, repeated", one_head_repeated),
    ("one head of keys and values, all of one layer", one_head_of_one_layer),
    ("one head of keys and values, picked from the heads of one layer", one_head_picked),
    ("one head of values", one_head_of_values),
    ("one head of keys and values, heads beside tokens", one_head_flat),
    ("queries and keys with numbers of each depth", numbers_of_each_depth),
    ("a table for each token of queries", table_by_tokens),
    ("tables for each token of queries, for keys and for values", tables_by_tokens),
    ("a table for each head", table_of_each_head),
    ("learned queries of each head", learned_queries),
    ("learned queries, repeated for all samples", repeated_queries),
    ("linear attention with a scaled context", scaled_context),
    ("linear attention with a column of ones", column_of_ones),
];

/// Queries, and the only head of keys and of values.
fn queries_and_one_head(b: &mut GraphBuilder) -> (ValueId, [ValueId; 3]) {
    let x = heads::stream(b);
    let q = heads::heads(b, "q", x);
    let [k, v] = ["k", "v"].map(|name| dense(b, name, x, [6, 4]));
    (x, [q, k, v])
}

fn one_head(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = queries_and_one_head(b);
    let axis = b.ints("axis", &[1]);
    let [k, v] = [k, v].map(|own| b.op("Unsqueeze", "one", &[own, axis], []));
    let k = transpose(b, k, &[0, 1, 3, 2]);
    heads::attention(b, x, [q, k, v])
}

fn one_head_repeated(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = queries_and_one_head(b);
    let (axis, copies) = (b.ints("axis", &[1]), b.ints("copies", &[1, 2, 1, 1]));
    let [k, v] = [k, v].map(|own| {
        let own = b.op("Unsqueeze", "one", &[own, axis], []);
        b.op("Expand", "two", &[own, copies], [])
    });
    let k = transpose(b, k, &[0, 1, 3, 2]);
    heads::attention(b, x, [q, k, v])
}

/// As in generators of text and code.
fn one_head_of_one_layer(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = heads::stream(b);
    let all = dense(b, "all", x, [6, 16]);
    let [q, k, v] = split(b, all, 2, [8, 4, 4]);
    let q = reshape(b, q, &[0, 0, 2, 4]);
    let q = transpose(b, q, &[0, 2, 1, 3]);
    let axis = b.ints("axis", &[1]);
    let [k, v] = [k, v].map(|own| b.op("Unsqueeze", "one", &[own, axis], []));
    let k = transpose(b, k, &[0, 1, 3, 2]);
    heads::attention(b, x, [q, k, v])
}

/// As in Falcon: the last two heads of one layer are keys and values, picked by lists of one index.
fn one_head_picked(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = heads::stream(b);
    let all = dense(b, "all", x, [6, 16]);
    let all = reshape(b, all, &[0, 0, 4, 4]);
    let (start, end, axis) = (b.ints("start", &[0]), b.ints("end", &[-2]), b.ints("axis", &[2]));
    let q = b.op("Slice", "q", &[all, start, end, axis], []);
    let [k, v] = [-2, -1].map(|place| {
        let place = b.ints("place", &[place]);
        b.op("Gather", "picked", &[all, place], [("axis", 2.into())])
    });
    let [q, v] = [q, v].map(|own| transpose(b, own, &[0, 2, 1, 3]));
    let k = transpose(b, k, &[0, 2, 3, 1]);
    heads::attention(b, x, [q, k, v])
}

fn one_head_of_values(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = heads::stream(b);
    let [q, k] = ["q", "k"].map(|name| heads::heads(b, name, x));
    let v = dense(b, "v", x, [6, 4]);
    let axis = b.ints("axis", &[1]);
    let v = b.op("Unsqueeze", "one", &[v, axis], []);
    let k = transpose(b, k, &[0, 1, 3, 2]);
    heads::attention(b, x, [q, k, v])
}

/// As in the first nets with one head of keys: heads and tokens of queries are rows of one matrix.
fn one_head_flat(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = queries_and_one_head(b);
    let q = reshape(b, q, &[0, 10, 4]);
    let k = transpose(b, k, &[0, 2, 1]);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    let mixed = reshape(b, mixed, &[0, 2, 5, 4]);
    heads::behind(b, x, mixed)
}

fn numbers_of_each_depth(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = heads::queries_keys_values(b);
    let [q, k] = [("q", q), ("k", k)].map(|(name, own)| {
        let scale = b.positive(&format!("{name}.scale"), &[4]);
        let shift = b.weights(&format!("{name}.shift"), &[4]);
        let own = b.op("LayerNormalization", "normal", &[own, scale, shift], []);
        let slope = b.positive(&format!("{name}.slope"), &[4]);
        b.op("Mul", "scaled", &[own, slope], [])
    });
    let k = transpose(b, k, &[0, 1, 3, 2]);
    heads::attention(b, x, [q, k, v])
}

/// As in nets for pictures with relative positions by rows and columns.
fn table_by_tokens(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = heads::queries_keys_values(b);
    let k = transpose(b, k, &[0, 1, 3, 2]);
    let table = b.weights("table", &[5, 5, 4]);
    let shifts = b.op("Einsum", "shifts", &[q, table], [("equation", "bhtd,tsd->bhts".into())]);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Add", "shifted", &[scores, shifts], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    heads::behind(b, x, mixed)
}

/// As in attention with relative positions, whose products are over tokens.
fn tables_by_tokens(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = heads::queries_keys_values(b);
    let k = transpose(b, k, &[0, 1, 3, 2]);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let (keys, values) = (b.weights("keys", &[5, 4, 5]), b.weights("values", &[5, 5, 4]));
    let by_tokens = |b: &mut GraphBuilder, own: ValueId, table: ValueId, depths: i64| {
        let own = transpose(b, own, &[2, 0, 1, 3]);
        let flat = reshape(b, own, &[5, -1, if depths == 4 { 5 } else { 4 }]);
        let product = b.op("MatMul", "product", &[flat, table], []);
        let apart = reshape(b, product, &[5, -1, 2, depths]);
        transpose(b, apart, &[1, 2, 0, 3])
    };
    let shifts = by_tokens(b, q, keys, 5);
    let scores = b.op("Add", "shifted", &[scores, shifts], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    let more = by_tokens(b, scores, values, 4);
    let mixed = b.op("Add", "more", &[mixed, more], []);
    heads::behind(b, x, mixed)
}

fn table_of_each_head(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = heads::queries_keys_values(b);
    let k = transpose(b, k, &[0, 1, 3, 2]);
    let table = b.weights("table", &[2, 4, 5]);
    let scale = b.positive("scale", &[2, 1, 4]);
    let q = b.op("Tanh", "bent", &[q], []);
    let q = b.op("Mul", "scaled", &[q, scale], []);
    let shifts = b.op("MatMul", "shifts", &[q, table], []);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Add", "shifted", &[scores, shifts], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    heads::behind(b, x, mixed)
}

/// As in nets that detect objects: what queries have learned is a constant behind their layer.
fn learned_queries(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = heads::stream(b);
    let [k, v] = ["k", "v"].map(|name| heads::heads(b, name, x));
    let k = transpose(b, k, &[0, 1, 3, 2]);
    let q = b.weights("queries", &[1, 2, 3, 4]);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    let mixed = transpose(b, mixed, &[0, 2, 1, 3]);
    let mixed = reshape(b, mixed, &[0, 0, 8]);
    let y = dense(b, "proj", mixed, [8, 7]);
    let y = relu(b, y);
    vec![dense(b, "head", y, [7, 5])]
}

/// Learned queries are the first part of the stream behind attention.
fn repeated_queries(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = heads::stream(b);
    let shape = b.op("Shape", "shape", &[x], []);
    let (first, rest) = (b.ints("first", &[0]), b.ints("rest", &[3, 6]));
    let samples = b.op("Gather", "samples", &[shape, first], []);
    let target = b.op("Concat", "target", &[samples, rest], [("axis", 0.into())]);
    let queries = b.weights("queries", &[1, 3, 6]);
    let queries = b.op("Expand", "repeated", &[queries, target], []);
    let (scale, shift) = (b.positive("scale", &[6]), b.weights("shift", &[6]));
    let normal = b.op("LayerNormalization", "normal", &[queries, scale, shift], []);
    let q = heads::heads(b, "q", normal);
    let [k, v] = ["k", "v"].map(|name| heads::heads(b, name, x));
    let k = transpose(b, k, &[0, 1, 3, 2]);
    heads::attention(b, queries, [q, k, v])
}

fn column_of_ones(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = heads::queries_keys_values(b);
    let [q, k] = [q, k].map(|own| b.op("Sigmoid", "positive", &[own], []));
    let (pads, one) = (b.ints("pads", &[0, 0, 0, 0, 0, 0, 0, 1]), b.scalar("one", 1.0));
    let v = b.op("Pad", "wide", &[v, pads, one], []);
    let k = transpose(b, k, &[0, 1, 3, 2]);
    let context = b.op("MatMul", "context", &[k, v], []);
    let mixed = b.op("MatMul", "mixed", &[q, context], []);
    let axis = b.ints("axis", &[3]);
    let [values, weights] = [(0, 4), (4, 5)].map(|(start, end)| {
        let (start, end) = (b.ints("start", &[start]), b.ints("end", &[end]));
        b.op("Slice", "cut", &[mixed, start, end, axis], [])
    });
    let mixed = b.op("Div", "mean", &[values, weights], []);
    heads::behind(b, x, mixed)
}

fn scaled_context(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = heads::queries_keys_values(b);
    let q = b.op("Softmax", "rows", &[q], [("axis", (-1).into())]);
    let k = b.op("Softmax", "columns", &[k], [("axis", 2.into())]);
    let k = transpose(b, k, &[0, 1, 3, 2]);
    let context = b.op("MatMul", "context", &[k, v], []);
    let fifth = b.scalar("fifth", 0.2);
    let context = b.op("Mul", "scaled", &[context, fifth], []);
    let mixed = b.op("MatMul", "mixed", &[q, context], []);
    heads::behind(b, x, mixed)
}
