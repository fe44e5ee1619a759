use super::count::{Limits, Scalar, follow};
use super::*;
use crate::ir::builder::GraphBuilder;
use crate::ir::{Attribute, DataType, Graph, Size, Tensor, TensorType, ValueId, ValueKind};

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

/// A net that applies a product with a matrix of `width` rows so many times.
fn products(steps: i64, width: usize) -> Vec<String> {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", &format!("n,{width}"));
    let w = b.weights("w", &[width, width]);
    let mut body = Graph::new("body");
    let scalar = |dtype| TensorType { dtype, shape: Some(Vec::new()) };
    body.add_input("count", scalar(DataType::I64));
    let goes_on = body.add_input("goes_on", scalar(DataType::Bool));
    let state = body.add_input("state", TensorType { dtype: DataType::F32, shape: None });
    let w = body.add_value("w", ValueKind::Captured(w), None);
    let still = body.add_op("Identity", "still", &[goes_on], []);
    let product = body.add_op("MatMul", "product", &[state, w], []);
    let next = body.add_op("Tanh", "next", &[product], []);
    body.outputs = vec![still, next, body.add_op("Neg", "each", &[next], [])];
    let outputs = ["last", "all"].map(|name| b.graph().add_value(name, ValueKind::Detached, None));
    let steps = b.constant("steps", Tensor::from_i64(Vec::new(), &[steps]));
    b.graph().add_node(Node {
        name: "loop".to_owned(),
        op: "Loop".to_owned(),
        inputs: vec![Some(steps), None, Some(x)],
        outputs: outputs.map(Some).to_vec(),
        attributes: [("body".to_owned(), Attribute::Graph(Box::new(body)))].into(),
        ..Node::default()
    });
    let model = b.build(&outputs);
    let canonical = crate::canon::canonicalise(model, &CanonOptions::default()).unwrap();
    let order = canonical.graph.topological_order().unwrap();
    order.into_iter().map(|id| canonical.graph.node(id).op.clone()).collect()
}

#[test]
fn a_few_steps_with_large_weights_are_written_out() {
    let count = |ops: &[String], op: &str| ops.iter().filter(|own| *own == op).count();
    let written = products(3, 32);
    assert_eq!((count(&written, "Loop"), count(&written, "Gemm")), (0, 3), "{written:?}");
    assert_eq!((count(&written, "Unsqueeze"), count(&written, "Concat")), (3, 1));
    for (steps, width) in [(3, 8), (65, 160)] {
        assert_eq!(products(steps, width), ["Loop"]);
    }
}

/// The operators of an RNN over an open number of steps, which begins with the units of another layer.
fn continued(state: fn(&mut GraphBuilder) -> ValueId) -> Vec<String> {
    let mut b = GraphBuilder::new("net", 17);
    let (x, first) = (b.input("x", "t,n,4"), state(&mut b));
    let (w, r) = (b.weights("w", &[4, 5]), b.weights("r", &[5, 5]));
    let mut body = Graph::new("body");
    let float = || TensorType { dtype: DataType::F32, shape: None };
    let (hidden, input) = (body.add_input("hidden", float()), body.add_input("input", float()));
    let [w, r] = [w, r].map(|weight| {
        let name = b.graph().value(weight).name.clone();
        body.add_value(&name, ValueKind::Captured(weight), None)
    });
    let product = body.add_op("MatMul", "product", &[input, w], []);
    let sum = body.add_op("Gemm", "sum", &[hidden, r, product], []);
    body.outputs = vec![body.add_op("Tanh", "next", &[sum], [])];
    let last = b.graph().add_value("last", ValueKind::Detached, None);
    let attributes = [
        ("body".to_owned(), Attribute::Graph(Box::new(body))),
        ("num_scan_inputs".to_owned(), Attribute::Int(1)),
    ];
    b.graph().add_node(Node {
        name: "scan".to_owned(),
        op: "Scan".to_owned(),
        inputs: vec![Some(first), Some(x)],
        outputs: vec![Some(last)],
        attributes: attributes.into(),
        ..Node::default()
    });
    let model = b.build(&[last]);
    let canonical = crate::canon::canonicalise(model, &CanonOptions::default()).unwrap();
    let order = canonical.graph.topological_order().unwrap();
    order.into_iter().map(|id| canonical.graph.node(id).op.clone()).collect()
}

#[test]
fn the_last_state_of_no_steps_is_the_first_one_if_that_is_computed() {
    let computed = |b: &mut GraphBuilder| {
        let (z, w, bias) = (b.input("z", "n,3"), b.weights("v", &[5, 3]), b.weights("b", &[5]));
        b.op("Gemm", "first", &[z, w, bias], [("transB", 1.into())])
    };
    let has = |ops: &[String], op: &str| ops.iter().any(|own| own == op);
    let ops = continued(computed);
    assert!(has(&ops, "RNN") && has(&ops, "Where"), "{ops:?}");
    let ops = continued(|b| b.input("state", "n,5"));
    assert!(has(&ops, "RNN") && !has(&ops, "Where"), "{ops:?}");
}

/// Adds loops inside of each other of a few steps, the innermost with a layer, and returns the last state.
fn looped(outer: &mut Graph, state: ValueId, weight: ValueId, levels: usize) -> ValueId {
    let ty = |dtype, shape| TensorType { dtype, shape };
    let mut body = Graph::new("body");
    body.add_input("number", ty(DataType::I64, Some(Vec::new())));
    let goes_on = body.add_input("goes_on", ty(DataType::Bool, Some(Vec::new())));
    let own = body.add_input("state", ty(DataType::F32, None));
    let inner = body.add_value("weight", ValueKind::Captured(weight), None);
    let next = match levels {
        1 => body.add_op("MatMul", "product", &[own, inner], []),
        _ => looped(&mut body, own, inner, levels - 1),
    };
    body.outputs = vec![goes_on, next];
    let steps = outer.add_initializer("steps", Tensor::from_i64(Vec::new(), &[12]));
    let last = outer.add_value("last", ValueKind::Detached, None);
    outer.add_node(Node {
        name: "loop".to_owned(),
        op: "Loop".to_owned(),
        inputs: vec![Some(steps), None, Some(state)],
        outputs: vec![Some(last)],
        attributes: [("body".to_owned(), Attribute::Graph(Box::new(body)))].into(),
        ..Node::default()
    });
    last
}

#[test]
fn loops_are_written_out_only_if_all_of_them_take_less_than_the_weights() {
    let left = |levels, count| {
        let mut b = GraphBuilder::new("net", 17);
        let (mut x, w) = (b.input("x", "n,64"), b.weights("w", &[64, 64]));
        for _ in 0..count {
            x = looped(b.graph(), x, w, levels);
        }
        let canonical =
            crate::canon::canonicalise(b.build(&[x]), &CanonOptions::default()).unwrap();
        canonical.graph.nodes().filter(|(_, node)| node.is("Loop")).count()
    };
    assert_eq!(left(1, 1), 0);
    // 16 KiB of weights allow for 64 nodes in all.
    assert!((1..9).contains(&left(1, 9)));
    assert_eq!(left(2, 1), 1);
    assert_eq!(left(3, 1), 1);
}
