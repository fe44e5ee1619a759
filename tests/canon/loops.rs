//! Recurrent layers as loops over the steps of a sequence.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Graph, Node, Tensor, TensorType, ValueId, ValueKind};

use super::Build;
use super::steps::{Cell, extent, gru, lstm, over_steps, split, zeros};

/// Name, operator set of the original, operators of the canonical form, and the graph.
#[rustfmt::skip]
pub const ROWS: &[(&str, i64, &[&str], Build)] = &[
    ("a loop that is an LSTM", 13, &["LSTM", "Squeeze"], looped_lstm),
    ("a loop that is a GRU, over an open number of steps", 13, &["GRU", "Squeeze"], looped_gru),
    ("a loop that is a GRU with its reset gate first", 13, &["GRU", "Squeeze"], reset_first),
    ("a loop that is an LSTM of one product, samples first", 13,
        &["Transpose", "Unsqueeze", "Unsqueeze", "LSTM", "Squeeze"], joined_lstm),
    ("a loop that is an LSTM with hard gates", 13, &["LSTM", "Squeeze"], hard_gates),
    ("a scan that is an RNN", 13, &["RNN", "Squeeze"], scanned_rnn),
    ("a loop over a part of a sequence", 13, &["Loop"], shorter),
    ("a loop with a gate of its own", 13, &["Loop"], unlike_gates),
    ("a loop that adds what it reads", 13, &["Loop"], residual),
];

const FEATURES: usize = 4;
const UNITS: usize = 5;

/// W, R and a bias of so many gates.
fn weights(b: &mut GraphBuilder, gates: usize) -> [ValueId; 3] {
    [vec![FEATURES, gates * UNITS], vec![UNITS, gates * UNITS], vec![gates * UNITS]]
        .map(|dims| b.weights("weights", &dims))
}

fn number(b: &mut GraphBuilder, number: i64) -> ValueId {
    b.constant("steps", Tensor::from_i64(vec![], &[number]))
}

/// The loop of a cell over seven steps; returns the last states and all hidden units.
fn seven(b: &mut GraphBuilder, gates: usize, states: usize, cell: Cell) -> Vec<ValueId> {
    let x = b.input("x", "7,n,4");
    let (steps, weights) = (number(b, 7), weights(b, gates));
    let zeros = zeros(b, x, UNITS as i64);
    over_steps(b, (x, 0), steps, [&vec![zeros; states], &weights], cell)
}

fn looped_lstm(b: &mut GraphBuilder) -> ValueId {
    seven(b, 4, 2, lstm)[2]
}

fn looped_gru(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "t,n,4");
    let [w, r, _] = weights(b, 3);
    let biases = b.weights("biases", &[2, 3 * UNITS]);
    let (steps, zeros) = (extent(b, x, 0), zeros(b, x, UNITS as i64));
    over_steps(b, (x, 0), steps, [&[zeros], &[w, r, biases]], gru)[1]
}

/// The weights are taken apart in every step.
fn reset_first(b: &mut GraphBuilder) -> ValueId {
    seven(b, 3, 1, |g, x, states, weights| {
        let ints = |g: &mut Graph, ints: &[i64]| {
            g.add_initializer("ints", Tensor::from_i64(vec![ints.len()], ints))
        };
        let axes = ints(g, &[0, 1]);
        let far = i64::from(i32::MAX);
        let part = |g: &mut Graph, value: ValueId, from: i64, to: i64| {
            let (starts, ends) = (ints(g, &[0, from]), ints(g, &[far, to]));
            g.add_op("Slice", "part", &[value, starts, ends, axes], [])
        };
        let product = g.add_op("MatMul", "product", &[x, weights[0]], []);
        let sum = g.add_op("Add", "sum", &[product, weights[2]], []);
        let inputs = split(g, sum, -1, 3);
        let both = part(g, weights[1], 0, 10);
        let recurred = g.add_op("MatMul", "recurred", &[states[0], both], []);
        let [update, reset] = [0, 1].map(|gate| {
            let own = part(g, recurred, 5 * gate, 5 * gate + 5);
            let sum = g.add_op("Add", "gate", &[inputs[gate as usize], own], []);
            g.add_op("Sigmoid", "gate", &[sum], [])
        });
        let left = g.add_op("Mul", "left", &[reset, states[0]], []);
        let own = part(g, weights[1], 10, far);
        let sum = g.add_op("Gemm", "candidate", &[left, own, inputs[2]], []);
        let candidate = g.add_op("Tanh", "candidate", &[sum], []);
        let change = g.add_op("Sub", "change", &[states[0], candidate], []);
        let kept = g.add_op("Mul", "kept", &[update, change], []);
        vec![g.add_op("Add", "hidden", &[candidate, kept], [])]
    })[0]
}

/// The gates are o, i, f and c, and sigmoids are applied before they are split.
fn joined_lstm(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "n,7,4");
    let states = ["hidden", "memory"].map(|name| b.input(name, "n,5"));
    let w = b.weights("w", &[4 * UNITS, FEATURES + UNITS]);
    let bias = b.weights("bias", &[4 * UNITS]);
    let steps = number(b, 7);
    over_steps(b, (x, 1), steps, [&states, &[w, bias]], |g, x, states, weights| {
        let joined = g.add_op("Concat", "joined", &[x, states[0]], [("axis", 1.into())]);
        let gemm = [("transB", 1.into())];
        let sum = g.add_op("Gemm", "sum", &[joined, weights[0], weights[1]], gemm);
        let all = g.add_op("Sigmoid", "all", &[sum], []);
        let (gates, sums) = (split(g, all, 1, 4), split(g, sum, 1, 4));
        let candidate = g.add_op("Tanh", "candidate", &[sums[3]], []);
        let kept = g.add_op("Mul", "kept", &[states[1], gates[2]], []);
        let new = g.add_op("Mul", "new", &[candidate, gates[1]], []);
        let memory = g.add_op("Add", "memory", &[new, kept], []);
        let squashed = g.add_op("Tanh", "squashed", &[memory], []);
        vec![g.add_op("Mul", "hidden", &[squashed, gates[0]], []), memory]
    })[1]
}

/// The gates are clip(s, 0, 6) / 6, as Keras writes hard sigmoids.
fn hard_gates(b: &mut GraphBuilder) -> ValueId {
    seven(b, 4, 2, |g, x, states, weights| {
        let number = |g: &mut Graph, number: f32| {
            g.add_initializer("number", Tensor::from_f32(&ndarray::arr0(number).into_dyn()))
        };
        let recurred = g.add_op("MatMul", "recurred", &[states[0], weights[1]], []);
        let sum = g.add_op("Gemm", "sum", &[x, weights[0], recurred], []);
        let sum = g.add_op("Add", "sum", &[weights[2], sum], []);
        let [zero, six, sixth] = [0.0, 6.0, 1.0 / 6.0].map(|n| number(g, n));
        let clipped = g.add_op("Clip", "clipped", &[sum, zero, six], []);
        let all = g.add_op("Mul", "all", &[clipped, sixth], []);
        let (gates, sums) = (split(g, all, 1, 4), split(g, sum, 1, 4));
        let candidate = g.add_op("Tanh", "candidate", &[sums[2]], []);
        let kept = g.add_op("Mul", "kept", &[gates[1], states[1]], []);
        let new = g.add_op("Mul", "new", &[gates[0], candidate], []);
        let memory = g.add_op("Add", "memory", &[kept, new], []);
        let squashed = g.add_op("Tanh", "squashed", &[memory], []);
        vec![g.add_op("Mul", "hidden", &[gates[3], squashed], []), memory]
    })[2]
}

fn scanned_rnn(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "7,n,4");
    let ([w, r, bias], start) = (weights(b, 1), zeros(b, x, UNITS as i64));
    let mut body = Graph::new("body");
    let float = || TensorType { dtype: onnx_zip::ir::DataType::F32, shape: None };
    let (hidden, input) = (body.add_input("hidden", float()), body.add_input("input", float()));
    let [w, r, bias] = [w, r, bias].map(|value| {
        let name = b.graph().value(value).name.clone();
        body.add_value(&name, ValueKind::Captured(value), None)
    });
    let product = body.add_op("Gemm", "product", &[input, w, bias], []);
    let sum = body.add_op("Gemm", "sum", &[hidden, r, product], []);
    let next = body.add_op("Relu", "next", &[sum], []);
    let each = body.add_op("Identity", "each", &[next], []);
    body.outputs = vec![next, each];
    let outputs = ["last", "all"].map(|name| b.graph().add_value(name, ValueKind::Detached, None));
    let attributes = [
        ("body".to_owned(), Attribute::Graph(Box::new(body))),
        ("num_scan_inputs".to_owned(), Attribute::Int(1)),
    ];
    b.graph().add_node(Node {
        name: "scan".to_owned(),
        op: "Scan".to_owned(),
        inputs: vec![Some(start), Some(x)],
        outputs: outputs.map(Some).to_vec(),
        attributes: attributes.into(),
        ..Node::default()
    });
    outputs[1]
}

/// A loop of states that are inputs of the model.
fn given(b: &mut GraphBuilder, steps: i64, gates: usize, cell: Cell) -> ValueId {
    let x = b.input("x", "n,7,4");
    let states = ["hidden", "memory"].map(|name| b.input(name, "n,5"));
    let (steps, weights) = (number(b, steps), weights(b, gates));
    over_steps(b, (x, 1), steps, [&states, &weights], cell)[2]
}

fn shorter(b: &mut GraphBuilder) -> ValueId {
    given(b, 6, 4, lstm)
}

/// The output gate is not of the kind of the others.
fn unlike_gates(b: &mut GraphBuilder) -> ValueId {
    given(b, 7, 4, |g, x, states, weights| {
        let recurred = g.add_op("MatMul", "recurred", &[states[0], weights[1]], []);
        let sum = g.add_op("Gemm", "sum", &[x, weights[0], recurred], []);
        let sum = g.add_op("Add", "sum", &[sum, weights[2]], []);
        let gates = split(g, sum, 1, 4);
        let [i, f] = [0, 1].map(|gate| g.add_op("Sigmoid", "gate", &[gates[gate]], []));
        let candidate = g.add_op("Tanh", "candidate", &[gates[2]], []);
        let hard = g.add_op("HardSigmoid", "gate", &[gates[3]], []);
        let kept = g.add_op("Mul", "kept", &[f, states[1]], []);
        let new = g.add_op("Mul", "new", &[i, candidate], []);
        let memory = g.add_op("Add", "memory", &[kept, new], []);
        let squashed = g.add_op("Tanh", "squashed", &[memory], []);
        vec![g.add_op("Mul", "hidden", &[hard, squashed], []), memory]
    })
}

/// The next hidden units are those of an LSTM and the old ones.
fn residual(b: &mut GraphBuilder) -> ValueId {
    given(b, 7, 4, |g, x, states, weights| {
        let next = lstm(g, x, states, weights);
        vec![g.add_op("Add", "hidden", &[next[0], states[0]], []), next[1]]
    })
}
