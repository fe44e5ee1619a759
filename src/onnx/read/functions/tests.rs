use super::*;
use crate::onnx::proto::{AttributeProto, TensorProto};

fn node(op: &str, domain: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        op_type: Some(op.into()),
        domain: Some(domain.into()),
        input: owned(inputs),
        output: owned(outputs),
        ..NodeProto::default()
    }
}

fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>) -> FunctionProto {
    let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    FunctionProto {
        name: Some(name.into()),
        domain: Some("local".into()),
        input: owned(inputs),
        output: owned(outputs),
        node: nodes,
        opset_import: vec![opset("", 17), opset("local", 1)],
        ..FunctionProto::default()
    }
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) }
}

fn model(nodes: Vec<NodeProto>, functions: Vec<FunctionProto>) -> ModelProto {
    let info = |name: &str| crate::onnx::proto::ValueInfoProto {
        name: Some(name.into()),
        ..Default::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![opset("", 17), opset("local", 1)],
        graph: Some(GraphProto {
            node: nodes,
            input: vec![info("x")],
            output: vec![info("y")],
            ..GraphProto::default()
        }),
        functions,
        ..ModelProto::default()
    }
}

/// Operators with their inputs and outputs, one a line.
fn lines(model: &ModelProto) -> Vec<String> {
    let nodes = &model.graph.as_ref().unwrap().node;
    let line =
        |n: &NodeProto| format!("{} {} -> {}", n.op_type(), n.input.join(" "), n.output.join(" "));
    nodes.iter().map(line).collect()
}

fn attribute(name: &str, i: Option<i64>, reference: Option<&str>) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        i,
        ref_attr_name: reference.map(str::to_owned),
        ..AttributeProto::default()
    }
}

#[test]
fn calls_become_bodies_under_names_of_their_own() {
    let body = vec![node("Relu", "", &["a"], &["t"]), node("Add", "", &["t", "b"], &["c"])];
    let twice =
        vec![node("F", "local", &["a", ""], &["t"]), node("F", "local", &["t", "a"], &["c"])];
    let functions =
        vec![function("F", &["a", "b"], &["c"], body), function("G", &["a"], &["c"], twice)];
    let mut model = model(vec![node("G", "local", &["x"], &["y"])], functions);
    inline(&mut model).unwrap();
    assert_eq!(
        lines(&model),
        ["Relu x -> G/F/t", "Add G/F/t  -> G/t", "Relu G/t -> G/F.1/t", "Add G/F.1/t x -> y",]
    );
    assert!(model.functions.is_empty());
    crate::onnx::decode(model.encode_to_vec().into(), None, "m").unwrap();
}

#[test]
fn attributes_are_the_calls_or_the_functions_own() {
    let mut concat = node("Concat", "", &["a"], &["b"]);
    concat.attribute = vec![
        attribute("axis", None, Some("where")),
        attribute("other", None, Some("absent")),
        attribute("fixed", Some(7), None),
    ];
    let mut f = function("F", &["a"], &["b"], vec![concat]);
    f.attribute_proto = vec![attribute("where", Some(1), None)];
    let mut call = node("F", "local", &["x"], &["h"]);
    call.attribute = vec![attribute("where", Some(2), None)];
    let plain = node("F", "local", &["h"], &["y"]);
    let mut model = model(vec![call, plain], vec![f]);
    inline(&mut model).unwrap();
    let nodes = &model.graph.as_ref().unwrap().node;
    let of = |node: &NodeProto| -> Vec<(String, i64)> {
        node.attribute.iter().map(|a| (a.name().to_owned(), a.i())).collect()
    };
    assert_eq!(of(&nodes[0]), [("axis".to_owned(), 2), ("fixed".to_owned(), 7)]);
    assert_eq!(of(&nodes[1]), [("axis".to_owned(), 1), ("fixed".to_owned(), 7)]);
}

#[test]
fn subgraphs_are_renamed_and_their_calls_expanded() {
    let branch = |nodes| GraphProto {
        node: nodes,
        output: vec![crate::onnx::proto::ValueInfoProto {
            name: Some("r".into()),
            ..Default::default()
        }],
        ..GraphProto::default()
    };
    let mut choice = node("If", "", &["a"], &["b"]);
    let inner = branch(vec![node("F", "local", &["a"], &["r"])]);
    choice.attribute = vec![AttributeProto {
        name: Some("then_branch".into()),
        g: Some(inner),
        ..Default::default()
    }];
    let functions = vec![
        function("F", &["v"], &["w"], vec![node("Neg", "", &["v"], &["w"])]),
        function("G", &["a"], &["b"], vec![choice]),
    ];
    let mut model = model(vec![node("G", "local", &["x"], &["y"])], functions);
    inline(&mut model).unwrap();
    let sub = model.graph.as_ref().unwrap().node[0].attribute[0].g.as_ref().unwrap();
    assert_eq!(sub.node[0].op_type(), "Neg");
    assert_eq!((sub.node[0].input[0].as_str(), sub.node[0].output[0].as_str()), ("x", "G/r"));
    assert_eq!(sub.output[0].name(), "G/r");
}

#[test]
fn what_goes_in_may_come_out() {
    let pass = function("F", &["a"], &["a"], Vec::new());
    let mut model = model(vec![node("F", "local", &["x"], &["y"])], vec![pass]);
    inline(&mut model).unwrap();
    assert_eq!(lines(&model), ["Identity x -> y"]);
}

#[test]
fn a_function_of_another_operator_set_stays() {
    let mut f = function("F", &["a"], &["b"], vec![node("Relu", "", &["a"], &["b"])]);
    f.opset_import = vec![opset("", 18)];
    let mut model = model(vec![node("F", "local", &["x"], &["y"])], vec![f]);
    inline(&mut model).unwrap();
    assert_eq!(lines(&model), ["F x -> y"]);
    assert_eq!(model.functions.len(), 1);
}

#[test]
fn operator_sets_that_only_functions_use_are_imported() {
    let mut f = function("F", &["a"], &["b"], vec![node("Gelu", "com.vendor", &["a"], &["b"])]);
    f.opset_import = vec![opset("com.vendor", 3)];
    let mut model = model(vec![node("F", "local", &["x"], &["y"])], vec![f]);
    inline(&mut model).unwrap();
    assert!(model.opset_import.contains(&opset("com.vendor", 3)));
}

#[test]
fn endless_and_giant_expansions_are_refused() {
    let own = function("F", &["a"], &["b"], vec![node("F", "local", &["a"], &["b"])]);
    let mut endless = model(vec![node("F", "local", &["x"], &["y"])], vec![own]);
    let error = inline(&mut endless).unwrap_err();
    assert!(error.to_string().contains("the local function 'F' calls itself"), "{error}");

    let doubled = |levels: usize| {
        let mut functions =
            vec![function("F0", &["a"], &["b"], vec![node("Relu", "", &["a"], &["b"])])];
        for level in 1..=levels {
            let inner = format!("F{}", level - 1);
            let twice =
                vec![node(&inner, "local", &["a"], &["t"]), node(&inner, "local", &["t"], &["b"])];
            functions.push(function(&format!("F{level}"), &["a"], &["b"], twice));
        }
        model(vec![node(&format!("F{levels}"), "local", &["x"], &["y"])], functions)
    };
    inline(&mut doubled(11)).unwrap();
    for levels in [14, 39] {
        let error = inline(&mut doubled(levels)).unwrap_err();
        assert!(error.to_string().contains("expand to more than"), "{error}");
    }
}

#[test]
fn a_function_for_many_layers_is_inlined() {
    let body = (0..60).map(|at| node("Relu", "", &[&format!("t{at}")], &[&format!("t{}", at + 1)]));
    let layer = function("F", &["t0"], &["t60"], body.collect());
    let calls =
        (0..200).map(|at| node("F", "local", &[&format!("x{at}")], &[&format!("x{}", at + 1)]));
    let mut deep = model(calls.collect(), vec![layer]);
    inline(&mut deep).unwrap();
    assert_eq!(deep.graph.unwrap().node.len(), 12_000);
}

#[test]
fn weights_that_every_call_repeats_are_refused() {
    let mut constant = node("Constant", "", &[], &["w"]);
    let tensor = TensorProto { raw_data: Some(vec![0; 10_000].into()), ..TensorProto::default() };
    let value = AttributeProto { t: Some(tensor), ..attribute("value", None, None) };
    constant.attribute = vec![value.clone()];
    let within = |f: FunctionProto, calls: Vec<NodeProto>| {
        inline_within(&mut model(calls, vec![f]), Budget::within(100_000))
    };
    let own = || {
        function("F", &["a"], &["b"], vec![constant.clone(), node("Add", "", &["a", "w"], &["b"])])
    };
    let calls = |count: usize| vec![node("F", "local", &["x"], &["y"]); count];
    within(own(), calls(4)).unwrap();
    let error = within(own(), calls(20)).unwrap_err().to_string();
    assert!(error.contains("expand to more than 100000 bytes"), "{error}");

    // The call's attribute, which the body names often.
    let mut named = constant.clone();
    named.attribute = vec![attribute("value", None, Some("value"))];
    let f = function("F", &["a"], &["b"], vec![named; 20]);
    let mut call = node("F", "local", &["x"], &["y"]);
    call.attribute = vec![value];
    assert!(within(f, vec![call]).is_err());

    // The call's name, which stands before every name of the body.
    let f = function("F", &["a"], &["b"], vec![node("Relu", "", &["a"], &["t"]); 20]);
    let mut call = node("F", "local", &["x"], &["y"]);
    call.name = Some("n".repeat(10_000));
    assert!(within(f, vec![call]).is_err());
}

#[test]
fn long_names_take_memory_in_proportion_to_their_length() {
    let long = "/".repeat(1 << 20);
    let body = vec![node("Relu", "", &["a"], &["b"])];
    let nodes = vec![node("Neg", "", &["x"], &[&long]), node("F", "local", &[&long], &["y"])];
    let mut model = model(nodes, vec![function("F", &["a"], &["b"], body)]);
    inline(&mut model).unwrap();
    assert_eq!(model.graph.unwrap().node.len(), 2);
}

#[test]
fn many_calls_of_one_name_are_numbered_quickly() {
    let body = vec![node("Relu", "", &["a"], &["t"]), node("Neg", "", &["t"], &["b"])];
    let calls = vec![node("F", "local", &["x"], &["y"]); 50_000];
    let mut model = model(calls, vec![function("F", &["a"], &["b"], body)]);
    inline(&mut model).unwrap();
    let nodes = model.graph.unwrap().node;
    assert_eq!(nodes.last().unwrap().input, ["F.49999/t"]);
}
