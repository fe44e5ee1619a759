//! Recurrent layers as loops over the steps of a sequence.

#[path = "../../canon/steps.rs"]
mod steps;

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use self::steps::{extent, gru, lstm, over_steps, split, zeros};
use super::net::{Pattern, transpose};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("LSTM as a loop", one_lstm),
    ("GRUs as loops, one behind the other", two_grus),
    ("LSTM in both directions as loops", both_directions),
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
