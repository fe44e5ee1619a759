//! Heads of attention that sub-graphs read.

use super::attention::Net;
use super::*;

#[test]
fn heads_that_a_branch_reads_are_needed_whole() {
    let (mut net, x) = Net::new();
    let [q, k, v] = ["q", "k", "v"].map(|name| net.heads(name, x));
    let flag = TensorType { dtype: DataType::Bool, shape: Some(vec![Dim::Known(1)]) };
    let flag = net.graph.add_input("flag", flag);
    let branch = |op: &str| {
        let mut branch = Graph::new(op);
        let outer = branch.add_value("outer", ValueKind::Captured(q), None);
        let y = branch.add_op(op, "y", &[outer], []);
        branch.outputs.push(y);
        Attribute::Graph(Box::new(branch))
    };
    let branches = [("then_branch", branch("Relu")), ("else_branch", branch("Tanh"))];
    let q = net.graph.add_op("If", "chosen", &[flag], branches);
    let chosen = net.graph.producer(q).unwrap();
    let k = net.transpose(k, &[0, 1, 3, 2]);
    let coupling = net.coupling(q, k, v);
    assert!(matches!(coupling.flows.get(&chosen), Some(Flow::Whole(_))));
    assert!(coupling.groups.iter().any(|group| group.name == "q" && group.frozen.is_some()));
}
