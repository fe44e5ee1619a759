//! Forms of `Einsum`.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::Build;

#[rustfmt::skip]
pub const ROWS: &[(&str, i64, &[&str], Build)] = &[
    ("a transpose by Einsum", 13, &["Transpose"],
        |b| between(b, "ntc->nct", &["n,4,3"])),
    ("sums by Einsum", 13, &["ReduceSum", "Transpose"],
        |b| between(b, "nchw->cn", &["n,3,4,5"])),
    ("a reversal by Einsum without a result", 13, &["Transpose"],
        |b| between(b, "cba", &["n,4,3"])),
    ("axes without names", 13, &["Transpose"],
        |b| between(b, "n...c->nc...", &["n,4,5,3"])),
    ("a factor of each sample and channel", 13, &["Unsqueeze", "Mul"],
        |b| between(b, "nchw,nc->nchw", &["n,3,4,5", "n,3"])),
    ("a factor in front", 13, &["Unsqueeze", "Mul"],
        |b| between(b, "nc,nchw->nchw", &["n,3", "n,3,4,5"])),
    ("scalar products by Einsum", 13, &["Mul", "ReduceSum"],
        |b| between(b, "nc,nc->n", &["n,3", "n,3"])),
    ("a map of scalar products", 13, &["Unsqueeze", "Mul", "ReduceSum"],
        |b| between(b, "nchw,nc->nhw", &["n,3,4,5", "n,3"])),
    ("outer products", 13, &["Unsqueeze", "Unsqueeze", "Mul"],
        |b| between(b, "nc,nd->ndc", &["n,3", "n,4"])),
    ("sums before a product", 13, &["ReduceSum", "Mul"],
        |b| between(b, "nct,nc->nc", &["n,3,4", "n,3"])),
    ("a product over pixels", 13, &["Reshape", "Reshape", "Transpose", "MatMul"],
        |b| between(b, "nchw,nkhw->nck", &["n,3,4,5", "n,2,4,5"])),
    ("a product for each column of pixels", 13, &["Transpose", "Unsqueeze", "MatMul"],
        |b| between(b, "nchw,nck->nhwk", &["n,3,4,5", "n,3,2"])),
    ("products with axes of both results apart", 13,
        &["Unsqueeze", "Transpose", "Unsqueeze", "MatMul"],
        |b| between(b, "nabc,ncde->ndabe", &["n,2,4,3", "n,3,5,2"])),
    ("a layer on channels in front", 13, &["Transpose", "MatMul", "Add", "Transpose"],
        |b| weighted(b, "nchw,oc->nohw", "n,3,4,5", &[6, 3])),
    ("a layer over tokens", 13, &["Transpose", "MatMul", "Add"],
        |b| weighted(b, "ntc,ts->ncs", "n,4,3", &[4, 6])),
    ("a layer whose heads are in front of tokens", 13,
        &["MatMul", "Add", "Reshape", "Transpose"],
        |b| weighted(b, "ntc,chd->nhtd", "n,4,3", &[3, 2, 5])),
    ("a layer of heads that are in front of tokens", 13,
        &["Transpose", "Reshape", "MatMul", "Add"],
        |b| weighted(b, "nhtd,hdo->nto", "n,2,4,3", &[2, 3, 5])),
    ("a weight for each channel", 13, &["Mul", "ReduceSum"],
        |b| weighted(b, "ntc,c->nt", "n,4,3", &[3])),
    ("a matrix for each token", 13, &["Transpose", "MatMul", "Transpose"],
        |b| weighted(b, "ntc,tco->nto", "n,4,3", &[4, 3, 2])),
];

fn einsum(b: &mut GraphBuilder, equation: &'static str, operands: &[ValueId]) -> ValueId {
    b.op("Einsum", "y", operands, [("equation", equation.into())])
}

fn between(b: &mut GraphBuilder, equation: &'static str, operands: &[&str]) -> ValueId {
    let named = operands.iter().zip(["x", "z"]);
    let operands: Vec<ValueId> = named.map(|(dims, name)| b.input(name, dims)).collect();
    einsum(b, equation, &operands)
}

fn weighted(b: &mut GraphBuilder, equation: &'static str, data: &str, weight: &[usize]) -> ValueId {
    let operands = [b.input("x", data), b.weights("w", weight)];
    einsum(b, equation, &operands)
}
