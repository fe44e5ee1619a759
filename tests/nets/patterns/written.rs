//! Rows that are written into one tensor, as those of the levels of a pyramid.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Tensor, ValueId};

use super::net::{Pattern, conv, images, relu, rest};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("rows written at the same places of all channels", by_elements),
    ("rows written at places", at_places),
];

/// Two layers of six channels.
fn levels(b: &mut GraphBuilder) -> [ValueId; 2] {
    let x = images(b);
    let first = conv(b, "first", x, 6, 3);
    let first = relu(b, first);
    let second = conv(b, "second", first, 6, 6);
    [first, relu(b, second)]
}

/// Zeros of the shape of `x`, this shape, and the numbers of all rows.
fn zeros(b: &mut GraphBuilder, x: ValueId) -> [ValueId; 3] {
    let shape = b.op("Shape", "shape", &[x], []);
    let zeros = b.op("ConstantOfShape", "zeros", &[shape], []);
    let [from, step] = [("from", 0), ("step", 1)]
        .map(|(name, n)| b.constant(name, Tensor::from_i64(vec![], &[n])));
    let count = b.op("Gather", "count", &[shape, from], []);
    [zeros, shape, b.op("Range", "rows", &[from, count, step], [])]
}

fn by_elements(b: &mut GraphBuilder) -> Vec<ValueId> {
    let levels = levels(b);
    let [mut all, shape, rows] = zeros(b, levels[0]);
    let axes = b.ints("axes", &[1, 2, 3]);
    let rows = b.op("Unsqueeze", "apart", &[rows, axes], []);
    let places = b.op("Expand", "places", &[rows, shape], []);
    for level in levels {
        let adds = [("axis", 0.into()), ("reduction", "add".into())];
        all = b.op("ScatterElements", "all", &[all, places, level], adds);
    }
    vec![rest(b, all, 6)]
}

fn at_places(b: &mut GraphBuilder) -> Vec<ValueId> {
    let levels = levels(b);
    let [mut all, _, rows] = zeros(b, levels[0]);
    let axes = b.ints("axes", &[1]);
    let places = b.op("Unsqueeze", "places", &[rows, axes], []);
    for level in levels {
        all = b.op("ScatterND", "all", &[all, places, level], [("reduction", "add".into())]);
    }
    vec![rest(b, all, 6)]
}
