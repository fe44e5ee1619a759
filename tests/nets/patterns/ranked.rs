//! Largest elements and their places, and other operators that work along an axis beside the channels.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Node, Tensor, ValueId, ValueKind};

use super::net::{Pattern, conv, images, relu, rest};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("largest pixels", largest),
    ("largest pixels with their places", largest_with_places),
    ("places of the largest pixels", places),
    ("pixels at the places of other ones", picked),
    ("largest pixel kept", kept),
    ("largest channels added up", largest_channels),
    ("place of the largest channel shown", shown_place),
    ("running sums", running_sums),
    ("pixels at points", at_points),
    ("rows in two parts", parts_of_rows),
];

/// A node of several outputs.
fn several<const N: usize>(
    b: &mut GraphBuilder,
    op: &str,
    inputs: &[ValueId],
    axis: i64,
) -> [ValueId; N] {
    let outputs = [(); N].map(|()| b.graph().add_value(op, ValueKind::Detached, None));
    b.graph().add_node(Node {
        name: op.to_owned(),
        op: op.to_owned(),
        inputs: inputs.iter().copied().map(Some).collect(),
        outputs: outputs.map(Some).to_vec(),
        attributes: [("axis".to_owned(), Attribute::Int(axis))].into(),
        ..Node::default()
    });
    outputs
}

/// Six maps as rows of 64 pixels.
fn pixels(b: &mut GraphBuilder, name: &str, x: ValueId) -> ValueId {
    let x = conv(b, name, x, 6, 3);
    let sizes = b.ints("sizes", &[0, 6, 64]);
    b.op("Reshape", "pixels", &[x, sizes], [])
}

/// Two dense layers.
fn scores(b: &mut GraphBuilder, x: ValueId, inputs: usize) -> Vec<ValueId> {
    let x = b.op("Flatten", "flat", &[x], []);
    let layers = [("last", 7, inputs), ("head", 5, 7)];
    let y = layers.into_iter().fold(x, |x, (name, out, inputs)| {
        let w = b.weights(&format!("{name}.w"), &[out, inputs]);
        let bias = b.weights(&format!("{name}.b"), &[out]);
        let x = b.op("Gemm", name, &[x, w, bias], [("transB", 1.into())]);
        if name == "head" { x } else { relu(b, x) }
    });
    vec![y]
}

fn floats(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let x = b.op("Cast", "float", &[x], [("to", 1.into())]);
    let part = b.scalar("part", 1.0 / 64.0);
    b.op("Mul", "scaled", &[x, part], [])
}

fn largest(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = pixels(b, "first", x);
    let count = b.ints("count", &[4]);
    let [values, _] = several(b, "TopK", &[x, count], -1);
    scores(b, values, 24)
}

fn largest_with_places(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = pixels(b, "first", x);
    let count = b.ints("count", &[2]);
    let [values, places] = several(b, "TopK", &[x, count], 2);
    let places = floats(b, places);
    let x = b.op("Concat", "both", &[values, places], [("axis", 2.into())]);
    scores(b, x, 24)
}

fn places(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = pixels(b, "first", x);
    let both = ["ArgMax", "ArgMin"]
        .map(|op| b.op(op, op, &[x], [("axis", 2.into()), ("keepdims", 0.into())]));
    let both = both.map(|places| floats(b, places));
    let x = b.op("Sub", "way", &both, []);
    scores(b, x, 6)
}

fn picked(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let (one, two) = (pixels(b, "first", x), pixels(b, "other", x));
    let count = b.ints("count", &[3]);
    let [values, places] = several(b, "TopK", &[one, count], 2);
    let others = b.op("GatherElements", "picked", &[two, places], [("axis", 2.into())]);
    let x = b.op("Sub", "more", &[values, others], []);
    scores(b, x, 18)
}

fn kept(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = pixels(b, "first", x);
    let is_largest = b.op("Hardmax", "largest", &[x], [("axis", (-1).into())]);
    let x = b.op("Mul", "kept", &[x, is_largest], []);
    let x = b.op("Tanh", "bound", &[x], []);
    let axis = b.ints("axis", &[2]);
    let x = b.op("ReduceSum", "sum", &[x, axis], [("keepdims", 0.into())]);
    scores(b, x, 6)
}

/// The sum does not depend on the order of channels.
fn largest_channels(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,4");
    let layers = [("first", 6, 4), ("last", 8, 6)];
    let x = layers.into_iter().fold(x, |x, (name, out, inputs)| {
        let w = b.weights(&format!("{name}.w"), &[out, inputs]);
        let x = b.op("Gemm", name, &[x, w], [("transB", 1.into())]);
        relu(b, x)
    });
    let (count, axis) = (b.ints("count", &[3]), b.ints("axis", &[1]));
    let [values, _] = several(b, "TopK", &[x, count], 1);
    vec![b.op("ReduceSum", "sum", &[values, axis], [("keepdims", 0.into())])]
}

fn shown_place(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let place = b.op("ArgMax", "place", &[x], [("axis", 1.into())]);
    let x = relu(b, x);
    vec![rest(b, x, 6), place]
}

fn running_sums(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let axis = b.constant("axis", Tensor::from_i64(vec![], &[3]));
    let x = b.op("CumSum", "sums", &[x, axis], []);
    let x = b.op("Tanh", "bound", &[x], []);
    vec![rest(b, x, 6)]
}

fn at_points(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, z) = (images(b), b.input("z", "n,4,4,2"));
    let x = conv(b, "first", x, 6, 3);
    let points = b.op("Tanh", "points", &[z], []);
    let x = b.op("GridSample", "sampled", &[x, points], []);
    let x = relu(b, x);
    vec![rest(b, x, 6)]
}

fn parts_of_rows(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let sizes = b.ints("sizes", &[4, 4]);
    let [upper, lower] = several(b, "Split", &[x, sizes], 2);
    let lower = relu(b, lower);
    let x = b.op("Add", "both", &[upper, lower], []);
    vec![rest(b, x, 6)]
}
