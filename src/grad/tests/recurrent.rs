//! Recurrent layers, which are differentiated step by step.

use super::{run, variable, variables};
use crate::canon::infer_types;
use crate::grad::unroll::unroll;
use crate::ir::builder::GraphBuilder;
use crate::ir::{Attribute, Model, Node, ValueId, ValueKind};
use crate::onnx;
use crate::runtime::{self, ModelSource, RuntimeOptions};

/// Hidden units.
const UNITS: usize = 2;

pub(super) fn lstm(b: &mut GraphBuilder) -> Vec<ValueId> {
    layer(b, "LSTM", 4, 3, true, [])
}

pub(super) fn gru(b: &mut GraphBuilder) -> Vec<ValueId> {
    layer(b, "GRU", 3, 2, true, [])
}

pub(super) fn gru_that_resets_last(b: &mut GraphBuilder) -> Vec<ValueId> {
    layer(b, "GRU", 3, 2, true, [("linear_before_reset", Attribute::Int(1))])
}

pub(super) fn rnn(b: &mut GraphBuilder) -> Vec<ValueId> {
    let sigmoid = Attribute::Strs(vec![b"Sigmoid".to_vec()]);
    layer(b, "RNN", 1, 2, false, [("activations", sigmoid)])
}

/// The last hidden units, of which nothing else is read.
pub(super) fn last_step(b: &mut GraphBuilder) -> Vec<ValueId> {
    layer(b, "LSTM", 4, 2, false, []).split_off(1)
}

/// A layer over three steps of two samples, which starts from states or zeros. Gives its outputs; all that
/// it reads is a variable.
fn layer<const N: usize>(
    b: &mut GraphBuilder,
    op: &str,
    gates: usize,
    outputs: usize,
    starts: bool,
    attributes: [(&str, Attribute); N],
) -> Vec<ValueId> {
    let rows = UNITS * gates;
    let mut inputs = vec![
        Some(variable(b, &[3, 2, 4], -1.0, 1.0)),
        Some(variable(b, &[1, rows, 4], -0.8, 0.8)),
        Some(variable(b, &[1, rows, UNITS], -0.9, 0.9)),
        Some(variable(b, &[1, 2 * rows], -0.5, 0.5)),
        None,
    ];
    for state in [0.7, 0.6].into_iter().take(if starts { outputs - 1 } else { 0 }) {
        inputs.push(Some(variable(b, &[1, 2, UNITS], -state, state)));
    }
    let size = ("hidden_size", Attribute::Int(UNITS as i64));
    let outputs: Vec<ValueId> =
        (0..outputs).map(|_| b.graph().add_value("output", ValueKind::Detached, None)).collect();
    b.graph().add_node(Node {
        name: "layer".to_owned(),
        op: op.to_owned(),
        inputs,
        outputs: outputs.iter().copied().map(Some).collect(),
        attributes: attributes.into_iter().chain([size]).map(|(k, v)| (k.to_owned(), v)).collect(),
        ..Node::default()
    });
    outputs
}

#[test]
fn step_by_step_is_what_the_runtime_computes() {
    for build in [lstm, gru, gru_that_resets_last, rnn, last_step] {
        let mut b = GraphBuilder::new("net", 14);
        let outputs = build(&mut b);
        let mut model = b.build(&outputs);
        infer_types(&mut model.graph).unwrap();
        let whole = results(&model);
        assert!(unroll(&mut model.graph));
        assert!(model.graph.nodes().all(|(_, node)| node.input(0).is_some()));
        assert!(!model.graph.nodes().any(|(_, node)| ["LSTM", "GRU", "RNN"].contains(&&*node.op)));
        for (by_step, whole) in results(&model).iter().zip(&whole) {
            assert_eq!(by_step.shape(), whole.shape());
            let off =
                (by_step - whole).mapv(f32::abs).into_iter().max_by(f32::total_cmp).unwrap_or(0.0);
            assert!(off < 1e-6, "{off}");
        }
    }
}

#[test]
fn what_is_not_in_canonical_form_stays() {
    for attribute in [("direction", Attribute::Str(b"reverse".to_vec())), ("layout", 1.into())] {
        let mut b = GraphBuilder::new("net", 14);
        let outputs = layer(&mut b, "LSTM", 4, 3, false, [attribute]);
        let mut model = b.build(&outputs);
        infer_types(&mut model.graph).unwrap();
        let before = model.clone();
        assert!(!unroll(&mut model.graph));
        assert_eq!(model, before);
    }
}

fn results(model: &Model) -> Vec<ndarray::ArrayD<f32>> {
    let (wanted, points) = variables(model);
    let mut model = model.clone();
    for variable in wanted {
        let ty = model.graph.initializer(variable).unwrap().ty();
        model.graph.set_input(variable, ty);
    }
    let bytes = onnx::encode(&model).unwrap();
    let backend = runtime::open(&RuntimeOptions::default()).unwrap();
    let mut session = backend.load(ModelSource::Bytes(&bytes)).unwrap();
    run(session.as_mut(), &points, "recurrent")
}
