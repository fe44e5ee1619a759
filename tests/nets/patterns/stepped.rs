//! Recurrent layers as loops over the steps of a sequence.

#[path = "../../canon/steps.rs"]
mod steps;

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Graph, Node, Tensor, TensorType, ValueId, ValueKind};

use self::steps::{Choice, extent, gru, lstm, over_masked_steps, over_steps, split, zeros};
use super::net::{Pattern, three_times, transpose};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("LSTM as a loop", one_lstm),
    ("GRUs as loops, one behind the other", two_grus),
    ("LSTM in both directions as loops", both_directions),
    ("LSTM as a loop with a mask", masked_lstm),
    ("last state of an LSTM as a loop with a mask", last_masked),
    ("GRUs as loops with a mask, zeros elsewhere", masked_grus),
    ("a state with rows of its own", own_rows),
    ("a loop of dense layers", dense_cell),
    ("sequences of several lengths in both directions", several_lengths),
];

const UNITS: usize = 4;

/// Five steps of four features, steps first.
fn sequence(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "n,5,4");
    transpose(b, x, &[1, 0, 2])
}

/// The hidden units of an LSTM after all steps, and in all steps.
fn lstm_over(b: &mut GraphBuilder, x: ValueId, features: usize) -> [ValueId; 2] {
    let dims = [vec![features, 4 * UNITS], vec![UNITS, 4 * UNITS], vec![4 * UNITS]];
    let weights = dims.map(|dims| b.weights("weights", &dims));
    let (steps, start) = (extent(b, x, 0), zeros(b, x, UNITS as i64));
    let outputs = over_steps(b, (x, 0), steps, [&[start; 2], &weights], lstm);
    [outputs[0], outputs[2]]
}

fn gru_over(b: &mut GraphBuilder, x: ValueId, features: usize) -> [ValueId; 2] {
    let dims = [[features, 3 * UNITS], [UNITS, 3 * UNITS], [2, 3 * UNITS]];
    let weights = dims.map(|dims| b.weights("weights", &dims));
    let (steps, start) = (extent(b, x, 0), zeros(b, x, UNITS as i64));
    let outputs = over_steps(b, (x, 0), steps, [&[start], &weights], gru);
    [outputs[0], outputs[1]]
}

fn head(b: &mut GraphBuilder, x: ValueId, units: usize) -> Vec<ValueId> {
    let (w, bias) = (b.weights("head.w", &[5, units]), b.weights("head.b", &[5]));
    vec![b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])]
}

fn one_lstm(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = sequence(b);
    let [last, _] = lstm_over(b, x, 4);
    head(b, last, UNITS)
}

/// The first layer returns all its steps, and the last step of the second one is sliced.
fn two_grus(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = sequence(b);
    let [_, all] = gru_over(b, x, 4);
    let [_, all] = gru_over(b, all, UNITS);
    let last = b.ints("last", &[-1]);
    let (end, axes) = (b.ints("end", &[i64::from(i32::MAX)]), b.ints("axes", &[0]));
    let x = b.op("Slice", "sliced", &[all, last, end, axes], []);
    let x = b.op("Squeeze", "step", &[x, axes], []);
    head(b, x, UNITS)
}

/// The sequence is reversed before one of the loops and after it.
fn both_directions(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = sequence(b);
    let [_, there] = lstm_over(b, x, 4);
    let reversed = reversed(b, x);
    let [_, back] = lstm_over(b, reversed, 4);
    let back = self::reversed(b, back);
    let both = b.op("Concat", "both", &[there, back], [("axis", 2.into())]);
    let x = split(b.graph(), both, 0, 5)[3];
    let axes = b.ints("axes", &[0]);
    let x = b.op("Squeeze", "step", &[x, axes], []);
    head(b, x, 2 * UNITS)
}

/// As TensorFlow's exporter writes it: the length is repeated once per sample.
fn reversed(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let shape = b.op("Shape", "shape", &[x], []);
    let [time, batch] = [0, 1].map(|axis| {
        let axis = b.ints("axis", &[axis]);
        b.op("Gather", "extent", &[shape, axis], [])
    });
    let lengths = b.op("Expand", "lengths", &[time, batch], []);
    let axes = [("batch_axis", 1.into()), ("time_axis", 0.into())];
    b.op("ReverseSequence", "reversed", &[x, lengths], axes)
}

/// Steps count whose features have a positive sum.
fn mask(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let axes = b.ints("axes", &[2]);
    let sums = b.op("ReduceSum", "sums", &[x, axes], []);
    let zero = b.scalar("zero", 0.0);
    b.op("Greater", "counts", &[sums, zero], [])
}

/// The last results, units and cell state of an LSTM with a mask, and its results of all steps.
fn masked(b: &mut GraphBuilder, choice: Choice) -> Vec<ValueId> {
    let x = sequence(b);
    let dims = [vec![4, 4 * UNITS], vec![UNITS, 4 * UNITS], vec![4 * UNITS]];
    let (mask, weights) = (mask(b, x), dims.map(|dims| b.weights("weights", &dims)));
    let (steps, start) = (extent(b, x, 0), zeros(b, x, UNITS as i64));
    over_masked_steps(b, (x, 0), (mask, choice), steps, [&[start; 3], &weights], lstm)
}

fn masked_lstm(b: &mut GraphBuilder) -> Vec<ValueId> {
    let all = masked(b, Choice::Where)[3];
    let last = last_step(b, all);
    head(b, last, UNITS)
}

fn last_masked(b: &mut GraphBuilder) -> Vec<ValueId> {
    let results = masked(b, Choice::Products);
    let both = b.op("Add", "both", &results[1..3], []);
    head(b, both, UNITS)
}

fn masked_gru_over(b: &mut GraphBuilder, x: ValueId, mask: ValueId) -> ValueId {
    let dims = [[4, 3 * UNITS], [UNITS, 3 * UNITS], [2, 3 * UNITS]];
    let weights = dims.map(|dims| b.weights("weights", &dims));
    let (steps, start) = (extent(b, x, 0), zeros(b, x, UNITS as i64));
    let choice = (mask, Choice::Zeros);
    over_masked_steps(b, (x, 0), choice, steps, [&[start; 2], &weights], gru)[2]
}

fn masked_grus(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = sequence(b);
    let mask = mask(b, x);
    let all = masked_gru_over(b, x, mask);
    let all = masked_gru_over(b, all, mask);
    let last = last_step(b, all);
    head(b, last, UNITS)
}

fn last_step(b: &mut GraphBuilder, all: ValueId) -> ValueId {
    let (last, axes) = (b.ints("last", &[-1]), b.ints("axes", &[0]));
    let end = b.ints("end", &[i64::from(i32::MAX)]);
    let x = b.op("Slice", "sliced", &[all, last, end, axes], []);
    b.op("Squeeze", "step", &[x, axes], [])
}

/// The number of samples of the state may be another one than that of the sequence.
fn own_rows(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = sequence(b);
    let state = b.input("state", "m,4");
    let dims = [[4, 3 * UNITS], [UNITS, 3 * UNITS], [2, 3 * UNITS]];
    let weights = dims.map(|dims| b.weights("weights", &dims));
    let steps = extent(b, x, 0);
    let last = over_steps(b, (x, 0), steps, [&[state], &weights], gru)[0];
    head(b, last, UNITS)
}

/// A step is no recurrent layer, and has large weights.
fn dense_cell(b: &mut GraphBuilder) -> Vec<ValueId> {
    const WIDTH: usize = 32;
    let x = b.input("x", "n,4");
    let (w, bias) = (b.weights("first.w", &[WIDTH, 4]), b.weights("first.b", &[WIDTH]));
    let x = b.op("Gemm", "first", &[x, w, bias], [("transB", 1.into())]);
    let x = b.op("Relu", "start", &[x], []);
    let weights = b.weights("step.w", &[WIDTH, 2 * WIDTH]);
    let mut body = Graph::new("body");
    let scalar = |dtype| TensorType { dtype, shape: Some(Vec::new()) };
    body.add_input("count", scalar(DataType::I64));
    let goes_on = body.add_input("goes_on", scalar(DataType::Bool));
    let state = body.add_input("state", TensorType { dtype: DataType::F32, shape: None });
    let name = b.graph().value(weights).name.clone();
    let weights = body.add_value(&name, ValueKind::Captured(weights), None);
    // The weights of both layers are one constant.
    let halves = split(&mut body, weights, 1, 2);
    let one = body.add_op("MatMul", "one", &[state, halves[0]], []);
    let one = body.add_op("Relu", "hidden", &[one], []);
    let two = body.add_op("MatMul", "two", &[one, halves[1]], []);
    let next = body.add_op("Add", "next", &[two, state], []);
    let still = body.add_op("Identity", "still", &[goes_on], []);
    body.outputs = vec![still, next];
    let last = three_times(b, body, x);
    let (w, bias) = (b.weights("last.w", &[UNITS, WIDTH]), b.weights("last.b", &[UNITS]));
    let last = b.op("Gemm", "last", &[last, w, bias], [("transB", 1.into())]);
    let last = b.op("Relu", "few", &[last], []);
    head(b, last, UNITS)
}

/// As PyTorch writes packed sequences.
fn several_lengths(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = sequence(b);
    let mask = mask(b, x);
    let axes = b.ints("axes", &[0, 2]);
    let numbers = b.op("Cast", "numbers", &[mask], [("to", 6.into())]);
    let lengths = b.op("ReduceSum", "lengths", &[numbers, axes], [("keepdims", 0.into())]);
    let inputs = [
        x,
        b.weights("w", &[2, 4 * UNITS, 4]),
        b.weights("r", &[2, 4 * UNITS, UNITS]),
        b.weights("b", &[2, 8 * UNITS]),
        lengths,
    ];
    let outputs = ["y", "h"].map(|name| b.graph().add_value(name, ValueKind::Detached, None));
    let attributes = [
        ("hidden_size".to_owned(), Attribute::Int(UNITS as i64)),
        ("direction".to_owned(), "bidirectional".into()),
    ];
    b.graph().add_node(Node {
        name: "recurrent".to_owned(),
        op: "LSTM".to_owned(),
        inputs: inputs.into_iter().map(Some).collect(),
        outputs: outputs.map(Some).to_vec(),
        attributes: attributes.into(),
        ..Node::default()
    });
    let turned = transpose(b, outputs[1], &[1, 0, 2]);
    let flat = b.constant("flat", Tensor::from_i64(vec![2], &[-1, 2 * UNITS as i64]));
    let last = b.op("Reshape", "flat", &[turned, flat], []);
    head(b, last, 2 * UNITS)
}
