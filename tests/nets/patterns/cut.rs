//! Axes that reshapes cut: features into maps, spectra into bands.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::net::{Pattern, conv, dense, images, relu, reshape, rest, transpose};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("features to maps", maps),
    ("features to upsampled maps", upsampled),
    ("features to sequences", sequences),
    ("features to maps with channels last", maps_last),
    ("bent features to sequences with channels last", sequences_last),
    ("features to tokens", tokens),
    ("normalised bands", bands),
    ("a channel that a slice leaves whole", whole),
];

/// Two layers; the second one has 24 features.
fn features(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "n,5");
    [("first", 7, 5), ("second", 24, 7)].into_iter().fold(x, |x, (name, out, inputs)| {
        let w = b.weights(&format!("{name}.w"), &[out, inputs]);
        let bias = b.weights(&format!("{name}.b"), &[out]);
        let x = b.op("Gemm", name, &[x, w, bias], [("transB", 1.into())]);
        relu(b, x)
    })
}

fn maps(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = features(b);
    let x = reshape(b, x, &[-1, 6, 2, 2]);
    vec![rest(b, x, 6)]
}

/// As in decoders.
fn upsampled(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = features(b);
    let x = reshape(b, x, &[-1, 4, 3, 2]);
    let (w, bias) = (b.weights("up.w", &[4, 6, 2, 2]), b.weights("up.b", &[6]));
    let x = b.op("ConvTranspose", "up", &[x, w, bias], [("strides", [2, 2].into())]);
    let x = relu(b, x);
    let w = b.weights("last.w", &[3, 6, 1, 1]);
    vec![b.op("Conv", "last", &[x, w], [])]
}

fn sequences(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = features(b);
    let x = reshape(b, x, &[-1, 6, 4]);
    windows(b, x)
}

/// Two layers over sequences of six channels.
fn windows(b: &mut GraphBuilder, x: ValueId) -> Vec<ValueId> {
    let (w, bias) = (b.weights("middle.w", &[7, 6, 3]), b.weights("middle.b", &[7]));
    let x = b.op("Conv", "middle", &[x, w, bias], []);
    let x = relu(b, x);
    let w = b.weights("last.w", &[5, 7, 1]);
    vec![b.op("Conv", "last", &[x, w], [])]
}

fn maps_last(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = features(b);
    let x = reshape(b, x, &[-1, 2, 2, 6]);
    let x = transpose(b, x, &[0, 3, 1, 2]);
    vec![rest(b, x, 6)]
}

/// Each feature has a slope of its own, and each channel a scale and a shift.
fn sequences_last(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = features(b);
    let slope = b.positive("slope", &[24]);
    let x = b.op("PRelu", "bent", &[x, slope], []);
    let x = reshape(b, x, &[-1, 4, 6]);
    let (scale, shift) = (b.positive("scale", &[6]), b.weights("shift", &[6]));
    let x = b.op("Mul", "scaled", &[x, scale], []);
    let x = b.op("Add", "shifted", &[x, shift], []);
    let x = transpose(b, x, &[0, 2, 1]);
    windows(b, x)
}

fn tokens(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = features(b);
    let x = reshape(b, x, &[-1, 4, 6]);
    let x = dense(b, "middle", x, [6, 7]);
    let x = relu(b, x);
    vec![dense(b, "head", x, [7, 5])]
}

/// As in BC-ResNet: numbers of its own for each channel of each of two bands of frequencies.
fn bands(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = reshape(b, x, &[-1, 12, 4, 8]);
    let [scale, variance] = ["scale", "variance"].map(|name| b.positive(name, &[12]));
    let [shift, mean] = ["shift", "mean"].map(|name| b.weights(name, &[12]));
    let x = b.op("BatchNormalization", "normal", &[x, scale, shift, mean, variance], []);
    let x = reshape(b, x, &[-1, 6, 8, 8]);
    let x = relu(b, x);
    vec![rest(b, x, 6)]
}

/// A spectrum of one channel, with slices up to a number that no extent reaches.
fn whole(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,8,8");
    let last = b.ints("last", &[3]);
    let x = b.op("Unsqueeze", "channel", &[x, last], []);
    let bounds = [[0, 0], [1_000_000_000; 2], [0, 3]].map(|bounds| b.ints("bounds", &bounds));
    let x = b.op("Slice", "whole", &[x, bounds[0], bounds[1], bounds[2]], []);
    let x = reshape(b, x, &[0, 1, -1, 8]);
    let x = conv(b, "first", x, 6, 1);
    let x = relu(b, x);
    let x = transpose(b, x, &[0, 2, 3, 1]);
    let x = reshape(b, x, &[-1, 384]);
    let x = dense(b, "middle", x, [384, 7]);
    let x = relu(b, x);
    vec![dense(b, "head", x, [7, 5])]
}
