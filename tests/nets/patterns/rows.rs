//! Layers with several rows per channel, and normalisations written as single operators.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::net::{Pattern, conv, halves, images, relu, rest, scaled};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("gates between values", alternating),
    ("halves with slopes of their own", sloped_halves),
    ("both signs", both_signs),
    ("three times one layer", three_times),
    ("group normalisation by a computed shape", computed_groups),
];

/// Every other row is a gate.
fn alternating(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "double", x, 12, 3);
    let (axis, step) = (b.ints("channels", &[1]), b.ints("step", &[2]));
    let [values, gates] = [(0, 12, "values"), (1, 12, "gates")].map(|(from, to, name)| {
        let (from, to) = (b.ints("from", &[from]), b.ints("to", &[to]));
        b.op("Slice", name, &[x, from, to, axis, step], [])
    });
    let (values, gates) =
        (b.op("Tanh", "bound", &[values], []), b.op("Sigmoid", "on", &[gates], []));
    let x = b.op("Mul", "gated", &[values, gates], []);
    vec![rest(b, x, 6)]
}

fn sloped_halves(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "double", x, 12, 3);
    let parts = halves(b, x, 6).map(|half| {
        let slope = b.weights("slope", &[6, 1, 1]);
        b.op("PRelu", "sloped", &[half, slope], [])
    });
    let x = b.op("Add", "sum", &parts, []);
    vec![rest(b, x, 6)]
}

fn both_signs(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let negative = b.op("Neg", "negative", &[x], []);
    let parts = [x, negative].map(|part| relu(b, part));
    let x = b.op("Concat", "both", &parts, [("axis", 1.into())]);
    vec![rest(b, x, 12)]
}

/// A square matrix that is applied three times.
fn three_times(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,7");
    let (w, bias) = (b.weights("first.w", &[6, 7]), b.weights("first.b", &[6]));
    let mut x = b.op("Gemm", "first", &[x, w, bias], [("transB", 1.into())]);
    let w = b.weights("again.w", &[6, 6]);
    for _ in 0..3 {
        x = relu(b, x);
        x = b.op("Gemm", "again", &[x, w], [("transB", 1.into())]);
    }
    let x = relu(b, x);
    let (w, bias) = (b.weights("head.w", &[5, 6]), b.weights("head.b", &[5]));
    vec![b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])]
}

/// Normalises one group. The `Reshape` back takes its shape from a `Shape` node.
fn computed_groups(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let groups = b.ints("groups", &[0, 1, -1]);
    let grouped = b.op("Reshape", "grouped", &[x, groups], []);
    let (one, zero) = (b.positive("one", &[1]), b.weights("zero", &[1]));
    let normal = b.op("InstanceNormalization", "normal", &[grouped, one, zero], []);
    let shape = b.op("Shape", "shape", &[x], []);
    let x = b.op("Reshape", "ungrouped", &[normal, shape], []);
    vec![scaled(b, x)]
}
