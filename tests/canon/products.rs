//! Products with a constant matrix in unusual forms.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::Build;

#[rustfmt::skip]
pub const ROWS: &[(&str, i64, &[&str], Build)] = &[
    ("a stack of one matrix", 13, &["MatMul", "Add"], stack),
    ("a stack of one matrix beside fewer axes", 13,
        &["Unsqueeze", "MatMul", "Add"], stack_beside_matrix),
    ("a stack of one matrix on the left", 13,
        &["Transpose", "MatMul", "Add", "Transpose"], stack_on_left),
    ("dense layer with a factor for a column", 13, &["Gemm", "Add"], scaled_column),
    ("dense layer with a factor for a number per element", 13, &["Gemm", "Add"], scaled_matrix),
    ("dense layer with a factor for a computed addend", 13, &["Gemm", "Gemm", "Add"], scaled_sum),
];

fn stack(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,3,7");
    let (w, bias) = (b.weights("w", &[1, 7, 5]), b.weights("b", &[1, 1, 5]));
    let y = b.op("MatMul", "fc", &[x, w], []);
    b.op("Add", "add", &[y, bias], [])
}

fn stack_beside_matrix(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,7");
    let w = b.weights("w", &[1, 7, 5]);
    b.op("MatMul", "fc", &[x, w], [])
}

fn stack_on_left(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,7,3");
    let w = b.weights("w", &[1, 5, 7]);
    b.op("MatMul", "fc", &[w, x], [])
}

fn scaled(b: &mut GraphBuilder, dims: &[usize]) -> ValueId {
    let x = b.input("x", "3,7");
    let (w, c) = (b.weights("w", &[5, 7]), b.weights("c", dims));
    b.op("Gemm", "fc", &[x, w, c], [("beta", 0.5.into()), ("transB", 1.into())])
}

fn scaled_column(b: &mut GraphBuilder) -> ValueId {
    scaled(b, &[3, 1])
}

fn scaled_matrix(b: &mut GraphBuilder) -> ValueId {
    scaled(b, &[3, 5])
}

/// The factor goes on into the layer that computes the addend.
fn scaled_sum(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,7");
    let [w, v] = ["w", "v"].map(|name| b.weights(name, &[7, 5]));
    let c = b.op("Gemm", "c", &[x, v], []);
    b.op("Gemm", "fc", &[x, w, c], [("alpha", 2.0.into()), ("beta", (-0.5).into())])
}
