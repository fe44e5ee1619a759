use super::*;
use crate::ir::{Attribute, DataType, Dim, ValueKind};
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use crate::onnx::proto::{
    AttributeProto, NodeProto, SparseTensorProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: outputs.iter().map(|&name| name.to_owned()).collect(),
        ..NodeProto::default()
    }
}

fn info(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.into()), ..ValueInfoProto::default() }
}

fn constant(name: &str) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(1),
        dims: vec![1],
        float_data: vec![1.0],
        ..TensorProto::default()
    }
}

fn attribute(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { name: Some(name.into()), g: Some(graph), ..AttributeProto::default() }
}

/// Nodes between the input `x` and the output `y`.
fn graph(nodes: Vec<NodeProto>) -> GraphProto {
    GraphProto {
        name: Some("g".into()),
        node: nodes,
        input: vec![info("x")],
        output: vec![info("y")],
        ..GraphProto::default()
    }
}

fn bytes(graph: GraphProto) -> Bytes {
    ModelProto { ir_version: Some(8), graph: Some(graph), ..ModelProto::default() }
        .encode_to_vec()
        .into()
}

fn read(graph: GraphProto) -> Result<Model> {
    decode(bytes(graph), None, "m")
}

#[track_caller]
fn assert_error(result: Result<Model>, kind: ErrorKind, message: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.kind()), (message, kind));
}

#[track_caller]
fn assert_malformed(graph: GraphProto, message: &str) {
    assert_error(read(graph), ErrorKind::Format, &format!("m: {}", with_hint(message)));
}

/// A message with its own hint, or with the one that all faults of a file have.
fn with_hint(message: &str) -> String {
    match message.contains("; ") {
        true => message.to_owned(),
        false => format!("{message}; the model is damaged; export it again"),
    }
}

#[test]
fn files_that_are_no_models_are_told_apart() {
    let valid = bytes(graph(vec![node("Relu", &["x"], &["y"])]));
    let again = "download or export the model again";
    for (content, message) in [
        (&b""[..], "the file is empty; download or export the model again"),
        (
            b"<html><body>Not found",
            "this is an HTML page, not an ONNX model; \
            download the file itself instead of its web page",
        ),
        (b"A text.\n", "this is a text file, not an ONNX model; give the binary .onnx file"),
        (
            b"PK\x03\x04",
            "this is a zip archive, not an ONNX model; unpack it; \
            a PyTorch checkpoint must be exported to ONNX",
        ),
        (b"\x08\x08", &format!("this is not an ONNX model: it has no graph; {again}")),
    ] {
        let result = decode(Bytes::copy_from_slice(content), None, "m");
        assert_error(result, ErrorKind::Format, &format!("m: {message}"));
    }
    let truncated = decode(valid.slice(..valid.len() - 1), None, "m").unwrap_err();
    assert_eq!(truncated.kind(), ErrorKind::Format);
    assert!(truncated.to_string().starts_with("m: this is not an ONNX model, or a damaged one ("));
    assert_malformed(
        graph(vec![]),
        &format!("this is not an ONNX model: it has no nodes; {again}"),
    );
    let silent = GraphProto { output: vec![], ..graph(vec![node("Relu", &["x"], &[])]) };
    assert_malformed(silent, &format!("this is not an ONNX model: it has no outputs; {again}"));
}

#[test]
fn inconsistent_graphs_are_named() {
    let relu = |from: &str, to: &str| node("Relu", &[from], &[to]);
    assert_malformed(
        graph(vec![relu("x", "y"), relu("z", "a")]),
        "node 'Relu_1': reads 'z', which nothing defines",
    );
    assert_malformed(
        graph(vec![relu("x", "y"), relu("x", "y")]),
        "node 'Relu_1': the output 'y' has the name of another value",
    );
    assert_malformed(
        graph(vec![relu("y", "x")]),
        "node 'Relu_0': the output 'x' has the name of another value",
    );
    assert_malformed(graph(vec![relu("x", "z")]), "the output 'y' is computed by no node");
    let mut twice = graph(vec![relu("x", "y")]);
    twice.output.push(info("y"));
    assert_malformed(twice, "the output 'y' is listed twice");
    assert_malformed(
        graph(vec![
            relu("x", "z"),
            node("Add", &["z", "b"], &["a"]),
            relu("a", "b"),
            relu("b", "y"),
        ]),
        "node 'Add_1': the graph has a cycle",
    );
    assert_malformed(graph(vec![node("", &["x"], &["y"])]), "node '_0': the node has no operator");
    let mut twice = node("Relu", &["x"], &["y"]);
    let alpha = AttributeProto { name: Some("a".into()), i: Some(1), ..AttributeProto::default() };
    twice.attribute = vec![alpha.clone(), alpha];
    assert_malformed(graph(vec![twice]), "node 'Relu_0': attribute 'a' is given twice");
    let nameless = GraphProto { initializer: vec![constant("")], ..graph(vec![relu("x", "y")]) };
    assert_malformed(nameless, "an initializer has no name");
    let mut same = graph(vec![relu("x", "y")]);
    same.initializer = vec![constant("w"), constant("w")];
    assert_malformed(same, "the initializer 'w' has the name of another value");
    let mut short = graph(vec![relu("x", "y")]);
    short.initializer = vec![TensorProto { dims: vec![2], ..constant("w") }];
    assert_malformed(short, "tensor 'w' of type f32 and shape [2] needs 8 bytes, but has 4");
}

#[test]
fn what_cannot_be_represented_is_unsupported() {
    let relu = || node("Relu", &["x"], &["y"]);
    let values = Some(constant("w"));
    let mut sparse = graph(vec![relu()]);
    sparse.sparse_initializer = vec![SparseTensorProto { values, ..Default::default() }];
    let lists = AttributeProto { name: Some("l".into()), ..AttributeProto::default() };
    let lists = AttributeProto { graphs: vec![GraphProto::default()], ..lists };
    for (graph, message) in [
        (sparse, "initializer 'w' is sparse; export the model with dense initializers"),
        (
            graph(vec![NodeProto { attribute: vec![lists], ..relu() }]),
            "node 'Relu_0': attribute 'l' is a list of graphs",
        ),
        (
            graph(vec![NodeProto { overload: Some("two".into()), ..relu() }]),
            "node 'Relu_0': the node calls an overload of the local function 'Relu'",
        ),
    ] {
        assert_error(read(graph), ErrorKind::Unsupported, &format!("m: {message}"));
    }
}

#[test]
fn initializers_among_the_inputs_are_constants() {
    let mut old = graph(vec![node("Add", &["x", "w"], &["y"])]);
    old.input.push(info("w"));
    old.initializer.push(constant("w"));
    let graph = read(old).unwrap().graph;
    assert_eq!(graph.inputs, [graph.value_named("x").unwrap()]);
    assert!(graph.initializer(graph.value_named("w").unwrap()).is_some());
}

#[test]
fn inputs_with_default_values_are_told_from_the_constants_of_old_files() {
    for (version, expected) in
        [(3, &[][..]), (4, &["w".to_owned()][..]), (8, &["w".to_owned()][..])]
    {
        let mut graph = graph(vec![node("Add", &["x", "w"], &["y"])]);
        graph.input.push(info("w"));
        graph.initializer = vec![constant("w"), constant("v")];
        let proto =
            ModelProto { ir_version: Some(version), graph: Some(graph), ..Default::default() };
        let model = decode(proto.encode_to_vec().into(), None, "m").unwrap();
        assert_eq!(model.defaults, expected);
    }
}

#[test]
fn nodes_get_unique_names() {
    let named =
        |name: &str, to: &str| NodeProto { name: Some(name.into()), ..node("A", &["x"], &[to]) };
    let nodes =
        vec![named("", "a"), named("n", "b"), named("n", "c"), named("A_0", "d"), named("", "y")];
    let graph = read(graph(nodes)).unwrap().graph;
    let names: Vec<&str> = graph.nodes().map(|(_, n)| n.name.as_str()).collect();
    assert_eq!(names, ["A_0_", "n", "n_2", "A_0", "A_4"]);
}

#[test]
fn nodes_may_stand_in_any_order() {
    let graph =
        read(graph(vec![node("B", &["a"], &["y"]), node("A", &["x"], &["a"])])).unwrap().graph;
    let order = graph.topological_order().unwrap();
    let ops: Vec<&str> = order.iter().map(|&id| graph.node(id).op.as_str()).collect();
    assert_eq!(ops, ["A", "B"]);
}

#[test]
fn types_come_from_value_infos_and_outputs() {
    let typed = |name: &str, dims: Vec<Option<dimension::Value>>| {
        let dim = |value| Dimension { value, denotation: None };
        let shape = Some(TensorShapeProto { dim: dims.into_iter().map(dim).collect() });
        let tensor = type_proto::Tensor { elem_type: Some(10), shape };
        let value = Some(type_proto::Value::TensorType(tensor));
        ValueInfoProto { r#type: Some(TypeProto { value, denotation: None }), ..info(name) }
    };
    let mut proto = graph(vec![node("A", &["x"], &["a"]), node("B", &["a"], &["y"])]);
    proto.output = vec![typed("y", vec![Some(dimension::Value::DimValue(4))])];
    proto.value_info = vec![
        typed("a", vec![Some(dimension::Value::DimParam("n".into())), None]),
        typed("y", vec![]),
        typed("stale", vec![]),
    ];
    let graph = read(proto).unwrap().graph;
    let shape = |name: &str| {
        let ty = graph.value(graph.value_named(name).unwrap()).ty.clone().unwrap();
        assert_eq!(ty.dtype, DataType::F16);
        ty.shape.unwrap()
    };
    assert_eq!(shape("a"), [Dim::Symbol("n".into()), Dim::Unknown]);
    assert_eq!(shape("y"), [Dim::Known(4)]);
    assert_eq!(graph.value_named("stale"), None);
}

#[test]
fn the_standard_domain_has_one_spelling() {
    let opset = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.into()),
        version: Some(version),
    };
    let mut relu = node("Relu", &["x"], &["y"]);
    relu.domain = Some("ai.onnx".into());
    let proto = ModelProto {
        opset_import: vec![opset("ai.onnx", 13), opset("ai.onnx.ml", 3), opset("", 11)],
        graph: Some(graph(vec![relu])),
        ..ModelProto::default()
    };
    let model = decode(proto.encode_to_vec().into(), None, "m").unwrap();
    assert_eq!(model.opsets, [(String::new(), 13), ("ai.onnx.ml".to_owned(), 3)].into());
    assert!(model.graph.nodes().all(|(_, n)| n.is("Relu")));
}

#[test]
fn attributes_without_a_kind_are_what_they_hold() {
    let bare = |name: &str| AttributeProto { name: Some(name.into()), ..AttributeProto::default() };
    let mut relu = node("Relu", &["x"], &["y"]);
    relu.attribute = vec![
        AttributeProto { i: Some(0), ..bare("i") },
        AttributeProto { floats: vec![1.5], ..bare("fs") },
        AttributeProto { r#type: Some(AttributeType::Ints as i32), ..bare("none") },
        bare("nothing"),
    ];
    let graph = read(graph(vec![relu])).unwrap().graph;
    let (_, node) = graph.nodes().next().unwrap();
    assert_eq!(node.attributes["i"], Attribute::Int(0));
    assert_eq!(node.attributes["fs"], Attribute::Floats(vec![1.5]));
    assert_eq!(node.attributes["none"], Attribute::Ints(vec![]));
    assert!(matches!(node.attributes["nothing"], Attribute::Encoded(_)));
}

#[test]
fn a_branch_that_reads_its_own_node_is_a_cycle() {
    let branch = GraphProto {
        input: vec![],
        output: vec![info("z")],
        ..graph(vec![node("A", &["y"], &["z"])])
    };
    let mut choice = node("If", &["x"], &["y"]);
    choice.attribute = vec![attribute("then_branch", branch)];
    assert_malformed(graph(vec![choice]), "node 'If_0': the graph has a cycle");
}

#[test]
fn a_branch_may_return_and_hide_outer_values() {
    let hiding = GraphProto { input: vec![], ..graph(vec![node("A", &["x"], &["y"])]) };
    let returning = GraphProto { input: vec![], output: vec![info("x")], ..graph(vec![]) };
    let mut choice = node("If", &["x"], &["y"]);
    choice.attribute = vec![attribute("then_branch", hiding), attribute("else_branch", returning)];
    let outer = read(graph(vec![choice])).unwrap().graph;
    let x = outer.value_named("x").unwrap();
    let (_, node) = outer.nodes().next().unwrap();
    for branch in node.subgraphs() {
        assert_eq!(branch.value(branch.value_named("x").unwrap()).kind, ValueKind::Captured(x));
    }
}

#[test]
fn graphs_nested_beyond_reason_are_refused() {
    let mut inner = graph(vec![node("A", &["x"], &["y"])]);
    for _ in 0..1000 {
        let mut choice = node("If", &["x"], &["y"]);
        choice.attribute = vec![attribute("then_branch", inner)];
        inner = GraphProto { input: vec![], ..graph(vec![choice]) };
    }
    let error = read(inner).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    assert!(error.to_string().contains("recursion limit"), "{error}");
}

#[test]
fn paths_that_are_no_files_are_input_errors() {
    let folder = tempfile::tempdir().unwrap();
    let missing = load(&folder.path().join("a.onnx")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
    assert!(
        missing.to_string().contains("a.onnx: cannot read the model (No such file"),
        "{missing}"
    );
    let message = format!("{}: this is a folder; give an .onnx file", folder.path().display());
    assert_error(load(folder.path()), ErrorKind::Io, &message);
    #[cfg(unix)]
    assert_error(
        load(Path::new("/dev/zero")),
        ErrorKind::Io,
        "/dev/zero: this is not a file; give an .onnx file",
    );
}

mod external;
