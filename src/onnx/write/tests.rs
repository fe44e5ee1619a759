use bytes::Bytes;

use super::*;
use crate::ir::{Attribute, DataType, Dim, Graph, Node, Tensor, TensorType, ValueId, ValueKind};
use crate::onnx::decode;

fn model(graph: Graph) -> Model {
    Model {
        name: "m".into(),
        ir_version: 10,
        opsets: [(String::new(), 21), ("com.example".into(), 1)].into(),
        producer: "onnx-zip".into(),
        metadata: [("task".to_owned(), "a=b".to_owned())].into(),
        functions: Vec::new(),
        defaults: Vec::new(),
        graph,
    }
}

fn reread(model: &Model) -> Model {
    decode(encode(model).unwrap().into(), None, "m").unwrap()
}

fn float(shape: &[usize]) -> TensorType {
    let shape = shape.iter().map(|&d| Dim::Known(d)).collect();
    TensorType { dtype: DataType::F32, shape: Some(shape) }
}

fn scalar(dtype: DataType, data: &'static [u8]) -> Tensor {
    Tensor { dtype, dims: Vec::new(), data: Bytes::from_static(data) }
}

fn call(op: &str, inputs: &[Option<ValueId>], outputs: &[Option<ValueId>]) -> Node {
    Node {
        name: op.to_lowercase(),
        op: op.into(),
        inputs: inputs.to_vec(),
        outputs: outputs.to_vec(),
        ..Node::default()
    }
}

/// `y = op(x)` with nothing declared about the types of values.
fn unary(op: &str) -> (Graph, ValueId, ValueId) {
    let mut graph = Graph::new("g");
    let x = graph.add_input("x", float(&[2]));
    let y = graph.add_op(op, "y", &[x], []);
    graph.outputs.push(y);
    (graph, x, y)
}

#[test]
fn a_model_survives_encoding() {
    let mut g = Graph::new("g");
    let shape = Some(vec![Dim::Symbol("batch".into()), Dim::Unknown, Dim::Known(3)]);
    let x = g.add_input("x", TensorType { dtype: DataType::F32, shape });
    let w = g.add_initializer("w", Tensor::from_i64(vec![2], &[1, -1]));
    let a = g.add_op("Reshape", "a", &[x, w], []);
    g.set_type(a, Some(TensorType { dtype: DataType::F32, shape: None }));
    let b = g.add_op("Relu", "b", &[a], []);
    g.set_type(b, Some(float(&[3])));
    g.outputs = vec![b, a];
    let model = model(g);
    assert_eq!(reread(&model), model);
    assert_eq!(encode(&model).unwrap(), encode(&reread(&model)).unwrap());
}

#[test]
fn tensors_of_every_type_survive() {
    let strings = crate::onnx::proto::TensorProto {
        string_data: vec![b"a\xff".to_vec()],
        ..Default::default()
    };
    let mut tensors: Vec<Tensor> = [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16]
        .map(DataType::from_code)
        .map(|dtype| {
            let bytes: Vec<u8> = (1..=2 * dtype.size().unwrap() as u8).collect();
            Tensor { dtype, dims: vec![2, 1], data: bytes.into() }
        })
        .into();
    tensors.push(scalar(DataType::Other(8), strings.encode_to_vec().leak()));
    tensors.push(scalar(DataType::Other(14), &[1; 8]));
    tensors.push(scalar(DataType::Other(15), &[1; 16]));
    tensors.push(scalar(DataType::Other(17), &[0x38]));
    tensors.push(Tensor { dims: vec![3], ..scalar(DataType::Other(22), &[0x21, 0x03]) });
    tensors.push(Tensor { dims: vec![5], ..scalar(DataType::Other(25), &[0xe4, 0x01]) });
    tensors.push(Tensor { dims: vec![0, 4], ..scalar(DataType::F32, &[]) });
    let mut g = Graph::new("g");
    let ids: Vec<ValueId> = tensors.iter().map(|t| g.add_initializer("t", t.clone())).collect();
    let outputs: Vec<ValueId> =
        ids.iter().map(|_| g.add_value("y", ValueKind::Detached, None)).collect();
    for ((id, output), tensor) in ids.into_iter().zip(&outputs).zip(tensors) {
        let mut node = call("Identity", &[Some(id)], &[Some(*output)]);
        node.name = g.value(*output).name.clone();
        node.attributes.insert("copy".into(), Attribute::Tensor(tensor));
        g.add_node(node);
    }
    g.outputs = outputs;
    let model = model(g);
    assert_eq!(reread(&model), model);
}

#[test]
fn attributes_of_every_kind_survive() {
    let (mut g, _, y) = unary("Neg");
    let node = g.producer(y).unwrap();
    let sparse = crate::onnx::proto::AttributeProto {
        name: Some("encoded".into()),
        r#type: Some(13),
        tp: Some(crate::onnx::types::encode(&float(&[1]))),
        ..Default::default()
    };
    g.edit_node(node, |node| {
        node.domain = "com.example".into();
        node.attributes = [
            ("int", Attribute::Int(-3)),
            ("float", Attribute::Float(0.5)),
            ("str", Attribute::Str(b"\xff\0".to_vec())),
            ("ints", Attribute::Ints(Vec::new())),
            ("floats", Attribute::Floats(vec![1.0, -0.0])),
            ("strs", Attribute::Strs(vec![Vec::new(), b"b".to_vec()])),
            ("tensor", Attribute::Tensor(Tensor::from_i64(vec![1], &[7]))),
            ("encoded", Attribute::Encoded(sparse.encode_to_vec())),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    });
    let model = model(g);
    assert_eq!(reread(&model), model);
}

/// `y = If(c)`, where each branch holds another `If` whose branch reads `x` of the main graph.
fn nested() -> (Graph, ValueId) {
    let mut g = Graph::new("g");
    let c = g.add_input("c", TensorType { dtype: DataType::Bool, shape: Some(Vec::new()) });
    let x = g.add_input("x", float(&[1]));
    let branch = |name: &str| {
        let mut inner = Graph::new("inner");
        let z = inner.add_value("z", ValueKind::Detached, None);
        let mut middle = Graph::new("middle");
        let out = middle.add_value("out", ValueKind::Detached, None);
        let condition = middle.add_value("c", ValueKind::Captured(c), None);
        let passed_on = middle.add_value("x", ValueKind::Captured(x), None);
        let seen = inner.add_value("x", ValueKind::Captured(passed_on), None);
        let mut neg = call("Neg", &[Some(seen)], &[Some(z)]);
        neg.name = format!("{name}.neg");
        inner.add_node(neg);
        inner.outputs = vec![z, seen];
        let mut node = call("If", &[Some(condition)], &[Some(out), None]);
        node.name = format!("{name}.if");
        node.attributes.insert("then_branch".into(), Attribute::Graph(Box::new(inner)));
        middle.add_node(node);
        middle.outputs = vec![out];
        Attribute::Graph(Box::new(middle))
    };
    let y = g.add_value("y", ValueKind::Detached, None);
    let mut node = call("If", &[Some(c)], &[Some(y)]);
    node.attributes =
        ["then_branch", "else_branch"].map(|name| (name.to_owned(), branch(name))).into();
    g.add_node(node);
    g.outputs.push(y);
    (g, x)
}

#[test]
fn captures_pass_through_every_graph_in_between() {
    let model = model(nested().0);
    assert_eq!(reread(&model), model);
}

#[test]
fn captured_values_go_by_their_present_name_and_are_never_hidden() {
    let (mut g, x) = nested();
    assert_eq!(g.rename_value(x, "z"), "z");
    let text = crate::ir::text::dump(&reread(&model(g)).graph);
    assert!(text.contains("z.1 = Neg(^z)"), "{text}");
}

#[test]
fn nodes_are_written_in_topological_order() {
    let (mut g, x, y) = unary("Neg");
    let first = g.add_op("Abs", "first", &[x], []);
    let node = g.producer(y).unwrap();
    g.edit_node(node, |n| n.inputs = vec![Some(first)]);
    let ops: Vec<String> = to_proto(&model(g))
        .unwrap()
        .graph
        .unwrap()
        .node
        .into_iter()
        .map(|n| n.op_type.unwrap())
        .collect();
    assert_eq!(ops, ["Abs", "Neg"]);
}

#[test]
fn left_out_arguments_keep_their_places() {
    let mut g = Graph::new("g");
    let x = g.add_input("x", float(&[2]));
    let y = g.add_value("y", ValueKind::Detached, None);
    g.add_node(call("Op", &[None, Some(x), None], &[None, Some(y), None]));
    g.outputs.push(y);
    let node = to_proto(&model(g)).unwrap().graph.unwrap().node.remove(0);
    assert_eq!(node.input, ["", "x"]);
    assert_eq!(node.output, ["", "y", ""]);
}

#[test]
fn only_initializers_in_use_are_written() {
    let (mut g, x, _) = unary("Neg");
    g.add_initializer("unused", Tensor::from_i64(vec![1], &[1]));
    let used = g.add_initializer("used", Tensor::from_i64(vec![1], &[1]));
    let z = g.add_op("Add", "z", &[x, used], []);
    g.outputs.push(z);
    let mut model = model(g);
    let names = |model: &Model| {
        let graph = to_proto(model).unwrap().graph.unwrap();
        let initializers: Vec<String> =
            graph.initializer.iter().map(|t| t.name().to_owned()).collect();
        let inputs: Vec<String> = graph.input.iter().map(|i| i.name().to_owned()).collect();
        (initializers.join(" "), inputs.join(" "))
    };
    assert_eq!(names(&model), ("used".into(), "x".into()));
    model.ir_version = 3;
    assert_eq!(names(&model), ("used".into(), "x used".into()));
    assert_eq!(reread(&model).graph.inputs.len(), 1);
}

#[test]
fn values_without_origin_are_errors_that_name_the_node() {
    let (mut g, x, y) = unary("Neg");
    let z = g.add_op("Abs", "z", &[y], []);
    g.outputs.push(z);
    let producer = g.producer(y).unwrap();
    let mut removed = g.clone();
    removed.remove_node(producer);
    removed.outputs = vec![z];
    let mut unlisted = g.clone();
    unlisted.inputs.retain(|id| *id != x);
    let mut orphan = g;
    orphan.add_value("ghost", ValueKind::Captured(x), None);
    orphan.outputs.push(orphan.value_named("ghost").unwrap());
    for (graph, message) in [
        (removed, "m: node 'z': 'y' is read, but nothing produces it"),
        (unlisted, "m: node 'y': 'x' is read, but nothing produces it"),
        (orphan, "m: captures 'ghost', which no enclosing graph has"),
    ] {
        let error = encode(&model(graph)).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Format, message));
    }
}

#[test]
fn foreign_types_and_functions_survive() {
    let (mut g, ..) = unary("SequenceAt");
    let sequence = crate::onnx::proto::TypeProto {
        denotation: Some("kept".into()),
        ..crate::onnx::types::encode(&float(&[1]))
    };
    let sequence = crate::onnx::proto::type_proto::Sequence { elem_type: Some(Box::new(sequence)) };
    let sequence = crate::onnx::proto::type_proto::Value::SequenceType(Box::new(sequence));
    let encoded = crate::onnx::proto::TypeProto { value: Some(sequence), denotation: None };
    let s = g.add_value("s", ValueKind::Input, None);
    g.inputs.push(s);
    g.set_foreign_type(s, encoded.encode_to_vec());
    let function = FunctionProto { name: Some("f".into()), ..FunctionProto::default() };
    let model = Model { functions: vec![function.encode_to_vec()], ..model(g) };
    let again = reread(&model);
    let s = again.graph.value_named("s").unwrap();
    assert_eq!(again.graph.value(s).foreign_type, Some(encoded.encode_to_vec()));
    assert_eq!(again.functions, model.functions);
}
