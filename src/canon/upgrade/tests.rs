use super::*;
use crate::canon::{CanonOptions, canonicalise};
use crate::ir::builder::{GraphBuilder, shape};
use crate::ir::{Attribute, DataType, Node, Tensor};

fn upgraded(b: GraphBuilder, y: ValueId) -> Model {
    let mut model = b.build(&[y]);
    run(&mut model, None).unwrap();
    model
}

fn operators(graph: &Graph) -> Vec<&str> {
    let order = graph.topological_order().unwrap();
    order.into_iter().map(|id| graph.node(id).op.as_str()).collect()
}

fn reader_of(graph: &Graph, op: &str) -> Node {
    graph.nodes().find(|(_, n)| n.op == op).unwrap().1.clone()
}

#[test]
fn every_change_is_one_that_breaks_and_is_listed_once() {
    let mut rows: Vec<(&str, i64)> =
        CHANGES.iter().flat_map(|(ops, at, _)| ops.iter().map(|op| (*op, *at))).collect();
    assert_eq!(rows.iter().find(|(op, at)| !breaks(op, *at)), None);
    let count = rows.len();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), count);
}

/// Known omissions: operators before version 6, and three rare ones.
#[test]
fn changes_without_a_row_are_known() {
    let has_row =
        |op: &str, at: i64| CHANGES.iter().any(|(ops, v, _)| *v == at && ops.contains(&op));
    let missing: Vec<(&str, i64)> = history::BREAKING
        .iter()
        .flat_map(|(op, versions)| versions.iter().map(move |v| (*op, *v)))
        .filter(|(op, v)| *v > 6 && !has_row(op, *v))
        .collect();
    assert_eq!(missing, [("DFT", 20), ("GroupNormalization", 21), ("Scan", 9), ("Upsample", 7)]);
}

#[test]
fn versions_of_set_and_format_are_raised() {
    let mut b = GraphBuilder::new("net", 9);
    let x = b.input("x", "n,3");
    let y = b.op("Relu", "y", &[x], []);
    let mut model = b.build(&[y]);
    model.ir_version = 3;
    run(&mut model, Some(18)).unwrap();
    assert_eq!((model.opset(), model.ir_version), (18, 8));
}

#[test]
fn an_empty_list_of_axes_is_left_out_where_it_says_nothing() {
    for (op, inputs) in [("Squeeze", 1), ("ReduceSum", 1), ("Unsqueeze", 2)] {
        let mut b = GraphBuilder::new("net", 11);
        let x = b.input("x", "2,1,3");
        let y = b.op(op, "y", &[x], [("axes", Attribute::Ints(Vec::new()))]);
        let node = reader_of(&upgraded(b, y).graph, op);
        assert_eq!((node.inputs.len(), node.attributes.len()), (inputs, 0), "{op}");
    }
}

#[test]
fn broadcasting_along_an_axis_is_made_explicit() {
    let mut b = GraphBuilder::new("net", 6);
    let x = b.input("x", "n,3,4,4");
    let bias = b.weights("bias", &[3]);
    let along = [("axis", Attribute::Int(1)), ("broadcast", Attribute::Int(1))];
    let y = b.op("Add", "y", &[x, bias], along.clone());
    let gate = b.input("gate", "n,3");
    let gated = b.op("Mul", "gated", &[y, gate], [("axis", 0.into()), ("broadcast", 1.into())]);
    let graph = upgraded(b, gated).graph;
    assert_eq!(operators(&graph), ["Add", "Unsqueeze", "Mul"]);
    let add = reader_of(&graph, "Add");
    assert!(add.attributes.is_empty());
    assert_eq!(types::shape(&graph, add.input(1).unwrap()), Some(shape("3,1,1")));
    let mul = reader_of(&graph, "Mul");
    assert_eq!(types::shape(&graph, mul.input(1).unwrap()), Some(shape("n,3,1,1")));
    assert_eq!(types::shape(&graph, gated), Some(shape("n,3,4,4")));
}

#[test]
fn a_slope_per_channel_stays_with_its_channels() {
    let mut b = GraphBuilder::new("net", 6);
    let x = b.input("x", "n,3,4,4");
    let slope = b.weights("slope", &[3]);
    let y = b.op("PRelu", "y", &[x, slope], []);
    let graph = upgraded(b, y).graph;
    let slope = reader_of(&graph, "PRelu").input(1).unwrap();
    assert_eq!(types::shape(&graph, slope), Some(shape("3,1,1")));
}

#[test]
fn bounds_have_the_type_of_the_data() {
    let mut b = GraphBuilder::new("net", 9);
    let x = b.typed_input("x", DataType::F16, "n,3");
    let y = b.op("Clip", "y", &[x], [("max", 6.0.into())]);
    let graph = upgraded(b, y).graph;
    let clip = reader_of(&graph, "Clip");
    assert_eq!(clip.input(1), None);
    let max = graph.initializer(clip.input(2).unwrap()).unwrap();
    assert_eq!((max.dtype, max.dims.len()), (DataType::F16, 0));
    assert_eq!(max.to_f32().unwrap().sum(), 6.0);
}

#[test]
fn a_softmax_of_unknown_rank_asks_for_the_shape_at_run_time() {
    let mut b = GraphBuilder::new("net", 11);
    let x = b.input("x", "n,3");
    let hidden = b.op("Mystery", "hidden", &[x], []);
    let y = b.op("Softmax", "y", &[hidden], [("axis", 2.into())]);
    let graph = upgraded(b, y).graph;
    assert_eq!(operators(&graph), ["Mystery", "Flatten", "Softmax", "Shape", "Reshape"]);
    assert_eq!(reader_of(&graph, "Flatten").int("axis", 0), 2);
    assert_eq!(reader_of(&graph, "Softmax").int("axis", 0), -1);
}

#[test]
fn old_spellings_are_replaced() {
    let mut b = GraphBuilder::new("net", 5);
    let x = b.input("x", "n,3");
    let y = b.op("Relu", "relu", &[x], [("consumed_inputs", [0].into())]);
    let y = b.op("Cast", "cast", &[y], [("to", "double".into())]);
    let model = upgraded(b, y);
    assert!(reader_of(&model.graph, "Relu").attributes.is_empty());
    assert_eq!(reader_of(&model.graph, "Cast").int("to", 0), 11);
}

#[test]
fn resizes_lose_empty_arguments() {
    let mut b = GraphBuilder::new("net", 11);
    let x = b.input("x", "n,3,4,4");
    let empty = b.constant("empty", Tensor::from_f32(&ndarray::arr1(&[]).into_dyn()));
    let sizes = b.ints("sizes", &[1, 3, 8, 8]);
    let y = b.op("Resize", "y", &[x, empty, empty, sizes], []);
    let graph = upgraded(b, y).graph;
    assert_eq!(reader_of(&graph, "Resize").inputs, [Some(x), None, None, Some(sizes)]);
}

#[test]
fn branches_climb_with_the_model() {
    let mut b = GraphBuilder::new("net", 9);
    let x = b.input("x", "n,1,3");
    let c = b.typed_input("c", DataType::Bool, "");
    let mut sub = Graph::new("branch");
    let inner = sub.add_value("x", ValueKind::Captured(x), None);
    let y = sub.add_op("Softmax", "soft", &[inner], [("axis", Attribute::Int(2))]);
    sub.outputs.push(y);
    let branch = || Attribute::Graph(Box::new(sub.clone()));
    let y = b.op("If", "y", &[c], [("then_branch", branch()), ("else_branch", branch())]);
    let graph = upgraded(b, y).graph;
    let node = reader_of(&graph, "If");
    for sub in node.subgraphs() {
        assert_eq!(operators(sub), ["Softmax"], "the captured rank is known");
    }
}

#[test]
fn what_cannot_be_carried_over_is_named() {
    let mut b = GraphBuilder::new("net", 8);
    let x = b.input("x", "n,3");
    let y = b.op("Scan", "loop", &[x], []);
    let error = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(
        error.to_string(),
        "net: node 'loop': Scan cannot be converted from operator set 8 to 9; convert the model with \
         onnx.version_converter or export it with a newer opset"
    );
}

#[test]
fn impossible_targets_are_refused() {
    let model = |opset| GraphBuilder::new("net", opset).build(&[]);
    let refusal = |mut m: Model, target| run(&mut m, Some(target)).unwrap_err().kind();
    assert_eq!(refusal(model(17), 15), ErrorKind::Usage);
    assert_eq!(refusal(model(13), history::NEWEST + 1), ErrorKind::Unsupported);
    let with_functions = Model { functions: vec![Vec::new()], ..model(13) };
    assert_eq!(refusal(with_functions, 15), ErrorKind::Unsupported);
    let own = |opset| run(&mut model(opset), None).map_err(|e| e.kind());
    assert_eq!(own(history::NEWEST), Ok(()));
    assert_eq!(own(history::NEWEST + 1), Err(ErrorKind::Unsupported));
    assert_eq!(own(i64::MAX), Err(ErrorKind::Unsupported));
    assert_eq!((own(0), own(i64::MIN)), (Err(ErrorKind::Format), Err(ErrorKind::Format)));
}

#[test]
fn operators_of_other_domains_are_left_alone() {
    let mut b = GraphBuilder::new("net", 9);
    let x = b.input("x", "n,3");
    let y = b.op("Softmax", "y", &[x], [("axis", 1.into())]);
    let id = b.graph().producer(y).unwrap();
    b.graph().edit_node(id, |n| n.domain = "com.example".into());
    let model = upgraded(b, y);
    assert_eq!(model.graph.node(id).int("axis", 0), 1);
}
