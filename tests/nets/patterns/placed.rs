//! Channels that get places by a cut: positions of pixels, depths of heads with numbers of their own, tokens of features.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, ValueId};

use super::heads::{attention, behind, heads, queries_keys_values, stream};
use super::net::{Pattern, conv, dense, images, relu, reshape, rest, scaled, transpose};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("pixel shuffles of two stages", shuffles),
    ("pixel shuffle of channels that are far from each other", far_channels),
    ("expanded patches", expanded_patches),
    ("biases of depths of heads", biased_heads),
    ("two biases of the same queries", two_biases),
    ("one table of relative positions for all heads", relative_table),
    ("attention between depths", between_depths),
    ("tokens of features", tokens_of_features),
    ("weights of two branches", branches),
    ("a context that is an output", given_context),
];

/// Heads that have heads of their own, which are not followed.
pub const NESTED: &[Pattern] = &[
    ("groups of shuffled channels", groups_of_shuffled),
    ("groups of pooled channels", groups_of_pooled),
];

fn shuffled(b: &mut GraphBuilder, x: ValueId, mode: &str) -> ValueId {
    let mode = Attribute::Str(mode.as_bytes().to_vec());
    b.op("DepthToSpace", "shuffle", &[x], [("blocksize", 2.into()), ("mode", mode)])
}

/// As in nets for larger pictures.
fn shuffles(b: &mut GraphBuilder) -> Vec<ValueId> {
    let mut x = images(b);
    for (name, out, inputs) in [("first", 20, 3), ("second", 24, 5)] {
        x = conv(b, name, x, out, inputs);
        x = shuffled(b, x, "CRD");
        let slope = b.weights(&format!("{name}.slope"), &[out / 4, 1, 1]);
        x = b.op("PRelu", "bent", &[x, slope], []);
    }
    vec![rest(b, x, 6)]
}

/// As TensorFlow writes it.
fn far_channels(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 24, 3);
    let x = relu(b, x);
    let x = shuffled(b, x, "DCR");
    vec![rest(b, x, 6)]
}

/// As in decoders of transformers for pictures: each of four tokens becomes four.
fn expanded_patches(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,4,3");
    let x = dense(b, "first", x, [3, 6]);
    let x = relu(b, x);
    let x = dense(b, "expand", x, [6, 28]);
    let x = reshape(b, x, &[-1, 2, 2, 2, 2, 7]);
    let x = transpose(b, x, &[0, 1, 3, 2, 4, 5]);
    let x = reshape(b, x, &[-1, 16, 7]);
    let [scale, shift] = ["scale", "shift"].map(|name| b.weights(name, &[7]));
    let x = b.op("LayerNormalization", "norm", &[x, scale, shift], []);
    let x = dense(b, "last", x, [7, 8]);
    let x = relu(b, x);
    vec![dense(b, "head", x, [8, 5])]
}

/// As Keras writes it.
fn biased_heads(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = stream(b);
    let [q, k, v] = ["q", "k", "v"].map(|name| {
        let x = dense(b, name, x, [6, 8]);
        let x = reshape(b, x, &[0, 0, 2, 4]);
        let bias = b.weights(&format!("{name}.b"), &[2, 4]);
        let x = b.op("Add", "biased", &[x, bias], []);
        transpose(b, x, &[0, 2, 1, 3])
    });
    let k = transpose(b, k, &[0, 1, 3, 2]);
    attention(b, x, [q, k, v])
}

/// As in attention with relative positions, whose queries have one bias for contents and one for positions.
fn two_biases(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [_, k, v]) = queries_keys_values(b);
    let q = dense(b, "query", x, [6, 8]);
    let q = reshape(b, q, &[0, 0, 2, 4]);
    let other = heads(b, "other", x);
    let [scores, shifts] = [("u", k), ("v", other)].map(|(name, keys)| {
        let bias = b.weights(name, &[2, 4]);
        let q = b.op("Add", "biased", &[q, bias], []);
        let (q, keys) = (transpose(b, q, &[0, 2, 1, 3]), transpose(b, keys, &[0, 1, 3, 2]));
        b.op("MatMul", "scores", &[q, keys], [])
    });
    let scores = b.op("Add", "sum", &[scores, shifts], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    behind(b, x, mixed)
}

fn relative_table(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = queries_keys_values(b);
    let k = transpose(b, k, &[0, 1, 3, 2]);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let table = b.weights("table", &[4, 5]);
    let shifts = b.op("MatMul", "shifts", &[q, table], []);
    let scores = b.op("Add", "sum", &[scores, shifts], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    behind(b, x, mixed)
}

/// As in nets that restore pictures, whose depths attend to each other over all pixels.
fn between_depths(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = queries_keys_values(b);
    let [q, v] = [q, v].map(|own| transpose(b, own, &[0, 1, 3, 2]));
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let sharpness = b.positive("sharpness", &[2, 1, 1]);
    let scores = b.op("Mul", "sharp", &[scores, sharpness], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    let mixed = transpose(b, mixed, &[0, 1, 3, 2]);
    behind(b, x, mixed)
}

/// As in transformers for tables.
fn tokens_of_features(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, axis) = (b.input("x", "n,4"), b.ints("axis", &[2]));
    let x = b.op("Unsqueeze", "numbers", &[x, axis], []);
    let (rows, shifts) = (b.weights("rows", &[4, 6]), b.weights("shifts", &[4, 6]));
    let x = b.op("Mul", "tokens", &[x, rows], []);
    let x = b.op("Add", "shifted", &[x, shifts], []);
    let y = dense(b, "up", x, [6, 9]);
    let y = relu(b, y);
    let y = dense(b, "down", y, [9, 6]);
    let x = b.op("Add", "stream", &[x, y], []);
    let x = b.op("ReduceMean", "pool", &[x], [("axes", [1].into()), ("keepdims", 0.into())]);
    vec![dense(b, "head", x, [6, 5])]
}

/// As in nets with selective kernels: one layer makes the weights of all branches.
fn branches(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let parts = ["one", "two"].map(|name| {
        let x = conv(b, name, x, 6, 3);
        relu(b, x)
    });
    let sum = b.op("Add", "sum", &parts, []);
    let pool = b.op("GlobalAveragePool", "pool", &[sum], []);
    let flat = b.op("Flatten", "flat", &[pool], []);
    let (squeeze, weigh) = (b.weights("squeeze.w", &[7, 6]), b.weights("weigh.w", &[12, 7]));
    let y = b.op("Gemm", "squeeze", &[flat, squeeze], [("transB", 1.into())]);
    let y = relu(b, y);
    let y = b.op("Gemm", "weigh", &[y, weigh], [("transB", 1.into())]);
    let y = reshape(b, y, &[-1, 2, 6, 1, 1]);
    let shares = b.op("Softmax", "shares", &[y], [("axis", 1.into())]);
    let axis = b.ints("axis", &[1]);
    let parts = parts.map(|part| b.op("Unsqueeze", "part", &[part, axis], []));
    let stack = b.op("Concat", "stack", &parts, [("axis", 1.into())]);
    let weighted = b.op("Mul", "weighted", &[stack, shares], []);
    let x = b.op("ReduceSum", "mixed", &[weighted, axis], [("keepdims", 0.into())]);
    vec![rest(b, x, 6)]
}

/// Statistics of groups of channels, which are positions themselves.
fn groups_of_shuffled(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 24, 3);
    let x = shuffled(b, x, "CRD");
    vec![in_groups(b, x, &[-1, 6, 16, 16])]
}

/// As in decoders that begin with a layer of all pixels.
fn groups_of_pooled(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,3");
    let (w, bias) = (b.weights("w", &[384, 3]), b.weights("bias", &[384]));
    let x = b.op("Gemm", "pixels", &[x, w, bias], [("transB", 1.into())]);
    let x = reshape(b, x, &[-1, 6, 8, 8]);
    let window = [("kernel_shape", [2, 2].into()), ("strides", [2, 2].into())];
    let x = b.op("AveragePool", "pool", &[x], window);
    vec![in_groups(b, x, &[-1, 6, 4, 4])]
}

/// Two groups of channels with statistics of their own.
fn in_groups(b: &mut GraphBuilder, x: ValueId, dims: &[i64]) -> ValueId {
    let x = reshape(b, x, &[0, 2, -1]);
    let (one, zero) = (b.positive("one", &[2]), b.weights("zero", &[2]));
    let x = b.op("InstanceNormalization", "normal", &[x, one, zero], []);
    let x = reshape(b, x, dims);
    scaled(b, x)
}

/// Linear attention, which a caller continues.
fn given_context(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = queries_keys_values(b);
    let k = transpose(b, k, &[0, 1, 3, 2]);
    let context = b.op("MatMul", "context", &[k, v], []);
    let mixed = b.op("MatMul", "mixed", &[q, context], []);
    let mut outputs = behind(b, x, mixed);
    outputs.push(context);
    outputs
}
