//! Channels that change places with rows or columns of pixels, and operators in that layout.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::net::{Pattern, conv, images, relu, rest, transpose};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("layers over channels as columns", dense),
    ("matrix on the left of channels as rows", left),
    ("rows mixed by a convolution beside channels", mixed),
    ("rows mixed by a transposed convolution beside channels", widened),
    ("filters of each row beside channels", filters),
    ("pooling beside channels", pooled),
    ("batch normalisation of rows beside channels", batch_norm),
    ("instance normalisation over channels as rows", instance_norm),
    ("means over channels as columns", means),
    ("channels in place of samples", samples),
];

/// Eight maps of 8 × 8.
fn maps(b: &mut GraphBuilder) -> ValueId {
    let x = images(b);
    let x = conv(b, "first", x, 8, 3);
    relu(b, x)
}

/// Exchanges channels and rows.
fn with_rows(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    transpose(b, x, &[0, 2, 1, 3])
}

/// Exchanges channels and columns.
fn with_columns(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    transpose(b, x, &[0, 3, 2, 1])
}

fn dense(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = maps(b);
    let mut x = with_columns(b, x);
    for (name, dims) in [("wide", [8, 10]), ("narrow", [10, 6])] {
        let w = b.weights(&format!("{name}.w"), &dims);
        x = b.op("MatMul", name, &[x, w], []);
        x = relu(b, x);
    }
    let x = with_columns(b, x);
    vec![rest(b, x, 6)]
}

fn left(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = maps(b);
    let x = with_rows(b, x);
    let w = b.weights("left.w", &[6, 8]);
    let x = b.op("MatMul", "left", &[w, x], []);
    let x = relu(b, x);
    let x = with_rows(b, x);
    vec![rest(b, x, 6)]
}

/// A convolution over columns that mixes all rows.
fn mixed(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = maps(b);
    let x = with_rows(b, x);
    let (w, bias) = (b.weights("mixed.w", &[7, 8, 1, 3]), b.weights("mixed.b", &[7]));
    let x = b.op("Conv", "mixed", &[x, w, bias], [("pads", [0, 1, 0, 1].into())]);
    let x = relu(b, x);
    let x = with_rows(b, x);
    vec![rest(b, x, 8)]
}

fn widened(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = maps(b);
    let x = with_rows(b, x);
    let w = b.weights("wide.w", &[8, 5, 1, 2]);
    let x = b.op("ConvTranspose", "wide", &[x, w], [("strides", [1, 2].into())]);
    let x = relu(b, x);
    let x = with_rows(b, x);
    vec![rest(b, x, 8)]
}

fn filters(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = maps(b);
    let x = with_rows(b, x);
    let (w, bias) = (b.weights("each.w", &[8, 1, 1, 3]), b.weights("each.b", &[8]));
    let x = b.op("Conv", "each", &[x, w, bias], [("group", 8.into())]);
    let x = relu(b, x);
    let x = with_rows(b, x);
    vec![rest(b, x, 8)]
}

fn pooled(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = maps(b);
    let x = with_rows(b, x);
    let window = || [("kernel_shape", [1, 2].into()), ("strides", [1, 2].into())];
    let both = ["MaxPool", "AveragePool"].map(|op| b.op(op, op, &[x], window()));
    let x = b.op("Sub", "more", &both, []);
    let x = with_rows(b, x);
    vec![rest(b, x, 8)]
}

fn batch_norm(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = maps(b);
    let x = with_rows(b, x);
    let [scale, variance] = ["scale", "variance"].map(|name| b.positive(name, &[8]));
    let [shift, mean] = ["shift", "mean"].map(|name| b.weights(name, &[8]));
    let x = b.op("BatchNormalization", "normal", &[x, scale, shift, mean, variance], []);
    let x = relu(b, x);
    let x = with_rows(b, x);
    vec![rest(b, x, 8)]
}

/// Statistics run over channels and columns, in any order.
fn instance_norm(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = maps(b);
    let x = with_rows(b, x);
    let (scale, shift) = (b.positive("scale", &[8]), b.weights("shift", &[8]));
    let x = b.op("InstanceNormalization", "normal", &[x, scale, shift], []);
    let x = relu(b, x);
    let x = with_rows(b, x);
    vec![rest(b, x, 8)]
}

/// A gate for each column.
fn means(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = maps(b);
    let x = with_columns(b, x);
    let gates = b.op("GlobalAveragePool", "mean", &[x], []);
    let gates = b.op("Sigmoid", "gates", &[gates], []);
    let x = b.op("Mul", "gated", &[x, gates], []);
    let x = with_columns(b, x);
    vec![rest(b, x, 8)]
}

/// Pooling that takes the channels one by one, as samples.
fn samples(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = maps(b);
    let x = transpose(b, x, &[1, 0, 2, 3]);
    let x = b.op("MaxPool", "largest", &[x], [("kernel_shape", [2, 2].into())]);
    let x = transpose(b, x, &[1, 0, 2, 3]);
    vec![rest(b, x, 8)]
}
