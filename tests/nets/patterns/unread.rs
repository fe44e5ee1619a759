//! Nodes with further outputs that nobody reads.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Node, ValueId, ValueKind};

use super::net::{Pattern, conv, images, relu, rest};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("unread places of maxima", places),
    ("unread statistics of single channels", statistics),
    ("unread last states", states),
];

/// The first output of a node with so many of them.
fn first_of<const N: usize>(
    b: &mut GraphBuilder,
    count: usize,
    (op, inputs): (&str, &[ValueId]),
    attributes: [(&'static str, Attribute); N],
) -> ValueId {
    let outputs: Vec<ValueId> =
        (0..count).map(|_| b.graph().add_value(op, ValueKind::Detached, None)).collect();
    let node = Node::standard(op, op, inputs, attributes);
    b.graph().add_node(Node { outputs: outputs.iter().copied().map(Some).collect(), ..node });
    outputs[0]
}

fn places(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let window = [("kernel_shape", [2, 2].into()), ("strides", [2, 2].into())];
    let x = first_of(b, 2, ("MaxPool", &[x]), window);
    let x = first_of(b, 2, ("Dropout", &[x]), []);
    vec![rest(b, x, 6)]
}

/// A normalisation of each channel over time.
fn statistics(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,3,8");
    let (w, bias) = (b.weights("first.w", &[6, 3, 3]), b.weights("first.b", &[6]));
    let x = b.op("Conv", "first", &[x, w, bias], [("pads", [1, 1].into())]);
    let (scale, shift) = (b.positive("scale", &[8]), b.weights("shift", &[8]));
    let x = first_of(b, 3, ("LayerNormalization", &[x, scale, shift]), [("axis", (-1).into())]);
    let x = relu(b, x);
    let (w, bias) = (b.weights("middle.w", &[7, 6, 3]), b.weights("middle.b", &[7]));
    let x = b.op("Conv", "middle", &[x, w, bias], []);
    let x = relu(b, x);
    let x = b.op("GlobalAveragePool", "pool", &[x], []);
    let x = b.op("Flatten", "flat", &[x], []);
    let (w, bias) = (b.weights("head.w", &[5, 7]), b.weights("head.b", &[5]));
    vec![b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])]
}

fn states(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,4,6");
    let mut x = b.op("Transpose", "steps", &[x], [("perm", [1, 0, 2].into())]);
    let axis = b.ints("axis", &[1]);
    for (op, gates, count, inputs) in [("LSTM", 4, 3, 6), ("GRU", 3, 2, 7)] {
        let parameters = [
            b.weights("w", &[1, gates * 7, inputs]),
            b.weights("r", &[1, gates * 7, 7]),
            b.weights("b", &[1, 2 * gates * 7]),
        ];
        let inputs = [&[x], parameters.as_slice()].concat();
        let y = first_of(b, count, (op, &inputs), [("hidden_size", 7.into())]);
        x = b.op("Squeeze", "units", &[y, axis], []);
    }
    let x = b.op("Transpose", "samples", &[x], [("perm", [1, 0, 2].into())]);
    let w = b.weights("head.w", &[7, 5]);
    vec![b.op("MatMul", "head", &[x, w], [])]
}
