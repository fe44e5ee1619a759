//! Layers whose rows have the order of a model input.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::net::{Pattern, conv, images, relu, rest};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("a sum with the input", residual),
    ("a gate for the input", gated),
    ("products with the input, added to it", crossed),
    ("a filter for each channel of the input", filtered),
];

fn residual(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let y = conv(b, "first", x, 6, 3);
    let y = relu(b, y);
    let y = conv(b, "back", y, 3, 6);
    let x = b.op("Add", "sum", &[x, y], []);
    vec![rest(b, x, 3)]
}

fn gated(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let gates = conv(b, "gates", x, 3, 3);
    let gates = b.op("Sigmoid", "open", &[gates], []);
    let x = b.op("Mul", "gated", &[x, gates], []);
    vec![rest(b, x, 3)]
}

/// The cross layers of recommenders.
fn crossed(b: &mut GraphBuilder) -> Vec<ValueId> {
    let input = b.input("x", "n,7");
    let mut x = input;
    for _ in 0..2 {
        let (w, bias) = (b.weights("cross.w", &[7, 7]), b.weights("cross.b", &[7]));
        let y = b.op("Gemm", "cross", &[x, w, bias], [("transB", 1.into())]);
        let y = b.op("Mul", "product", &[input, y], []);
        x = b.op("Add", "sum", &[x, y], []);
    }
    for (name, dims) in [("middle", [6, 7]), ("head", [5, 6])] {
        let (w, bias) = (b.weights("w", &dims), b.weights("b", &dims[..1]));
        x = relu(b, x);
        x = b.op("Gemm", name, &[x, w, bias], [("transB", 1.into())]);
    }
    vec![x]
}

fn filtered(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let (w, bias) = (b.weights("each.w", &[3, 1, 3, 3]), b.weights("each.b", &[3]));
    let x = b.op("Conv", "each", &[x, w, bias], [("group", 3.into())]);
    let x = relu(b, x);
    vec![rest(b, x, 3)]
}
