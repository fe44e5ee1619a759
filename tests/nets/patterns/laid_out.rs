//! Channels that a joint model need not reorder: single gates, and several copies of the same channels.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Node, ValueId, ValueKind};

use super::net::{Pattern, conv, halves, images, relu, rest};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("gate of one channel", gate),
    ("gate of statistics over channels", attention_of_positions),
    ("gate of one channel for tokens", token_gate),
    ("mask of one channel", mask),
    ("pyramid of poolings", pyramid),
    ("halves, one of them again", split_again),
    ("gated halves", gated_halves),
    ("mean and spread", mean_and_spread),
    ("flattened twice", flattened_twice),
];

fn gate(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let gate = conv(b, "gate", x, 1, 6);
    let gate = b.op("Sigmoid", "on", &[gate], []);
    let x = b.op("Mul", "gated", &[x, gate], []);
    vec![rest(b, x, 6)]
}

/// The gate's layer reads values without channels, so its three weights stay each task's own.
fn attention_of_positions(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let [mean, most] = ["ReduceMean", "ReduceMax"]
        .map(|op| b.op(op, op, &[x], [("axes", [1].into()), ("keepdims", 1.into())]));
    let both = b.op("Concat", "both", &[mean, most], [("axis", 1.into())]);
    let (w, bias) = (b.weights("gate.w", &[1, 2, 1, 1]), b.weights("gate.b", &[1]));
    let gate = b.op("Conv", "gate", &[both, w, bias], []);
    let gate = b.op("Sigmoid", "on", &[gate], []);
    let x = b.op("Mul", "gated", &[gate, x], []);
    vec![rest(b, x, 6)]
}

/// Two products over tokens, and five scores of each token.
fn tokens(b: &mut GraphBuilder, x: ValueId) -> Vec<ValueId> {
    let w = b.weights("middle.w", &[6, 7]);
    let x = b.op("MatMul", "middle", &[x, w], []);
    let x = relu(b, x);
    let w = b.weights("head.w", &[7, 5]);
    vec![b.op("MatMul", "head", &[x, w], [])]
}

fn token_gate(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,4,8");
    let [values, gate] = [("values", 6), ("gate", 1)].map(|(name, out)| {
        let w = b.weights(&format!("{name}.w"), &[8, out]);
        b.op("MatMul", name, &[x, w], [])
    });
    let gate = b.op("Sigmoid", "on", &[gate], []);
    let x = b.op("Mul", "gated", &[values, gate], []);
    tokens(b, x)
}

fn mask(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let mask = conv(b, "mask", x, 1, 6);
    let zero = b.scalar("zero", 0.0);
    let mask = b.op("Greater", "seen", &[mask, zero], []);
    let other = b.op("Tanh", "bound", &[x], []);
    let x = b.op("Where", "masked", &[mask, x, other], []);
    vec![rest(b, x, 6)]
}

/// As in detectors: channels beside their maxima over ever larger windows.
fn pyramid(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let mut all = vec![relu(b, x)];
    for _ in 0..2 {
        let window = [("kernel_shape", [3, 3].into()), ("pads", [1, 1, 1, 1].into())];
        all.push(b.op("MaxPool", "largest", &[all[all.len() - 1]], window));
    }
    let x = b.op("Concat", "all", &all, [("axis", 1.into())]);
    vec![rest(b, x, 18)]
}

/// As in detectors: both halves, and layers of the second one that are added to it.
fn split_again(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "double", x, 12, 3);
    let x = relu(b, x);
    let [one, two] = halves(b, x, 6);
    let y = conv(b, "inner", two, 6, 6);
    let y = relu(b, y);
    let y = b.op("Add", "again", &[two, y], []);
    let x = b.op("Concat", "all", &[one, two, y], [("axis", 1.into())]);
    vec![rest(b, x, 18)]
}

/// Two parts of the channels, by one `Split`.
fn split(b: &mut GraphBuilder, x: ValueId, sizes: [i64; 2]) -> [ValueId; 2] {
    let sizes = b.ints("sizes", &sizes);
    let outputs = ["low", "high"].map(|name| b.graph().add_value(name, ValueKind::Detached, None));
    b.graph().add_node(Node {
        name: "split".to_owned(),
        op: "Split".to_owned(),
        inputs: vec![Some(x), Some(sizes)],
        outputs: outputs.map(Some).to_vec(),
        attributes: [("axis".to_owned(), Attribute::Int(1))].into(),
        ..Node::default()
    });
    outputs
}

fn gated_halves(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "double", x, 12, 3);
    let [values, gates] = split(b, x, [6, 6]);
    let gates = b.op("Sigmoid", "on", &[gates], []);
    let x = b.op("Mul", "gated", &[values, gates], []);
    vec![rest(b, x, 6)]
}

/// As in nets for speakers: the mean of each channel over time and its spread.
fn mean_and_spread(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let means = || [("axes", [2, 3].into()), ("keepdims", 0.into())];
    let mean = b.op("ReduceMean", "mean", &[x], means());
    let square = b.op("Mul", "square", &[x, x], []);
    let square = b.op("ReduceMean", "mean_square", &[square], means());
    let spread = b.op("Sqrt", "spread", &[square], []);
    let x = b.op("Concat", "both", &[mean, spread], [("axis", 1.into())]);
    let (w, bias) = (b.weights("middle.w", &[7, 12]), b.weights("middle.b", &[7]));
    let x = b.op("Gemm", "middle", &[x, w, bias], [("transB", 1.into())]);
    let x = relu(b, x);
    let (w, bias) = (b.weights("head.w", &[5, 7]), b.weights("head.b", &[5]));
    vec![b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])]
}

/// The pixels of each channel stay side by side.
fn flattened_twice(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 4, 3);
    let window = || [("kernel_shape", [4, 4].into()), ("strides", [4, 4].into())];
    let parts = ["MaxPool", "AveragePool"].map(|op| {
        let x = b.op(op, op, &[x], window());
        b.op("Flatten", "flat", &[x], [])
    });
    let x = b.op("Concat", "both", &parts, [("axis", 1.into())]);
    let (w, bias) = (b.weights("middle.w", &[7, 32]), b.weights("middle.b", &[7]));
    let x = b.op("Gemm", "middle", &[x, w, bias], [("transB", 1.into())]);
    let x = relu(b, x);
    let (w, bias) = (b.weights("head.w", &[5, 7]), b.weights("head.b", &[5]));
    vec![b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])]
}
