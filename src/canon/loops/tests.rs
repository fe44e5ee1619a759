use super::count::{Limits, Scalar, follow};
use super::*;
use crate::ir::builder::GraphBuilder;
use crate::ir::{Attribute, TensorType, ValueKind};

/// A loop that multiplies its state by a carried factor; returns the last state and the last factor.
fn scaling(b: &mut GraphBuilder) -> [ValueId; 2] {
    let (state, factor) = (b.input("x", "n,4"), b.weights("factor", &[4]));
    let mut body = Graph::new("body");
    let scalar = |dtype| TensorType { dtype, shape: Some(Vec::new()) };
    let float = || TensorType { dtype: DataType::F32, shape: None };
    body.add_input("count", scalar(DataType::I64));
    let goes_on = body.add_input("goes_on", scalar(DataType::Bool));
    let [own, by] = ["state", "by"].map(|name| body.add_input(name, float()));
    let still = body.add_op("Identity", "still", &[goes_on], []);
    let next = body.add_op("Mul", "next", &[own, by], []);
    let same = body.add_op("Identity", "same", &[by], []);
    body.outputs = vec![still, next, same];
    let outputs = ["last", "by"].map(|name| b.graph().add_value(name, ValueKind::Detached, None));
    let steps = b.constant("steps", Tensor::from_i64(vec![], &[3]));
    b.graph().add_node(Node {
        name: "loop".to_owned(),
        op: "Loop".to_owned(),
        inputs: vec![Some(steps), None, Some(state), Some(factor)],
        outputs: outputs.map(Some).to_vec(),
        attributes: [("body".to_owned(), Attribute::Graph(Box::new(body)))].into(),
        ..Node::default()
    });
    outputs
}

#[test]
fn a_value_that_is_carried_unchanged_is_captured() {
    let mut b = GraphBuilder::new("net", 17);
    let [state, factor] = scaling(&mut b);
    let sum = b.op("Add", "sum", &[state, factor], []);
    let mut model = b.build(&[sum]);
    assert!(run(&mut model, &CanonOptions::default()).unwrap());
    let graph = &model.graph;
    let node = graph.node(graph.producer(state).unwrap());
    assert_eq!((node.inputs.len(), node.outputs.as_slice()), (3, [Some(state)].as_slice()));
    let body = node.subgraphs().next().unwrap();
    assert_eq!((body.inputs.len(), body.outputs.len()), (3, 2));
    let outer = body.captures().collect::<Vec<_>>();
    assert_eq!(outer, [graph.value_named("factor").unwrap()]);
    let last = graph.node(graph.producer(factor).unwrap());
    assert_eq!((last.op.as_str(), last.input(0)), ("Identity", Some(outer[0])));
    assert!(!run(&mut model, &CanonOptions::default()).unwrap(), "nothing is left to do");
}

/// The bounds of a comparison of the number of a step, and some number more, with a size.
fn below(more: i64, size: &Size, op: &str) -> Vec<super::count::Bound> {
    let mut graph = Graph::new("body");
    let [number, limit] =
        ["number", "limit"].map(|name| graph.add_value(name, ValueKind::Detached, None));
    let result = graph.add_op(op, "below", &[number, limit], []);
    let nodes = graph.nodes().map(|(_, node)| node);
    let seeds = [(number, Scalar::Counted(more))].into();
    let known = follow(nodes, seeds, |value| (value == limit).then(|| size.clone()));
    known.get(&result).cloned().unwrap().bounds().unwrap()
}

#[test]
fn a_loop_runs_once_per_entry_if_its_limits_agree() {
    let (seven, open) = (Size::number(7), Size::named("t"));
    let fits = |most: Option<&Size>, after: Vec<super::count::Bound>, length: &Size| {
        Limits { most: most.cloned(), before: Vec::new(), after }.fit(length)
    };
    for length in [&seven, &open] {
        assert!(fits(Some(length), Vec::new(), length));
        assert!(fits(Some(length), below(0, length, "Less"), length));
        assert!(fits(None, below(1, length, "Less"), length));
        assert!(!fits(None, below(0, length, "Less"), length), "one step more");
        assert!(!fits(Some(length), below(2, length, "Less"), length), "one step less");
        assert!(fits(Some(length), below(2, length, "LessOrEqual"), length));
        assert!(!fits(None, Vec::new(), length), "for ever");
    }
    assert!(!fits(Some(&seven), Vec::new(), &open));
    assert!(!fits(Some(&Size::number(0)), Vec::new(), &Size::number(0)));
}
