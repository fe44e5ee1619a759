//! Recurrent layers that leave out steps, as loops with masks and as layers with lengths.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Model, Node, Tensor, ValueId, ValueKind};

use super::Build;
use super::steps::{Choice, extent, gru, lstm, over_masked_steps, over_steps, zeros};

const FEATURES: usize = 4;
const UNITS: usize = 5;

/// Models, and the operator that is left of the recurrent layer of each.
pub fn all() -> Vec<(&'static str, Model, &'static str)> {
    let rows: [(&str, &str, Build); 9] = [
        ("masked steps of an LSTM, chosen", "LSTM", |b| masked_lstm(b, Choice::Where, 3)),
        ("masked steps of an LSTM, added", "LSTM", |b| masked_lstm(b, Choice::Products, 3)),
        ("masked steps of an LSTM, zeros elsewhere", "LSTM", |b| masked_lstm(b, Choice::Zeros, 3)),
        ("the last result of masked steps", "LSTM", |b| masked_lstm(b, Choice::Where, 0)),
        ("the last units of masked steps", "LSTM", |b| masked_lstm(b, Choice::Products, 1)),
        ("the last cell state of masked steps", "LSTM", |b| masked_lstm(b, Choice::Where, 2)),
        ("masked steps that begin with a state", "GRU", masked_gru),
        ("a state that is the same for all samples", "GRU", one_state),
        ("a layer in reverse over sequences of several lengths", "LSTM", reversed),
    ];
    let model = |(name, left, build): (&'static str, &'static str, Build)| {
        let mut b = GraphBuilder::new(name, 13);
        let y = build(&mut b);
        (name, b.build(&[y]), left)
    };
    rows.into_iter().map(model).collect()
}

/// Steps count whose features have a positive sum.
fn mask(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let axes = b.ints("axes", &[2]);
    let sums = b.op("ReduceSum", "sums", &[x, axes], []);
    let zero = b.scalar("zero", 0.0);
    b.op("Greater", "counts", &[sums, zero], [])
}

fn weights(b: &mut GraphBuilder, gates: usize, bias: &[usize]) -> [ValueId; 3] {
    [&[FEATURES, gates * UNITS], &[UNITS, gates * UNITS], bias]
        .map(|dims| b.weights("weights", dims))
}

/// One of the results of a masked loop over seven steps: last states, or all steps.
fn masked_lstm(b: &mut GraphBuilder, choice: Choice, result: usize) -> ValueId {
    let x = b.input("x", "7,n,4");
    let (mask, weights) = (mask(b, x), weights(b, 4, &[4 * UNITS]));
    let (steps, start) = (extent(b, x, 0), zeros(b, x, UNITS as i64));
    over_masked_steps(b, (x, 0), (mask, choice), steps, [&[start; 3], &weights], lstm)[result]
}

/// The samples come first, and a sample without a step keeps its state.
fn masked_gru(b: &mut GraphBuilder) -> ValueId {
    let (x, state) = (b.input("x", "n,7,4"), b.input("state", "n,5"));
    let first = b.op("Transpose", "first", &[x], [("perm", [1, 0, 2].into())]);
    let (mask, weights) = (mask(b, x), weights(b, 3, &[2, 3 * UNITS]));
    let (steps, start) = (extent(b, x, 1), zeros(b, first, UNITS as i64));
    let states = [start, state];
    let choice = (mask, Choice::Where);
    over_masked_steps(b, (x, 1), choice, steps, [&states, &weights], gru)[1]
}

/// A learned state of one row.
fn one_state(b: &mut GraphBuilder) -> ValueId {
    let (x, weights) = (b.input("x", "n,7,4"), weights(b, 3, &[2, 3 * UNITS]));
    let (steps, state) = (extent(b, x, 1), b.weights("state", &[1, UNITS]));
    over_steps(b, (x, 1), steps, [&[state], &weights], gru)[1]
}

fn reversed(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "7,n,4");
    let mask = mask(b, x);
    let axes = b.ints("axes", &[0, 2]);
    let numbers = b.op("Cast", "numbers", &[mask], [("to", 6.into())]);
    let lengths = [("keepdims", 0.into())];
    let lengths = b.op("ReduceSum", "lengths", &[numbers, axes], lengths);
    let inputs = [
        x,
        b.weights("w", &[1, 4 * UNITS, FEATURES]),
        b.weights("r", &[1, 4 * UNITS, UNITS]),
        b.weights("b", &[1, 8 * UNITS]),
        lengths,
    ];
    let y = b.graph().add_value("y", ValueKind::Detached, None);
    let attributes = [
        ("hidden_size".to_owned(), Attribute::Int(UNITS as i64)),
        ("direction".to_owned(), "reverse".into()),
    ];
    b.graph().add_node(Node {
        name: "recurrent".to_owned(),
        op: "LSTM".to_owned(),
        inputs: inputs.into_iter().map(Some).collect(),
        outputs: vec![Some(y)],
        attributes: attributes.into(),
        ..Node::default()
    });
    let flat = b.constant("flat", Tensor::from_i64(vec![3], &[7, -1, UNITS as i64]));
    b.op("Reshape", "flattened", &[y, flat], [])
}
