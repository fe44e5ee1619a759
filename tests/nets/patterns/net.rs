//! Small nets, each with one pattern that exporters write.

use onnx_zip::ir::builder::{GraphBuilder, shape};
use onnx_zip::ir::{
    Attribute, DataType, Graph, Model, Node, Tensor, TensorType, ValueId, ValueKind,
};

/// A pattern: its name, and how its net is built.
pub type Pattern = (&'static str, fn(&mut GraphBuilder) -> Vec<ValueId>);

/// Patterns that need no file of their own.
pub const PATTERNS: &[Pattern] = &[
    ("gated", gated),
    ("gated depthwise", gated_depthwise),
    ("modulated", modulated),
    ("maximum of interleaved halves", maxout),
    ("group normalisation in three nodes", group_norm),
    ("positions to channels", space_to_depth),
    ("channels to positions", depth_to_space),
    ("channels to positions, rows first", depth_to_space_by_rows),
    ("computed bias", computed_bias),
    ("weights on the left", left),
    ("hidden outputs", hidden_outputs),
    ("constant output", constant_output),
    ("integer, boolean and double outputs", typed_outputs),
    ("samples last", samples_last),
    ("scalar input", scalar_input),
    ("twins", twins),
    ("weights in few bits", few_bits),
    ("branch", branch),
    ("branch of three layers", branch_of_three),
    ("loop", looped),
    ("scan", scanned),
];

/// The net of a pattern, with weights of this seed.
pub fn net(pattern: &Pattern, seed: usize) -> Model {
    let newer = [super::stored::PATTERNS, super::resized::NEWER];
    let is_new = newer.iter().copied().flatten().any(|own| own.0 == pattern.0);
    let mut b = GraphBuilder::new("net", if is_new { 21 } else { 17 });
    // An unused draw changes the random weights that follow.
    b.weights("unused", &[seed + 1]);
    let outputs = (pattern.1)(&mut b);
    b.build(&outputs)
}

fn float(dims: &str) -> TensorType {
    TensorType { dtype: DataType::F32, shape: Some(shape(dims)) }
}

/// A batch of small pictures.
pub fn images(b: &mut GraphBuilder) -> ValueId {
    b.input("x", "n,3,8,8")
}

/// A convolution with a bias.
pub fn conv(b: &mut GraphBuilder, name: &str, x: ValueId, out: usize, inputs: usize) -> ValueId {
    let w = b.weights(&format!("{name}.w"), &[out, inputs, 3, 3]);
    let bias = b.weights(&format!("{name}.b"), &[out]);
    b.op("Conv", name, &[x, w, bias], [("pads", [1, 1, 1, 1].into())])
}

/// A product with a matrix, over the last axis.
pub fn dense(b: &mut GraphBuilder, name: &str, x: ValueId, dims: [usize; 2]) -> ValueId {
    let w = b.weights(&format!("{name}.w"), &dims);
    b.op("MatMul", name, &[x, w], [])
}

/// A reshape to these sizes.
pub fn reshape(b: &mut GraphBuilder, x: ValueId, sizes: &[i64]) -> ValueId {
    let sizes = b.ints("sizes", sizes);
    b.op("Reshape", "reshape", &[x, sizes], [])
}

/// A transpose.
pub fn transpose(b: &mut GraphBuilder, x: ValueId, perm: &[i64]) -> ValueId {
    b.op("Transpose", "transpose", &[x], [("perm", Attribute::Ints(perm.to_vec()))])
}

/// An activation.
pub fn relu(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    b.op("LeakyRelu", "relu", &[x], [])
}

/// Two more layers, pooling and five scores.
pub fn rest(b: &mut GraphBuilder, x: ValueId, channels: usize) -> ValueId {
    let x = conv(b, "middle", x, 6, channels);
    let x = relu(b, x);
    let x = b.op("GlobalAveragePool", "pool", &[x], []);
    let x = b.op("Flatten", "flat", &[x], []);
    let (w, bias) = (b.weights("head.w", &[5, 6]), b.weights("head.b", &[5]));
    b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])
}

/// Both halves of the channels.
pub fn halves(b: &mut GraphBuilder, x: ValueId, half: i64) -> [ValueId; 2] {
    let axis = b.ints("channels", &[1]);
    [(0, half), (half, 2 * half)].map(|(start, end)| {
        let (start, end) = (b.ints("start", &[start]), b.ints("end", &[end]));
        b.op("Slice", "half", &[x, start, end, axis], [])
    })
}

fn gated(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "double", x, 12, 3);
    let [values, gates] = halves(b, x, 6);
    let gates = b.op("Sigmoid", "gates", &[gates], []);
    let x = b.op("Mul", "gated", &[values, gates], []);
    vec![rest(b, x, 6)]
}

fn gated_depthwise(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "double", x, 12, 3);
    let (w, bias) = (b.weights("each.w", &[12, 1, 3, 3]), b.weights("each.b", &[12]));
    let x = b.op("Conv", "each", &[x, w, bias], [("group", 12.into())]);
    let [values, gates] = halves(b, x, 6);
    let x = b.op("Mul", "gated", &[values, gates], []);
    vec![rest(b, x, 6)]
}

fn modulated(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, z) = (images(b), b.input("z", "n,4"));
    let (w, bias) = (b.weights("film.w", &[12, 4]), b.weights("film.b", &[12]));
    let film = b.op("Gemm", "film", &[z, w, bias], [("transB", 1.into())]);
    let axes = b.ints("axes", &[2, 3]);
    let [scale, shift] =
        halves(b, film, 6).map(|half| b.op("Unsqueeze", "aligned", &[half, axes], []));
    let x = conv(b, "first", x, 6, 3);
    let x = b.op("Mul", "scaled", &[x, scale], []);
    let x = b.op("Add", "shifted", &[x, shift], []);
    let x = relu(b, x);
    vec![rest(b, x, 6)]
}

fn maxout(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "double", x, 12, 3);
    let parts = [0, 1].map(|first| {
        let indices: Vec<i64> = (0..6).map(|i| 2 * i + first).collect();
        let indices = b.ints("indices", &indices);
        b.op("Gather", "part", &[x, indices], [("axis", 1.into())])
    });
    let x = b.op("Max", "largest", &parts, []);
    vec![rest(b, x, 6)]
}

fn group_norm(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let (groups, back) = (b.ints("groups", &[0, 2, -1]), b.ints("back", &[-1, 6, 8, 8]));
    let grouped = b.op("Reshape", "grouped", &[x, groups], []);
    let (one, zero) = (b.positive("one", &[2]), b.weights("zero", &[2]));
    let x = b.op("InstanceNormalization", "normal", &[grouped, one, zero], []);
    let x = b.op("Reshape", "ungrouped", &[x, back], []);
    vec![scaled(b, x)]
}

/// Scales and shifts each of six channels; an activation and the rest of a net.
pub fn scaled(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let (scale, shift) = (b.positive("scale", &[6, 1, 1]), b.weights("shift", &[6, 1, 1]));
    let x = b.op("Mul", "scaled", &[x, scale], []);
    let x = b.op("Add", "shifted", &[x, shift], []);
    let x = relu(b, x);
    rest(b, x, 6)
}

fn space_to_depth(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 4, 3);
    let x = relu(b, x);
    let x = b.op("SpaceToDepth", "positions", &[x], [("blocksize", 2.into())]);
    vec![rest(b, x, 16)]
}

fn depth_to_space(b: &mut GraphBuilder) -> Vec<ValueId> {
    spread(b, "DCR")
}

fn depth_to_space_by_rows(b: &mut GraphBuilder) -> Vec<ValueId> {
    spread(b, "CRD")
}

fn spread(b: &mut GraphBuilder, mode: &str) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 16, 3);
    let attributes = [("blocksize", 2.into()), ("mode", mode.into())];
    let x = b.op("DepthToSpace", "channels", &[x], attributes);
    let x = relu(b, x);
    vec![rest(b, x, 4)]
}

fn computed_bias(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, z) = (b.input("x", "1,3,8,8"), b.input("z", "1,4"));
    let (w, bias) = (b.weights("bias.w", &[6, 4]), b.weights("bias.b", &[6]));
    let bias = b.op("Gemm", "bias", &[z, w, bias], [("transB", 1.into())]);
    let flat = b.ints("flat", &[-1]);
    let bias = b.op("Reshape", "vector", &[bias, flat], []);
    let w = b.weights("first.w", &[6, 3, 3, 3]);
    let x = b.op("Conv", "first", &[x, w, bias], []);
    let x = relu(b, x);
    vec![rest(b, x, 6)]
}

fn left(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "6,4");
    let (w, bias) = (b.weights("first.w", &[6, 8]), b.weights("first.b", &[8, 1]));
    let x = b.op("Gemm", "first", &[w, x, bias], [("transA", 1.into())]);
    let x = relu(b, x);
    let w = b.weights("second.w", &[7, 8]);
    let x = b.op("MatMul", "second", &[w, x], []);
    let x = relu(b, x);
    let w = b.weights("head.w", &[5, 7]);
    vec![b.op("MatMul", "head", &[w, x], [])]
}

fn hidden_outputs(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let features = conv(b, "features", x, 6, 3);
    let gates = b.op("Sigmoid", "gates", &[features], []);
    let x = b.op("Mul", "gated", &[features, gates], []);
    vec![rest(b, x, 6), features, gates]
}

fn constant_output(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let anchors = b.weights("anchors", &[4, 2]);
    vec![rest(b, x, 6), anchors]
}

fn typed_outputs(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let scores = rest(b, x, 6);
    let class = b.op("ArgMax", "class", &[scores], [("axis", 1.into()), ("keepdims", 0.into())]);
    let zero = b.scalar("zero", 0.0);
    let sure = b.op("Greater", "sure", &[scores, zero], []);
    let double = b.op("Cast", "double", &[scores], [("to", 11.into())]);
    let byte = b.op("Cast", "byte", &[sure], [("to", i64::from(DataType::U16.code()).into())]);
    vec![scores, class, sure, double, byte]
}

fn samples_last(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "2,3,8,8");
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let scores = rest(b, x, 6);
    vec![b.op("Transpose", "turned", &[scores], [("perm", [1, 0].into())])]
}

fn scalar_input(b: &mut GraphBuilder) -> Vec<ValueId> {
    let threshold = b.input("threshold", "");
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let scores = rest(b, x, 6);
    vec![b.op("Sub", "above", &[scores, threshold], [])]
}

/// One layer for two inputs.
fn twins(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, z) = (images(b), b.input("z", "n,3,8,8"));
    let (w, bias) = (b.weights("first.w", &[6, 3, 3, 3]), b.weights("first.b", &[6]));
    let [one, two] = [x, z].map(|x| {
        let y = b.op("Conv", "first", &[x, w, bias], [("pads", [1, 1, 1, 1].into())]);
        relu(b, y)
    });
    let x = b.op("Sub", "difference", &[one, two], []);
    vec![rest(b, x, 6)]
}

fn few_bits(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let floats = b.weights("drawn", &[6, 3, 3, 3]);
    let floats = b.graph().initializer(floats).unwrap().to_f32().unwrap();
    let codes = floats.mapv(|w| (w * 200.0) as i64);
    let codes = b.constant("codes", Tensor::from_ints(DataType::I8, &codes).unwrap());
    let steps = b.positive("steps", &[6]);
    let w = b.op("DequantizeLinear", "w", &[codes, steps], [("axis", 0.into())]);
    let bias = b.weights("bias", &[6]);
    let x = b.op("Conv", "first", &[x, w, bias], [("pads", [1, 1, 1, 1].into())]);
    let x = relu(b, x);
    vec![rest(b, x, 6)]
}

/// A sub-graph that captures `outer` and computes `op` of them.
fn body(b: &mut GraphBuilder, name: &str, op: &str, outer: &[ValueId]) -> Graph {
    let mut graph = Graph::new(name);
    let mut captured = Vec::new();
    for value in outer {
        let outer_name = b.graph().value(*value).name.clone();
        captured.push(graph.add_value(&outer_name, ValueKind::Captured(*value), None));
    }
    let result = graph.add_op(op, &format!("{name}.result"), &captured, []);
    graph.set_type(result, Some(float("n,6,8,8")));
    graph.outputs = vec![result];
    graph
}

fn branch(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let [one, two] = ["one", "two"].map(|name| {
        let y = conv(b, name, x, 6, 3);
        relu(b, y)
    });
    let sum = b.op("ReduceSum", "sum", &[x], [("keepdims", 0.into())]);
    let zero = b.scalar("zero", 0.0);
    let positive = b.op("Greater", "positive", &[sum, zero], []);
    let (yes, no) = (body(b, "yes", "Sub", &[one, two]), body(b, "no", "Mul", &[one, two]));
    let branches = [("then_branch", yes), ("else_branch", no)];
    let branches = branches.map(|(name, graph)| (name, Attribute::Graph(Box::new(graph))));
    let x = b.op("If", "branch", &[positive], branches);
    vec![rest(b, x, 6)]
}

/// Branches that combine three layers, each in an order of its own.
fn branch_of_three(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let [one, two, three] = ["one", "two", "three"].map(|name| {
        let y = conv(b, name, x, 6, 3);
        relu(b, y)
    });
    let sum = b.op("ReduceSum", "sum", &[x], [("keepdims", 0.into())]);
    let zero = b.scalar("zero", 0.0);
    let positive = b.op("Greater", "positive", &[sum, zero], []);
    let yes = body(b, "yes", "Sub", &[three, one]);
    let no = body(b, "no", "Sum", &[two, three, one]);
    let branches = [("then_branch", yes), ("else_branch", no)];
    let branches = branches.map(|(name, graph)| (name, Attribute::Graph(Box::new(graph))));
    let x = b.op("If", "branch", &[positive], branches);
    vec![rest(b, x, 6)]
}

fn looped(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let [start, step] = ["start", "step"].map(|name| {
        let y = conv(b, name, x, 6, 3);
        relu(b, y)
    });
    let mut graph = Graph::new("body");
    let scalar = |dtype| TensorType { dtype, shape: Some(Vec::new()) };
    graph.add_input("count", scalar(DataType::I64));
    let go_on = graph.add_input("go_on", scalar(DataType::Bool));
    let state = graph.add_input("state", float("n,6,8,8"));
    let outer = b.graph().value(step).name.clone();
    let step = graph.add_value(&outer, ValueKind::Captured(step), None);
    let next = graph.add_op("Add", "next", &[state, step], []);
    graph.set_type(next, Some(float("n,6,8,8")));
    let go_on = graph.add_op("Identity", "still", &[go_on], []);
    graph.set_type(go_on, Some(scalar(DataType::Bool)));
    graph.outputs = vec![go_on, next];
    let result = three_times(b, graph, start);
    vec![rest(b, result, 6)]
}

/// The state of a loop after three steps.
pub fn three_times(b: &mut GraphBuilder, body: Graph, start: ValueId) -> ValueId {
    repeated(b, body, start, 3)
}

/// The state of a loop after some steps.
pub fn repeated(b: &mut GraphBuilder, body: Graph, start: ValueId, steps: i64) -> ValueId {
    let times = b.constant("times", Tensor::from_i64(Vec::new(), &[steps]));
    let result = b.graph().add_value("looped", ValueKind::Detached, None);
    b.graph().add_node(Node {
        name: "looped".to_owned(),
        op: "Loop".to_owned(),
        inputs: vec![Some(times), None, Some(start)],
        outputs: vec![Some(result)],
        attributes: [("body".to_owned(), Attribute::Graph(Box::new(body)))].into(),
        ..Node::default()
    });
    result
}

fn scanned(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, z) = (b.input("x", "6,2,4"), b.input("z", "6,4"));
    let (w, first) = (b.weights("w", &[4, 8]), b.weights("first.w", &[8, 4]));
    let first = b.op("Gemm", "first", &[z, first], [("transB", 1.into())]);
    let (start, end) = (b.ints("start", &[0]), b.ints("end", &[2]));
    let first = b.op("Slice", "state", &[first, start, end, start], []);
    let mut graph = Graph::new("body");
    let state = graph.add_input("state", float("2,8"));
    let step = graph.add_input("step", float("2,4"));
    let w = graph.add_value("w", ValueKind::Captured(w), None);
    let product = graph.add_op("MatMul", "product", &[step, w], []);
    let next = graph.add_op("Add", "next", &[state, product], []);
    graph.set_type(next, Some(float("2,8")));
    let each = graph.add_op("Tanh", "each", &[next], []);
    graph.set_type(each, Some(float("2,8")));
    graph.outputs = vec![next, each];
    let outputs = ["last", "all"].map(|name| b.graph().add_value(name, ValueKind::Detached, None));
    let attributes = [
        ("body".to_owned(), Attribute::Graph(Box::new(graph))),
        ("num_scan_inputs".to_owned(), Attribute::Int(1)),
    ];
    b.graph().add_node(Node {
        name: "scan".to_owned(),
        op: "Scan".to_owned(),
        inputs: vec![Some(first), Some(x)],
        outputs: outputs.map(Some).to_vec(),
        attributes: attributes.into(),
        ..Node::default()
    });
    b.graph().set_type(outputs[0], Some(float("2,8")));
    let (w, bias) = (b.weights("middle.w", &[7, 8]), b.weights("middle.b", &[7]));
    let x = b.op("Gemm", "middle", &[outputs[0], w, bias], [("transB", 1.into())]);
    let x = relu(b, x);
    let (w, bias) = (b.weights("head.w", &[5, 7]), b.weights("head.b", &[5]));
    vec![b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])]
}
