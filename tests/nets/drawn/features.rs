//! Steps from features.

use onnx_zip::ir::ValueId;

use super::net::{Form, Live, Net, Step};

/// All of them.
pub const STEPS: &[Step] = &[
    layer,
    activation,
    residual,
    constants,
    gated,
    normal,
    both,
    softmax,
    length,
    to_image,
    to_sequence,
    modulated,
    largest,
];

fn size(x: Live) -> usize {
    let Form::Features { size } = x.form else { unreachable!("a step from features") };
    size
}

fn features(value: ValueId, size: usize) -> Live {
    Live { value, form: Form::Features { size } }
}

/// A fully connected layer; `choice` selects one of the ways to write it.
pub fn linear(net: &mut Net, x: Live, out: usize, choice: u8) -> ValueId {
    let size = size(x);
    let bias = net.weights("bias", &[out], 4);
    match choice % 4 {
        0 => {
            let w = net.weights("weight", &[out, size], size);
            net.op("Gemm", &[x.value, w, bias], [("transB", 1.into())])
        }
        1 => {
            let w = net.weights("weight", &[size, out], size);
            net.op("Gemm", &[x.value, w, bias], [("alpha", 0.5f32.into())])
        }
        2 => {
            let w = net.weights("weight", &[size, out], size);
            let product = net.op("MatMul", &[x.value, w], []);
            net.op("Add", &[bias, product], [])
        }
        _ => {
            let w = net.weights("weight", &[out, size], size);
            let turned = net.transpose(x.value, [1, 0]);
            let product = net.op("MatMul", &[w, turned], []);
            net.transpose(product, [1, 0])
        }
    }
}

pub fn layer(net: &mut Net, x: Live, choice: u8) -> Live {
    let out = 4 + usize::from(choice % 4);
    let y = linear(net, x, out, choice / 4);
    features(net.activation(y, choice / 16), out)
}

fn activation(net: &mut Net, x: Live, choice: u8) -> Live {
    Live { value: net.activation(x.value, choice), ..x }
}

fn residual(net: &mut Net, x: Live, choice: u8) -> Live {
    let inner = layer(net, x, choice);
    let y = linear(net, inner, size(x), choice / 2);
    Live { value: net.op("Add", &[x.value, y], []), ..x }
}

fn constants(net: &mut Net, x: Live, choice: u8) -> Live {
    let dims: &[usize] = if choice & 4 == 0 { &[size(x)] } else { &[1, size(x)] };
    let constant = net.random("constant", dims, 0.5, 1.5);
    let op = ["Mul", "Add", "Sub", "Div"][usize::from(choice % 4)];
    let operands = if choice & 8 == 0 { [x.value, constant] } else { [constant, x.value] };
    let operands = if op == "Div" { [x.value, constant] } else { operands };
    Live { value: net.op(op, &operands, []), ..x }
}

fn gated(net: &mut Net, x: Live, choice: u8) -> Live {
    let out = 4 + usize::from(choice % 2);
    let double = linear(net, x, 2 * out, choice / 4);
    let [values, gates] = net.halves(double, 1, 2 * out, choice / 2);
    let gates = net.op("Sigmoid", &[gates], []);
    features(net.op("Mul", &[values, gates], []), out)
}

fn normal(net: &mut Net, x: Live, choice: u8) -> Live {
    let size = size(x);
    let (scale, shift) = (net.random("scale", &[size], 0.5, 1.5), net.weights("shift", &[size], 4));
    let value = match choice % 2 {
        0 => {
            let mean = net.weights("mean", &[size], 4);
            let variance = net.random("variance", &[size], 0.5, 1.5);
            net.op("BatchNormalization", &[x.value, scale, shift, mean, variance], [])
        }
        _ => net.op("LayerNormalization", &[x.value, scale, shift], []),
    };
    Live { value, ..x }
}

/// Concatenates two layers, and perhaps their input.
fn both(net: &mut Net, x: Live, choice: u8) -> Live {
    let parts = [layer(net, x, choice), layer(net, x, choice / 3)];
    let mut all: Vec<Live> = parts.to_vec();
    if choice & 2 != 0 {
        all.push(x);
    }
    let values: Vec<ValueId> = all.iter().map(|part| part.value).collect();
    let value = net.op("Concat", &values, [("axis", 1.into())]);
    features(value, all.iter().map(|part| size(*part)).sum())
}

fn softmax(net: &mut Net, x: Live, choice: u8) -> Live {
    let op = if choice & 1 == 0 { "Softmax" } else { "LogSoftmax" };
    Live { value: net.op(op, &[x.value], [("axis", 1.into())]), ..x }
}

/// Features divided by their norm.
fn length(net: &mut Net, x: Live, choice: u8) -> Live {
    let op = if choice & 1 == 0 { "ReduceL2" } else { "ReduceL1" };
    let axes = net.b.ints("axes", &[1]);
    let length = net.op(op, &[x.value, axes], []);
    let one = net.b.scalar("one", 1.0);
    let length = net.op("Add", &[length, one], []);
    Live { value: net.op("Div", &[x.value, length], []), ..x }
}

fn to_image(net: &mut Net, x: Live, _: u8) -> Live {
    let axes = net.b.ints("axes", &[2, 3]);
    let value = net.op("Unsqueeze", &[x.value, axes], []);
    Live { value, form: Form::Image { channels: size(x), side: 1 } }
}

fn to_sequence(net: &mut Net, x: Live, _: u8) -> Live {
    let axes = net.b.ints("axes", &[1]);
    let value = net.op("Unsqueeze", &[x.value, axes], []);
    Live { value, form: Form::Sequence { length: 1, size: size(x) } }
}

/// Features scaled and shifted by the outputs of a layer over the second input.
fn modulated(net: &mut Net, x: Live, choice: u8) -> Live {
    let beside = features(net.beside(), 4);
    let double = linear(net, beside, 2 * size(x), choice / 2);
    let [scale, shift] = net.halves(double, 1, 2 * size(x), choice);
    let y = layer(net, x, choice);
    let y = linear(net, y, size(x), 0);
    let y = net.op("Mul", &[y, scale], []);
    Live { value: net.op("Add", &[y, shift], []), ..x }
}

fn largest(net: &mut Net, x: Live, choice: u8) -> Live {
    let out = 4 + usize::from(choice % 2);
    let double = linear(net, x, 2 * out, choice / 4);
    let halves = net.halves(double, 1, 2 * out, choice / 2);
    let op = ["Max", "Min", "Sum", "Mean"][usize::from(choice / 8) % 4];
    features(net.op(op, &halves, []), out)
}
