//! Sub-graphs with sub-graphs and layers of their own.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Graph, TensorType, ValueId, ValueKind};

use super::net::{Pattern, conv, images, relu, rest, three_times};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] =
    &[("branch in a loop", branch_in_loop), ("layers in branches", layers_in_branches)];

/// Whether the sum of a value is positive.
fn condition(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let sum = b.op("ReduceSum", "sum", &[x], [("keepdims", 0.into())]);
    let zero = b.scalar("zero", 0.0);
    b.op("Greater", "positive", &[sum, zero], [])
}

/// Captures a value of the outer graph.
fn capture(outer: &Graph, inner: &mut Graph, value: ValueId) -> ValueId {
    inner.add_value(&outer.value(value).name, ValueKind::Captured(value), None)
}

fn untyped(graph: &mut Graph, name: &str) -> ValueId {
    graph.add_input(name, TensorType { dtype: DataType::F32, shape: None })
}

/// The loop-carried value has no declared shape.
fn branch_in_loop(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let [start, step] = ["start", "step"].map(|name| {
        let y = conv(b, name, x, 6, 3);
        relu(b, y)
    });
    let positive = condition(b, x);
    let mut body = Graph::new("body");
    let scalar = |dtype| TensorType { dtype, shape: Some(Vec::new()) };
    body.add_input("count", scalar(DataType::I64));
    let go_on = body.add_input("go_on", scalar(DataType::Bool));
    let state = untyped(&mut body, "state");
    let [step, positive] = [step, positive].map(|value| capture(b.graph(), &mut body, value));
    let half = body.add_op("Tanh", "half", &[state], []);
    let branches = [("then_branch", "Add"), ("else_branch", "Sub")].map(|(name, op)| {
        let mut branch = Graph::new(name);
        let operands = [half, step].map(|value| capture(&body, &mut branch, value));
        branch.outputs = vec![branch.add_op(op, &format!("{name}.result"), &operands, [])];
        (name, Attribute::Graph(Box::new(branch)))
    });
    let next = body.add_op("If", "branch", &[positive], branches);
    let still = body.add_op("Identity", "still", &[go_on], []);
    body.outputs = vec![still, next];
    let result = three_times(b, body, start);
    vec![rest(b, result, 6)]
}

fn layers_in_branches(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let positive = condition(b, x);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let branches = ["then_branch", "else_branch"].map(|name| {
        let w = b.weights(&format!("{name}.w"), &[6, 6, 1, 1]);
        let mut branch = Graph::new(name);
        let operands = [x, w].map(|value| capture(b.graph(), &mut branch, value));
        branch.outputs = vec![branch.add_op("Conv", &format!("{name}.conv"), &operands, [])];
        (name, Attribute::Graph(Box::new(branch)))
    });
    let x = b.op("If", "branch", &[positive], branches);
    let x = relu(b, x);
    vec![rest(b, x, 6)]
}
