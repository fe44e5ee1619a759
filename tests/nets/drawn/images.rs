//! Steps from images.

use onnx_zip::ir::{Attribute, DataType, Tensor, ValueId};

use super::control::{branch, looped};
use super::features;
use super::net::{Form, Live, Net, Step};

/// All of them.
pub const STEPS: &[Step] = &[
    layer,
    activation,
    residual,
    normal,
    pool,
    side_by_side,
    depthwise,
    grouped,
    gated,
    largest,
    excited,
    constants,
    resized,
    positions,
    spread,
    shuffled,
    channels_last,
    transposed,
    framed,
    chosen,
    modulated,
    few_bits,
    branch,
    looped,
    to_features,
    to_sequence,
];

pub fn sizes(x: Live) -> (usize, usize) {
    let Form::Image { channels, side } = x.form else { unreachable!("a step from an image") };
    (channels, side)
}

fn image(value: ValueId, channels: usize, side: usize) -> Live {
    Live { value, form: Form::Image { channels, side } }
}

/// A convolution that keeps the size of images.
pub fn conv(net: &mut Net, x: Live, out: usize, kernel: usize) -> ValueId {
    let channels = sizes(x).0;
    let fan_in = channels * kernel * kernel;
    let w = net.weights("weight", &[out, channels, kernel, kernel], fan_in);
    let bias = net.weights("bias", &[out], 4);
    let pad = (kernel / 2) as i64;
    net.op("Conv", &[x.value, w, bias], [("pads", [pad; 4].into())])
}

pub fn layer(net: &mut Net, x: Live, choice: u8) -> Live {
    let out = 4 + usize::from(choice % 4);
    let y = conv(net, x, out, [3, 1][usize::from(choice / 4 % 2)]);
    image(net.activation(y, choice / 8), out, sizes(x).1)
}

fn activation(net: &mut Net, x: Live, choice: u8) -> Live {
    Live { value: net.activation(x.value, choice), ..x }
}

fn residual(net: &mut Net, x: Live, choice: u8) -> Live {
    let inner = layer(net, x, choice);
    let y = conv(net, inner, sizes(x).0, 3);
    Live { value: net.op("Add", &[x.value, y], []), ..x }
}

fn normal(net: &mut Net, x: Live, choice: u8) -> Live {
    let (channels, side) = sizes(x);
    let scale = net.random("scale", &[channels], 0.5, 1.5);
    let shift = net.weights("shift", &[channels], 4);
    let value = match choice % 5 {
        0 => {
            let mean = net.weights("mean", &[channels], 4);
            let variance = net.random("variance", &[channels], 0.5, 1.5);
            net.op("BatchNormalization", &[x.value, scale, shift, mean, variance], [])
        }
        1 => net.op("InstanceNormalization", &[x.value, scale, shift], []),
        2 => net.op("LRN", &[x.value], [("size", 3.into())]),
        3 => net.op("Softmax", &[x.value], [("axis", 1.into())]),
        _ if channels % 2 == 0 => {
            let (one, zero) = (net.random("one", &[2], 0.5, 1.5), net.weights("zero", &[2], 4));
            let grouped = net.reshape(x.value, &[0, 2, -1]);
            let y = net.op("InstanceNormalization", &[grouped, one, zero], []);
            let sides = side as i64;
            net.reshape(y, &[0, channels as i64, sides, sides])
        }
        _ => net.op("InstanceNormalization", &[x.value, scale, shift], []),
    };
    Live { value, ..x }
}

fn pool(net: &mut Net, x: Live, choice: u8) -> Live {
    let (channels, side) = sizes(x);
    let op = if choice & 1 == 0 { "MaxPool" } else { "AveragePool" };
    let (kernel, stride) = if choice & 2 == 0 && side % 2 == 0 { (2, 2) } else { (1, 1) };
    let attributes = [("kernel_shape", [kernel; 2].into()), ("strides", [stride; 2].into())];
    image(net.op(op, &[x.value], attributes), channels, side / stride as usize)
}

fn side_by_side(net: &mut Net, x: Live, choice: u8) -> Live {
    let parts = [layer(net, x, choice), layer(net, x, choice / 3)];
    let mut all: Vec<Live> = parts.to_vec();
    if choice & 2 != 0 {
        all.insert(0, x);
    }
    let values: Vec<ValueId> = all.iter().map(|part| part.value).collect();
    let value = net.op("Concat", &values, [("axis", 1.into())]);
    image(value, all.iter().map(|part| sizes(*part).0).sum(), sizes(x).1)
}

fn depthwise(net: &mut Net, x: Live, choice: u8) -> Live {
    let (channels, _) = sizes(x);
    let (w, bias) =
        (net.weights("weight", &[channels, 1, 3, 3], 9), net.weights("bias", &[channels], 4));
    let attributes = [("pads", [1; 4].into()), ("group", (channels as i64).into())];
    let y = net.op("Conv", &[x.value, w, bias], attributes);
    Live { value: net.activation(y, choice), ..x }
}

fn grouped(net: &mut Net, x: Live, choice: u8) -> Live {
    let side = sizes(x).1;
    let y = conv(net, x, 6, 1);
    let y = net.activation(y, choice / 2);
    let out = 4 + 2 * usize::from(choice % 2);
    let (w, bias) = (net.weights("weight", &[out, 3, 3, 3], 27), net.weights("bias", &[out], 4));
    let attributes = [("pads", [1; 4].into()), ("group", 2.into())];
    image(net.op("Conv", &[y, w, bias], attributes), out, side)
}

fn gated(net: &mut Net, x: Live, choice: u8) -> Live {
    let out = 4 + usize::from(choice % 2);
    let double = conv(net, x, 2 * out, 3);
    let [values, gates] = net.halves(double, 1, 2 * out, choice / 2);
    let gates = net.op("Sigmoid", &[gates], []);
    image(net.op("Mul", &[values, gates], []), out, sizes(x).1)
}

fn largest(net: &mut Net, x: Live, choice: u8) -> Live {
    let out = 4 + usize::from(choice % 2);
    let double = conv(net, x, 2 * out, 3);
    let halves = net.halves(double, 1, 2 * out, choice / 2);
    let op = ["Max", "Min", "Sum", "Mean"][usize::from(choice / 4) % 4];
    image(net.op(op, &halves, []), out, sizes(x).1)
}

/// Channels scaled by layers over their means (squeeze and excitation).
fn excited(net: &mut Net, x: Live, choice: u8) -> Live {
    let channels = sizes(x).0;
    let op = if choice & 1 == 0 { "GlobalAveragePool" } else { "GlobalMaxPool" };
    let pooled = image(net.op(op, &[x.value], []), channels, 1);
    let inner = layer(net, pooled, choice / 2);
    let y = conv(net, inner, channels, 1);
    let y = net.op("Sigmoid", &[y], []);
    Live { value: net.op("Mul", &[x.value, y], []), ..x }
}

fn constants(net: &mut Net, x: Live, choice: u8) -> Live {
    let channels = sizes(x).0;
    let constant = net.random("constant", &[channels, 1, 1], 0.5, 1.5);
    let op = ["Mul", "Add", "Sub", "Div", "PRelu"][usize::from(choice % 5)];
    Live { value: net.op(op, &[x.value, constant], []), ..x }
}

fn resized(net: &mut Net, x: Live, choice: u8) -> Live {
    let (channels, side) = sizes(x);
    if side > 4 {
        return pool(net, x, choice & !2);
    }
    let scales = ndarray::arr1(&[1.0f32, 1.0, 2.0, 2.0]).into_dyn();
    let (none, scales) = (
        net.b.constant("none", Tensor::from_f32(&ndarray::Array1::zeros(0).into_dyn())),
        net.b.constant("scales", Tensor::from_f32(&scales)),
    );
    let attributes =
        [("coordinate_transformation_mode", "asymmetric".into()), ("nearest_mode", "floor".into())];
    image(net.op("Resize", &[x.value, none, scales], attributes), channels, 2 * side)
}

fn positions(net: &mut Net, x: Live, choice: u8) -> Live {
    let (channels, side) = sizes(x);
    if side % 2 != 0 || channels > 8 {
        return layer(net, x, choice);
    }
    let value = net.op("SpaceToDepth", &[x.value], [("blocksize", 2.into())]);
    image(value, 4 * channels, side / 2)
}

fn spread(net: &mut Net, x: Live, choice: u8) -> Live {
    let side = sizes(x).1;
    if side > 4 {
        return layer(net, x, choice);
    }
    let y = conv(net, x, 16, 1);
    let mode = if choice & 1 == 0 { "DCR" } else { "CRD" };
    let attributes = [("blocksize", 2.into()), ("mode", mode.into())];
    image(net.op("DepthToSpace", &[y], attributes), 4, 2 * side)
}

fn shuffled(net: &mut Net, x: Live, choice: u8) -> Live {
    let side = sizes(x).1 as i64;
    let y = layer(net, x, choice & !3 | 2);
    let apart = net.reshape(y.value, &[0, 2, 3, side, side]);
    let turned = net.transpose(apart, [0, 2, 1, 3, 4]);
    Live { value: net.reshape(turned, &[0, 6, side, side]), ..y }
}

fn channels_last(net: &mut Net, x: Live, choice: u8) -> Live {
    let (channels, side) = sizes(x);
    let out = 4 + usize::from(choice % 3);
    let w = net.weights("weight", &[channels, out], channels);
    let bias = net.weights("bias", &[out], 4);
    let turned = net.transpose(x.value, [0, 2, 3, 1]);
    let y = net.op("MatMul", &[turned, w], []);
    let y = net.op("Add", &[y, bias], []);
    let y = net.activation(y, choice / 3);
    image(net.transpose(y, [0, 3, 1, 2]), out, side)
}

fn transposed(net: &mut Net, x: Live, choice: u8) -> Live {
    let (channels, side) = sizes(x);
    let out = 4 + usize::from(choice % 3);
    let w = net.weights("weight", &[channels, out, 3, 3], 9 * channels);
    let bias = net.weights("bias", &[out], 4);
    let y = net.op("ConvTranspose", &[x.value, w, bias], [("pads", [1; 4].into())]);
    image(net.activation(y, choice / 3), out, side)
}

/// Adds a frame, and crops it again.
fn framed(net: &mut Net, x: Live, choice: u8) -> Live {
    let (channels, side) = sizes(x);
    let pads = net.b.ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1]);
    let mode = ["constant", "edge"][usize::from(choice % 2)];
    let y = net.op("Pad", &[x.value, pads], [("mode", mode.into())]);
    let y = net.slice(y, 2, 0, side);
    image(net.slice(y, 3, 1, side + 1), channels, side)
}

/// A leaky rectifier, a clip, or subtraction of the mean over channels.
fn chosen(net: &mut Net, x: Live, choice: u8) -> Live {
    let (zero, part) = (net.b.scalar("zero", 0.0), net.b.scalar("part", 0.3));
    let value = match choice % 3 {
        0 => {
            let is_positive = net.op("Greater", &[x.value, zero], []);
            let less = net.op("Mul", &[x.value, part], []);
            net.op("Where", &[is_positive, x.value, less], [])
        }
        1 => {
            let one = net.b.scalar("one", 1.0);
            net.op("Clip", &[x.value, zero, one], [])
        }
        _ => {
            let axes = net.b.ints("axes", &[1]);
            let mean = net.op("ReduceMean", &[x.value, axes], []);
            net.op("Sub", &[x.value, mean], [])
        }
    };
    Live { value, ..x }
}

/// Channels scaled and shifted by the outputs of a layer over the second input.
fn modulated(net: &mut Net, x: Live, choice: u8) -> Live {
    let channels = sizes(x).0;
    let beside = Live { value: net.beside(), form: Form::Features { size: 4 } };
    let double = features::linear(net, beside, 2 * channels, choice / 2);
    let axes = net.b.ints("axes", &[2, 3]);
    let [scale, shift] = net
        .halves(double, 1, 2 * channels, choice)
        .map(|half| net.op("Unsqueeze", &[half, axes], []));
    let y = layer(net, x, choice);
    let y = conv(net, y, channels, 1);
    let y = net.op("Mul", &[y, scale], []);
    Live { value: net.op("Add", &[y, shift], []), ..x }
}

/// A convolution with quantised weights.
fn few_bits(net: &mut Net, x: Live, choice: u8) -> Live {
    let (channels, side) = sizes(x);
    let out = 4 + usize::from(choice % 3);
    let floats = net.weights("drawn", &[out, channels, 1, 1], channels);
    let floats = net.b.graph().initializer(floats).unwrap().to_f32().unwrap();
    let codes = floats.mapv(|w| (w * 100.0) as i64);
    let codes = net.b.constant("codes", Tensor::from_ints(DataType::I8, &codes).unwrap());
    let scale = match choice & 4 {
        0 => net.b.scalar("step", 0.01),
        _ => net.random("steps", &[out], 0.005, 0.015),
    };
    let axis: [(&'static str, Attribute); 1] = [("axis", 0.into())];
    let w = net.op("DequantizeLinear", &[codes, scale], axis);
    let bias = net.weights("bias", &[out], 4);
    image(net.op("Conv", &[x.value, w, bias], []), out, side)
}

/// The means or maxima of all channels, or all their pixels.
pub fn to_features(net: &mut Net, x: Live, choice: u8) -> Live {
    let (channels, side) = sizes(x);
    let (value, size) = match choice % 4 {
        0 => {
            let pooled = net.op("GlobalAveragePool", &[x.value], []);
            (net.op("Flatten", &[pooled], []), channels)
        }
        1 => {
            let axes = net.b.ints("axes", &[2, 3]);
            (net.op("ReduceMax", &[x.value, axes], [("keepdims", 0.into())]), channels)
        }
        2 => (net.op("Flatten", &[x.value], []), channels * side * side),
        _ => {
            let points = channels * side * side;
            (net.reshape(x.value, &[0, points as i64]), points)
        }
    };
    Live { value, form: Form::Features { size } }
}

fn to_sequence(net: &mut Net, x: Live, _: u8) -> Live {
    let (channels, side) = sizes(x);
    let flat = net.reshape(x.value, &[0, channels as i64, -1]);
    let value = net.transpose(flat, [0, 2, 1]);
    Live { value, form: Form::Sequence { length: side * side, size: channels } }
}
