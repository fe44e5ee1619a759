//! Products over tokens beside the channels, several filters per channel, and shuffles of channels that come last.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::net::{Pattern, conv, dense, images, relu, reshape, rest, transpose};

pub const PATTERNS: &[Pattern] = &[
    ("mixer of more tokens than channels", mixer),
    ("mixer whose tokens are a convolution's channels", mixer_by_convolution),
    ("gate over tokens", gate),
    ("several filters per channel", multiplied),
    ("several filters per channel and gates", excited),
    ("shuffle of channels that come last", shuffled),
];

/// Nine tokens with six channels.
fn tokens(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "n,9,4");
    let x = dense(b, "embed", x, [4, 6]);
    let bias = b.weights("embed.b", &[6]);
    b.op("Add", "embedded", &[x, bias], [])
}

/// Five scores of tokens with six channels.
fn scores(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let x = b.op("ReduceMean", "pool", &[x], [("axes", [1].into()), ("keepdims", 0.into())]);
    let (w, bias) = (b.weights("head.w", &[5, 6]), b.weights("head.b", &[5]));
    b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])
}

/// Two more products over channels, and scores.
fn mixed(b: &mut GraphBuilder, x: ValueId) -> Vec<ValueId> {
    let y = dense(b, "wide", x, [6, 8]);
    let y = relu(b, y);
    let y = dense(b, "narrow", y, [8, 6]);
    let x = b.op("Add", "sum", &[x, y], []);
    vec![scores(b, x)]
}

fn mixer(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = tokens(b);
    let y = transpose(b, x, &[0, 2, 1]);
    let y = dense(b, "up", y, [9, 7]);
    let y = relu(b, y);
    let y = dense(b, "down", y, [7, 9]);
    let y = transpose(b, y, &[0, 2, 1]);
    let x = b.op("Add", "sum", &[x, y], []);
    mixed(b, x)
}

fn mixer_by_convolution(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = tokens(b);
    let (w, bias) = (b.weights("up.w", &[7, 9, 1]), b.weights("up.b", &[7]));
    let y = b.op("Conv", "up", &[x, w, bias], []);
    let y = relu(b, y);
    let (w, bias) = (b.weights("down.w", &[9, 7, 1]), b.weights("down.b", &[9]));
    let y = b.op("Conv", "down", &[y, w, bias], []);
    let x = b.op("Add", "sum", &[x, y], []);
    mixed(b, x)
}

fn gate(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = tokens(b);
    let y = dense(b, "values", x, [6, 5]);
    let z = dense(b, "gates", x, [6, 5]);
    let z = transpose(b, z, &[0, 2, 1]);
    let z = dense(b, "over tokens", z, [9, 9]);
    let z = transpose(b, z, &[0, 2, 1]);
    let y = b.op("Mul", "gated", &[y, z], []);
    let y = dense(b, "back", y, [5, 6]);
    let x = b.op("Add", "sum", &[x, y], []);
    mixed(b, x)
}

/// Two filters for each of four channels.
fn filters(b: &mut GraphBuilder) -> ValueId {
    let x = images(b);
    let x = conv(b, "first", x, 4, 3);
    let x = relu(b, x);
    let (w, bias) = (b.weights("each.w", &[8, 1, 3, 3]), b.weights("each.b", &[8]));
    let x = b.op("Conv", "each", &[x, w, bias], [("group", 4.into())]);
    relu(b, x)
}

fn multiplied(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = filters(b);
    vec![rest(b, x, 8)]
}

fn excited(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = filters(b);
    let gates = b.op("GlobalAveragePool", "means", &[x], []);
    let (w, bias) = (b.weights("down.w", &[3, 8, 1, 1]), b.weights("down.b", &[3]));
    let gates = b.op("Conv", "down", &[gates, w, bias], []);
    let gates = relu(b, gates);
    let (w, bias) = (b.weights("up.w", &[8, 3, 1, 1]), b.weights("up.b", &[8]));
    let gates = b.op("Conv", "up", &[gates, w, bias], []);
    let gates = b.op("HardSigmoid", "gates", &[gates], []);
    let x = b.op("Mul", "excited", &[x, gates], []);
    vec![rest(b, x, 8)]
}

fn shuffled(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let x = transpose(b, x, &[0, 2, 3, 1]);
    let x = reshape(b, x, &[-1, 8, 8, 2, 3]);
    let x = transpose(b, x, &[0, 1, 2, 4, 3]);
    let x = reshape(b, x, &[-1, 8, 8, 6]);
    let x = transpose(b, x, &[0, 3, 1, 2]);
    vec![rest(b, x, 6)]
}
