//! Steps with sub-graphs.

use onnx_zip::ir::{Attribute, DataType, Graph, Node, Tensor, TensorType, ValueId, ValueKind};

use super::images::{layer, sizes};
use super::net::{Form, Live, Net};

/// Two layers of the same form.
fn pair(net: &mut Net, x: Live, choice: u8) -> [Live; 2] {
    let first = layer(net, x, choice);
    let width = (sizes(first).0 - 4) as u8;
    [first, layer(net, x, choice / 4 * 4 + width)]
}

/// A sub-graph that captures values and computes `op` of them.
fn body(net: &mut Net, name: &str, op: &str, outer: &[ValueId], form: Form) -> Graph {
    let mut graph = Graph::new(name);
    let captured: Vec<ValueId> = outer.iter().map(|v| capture(net, &mut graph, *v)).collect();
    let result = graph.add_op(op, &format!("{name}.result"), &captured, []);
    graph.set_type(result, Some(net.ty(form)));
    graph.outputs = vec![result];
    graph
}

fn capture(net: &mut Net, graph: &mut Graph, outer: ValueId) -> ValueId {
    let name = net.b.graph().value(outer).name.clone();
    graph.add_value(&name, ValueKind::Captured(outer), None)
}

/// One of two combinations of two layers, or of a layer and a constant per channel.
pub fn branch(net: &mut Net, x: Live, choice: u8) -> Live {
    let [one, two] = pair(net, x, choice);
    let all = net.op("ReduceSum", &[x.value], [("keepdims", 0.into())]);
    let zero = net.b.scalar("zero", 0.0);
    let condition = net.op("Greater", &[all, zero], []);
    let values = [one.value, two.value];
    let branches = [("then_branch", "Sub"), ("else_branch", "Add")];
    let branches = branches.map(|(name, op)| {
        let graph = body(net, name, op, &values, one.form);
        (name, Attribute::Graph(Box::new(graph)))
    });
    Live { value: net.op("If", &[condition], branches), ..one }
}

/// A layer to which another one is added three times.
pub fn looped(net: &mut Net, x: Live, choice: u8) -> Live {
    let [start, step] = pair(net, x, choice);
    let ty = net.ty(start.form);
    let scalar = |dtype| TensorType { dtype, shape: Some(Vec::new()) };
    let mut graph = Graph::new("body");
    graph.add_input("count", scalar(DataType::I64));
    let go_on = graph.add_input("go_on", scalar(DataType::Bool));
    let state = graph.add_input("state", ty.clone());
    let step = capture(net, &mut graph, step.value);
    let next = graph.add_op("Add", "next", &[state, step], []);
    let go_on = graph.add_op("Identity", "still", &[go_on], []);
    graph.set_type(next, Some(ty));
    graph.set_type(go_on, Some(scalar(DataType::Bool)));
    graph.outputs = vec![go_on, next];
    let times = net.b.constant("times", Tensor::from_i64(Vec::new(), &[3]));
    let result = net.b.graph().add_value("looped", ValueKind::Detached, None);
    net.b.graph().add_node(Node {
        name: "loop".to_owned(),
        op: "Loop".to_owned(),
        inputs: vec![Some(times), None, Some(start.value)],
        outputs: vec![Some(result)],
        attributes: [("body".to_owned(), Attribute::Graph(Box::new(graph)))].into(),
        ..Node::default()
    });
    Live { value: result, ..start }
}
