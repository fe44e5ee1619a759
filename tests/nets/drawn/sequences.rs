//! Steps from sequences.

use onnx_zip::ir::{Node, ValueId, ValueKind};

use super::net::{Form, Live, Net, Step};

/// All of them.
pub const STEPS: &[Step] = &[
    layer,
    activation,
    residual,
    normal,
    gated,
    convolution,
    attention,
    recurrent,
    constants,
    to_features,
    to_image,
];

fn sizes(x: Live) -> (usize, usize) {
    let Form::Sequence { length, size } = x.form else { unreachable!("a step from a sequence") };
    (length, size)
}

fn sequence(value: ValueId, length: usize, size: usize) -> Live {
    Live { value, form: Form::Sequence { length, size } }
}

fn linear(net: &mut Net, x: Live, out: usize, choice: u8) -> ValueId {
    let size = sizes(x).1;
    let w = net.weights("weight", &[size, out], size);
    let product = net.op("MatMul", &[x.value, w], []);
    if choice & 1 != 0 {
        return product;
    }
    let bias = net.weights("bias", &[out], 4);
    net.op("Add", &[product, bias], [])
}

fn layer(net: &mut Net, x: Live, choice: u8) -> Live {
    let out = 4 + usize::from(choice % 4);
    let y = linear(net, x, out, choice / 4);
    sequence(net.activation(y, choice / 8), sizes(x).0, out)
}

fn activation(net: &mut Net, x: Live, choice: u8) -> Live {
    Live { value: net.activation(x.value, choice), ..x }
}

fn residual(net: &mut Net, x: Live, choice: u8) -> Live {
    let inner = layer(net, x, choice);
    let y = linear(net, inner, sizes(x).1, choice / 2);
    Live { value: net.op("Add", &[x.value, y], []), ..x }
}

fn normal(net: &mut Net, x: Live, _: u8) -> Live {
    let size = sizes(x).1;
    let (scale, shift) = (net.random("scale", &[size], 0.5, 1.5), net.weights("shift", &[size], 4));
    Live { value: net.op("LayerNormalization", &[x.value, scale, shift], []), ..x }
}

fn gated(net: &mut Net, x: Live, choice: u8) -> Live {
    let out = 4 + usize::from(choice % 2);
    let double = linear(net, x, 2 * out, choice / 4);
    let [values, gates] = net.halves(double, 2, 2 * out, choice / 2);
    let gates = net.op("Sigmoid", &[gates], []);
    sequence(net.op("Mul", &[values, gates], []), sizes(x).0, out)
}

fn convolution(net: &mut Net, x: Live, choice: u8) -> Live {
    let (length, size) = sizes(x);
    let out = 4 + usize::from(choice % 4);
    let turned = net.transpose(x.value, [0, 2, 1]);
    let (w, bias) =
        (net.weights("weight", &[out, size, 3], 3 * size), net.weights("bias", &[out], 4));
    let y = net.op("Conv", &[turned, w, bias], [("pads", [1, 1].into())]);
    let y = net.activation(y, choice / 4);
    sequence(net.transpose(y, [0, 2, 1]), length, out)
}

fn attention(net: &mut Net, x: Live, choice: u8) -> Live {
    let size = sizes(x).1;
    let [query, key, value] = [0, 1, 2].map(|_| linear(net, x, 4, choice));
    let turned = net.transpose(key, [0, 2, 1]);
    let scores = net.op("MatMul", &[query, turned], []);
    let weights = net.op("Softmax", &[scores], [("axis", (-1).into())]);
    let mixed = net.op("MatMul", &[weights, value], []);
    let mixed = sequence(mixed, sizes(x).0, 4);
    let y = linear(net, mixed, size, choice / 2);
    Live { value: net.op("Add", &[x.value, y], []), ..x }
}

fn recurrent(net: &mut Net, x: Live, choice: u8) -> Live {
    let (length, size) = sizes(x);
    let units = 4 + usize::from(choice / 4 % 2);
    let (op, gates) = [("LSTM", 4), ("GRU", 3), ("RNN", 1)][usize::from(choice % 3)];
    let turned = net.transpose(x.value, [1, 0, 2]);
    let w = net.weights("input", &[1, gates * units, size], size);
    let r = net.weights("hidden", &[1, gates * units, units], units);
    let bias = net.weights("bias", &[1, 2 * gates * units], 4);
    let y = net.b.graph().add_value("states", ValueKind::Detached, None);
    net.b.graph().add_node(Node {
        name: op.to_lowercase(),
        op: op.to_owned(),
        inputs: [turned, w, r, bias].map(Some).to_vec(),
        outputs: vec![Some(y)],
        attributes: [("hidden_size".to_owned(), (units as i64).into())].into(),
        ..Node::default()
    });
    let axes = net.b.ints("axes", &[1]);
    let y = net.op("Squeeze", &[y, axes], []);
    sequence(net.transpose(y, [1, 0, 2]), length, units)
}

fn constants(net: &mut Net, x: Live, choice: u8) -> Live {
    let constant = net.random("constant", &[sizes(x).1], 0.5, 1.5);
    let op = ["Mul", "Add", "Sub", "Div"][usize::from(choice % 4)];
    Live { value: net.op(op, &[x.value, constant], []), ..x }
}

/// The mean over the sequence, or its last element.
pub fn to_features(net: &mut Net, x: Live, choice: u8) -> Live {
    let (length, size) = sizes(x);
    let value = match choice % 3 {
        0 => {
            let axes = net.b.ints("axes", &[1]);
            net.op("ReduceMean", &[x.value, axes], [("keepdims", 0.into())])
        }
        1 => {
            let last = onnx_zip::ir::Tensor::from_i64(Vec::new(), &[length as i64 - 1]);
            let last = net.b.constant("last", last);
            net.op("Gather", &[x.value, last], [("axis", 1.into())])
        }
        _ => {
            return Live {
                value: net.op("Flatten", &[x.value], []),
                form: Form::Features { size: length * size },
            };
        }
    };
    Live { value, form: Form::Features { size } }
}

fn to_image(net: &mut Net, x: Live, choice: u8) -> Live {
    let (length, size) = sizes(x);
    let side = match length {
        4 => 2,
        16 => 4,
        64 => 8,
        1 => 1,
        _ => return layer(net, x, choice),
    };
    let turned = net.transpose(x.value, [0, 2, 1]);
    let value = net.reshape(turned, &[0, size as i64, side as i64, side as i64]);
    Live { value, form: Form::Image { channels: size, side } }
}
