//! Gates, layers, sums and products that are written as `Einsum`.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::net::{Pattern, conv, images, relu, reshape, rest};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("factors of channels by Einsum", gate),
    ("tokens to channels by Einsum", tokens_last),
    ("scalar product by Einsum", towers),
    ("sums over pixels by Einsum", sums),
    ("outer product of channels", outer),
    ("sums of pixels under masks", under_masks),
    ("layer on channels in front of pixels", in_front),
    ("attention by Einsum, heads in front", attention),
    ("a matrix for each group of channels", groups),
    ("a matrix for each group of features", groups_of_features),
];

fn einsum(b: &mut GraphBuilder, equation: &'static str, operands: &[ValueId]) -> ValueId {
    b.op("Einsum", "einsum", operands, [("equation", equation.into())])
}

/// A dense layer.
fn dense(b: &mut GraphBuilder, name: &str, x: ValueId, out: usize, inputs: usize) -> ValueId {
    let w = b.weights(&format!("{name}.w"), &[out, inputs]);
    let bias = b.weights(&format!("{name}.b"), &[out]);
    b.op("Gemm", name, &[x, w, bias], [("transB", 1.into())])
}

/// One more layer, and five scores.
fn scores(b: &mut GraphBuilder, x: ValueId, inputs: usize) -> Vec<ValueId> {
    let x = dense(b, "last", x, 7, inputs);
    let x = relu(b, x);
    vec![dense(b, "head", x, 5, 7)]
}

fn gate(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let mean = b.op("GlobalAveragePool", "mean", &[x], []);
    let mean = b.op("Flatten", "flat", &[mean], []);
    let gate = dense(b, "gate", mean, 6, 6);
    let gate = b.op("Sigmoid", "on", &[gate], []);
    let x = einsum(b, "nchw,nc->nchw", &[x, gate]);
    vec![rest(b, x, 6)]
}

fn tokens_last(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,8,4");
    let w = b.weights("first.w", &[4, 6]);
    let x = b.op("MatMul", "first", &[x, w], []);
    let x = relu(b, x);
    let x = einsum(b, "ntc->nct", &[x]);
    let (w, bias) = (b.weights("middle.w", &[7, 6, 3]), b.weights("middle.b", &[7]));
    let x = b.op("Conv", "middle", &[x, w, bias], []);
    let x = relu(b, x);
    let w = b.weights("head.w", &[5, 7, 1]);
    vec![b.op("Conv", "head", &[x, w], [])]
}

fn towers(b: &mut GraphBuilder) -> Vec<ValueId> {
    let sides = ["user", "item"].map(|name| {
        let x = b.input(name, "n,3");
        let x = dense(b, &format!("{name}.first"), x, 6, 3);
        let x = relu(b, x);
        dense(b, &format!("{name}.last"), x, 8, 6)
    });
    vec![einsum(b, "nc,nc->n", &sides)]
}

fn sums(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let x = einsum(b, "nchw->nc", &[x]);
    scores(b, x, 6)
}

/// As in bilinear pooling.
fn outer(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,8");
    let (one, two) = (dense(b, "one", x, 6, 8), dense(b, "two", x, 4, 8));
    let (one, two) = (relu(b, one), relu(b, two));
    let x = einsum(b, "nc,nd->ncd", &[one, two]);
    let x = b.op("Flatten", "flat", &[x], []);
    scores(b, x, 24)
}

/// As in nets for segmentation: the channels of a few objects.
fn under_masks(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let masks = conv(b, "masks", x, 3, 6);
    let masks = b.op("Sigmoid", "seen", &[masks], []);
    let x = einsum(b, "nchw,nkhw->nck", &[x, masks]);
    let x = b.op("Flatten", "flat", &[x], []);
    scores(b, x, 18)
}

fn in_front(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let w = b.weights("mixed.w", &[8, 6]);
    let x = einsum(b, "oc,nchw->nohw", &[w, x]);
    let x = relu(b, x);
    vec![rest(b, x, 8)]
}

/// As libraries with named axes write it: two heads of three depths.
fn attention(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,4,3");
    let w = b.weights("first.w", &[3, 6]);
    let x = b.op("MatMul", "first", &[x, w], []);
    let [q, k, v] = ["q", "k", "v"].map(|name| {
        let w = b.weights(&format!("{name}.w"), &[6, 2, 3]);
        einsum(b, "ntc,chd->nhtd", &[x, w])
    });
    let attention = einsum(b, "nhtd,nhsd->nhts", &[q, k]);
    let attention = b.op("Softmax", "attention", &[attention], [("axis", (-1).into())]);
    let mixed = einsum(b, "nhts,nhsd->nthd", &[attention, v]);
    let w = b.weights("proj.w", &[2, 3, 6]);
    let y = einsum(b, "nthd,hdo->nto", &[mixed, w]);
    let x = b.op("Add", "stream", &[x, y], []);
    let x = einsum(b, "ntc->nc", &[x]);
    scores(b, x, 6)
}

/// As in networks that remove noise from speech: grouped layers around a common one.
fn groups(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,5,4");
    let w = b.weights("first.w", &[4, 6]);
    let x = b.op("MatMul", "first", &[x, w], []);
    let x = relu(b, x);
    let grouped = |b: &mut GraphBuilder, x: ValueId, [inputs, out]: [usize; 2]| {
        let x = reshape(b, x, &[0, 0, 2, inputs as i64]);
        let w = b.weights("groups.w", &[2, inputs, out]);
        let y = einsum(b, "ntgi,gio->ntgo", &[x, w]);
        let y = reshape(b, y, &[0, 0, -1]);
        relu(b, y)
    };
    let x = grouped(b, x, [3, 4]);
    let w = b.weights("middle.w", &[8, 6]);
    let x = b.op("MatMul", "middle", &[x, w], []);
    let x = grouped(b, x, [3, 4]);
    let w = b.weights("last.w", &[8, 7]);
    let x = b.op("MatMul", "last", &[x, w], []);
    let x = relu(b, x);
    let w = b.weights("head.w", &[7, 5]);
    vec![b.op("MatMul", "head", &[x, w], [])]
}

fn groups_of_features(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,4");
    let x = dense(b, "first", x, 6, 4);
    let x = relu(b, x);
    let x = reshape(b, x, &[-1, 2, 3]);
    let w = b.weights("groups.w", &[2, 3, 4]);
    let x = einsum(b, "ngi,gio->ngo", &[x, w]);
    let x = reshape(b, x, &[-1, 8]);
    let x = relu(b, x);
    scores(b, x, 8)
}
