//! Nets that tools have quantised: weights that the net rounds or widens itself, and pairs of nodes that round
//! activations.

use ndarray::Array1;

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{DataType, Tensor, ValueId};

use super::attended::split;
use super::heads::{attention, stream};
use super::net::{Pattern, dense, relu, reshape, transpose};
use super::stored::TURNED_BLOCKS;

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[ROUNDED, HALVED, WIDE, TURNED, HEADS];

const ROUNDED: Pattern = ("weights that the net rounds", rounded);
const HALVED: Pattern = ("weights in half precision that the net widens", halved);
const WIDE: Pattern = ("weights as floats", wide);
const TURNED: Pattern = ("weights in few bits behind a transpose", turned);
const HEADS: Pattern = ("heads of rounded features", heads);

/// Pairs of patterns whose nets differ only in how weights are stored.
pub const PAIRS: [[Pattern; 2]; 3] = [[ROUNDED, WIDE], [HALVED, WIDE], [ROUNDED, HALVED]];

/// Patterns whose merged weights are stored in this type.
pub const STORED: [(Pattern, DataType); 4] = [
    (ROUNDED, DataType::I8),
    (HALVED, DataType::F16),
    (TURNED, DataType::I8),
    (TURNED_BLOCKS, DataType::I4),
];

/// Two layers and a head; `stored` makes the weight of each of the layers.
fn layers(
    b: &mut GraphBuilder,
    stored: fn(&mut GraphBuilder, ValueId, usize) -> ValueId,
) -> Vec<ValueId> {
    let mut x = b.input("x", "n,12");
    for (place, [outputs, inputs]) in [[16, 12], [8, 16]].into_iter().enumerate() {
        let w = b.weights("w", &[outputs, inputs]);
        let w = stored(b, w, place);
        let bias = b.weights("bias", &[outputs]);
        let y = b.op("Gemm", "layer", &[x, w, bias], [("transB", 1.into())]);
        x = relu(b, y);
    }
    let (w, bias) = (b.weights("head.w", &[5, 8]), b.weights("head.b", &[5]));
    vec![b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])]
}

fn wide(b: &mut GraphBuilder) -> Vec<ValueId> {
    layers(b, |_, w, _| w)
}

/// As tools write weights for training with quantisation: one step for all or one per row, and numbers that are
/// the same with either sign.
fn rounded(b: &mut GraphBuilder) -> Vec<ValueId> {
    layers(b, |b, w, place| {
        let steps = Array1::from_elem(8, 0.5f32 / 120.0).into_dyn();
        let zeros = Tensor::from_ints(DataType::I8, &Array1::zeros(8).into_dyn()).unwrap();
        let (step, zero) = match place {
            0 => {
                let zero = zeros.rows(0..1).unwrap();
                let zero = b.constant("zero", Tensor { dims: vec![], ..zero });
                (b.scalar("step", 0.5 / 120.0), zero)
            }
            _ => (b.constant("step", Tensor::from_f32(&steps)), b.constant("zero", zeros)),
        };
        let axis = || [("axis", 0.into())];
        let numbers = b.op("QuantizeLinear", "numbers", &[w, step, zero], axis());
        let bounds = [-127i64, 127].map(|bound| {
            let bound = Tensor::from_ints(DataType::I8, &ndarray::arr0(bound).into_dyn());
            b.constant("bound", bound.unwrap())
        });
        let numbers = b.op("Clip", "bounded", &[numbers, bounds[0], bounds[1]], []);
        b.op("DequantizeLinear", "floats", &[numbers, step, zero], axis())
    })
}

fn halved(b: &mut GraphBuilder) -> Vec<ValueId> {
    layers(b, |b, w, _| {
        let wide = b.graph().initializer(w).unwrap().to_f64().unwrap();
        let half = b.constant("half", Tensor::from_f64(DataType::F16, &wide).unwrap());
        b.op("Cast", "wide", &[half], [("to", 1.into())])
    })
}

/// As PyTorch exports a quantised layer: one step per row, and a product with the transpose.
fn turned(b: &mut GraphBuilder) -> Vec<ValueId> {
    let mut x = b.input("x", "n,4,12");
    for [outputs, inputs] in [[16, 12], [8, 16]] {
        let drawn = b.weights("drawn", &[outputs, inputs]);
        let drawn = b.graph().initializer(drawn).unwrap().to_f32().unwrap();
        let codes = drawn.mapv(|w| (w * 250.0) as i64);
        let codes = b.constant("codes", Tensor::from_ints(DataType::I8, &codes).unwrap());
        let steps = b.positive("steps", &[outputs]);
        let small = b.graph().initializer(steps).unwrap().to_f32().unwrap() / 250.0;
        b.graph().set_initializer(steps, Tensor::from_f32(&small));
        let w = b.op("DequantizeLinear", "floats", &[codes, steps], [("axis", 0.into())]);
        let w = transpose(b, w, &[1, 0]);
        let y = b.op("MatMul", "layer", &[x, w], []);
        let bias = b.weights("bias", &[outputs]);
        let y = b.op("Add", "biased", &[y, bias], []);
        x = relu(b, y);
    }
    vec![dense(b, "head", x, [8, 5])]
}

/// A value rounded to multiples of a step.
fn pair(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let zero = Tensor::from_ints(DataType::U8, &ndarray::arr0(128i64).into_dyn()).unwrap();
    let (step, zero) = (b.scalar("step", 0.02), b.constant("zero", zero));
    let numbers = b.op("QuantizeLinear", "numbers", &[x, step, zero], []);
    b.op("DequantizeLinear", "floats", &[numbers, step, zero], [])
}

/// As tools quantise attention: a pair around every node, and a product of flat tokens.
fn heads(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = stream(b);
    let x = pair(b, x);
    let flat = reshape(b, x, &[-1, 6]);
    let flat = pair(b, flat);
    let all = dense(b, "qkv", flat, [6, 24]);
    let all = pair(b, all);
    let all = reshape(b, all, &[-1, 5, 3, 2, 4]);
    let all = pair(b, all);
    let axis = b.ints("axis", &[0]);
    let [q, k, v] = split(b, all, 2, [1, 1, 1]).map(|part| {
        let part = pair(b, part);
        let part = transpose(b, part, &[2, 0, 3, 1, 4]);
        let part = pair(b, part);
        let part = b.op("Squeeze", "part", &[part, axis], []);
        pair(b, part)
    });
    let k = transpose(b, k, &[0, 1, 3, 2]);
    attention(b, x, [q, k, v])
}
