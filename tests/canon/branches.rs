//! `If` and `Loop` as exporters write them where an extent or a flag decides.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Graph, Node, Tensor, TensorType, ValueId, ValueKind};

use super::Build;

/// Name, operator set of the original, operators of the canonical form, and the graph.
#[rustfmt::skip]
pub const ROWS: &[(&str, i64, &[&str], Build)] = &[
    ("a squeeze that asks for the extent", 13, &["Relu", "Flatten", "Gemm"], asked_squeeze),
    ("an expansion that asks for the rank", 13, &["Relu", "Neg"], asked_rank),
    ("a branch in a branch, by logic of constants", 13, &["Relu", "Abs", "Neg"], nested),
    ("a branch that returns what is outside", 13, &["Relu", "Neg"], passed_on),
    ("a branch that returns a value twice and a constant", 13, &["Tanh", "Sum"], repeated_output),
    ("a branch whose names are taken", 13, &["Relu", "Relu", "Tanh", "Sum"], taken_names),
    ("a branch for more tokens than none", 13, &["Neg"], symbolic),
    ("a branch for one sample", 13, &["Shape", "Gather", "Equal", "If"], open_extent),
    ("a branch for as many tokens as samples", 13,
        &["Shape", "Gather", "Gather", "Equal", "If"], two_extents),
    ("a loop of one step", 13, &["Tanh", "Unsqueeze", "Add"], one_step),
    ("a loop of no step", 13, &["Relu", "Neg"], no_step),
    ("a loop of two steps", 13, &["Loop", "Add"], two_steps),
];

fn truth(holds: bool) -> Tensor {
    Tensor { dtype: DataType::Bool, dims: vec![], data: vec![u8::from(holds)].into() }
}

/// An extent, as a scalar.
fn extent(b: &mut GraphBuilder, x: ValueId, axis: i64) -> ValueId {
    let shape = b.op("Shape", "shape", &[x], []);
    let axis = b.constant("axis", Tensor::from_i64(vec![], &[axis]));
    b.op("Gather", "extent", &[shape, axis], [("axis", 0.into())])
}

fn number(b: &mut GraphBuilder, number: i64) -> ValueId {
    b.constant("number", Tensor::from_i64(vec![], &[number]))
}

fn capture(outer: &Graph, inner: &mut Graph, value: ValueId) -> ValueId {
    inner.add_value(&outer.value(value).name, ValueKind::Captured(value), None)
}

/// A branch with one node, which reads a value of the graph around it.
fn one(outer: &Graph, op: &str, value: ValueId) -> Graph {
    let mut branch = Graph::new(op);
    let inner = capture(outer, &mut branch, value);
    branch.outputs = vec![branch.add_op(op, "result", &[inner], [])];
    branch
}

fn either(b: &mut GraphBuilder, condition: ValueId, yes: Graph, no: Graph) -> ValueId {
    let branches = [("then_branch", yes), ("else_branch", no)];
    let branches = branches.map(|(name, graph)| (name, Attribute::Graph(Box::new(graph))));
    b.op("If", "decided", &[condition], branches)
}

/// PyTorch's `squeeze(2)` of a value with a last axis of one.
fn asked_squeeze(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4,1");
    let x = b.op("Relu", "relu", &[x], []);
    let (extent, one_) = (extent(b, x, 2), number(b, 1));
    let condition = b.op("Equal", "is_one", &[extent, one_], []);
    let mut yes = Graph::new("yes");
    let inner = capture(b.graph(), &mut yes, x);
    let axes = Attribute::Tensor(Tensor::from_i64(vec![1], &[2]));
    let axes = yes.add_op("Constant", "axes", &[], [("value", axes)]);
    yes.outputs = vec![yes.add_op("Squeeze", "squeezed", &[inner, axes], [])];
    let no = one(b.graph(), "Identity", x);
    let x = either(b, condition, yes, no);
    let w = b.weights("w", &[3, 4]);
    b.op("Gemm", "fc", &[x, w], [("transB", 1.into())])
}

/// The condition is a difference of ranks, cast to a boolean.
fn asked_rank(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4");
    let x = b.op("Relu", "relu", &[x], []);
    let shape = b.op("Shape", "shape", &[x], []);
    let rank = b.op("Size", "rank", &[shape], []);
    let two = number(b, 2);
    let difference = b.op("Sub", "difference", &[rank, two], []);
    let condition = b.op("Cast", "differs", &[difference], [("to", 9.into())]);
    let (yes, no) = (one(b.graph(), "Abs", x), one(b.graph(), "Neg", x));
    either(b, condition, yes, no)
}

/// The inner condition is a `Constant` node of the outer branch.
fn nested(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4");
    let x = b.op("Relu", "relu", &[x], []);
    let [yes, no] = [true, false].map(|holds| b.constant("flag", truth(holds)));
    let both = b.op("And", "both", &[yes, no], []);
    let neither = b.op("Not", "neither", &[both], []);
    let condition = b.op("Xor", "outer", &[neither, no], []);
    let mut outer = one(b.graph(), "Abs", x);
    let absolute = outer.outputs[0];
    let flag = Attribute::Tensor(truth(false));
    let flag = outer.add_op("Constant", "inner", &[], [("value", flag)]);
    let inner = ["Exp", "Neg"].map(|op| Attribute::Graph(Box::new(one(&outer, op, absolute))));
    let [then, other] = inner;
    let branches = [("then_branch", then), ("else_branch", other)];
    outer.outputs = vec![outer.add_op("If", "again", &[flag], branches)];
    let other = one(b.graph(), "Exp", x);
    either(b, condition, outer, other)
}

fn passed_on(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4");
    let x = b.op("Relu", "relu", &[x], []);
    let condition = b.constant("flag", truth(false));
    let (yes, no) = (one(b.graph(), "Abs", x), one(b.graph(), "Identity", x));
    let y = either(b, condition, yes, no);
    b.op("Neg", "negative", &[y], [])
}

/// An `If` with several outputs.
fn several(b: &mut GraphBuilder, condition: ValueId, branches: [Graph; 2], outputs: &[ValueId]) {
    let [yes, no] = branches.map(|graph| Attribute::Graph(Box::new(graph)));
    b.graph().add_node(Node {
        name: "several".to_owned(),
        op: "If".to_owned(),
        inputs: vec![Some(condition)],
        outputs: outputs.iter().copied().map(Some).collect(),
        attributes: [("then_branch".to_owned(), yes), ("else_branch".to_owned(), no)].into(),
        ..Node::default()
    });
}

fn repeated_output(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4");
    let condition = b.constant("flag", truth(true));
    let branches = ["Tanh", "Exp"].map(|op| {
        let mut branch = one(b.graph(), op, x);
        let numbers = ndarray::arr1(&[1.0f32, 2.0, 3.0, 4.0]).into_dyn();
        let constant = branch.add_initializer("numbers", Tensor::from_f32(&numbers));
        let first = branch.outputs[0];
        branch.outputs = vec![first, first, constant];
        branch
    });
    let outputs =
        ["one", "two", "three"].map(|name| b.graph().add_value(name, ValueKind::Detached, None));
    several(b, condition, branches, &outputs);
    b.op("Sum", "sum", &outputs, [])
}

/// The branch has a node and a value with names of the main graph, and so has another branch.
fn taken_names(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4");
    let result = b.op("Relu", "result", &[x], []);
    let condition = b.constant("flag", truth(true));
    let parts = ["Relu", "Tanh"].map(|op| {
        let (yes, no) = (one(b.graph(), op, x), one(b.graph(), "Abs", x));
        either(b, condition, yes, no)
    });
    b.op("Sum", "sum", &[result, parts[0], parts[1]], [])
}

/// There are more tokens with one more token, whatever their number.
fn symbolic(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,tokens");
    let (extent, one_) = (extent(b, x, 1), number(b, 1));
    let more = b.op("Add", "more", &[extent, one_], []);
    let greater = b.op("Greater", "greater", &[more, extent], []);
    let zero = number(b, 0);
    let natural = b.op("GreaterOrEqual", "natural", &[extent, zero], []);
    let condition = b.op("And", "condition", &[greater, natural], []);
    let (yes, no) = (one(b.graph(), "Neg", x), one(b.graph(), "Abs", x));
    either(b, condition, yes, no)
}

fn open_extent(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4");
    let (extent, one_) = (extent(b, x, 0), number(b, 1));
    let condition = b.op("Equal", "is_one", &[extent, one_], []);
    let (yes, no) = (one(b.graph(), "Neg", x), one(b.graph(), "Abs", x));
    either(b, condition, yes, no)
}

fn two_extents(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,tokens");
    let shape = b.op("Shape", "shape", &[x], []);
    let [first, second] = [0, 1].map(|axis| {
        let axis = number(b, axis);
        b.op("Gather", "extent", &[shape, axis], [("axis", 0.into())])
    });
    let condition = b.op("Equal", "is_square", &[first, second], []);
    let (yes, no) = (one(b.graph(), "Neg", x), one(b.graph(), "Abs", x));
    either(b, condition, yes, no)
}

/// A loop that replaces its state by the hyperbolic tangent, and collects the states.
fn looped(b: &mut GraphBuilder, steps: i64, start: ValueId, collects: bool) -> Vec<ValueId> {
    let mut body = Graph::new("body");
    let scalar = |dtype| TensorType { dtype, shape: Some(Vec::new()) };
    body.add_input("count", scalar(DataType::I64));
    let goes_on = body.add_input("goes_on", scalar(DataType::Bool));
    let state = body.add_input("state", TensorType { dtype: DataType::F32, shape: None });
    let still = body.add_op("Identity", "still", &[goes_on], []);
    let next = body.add_op("Tanh", "next", &[state], []);
    let each = body.add_op("Identity", "each", &[next], []);
    body.outputs = [still, next, each][..if collects { 3 } else { 2 }].to_vec();
    let limit = number(b, steps);
    let goes_on = b.constant("goes_on", truth(true));
    let names = &["last", "all"][..body.outputs.len() - 1];
    let outputs: Vec<ValueId> =
        names.iter().map(|name| b.graph().add_value(name, ValueKind::Detached, None)).collect();
    b.graph().add_node(Node {
        name: "looped".to_owned(),
        op: "Loop".to_owned(),
        inputs: vec![Some(limit), Some(goes_on), Some(start)],
        outputs: outputs.iter().copied().map(Some).collect(),
        attributes: [("body".to_owned(), Attribute::Graph(Box::new(body)))].into(),
        ..Node::default()
    });
    outputs
}

fn one_step(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4");
    let outputs = looped(b, 1, x, true);
    b.op("Add", "sum", &outputs, [])
}

fn no_step(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4");
    let x = b.op("Relu", "relu", &[x], []);
    let outputs = looped(b, 0, x, false);
    b.op("Neg", "negative", &outputs, [])
}

fn two_steps(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4");
    let outputs = looped(b, 2, x, true);
    b.op("Add", "sum", &outputs, [])
}
