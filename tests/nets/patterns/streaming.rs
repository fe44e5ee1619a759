//! Nets that take their last state as an input and return the next one: recurrent layers, and attention with a cache.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Node, ValueId, ValueKind};

use super::heads;
use super::net::{Pattern, transpose};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("state in and out", one_state),
    ("two states in and out", two_states),
    ("keys and values of earlier tokens in and out", cached),
];

/// A recurrent layer of six units over one step; returns its outputs.
fn step<const N: usize>(
    b: &mut GraphBuilder,
    op: &str,
    gates: usize,
    x: ValueId,
    states: &[ValueId],
    names: [&str; N],
) -> [ValueId; N] {
    let w = b.weights("w", &[1, 6 * gates, 4]);
    let r = b.weights("r", &[1, 6 * gates, 6]);
    let bias = b.weights("bias", &[1, 12 * gates]);
    let outputs = names.map(|name| b.graph().add_value(name, ValueKind::Detached, None));
    let inputs = [Some(x), Some(w), Some(r), Some(bias), None].into_iter();
    b.graph().add_node(Node {
        name: "step".to_owned(),
        op: op.to_owned(),
        inputs: inputs.chain(states.iter().copied().map(Some)).collect(),
        outputs: outputs.map(Some).to_vec(),
        attributes: [("hidden_size".to_owned(), Attribute::Int(6))].into(),
        ..Node::default()
    });
    outputs
}

/// A row of features as one step of a sequence.
fn sequence(b: &mut GraphBuilder, name: &str, dims: &str) -> ValueId {
    let x = b.input(name, dims);
    let axes = b.ints("axes", &[0]);
    b.op("Unsqueeze", "one_step", &[x, axes], [])
}

/// Scores of the only step, and states without the axis of directions.
fn answers(b: &mut GraphBuilder, y: ValueId, states: &[ValueId]) -> Vec<ValueId> {
    let axes = b.ints("axes", &[0, 1]);
    let y = b.op("Squeeze", "only_step", &[y, axes], []);
    let (w, bias) = (b.weights("head.w", &[5, 6]), b.weights("head.b", &[5]));
    let mut outputs = vec![b.op("Gemm", "head", &[y, w, bias], [("transB", 1.into())])];
    let axes = b.ints("axes", &[0]);
    outputs.extend(states.iter().map(|state| b.op("Squeeze", "next", &[*state, axes], [])));
    outputs
}

fn one_state(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, state) = (sequence(b, "x", "n,4"), sequence(b, "state", "n,6"));
    let [y, next] = step(b, "GRU", 3, x, &[state], ["steps", "last"]);
    answers(b, y, &[next])
}

fn two_states(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = sequence(b, "x", "n,4");
    let states = ["state", "cell"].map(|name| sequence(b, name, "n,6"));
    let [y, next, cell] = step(b, "LSTM", 4, x, &states, ["steps", "last", "last_cell"]);
    answers(b, y, &[next, cell])
}

/// As in generators of text: keys and values of three earlier tokens come in front of those of the new ones.
fn cached(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = heads::queries_keys_values(b);
    let [k, v] = [("past_keys", k), ("past_values", v)].map(|(name, new)| {
        let past = b.input(name, "n,2,3,4");
        b.op("Concat", "all", &[past, new], [("axis", 2.into())])
    });
    let turned = transpose(b, k, &[0, 1, 3, 2]);
    let mut outputs = heads::attention(b, x, [q, turned, v]);
    outputs.extend([k, v]);
    outputs
}
