//! Nets that detect voices: they take and return the states of recurrent layers, whose second axis counts samples.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Model, Node, ValueId, ValueKind};

use crate::exact::{batch, check, merge, run};

/// Units of the recurrent layers.
const UNITS: usize = 8;

/// A layer that takes the state `h`, and for an LSTM `c`; returns all steps and the last states.
fn recurrent(b: &mut GraphBuilder, name: &str, x: ValueId, states: &[ValueId]) -> Vec<ValueId> {
    let (op, gates) = if states.len() == 2 { ("LSTM", 4) } else { ("GRU", 3) };
    let rows = gates * UNITS;
    let mut inputs = vec![
        Some(x),
        Some(b.weights(&format!("{name}.w"), &[1, rows, UNITS])),
        Some(b.weights(&format!("{name}.r"), &[1, rows, UNITS])),
        Some(b.weights(&format!("{name}.b"), &[1, 2 * rows])),
        None,
    ];
    inputs.extend(states.iter().copied().map(Some));
    let names = ["y", "h", "c"].map(|part| format!("{name}.{part}"));
    let graph = b.graph();
    let outputs: Vec<ValueId> = names[..=states.len()]
        .iter()
        .map(|name| graph.add_value(name, ValueKind::Detached, None))
        .collect();
    graph.add_node(Node {
        name: name.to_owned(),
        op: op.to_owned(),
        inputs,
        outputs: outputs.iter().copied().map(Some).collect(),
        attributes: [("hidden_size".to_owned(), Attribute::Int(UNITS as i64))].into(),
        ..Node::default()
    });
    outputs
}

/// A convolution over frames and `layers` recurrent layers. `batch` is the number of samples in the shapes of the
/// inputs: of the sound, and of the states.
fn detector(seed: usize, batch: [&str; 2], layers: usize, states: &[&str]) -> Model {
    let mut b = GraphBuilder::new("detector", 13);
    // An unused draw changes the random weights that follow.
    b.weights("unused", &[seed + 1]);
    let given: Vec<ValueId> = states
        .iter()
        .map(|state| b.input(state, &format!("{layers},{},{UNITS}", batch[1])))
        .collect();
    let sound = b.input("sound", &format!("{},64", batch[0]));
    let one = b.ints("one", &[1]);
    let x = b.op("Unsqueeze", "frames", &[sound, one], []);
    let (w, bias) = (b.weights("conv.w", &[UNITS, 1, 16]), b.weights("conv.b", &[UNITS]));
    let x = b.op("Conv", "conv", &[x, w, bias], [("strides", [8].into())]);
    let x = b.op("Relu", "relu", &[x], []);
    let mut x = b.op("Transpose", "steps", &[x], [("perm", [2, 0, 1].into())]);
    let mut last: Vec<Vec<ValueId>> = vec![Vec::new(); states.len()];
    for layer in 0..layers {
        let bounds = [layer, layer + 1].map(|at| b.ints(&format!("at{layer}.{at}"), &[at as i64]));
        let axis = b.ints(&format!("axis{layer}"), &[0]);
        let own: Vec<ValueId> = given
            .iter()
            .map(|state| b.op("Slice", "own", &[*state, bounds[0], bounds[1], axis], []))
            .collect();
        let outputs = recurrent(&mut b, &format!("layer{layer}"), x, &own);
        x = b.op("Squeeze", &format!("layer{layer}.out"), &[outputs[0], one], []);
        last.iter_mut().zip(&outputs[1..]).for_each(|(all, state)| all.push(*state));
    }
    let x = b.op("ReduceMean", "mean", &[x], [("axes", [0].into()), ("keepdims", 0.into())]);
    let (w, bias) = (b.weights("head.w", &[1, UNITS]), b.weights("head.b", &[1]));
    let y = b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())]);
    let mut outputs = vec![b.op("Sigmoid", "voice", &[y], [])];
    for states in last {
        outputs.push(b.op("Concat", "last", &states, [("axis", 0.into())]));
    }
    b.build(&outputs)
}

#[test]
fn states_of_recurrent_layers_are_fed_sample_by_sample() {
    let kinds: [([&str; 2], usize, &[&str]); 6] = [
        (["n", "n"], 1, &["h", "c"]),
        (["n", "n"], 2, &["h", "c"]),
        (["n", "n"], 2, &["h"]),
        (["?", "?"], 2, &["h", "c"]),
        (["1", "1"], 2, &["h", "c"]),
        (["n", "1"], 2, &["h"]),
    ];
    for (sizes, layers, states) in kinds {
        let name = format!("{sizes:?}, {layers} layers, {states:?}");
        let nets = [1, 2].map(|seed| detector(seed, sizes, layers, states));
        let batch = batch(&nets[0]);
        let shape = batch[0].shape().to_vec();
        let samples = if sizes[1] == "1" { 1 } else { 3 };
        assert_eq!(shape, [layers, samples, UNITS], "{name}");
        assert_eq!(batch.last().unwrap().shape(), [samples, 64], "{name}");
        let joint = merge(nets, 0.5);
        let wanted: Vec<_> = joint.tasks().iter().map(|t| run(t.model(), &batch)).collect();
        check(&joint, &batch, &wanted, &name);
    }
}
