//! Sub-graphs with sub-graphs and layers of their own.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Graph, Tensor, TensorType, ValueId, ValueKind};

use super::net::{Pattern, conv, images, relu, repeated, rest, three_times};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("branch in a loop", branch_in_loop),
    ("layers in branches", layers_in_branches),
    ("layers in branches with weights in nodes", weights_in_branches),
    ("decided branches", decided),
    ("layers in a decided branch", decided_layers),
    ("layers in a loop of one step", one_step),
];

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

/// The weights are `Constant` nodes of the branches.
fn weights_in_branches(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let positive = condition(b, x);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let branches = ["then_branch", "else_branch"].map(|name| {
        let w = b.weights(&format!("{name}.w"), &[6, 6, 3, 3]);
        let w = Attribute::Tensor(b.graph().initializer(w).unwrap().clone());
        let mut branch = Graph::new(name);
        let x = capture(b.graph(), &mut branch, x);
        let w = branch.add_op("Constant", "w", &[], [("value", w)]);
        let pads = [("pads", [1, 1, 1, 1].into())];
        branch.outputs = vec![branch.add_op("Conv", &format!("{name}.conv"), &[x, w], pads)];
        (name, Attribute::Graph(Box::new(branch)))
    });
    let x = b.op("If", "branch", &[positive], branches);
    let x = relu(b, x);
    vec![rest(b, x, 6)]
}

/// Whether an axis has this extent.
fn has_extent(b: &mut GraphBuilder, x: ValueId, axis: i64, extent: i64) -> ValueId {
    let shape = b.op("Shape", "shape", &[x], []);
    let [axis, extent] =
        [axis, extent].map(|number| b.constant("number", Tensor::from_i64(vec![], &[number])));
    let own = b.op("Gather", "extent", &[shape, axis], []);
    b.op("Equal", "has_extent", &[own, extent], [])
}

/// As PyTorch writes `squeeze`: before pooling there are eight columns, behind it one.
fn decided(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let mut x = conv(b, "first", x, 6, 3);
    for (name, extent) in [("eight", 8), ("one", 1)] {
        if extent == 1 {
            x = b.op("GlobalAveragePool", "pool", &[x], []);
        }
        let is_one = has_extent(b, x, 3, 1);
        // Runtimes refuse to remove an axis of eight, even if they never do it.
        let taken = if extent == 1 { "Squeeze" } else { "Neg" };
        let branches = [("then_branch", taken), ("else_branch", "Identity")];
        let branches = branches.map(|(branch, op)| {
            let mut graph = Graph::new(branch);
            let inner = capture(b.graph(), &mut graph, x);
            let axes = graph.add_initializer("axes", Tensor::from_i64(vec![2], &[2, 3]));
            let operands = [inner, axes];
            let operands = &operands[..if op == "Squeeze" { 2 } else { 1 }];
            graph.outputs = vec![graph.add_op(op, &format!("{name}.{op}"), operands, [])];
            (branch, Attribute::Graph(Box::new(graph)))
        });
        x = b.op("If", name, &[is_one], branches);
        x = relu(b, x);
    }
    let (w, bias) = (b.weights("middle.w", &[7, 6]), b.weights("middle.b", &[7]));
    let x = b.op("Gemm", "middle", &[x, w, bias], [("transB", 1.into())]);
    let x = relu(b, x);
    let (w, bias) = (b.weights("head.w", &[5, 7]), b.weights("head.b", &[5]));
    vec![b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])]
}

/// The branch that is taken has a layer, a normalisation, and a branch of its own.
fn decided_layers(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let positive = condition(b, x);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let is_six = has_extent(b, x, 1, 6);
    let weights = [("w", vec![6, 6, 1, 1]), ("scale", vec![6]), ("shift", vec![6])];
    let [w, scale, shift] = weights.map(|(name, dims)| {
        let value = b.weights(name, &dims);
        b.graph().initializer(value).unwrap().clone()
    });
    let mut branch = Graph::new("then_branch");
    let [inner, positive] = [x, positive].map(|value| capture(b.graph(), &mut branch, value));
    let constants = [("w", w), ("scale", scale), ("shift", shift)];
    let [w, scale, shift] = constants.map(|(name, tensor)| branch.add_initializer(name, tensor));
    let y = branch.add_op("Conv", "conv", &[inner, w], []);
    let y = branch.add_op("InstanceNormalization", "normal", &[y, scale, shift], []);
    let inner = ["Relu", "Tanh"].map(|op| {
        let mut graph = Graph::new(op);
        let value = capture(&branch, &mut graph, y);
        graph.outputs = vec![graph.add_op(op, "result", &[value], [])];
        Attribute::Graph(Box::new(graph))
    });
    let [yes, no] = inner;
    let branches = [("then_branch", yes), ("else_branch", no)];
    branch.outputs = vec![branch.add_op("If", "inner", &[positive], branches)];
    let mut other = Graph::new("else_branch");
    let inner = capture(b.graph(), &mut other, x);
    other.outputs = vec![other.add_op("Identity", "same", &[inner], [])];
    let branches = [("then_branch", branch), ("else_branch", other)];
    let branches = branches.map(|(name, graph)| (name, Attribute::Graph(Box::new(graph))));
    let x = b.op("If", "outer", &[is_six], branches);
    vec![rest(b, x, 6)]
}

fn one_step(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let w = b.weights("w", &[6, 6, 1, 1]);
    let mut body = Graph::new("body");
    let scalar = |dtype| TensorType { dtype, shape: Some(Vec::new()) };
    body.add_input("count", scalar(DataType::I64));
    let goes_on = body.add_input("goes_on", scalar(DataType::Bool));
    let state = untyped(&mut body, "state");
    let w = capture(b.graph(), &mut body, w);
    let still = body.add_op("Identity", "still", &[goes_on], []);
    let y = body.add_op("Conv", "step", &[state, w], []);
    let next = body.add_op("LeakyRelu", "next", &[y], []);
    body.outputs = vec![still, next];
    let result = repeated(b, body, x, 1);
    vec![rest(b, result, 6)]
}
