//! Recurrent layers as exporters write them.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Node, Tensor, ValueId, ValueKind};

use super::Build;

#[rustfmt::skip]
pub const ROWS: &[(&str, i64, &[&str], Build)] = &[
    ("recurrent layer with computed zeros as states", 13, &["LSTM", "Squeeze"], zero_states),
    ("recurrent layer without biases of which the last state is read", 13, &["GRU", "Squeeze"], last_state),
    ("recurrent layer of two directions", 13,
        &["LSTM", "Squeeze", "Slice", "LSTM", "Slice", "Squeeze", "Concat"], two_directions),
    ("recurrent layer of two directions, samples first", 13,
        &["LSTM", "Squeeze", "Slice", "LSTM", "Slice", "Squeeze", "Concat", "Transpose"], samples_first),
    ("recurrent layer of two directions with joined zeros as states", 13,
        &["LSTM", "Squeeze", "Slice", "LSTM", "Slice", "Squeeze", "Concat"], joined_zeros),
    ("recurrent layer of two directions, its last states", 14,
        &["RNN", "Slice", "RNN", "Concat"], last_states),
    ("recurrent layer whose reset gate comes last", 13, &["GRU", "Squeeze"], reset_last),
];

/// A recurrent node of 5 units over `x` of width 4; `outputs` says which outputs it has.
fn recurrent(
    b: &mut GraphBuilder,
    (op, gates): (&str, usize),
    directions: usize,
    inputs: &[Option<ValueId>],
    outputs: [bool; 3],
) -> Vec<ValueId> {
    let x = b.input("x", "7,n,4");
    let mut all = vec![
        Some(x),
        Some(b.weights("w", &[directions, 5 * gates, 4])),
        Some(b.weights("r", &[directions, 5 * gates, 5])),
    ];
    all.extend(inputs);
    let values: Vec<Option<ValueId>> = outputs
        .iter()
        .map(|wanted| wanted.then(|| b.graph().add_value("out", ValueKind::Detached, None)))
        .collect();
    let direction = if directions == 2 { "bidirectional" } else { "forward" };
    let mut attributes: Vec<(&str, Attribute)> =
        vec![("hidden_size", 5.into()), ("direction", direction.into())];
    if op == "GRU" && inputs.len() == 1 {
        attributes.push(("linear_before_reset", 1.into()));
    }
    b.graph().add_node(Node {
        name: "recurrent".into(),
        op: op.into(),
        inputs: all,
        outputs: values.clone(),
        attributes: attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        ..Node::default()
    });
    values.into_iter().flatten().collect()
}

fn squeezed(b: &mut GraphBuilder, value: ValueId, axis: i64) -> ValueId {
    let axis = b.ints("axis", &[axis]);
    b.op("Squeeze", "y", &[value, axis], [])
}

fn zero_states(b: &mut GraphBuilder) -> ValueId {
    let probe = b.input("probe", "n,3");
    let shape = b.op("Shape", "shape", &[probe], []);
    let first = b.ints("first", &[0]);
    let batch = b.op("Gather", "batch", &[shape, first], []);
    let (one, units) = (b.ints("one", &[1]), b.ints("units", &[5]));
    let sizes = b.op("Concat", "sizes", &[one, batch, units], [("axis", 0.into())]);
    let value = Attribute::Tensor(Tensor::from_f32(&ndarray::arr1(&[0.0f32]).into_dyn()));
    let zeros = b.op("ConstantOfShape", "zeros", &[sizes], [("value", value)]);
    let bias = b.weights("b", &[1, 40]);
    let inputs = [Some(bias), None, Some(zeros), Some(zeros)];
    let outputs = recurrent(b, ("LSTM", 4), 1, &inputs, [true, true, true]);
    squeezed(b, outputs[0], 1)
}

fn last_state(b: &mut GraphBuilder) -> ValueId {
    let outputs = recurrent(b, ("GRU", 3), 1, &[], [false, true, false]);
    squeezed(b, outputs[0], 0)
}

fn two_directions(b: &mut GraphBuilder) -> ValueId {
    flattened(b, [0, 2, 1, 3])
}

fn samples_first(b: &mut GraphBuilder) -> ValueId {
    flattened(b, [2, 0, 1, 3])
}

/// The units of both directions on one axis.
fn flattened(b: &mut GraphBuilder, perm: [i64; 4]) -> ValueId {
    let bias = b.weights("b", &[2, 40]);
    let outputs = recurrent(b, ("LSTM", 4), 2, &[Some(bias)], [true, false, false]);
    let turned = b.op("Transpose", "turned", &[outputs[0]], [("perm", perm.into())]);
    let flat = b.ints("flat", &[0, 0, -1]);
    b.op("Reshape", "y", &[turned, flat], [])
}

/// The state of one direction is zeros, and stands for both.
fn joined_zeros(b: &mut GraphBuilder) -> ValueId {
    let probe = b.input("probe", "n,3");
    let shape = b.op("Shape", "shape", &[probe], []);
    let (first, units) = (b.ints("first", &[0]), b.ints("units", &[5]));
    let batch = b.op("Gather", "batch", &[shape, first], []);
    let sizes = b.op("Concat", "sizes", &[batch, units], [("axis", 0.into())]);
    let zero = b.scalar("zero", 0.0);
    let zeros = b.op("Expand", "zeros", &[zero, sizes], []);
    let one = b.op("Unsqueeze", "one", &[zeros, first], []);
    let both = b.op("Concat", "both", &[one, one], [("axis", 0.into())]);
    let bias = b.weights("b", &[2, 40]);
    let inputs = [Some(bias), None, Some(both), Some(both)];
    let outputs = recurrent(b, ("LSTM", 4), 2, &inputs, [true, false, false]);
    let turned = b.op("Transpose", "turned", &[outputs[0]], [("perm", [0, 2, 1, 3].into())]);
    let flat = b.ints("flat", &[0, 0, -1]);
    b.op("Reshape", "y", &[turned, flat], [])
}

fn last_states(b: &mut GraphBuilder) -> ValueId {
    let bias = b.weights("b", &[2, 10]);
    recurrent(b, ("RNN", 1), 2, &[Some(bias)], [false, true, false])[0]
}

fn reset_last(b: &mut GraphBuilder) -> ValueId {
    let bias = b.weights("b", &[1, 30]);
    let outputs = recurrent(b, ("GRU", 3), 1, &[Some(bias)], [true, false, false]);
    squeezed(b, outputs[0], 1)
}
