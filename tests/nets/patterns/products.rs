//! Products with a constant matrix in the forms that exporters write.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::net::{Pattern, relu};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("weights in stacks of one", stacked),
    ("weights in stacks of one beside fewer axes", stacked_beside_matrices),
    ("weights in stacks of one on the left", stacked_on_left),
    ("addends of dense layers", addends),
];

fn stacked(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,4,8");
    let (w, bias) = (b.weights("first.w", &[1, 8, 6]), b.weights("first.b", &[6]));
    let x = b.op("MatMul", "first", &[x, w], []);
    let x = b.op("Add", "biased", &[x, bias], []);
    let x = relu(b, x);
    let w = b.weights("middle.w", &[1, 1, 6, 7]);
    let x = b.op("MatMul", "middle", &[x, w], []);
    let axis = b.ints("axis", &[0]);
    let x = b.op("Squeeze", "tokens", &[x, axis], []);
    let x = relu(b, x);
    let w = b.weights("head.w", &[1, 7, 5]);
    vec![b.op("MatMul", "head", &[x, w], [])]
}

fn stacked_beside_matrices(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,8");
    let (w, bias) = (b.weights("first.w", &[1, 8, 6]), b.weights("first.b", &[1, 1, 6]));
    let x = b.op("MatMul", "first", &[x, w], []);
    let x = b.op("Add", "biased", &[x, bias], []);
    let x = relu(b, x);
    let axis = b.ints("axis", &[0]);
    let x = b.op("Squeeze", "matrix", &[x, axis], []);
    let (w, bias) = (b.weights("middle.w", &[7, 6]), b.weights("middle.b", &[7]));
    let x = b.op("Gemm", "middle", &[x, w, bias], [("transB", 1.into())]);
    let x = relu(b, x);
    let (w, bias) = (b.weights("head.w", &[5, 7]), b.weights("head.b", &[5]));
    vec![b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])]
}

fn stacked_on_left(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,4,6");
    let w = b.weights("first.w", &[1, 8, 4]);
    let x = b.op("MatMul", "first", &[w, x], []);
    let x = relu(b, x);
    let w = b.weights("middle.w", &[1, 7, 8]);
    let x = b.op("MatMul", "middle", &[w, x], []);
    let x = relu(b, x);
    let w = b.weights("head.w", &[1, 5, 7]);
    vec![b.op("MatMul", "head", &[w, x], [])]
}

/// Numbers for all, for each sample and for each element, and a shortcut, all with a factor.
fn addends(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "4,8");
    let (w, c) = (b.weights("first.w", &[6, 8]), b.scalar("first.c", 0.3));
    let factors = [("alpha", 2.0.into()), ("beta", 0.5.into()), ("transB", 1.into())];
    let x = b.op("Gemm", "first", &[x, w, c], factors);
    let x = relu(b, x);
    let (w, c) = (b.weights("second.w", &[7, 6]), b.weights("second.c", &[4, 1]));
    let x = b.op("Gemm", "second", &[x, w, c], [("beta", 2.0.into()), ("transB", 1.into())]);
    let x = relu(b, x);
    let (w, c) = (b.weights("third.w", &[7, 6]), b.weights("third.c", &[4, 6]));
    let x = b.op("Gemm", "third", &[x, w, c], [("beta", 0.5.into())]);
    let x = relu(b, x);
    let w = b.weights("fourth.w", &[6, 6]);
    let x = b.op("Gemm", "fourth", &[x, w, x], [("beta", 0.5.into())]);
    let x = relu(b, x);
    let (w, bias) = (b.weights("head.w", &[5, 6]), b.weights("head.b", &[1, 5]));
    vec![b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])]
}
