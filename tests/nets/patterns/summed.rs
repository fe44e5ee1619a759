//! One number for all channels, times one number for each.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::net::{Pattern, conv, images, relu, rest};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("mean of all channels times a number for each", mean_of_each),
    ("mean of all channels for each beside them", mean_beside),
    ("deviation of all channels times a number for each", deviation_of_each),
];

fn mean(b: &mut GraphBuilder, x: ValueId, axis: i64) -> ValueId {
    b.op("ReduceMean", "mean", &[x], [("axes", [axis].into()), ("keepdims", 1.into())])
}

fn each(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let (mean, scale) = (mean(b, x, 1), b.positive("scale", &[6, 1, 1]));
    b.op("Mul", "each", &[mean, scale], [])
}

fn mean_of_each(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let x = each(b, x);
    let shift = b.weights("shift", &[1, 6, 1, 1]);
    let x = b.op("Add", "shifted", &[x, shift], []);
    let x = relu(b, x);
    vec![rest(b, x, 6)]
}

fn mean_beside(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let each = each(b, x);
    let x = b.op("Sub", "beside", &[x, each], []);
    let x = relu(b, x);
    vec![rest(b, x, 6)]
}

/// A layer normalisation as TensorFlow writes it.
fn deviation_of_each(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,4,8");
    let (w, bias) = (b.weights("first.w", &[8, 6]), b.weights("first.b", &[6]));
    let x = b.op("MatMul", "first", &[x, w], []);
    let x = b.op("Add", "biased", &[x, bias], []);
    let centre = mean(b, x, -1);
    let centred = b.op("Sub", "centred", &[x, centre], []);
    let square = b.op("Mul", "square", &[centred, centred], []);
    let variance = mean(b, square, -1);
    let epsilon = b.scalar("epsilon", 1e-3);
    let variance = b.op("Add", "raised", &[variance, epsilon], []);
    let deviation = b.op("Sqrt", "deviation", &[variance], []);
    let inverse = b.op("Reciprocal", "inverse", &[deviation], []);
    let (scale, shift) = (b.positive("scale", &[6]), b.weights("shift", &[6]));
    let factor = b.op("Mul", "factor", &[inverse, scale], []);
    let scaled = b.op("Mul", "scaled", &[x, factor], []);
    let middle = b.op("Mul", "middle", &[centre, factor], []);
    let addend = b.op("Sub", "addend", &[shift, middle], []);
    let x = b.op("Add", "normal", &[scaled, addend], []);
    let w = b.weights("second.w", &[6, 7]);
    let x = b.op("MatMul", "second", &[x, w], []);
    let x = relu(b, x);
    let w = b.weights("head.w", &[7, 5]);
    vec![b.op("MatMul", "head", &[x, w], [])]
}
