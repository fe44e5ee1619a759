//! Replaces an `If` whose condition is known by the branch that it takes, and a `Loop` of at most one
//! step by that step.
//!
//! Exporters leave decisions on extents to the runtime: in PyTorch's `squeeze`, `expand` and
//! `interpolate`, a branch depends on an extent or a rank. Channels are not followed inside
//! sub-graphs, so the node would end them.

use std::collections::{BTreeSet, VecDeque};

use ndarray::arr0;

use crate::error::Result;
use crate::ir::{Attribute, DataType, Graph, Model, Node, NodeId, Tensor, ValueId};
use crate::naming::UniqueNames;

use super::splice::{deliver, node_names, splice};
use super::{CanonOptions, constants};

/// Runs the pass.
///
/// # Errors
/// Never.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let decides = |node: &Node| node.is("If") || node.is("Loop");
    let mut waiting: VecDeque<NodeId> =
        graph.nodes().filter(|(_, node)| decides(node)).map(|(id, _)| id).collect();
    if waiting.is_empty() {
        return Ok(false);
    }
    let (mut names, mut modified) = (node_names(graph), false);
    while let Some(id) = waiting.pop_front() {
        let replaced = match graph.node(id).is("If") {
            true => take_branch(graph, &mut names, id),
            false => take_step(graph, &mut names, id),
        };
        let Some(copies) = replaced else { continue };
        modified = true;
        waiting.extend(copies.into_iter().filter(|id| decides(graph.node(*id))));
    }
    if modified {
        constants::to_initializers(graph);
    }
    Ok(modified)
}

/// The only element of a constant of integers or booleans.
fn known(graph: &Graph, value: ValueId) -> Option<i64> {
    let tensor = graph.initializer(value).filter(|tensor| tensor.len() == 1)?;
    tensor.to_i64()?.first().copied()
}

fn body(node: &Node, name: &str) -> Option<Graph> {
    match node.attributes.get(name) {
        Some(Attribute::Graph(graph)) => Some((**graph).clone()),
        _ => None,
    }
}

/// Replaces an `If` whose condition is known. Returns the nodes of the branch that it takes.
fn take_branch(graph: &mut Graph, names: &mut UniqueNames, id: NodeId) -> Option<BTreeSet<NodeId>> {
    let holds = known(graph, graph.node(id).input(0)?)? != 0;
    take(graph, names, id, holds)
}

/// Replaces an `If` by the branch that it takes if its condition `holds` or not. Returns the nodes of the branch.
pub(super) fn take(
    graph: &mut Graph,
    names: &mut UniqueNames,
    id: NodeId,
    holds: bool,
) -> Option<BTreeSet<NodeId>> {
    let node = graph.node(id);
    let name = if holds { "then_branch" } else { "else_branch" };
    let (branch, targets) = (body(node, name)?, node.outputs.clone());
    if !branch.inputs.is_empty() || branch.outputs.len() < targets.len() {
        return None;
    }
    graph.remove_node(id);
    let copied = splice(graph, names, &branch, &[]);
    let pairs = copied.outputs.into_iter().zip(targets);
    deliver(graph, &copied.nodes, pairs.filter_map(|(source, target)| Some((source, target?))));
    Some(copied.nodes)
}

/// The number of steps of a loop, if it is known to be 0 or 1.
fn steps(graph: &Graph, node: &Node) -> Option<usize> {
    let begins = node.input(1).map_or(Some(1), |value| known(graph, value));
    let limit = node.input(0).map_or(Some(i64::MAX), |value| known(graph, value));
    match (begins, limit) {
        (Some(0), _) => Some(0),
        (_, Some(..=0)) => Some(0),
        (Some(_), Some(1)) => Some(1),
        _ => None,
    }
}

/// Replaces a loop of at most one step. Returns the nodes of the step.
fn take_step(graph: &mut Graph, names: &mut UniqueNames, id: NodeId) -> Option<BTreeSet<NodeId>> {
    let node = graph.node(id);
    let (steps, body, targets) = (steps(graph, node)?, body(node, "body")?, node.outputs.clone());
    let states: Vec<ValueId> = node.inputs.iter().skip(2).copied().collect::<Option<_>>()?;
    let collects = targets.iter().skip(states.len()).any(Option::is_some);
    let fits = body.inputs.len() == states.len() + 2 && body.outputs.len() > targets.len();
    if !fits || (steps == 0 && collects) {
        return None;
    }
    let name = node.name.clone();
    graph.remove_node(id);
    let (mut results, mut copies) = (states.clone(), BTreeSet::new());
    if steps == 1 {
        let truth = Tensor::from_ints(DataType::Bool, &arr0(1i64).into_dyn())?;
        let count = graph.add_initializer("count", Tensor::from_i64(Vec::new(), &[0]));
        let goes_on = graph.add_initializer("goes_on", truth);
        let feeds = [&[count, goes_on], states.as_slice()].concat();
        let copied = splice(graph, names, &body, &feeds);
        results = copied.outputs.into_iter().skip(1).collect();
        copies = copied.nodes;
        if collects {
            let first = graph.add_initializer("axes", Tensor::from_i64(vec![1], &[0]));
            for result in results.iter_mut().skip(states.len()) {
                let name = format!("{name}.steps");
                *result = graph.add_op("Unsqueeze", &name, &[*result, first], []);
            }
        }
    }
    let pairs = results.into_iter().zip(targets);
    deliver(graph, &copies, pairs.filter_map(|(source, target)| Some((source, target?))));
    Some(copies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::ValueKind;
    use crate::ir::builder::GraphBuilder;

    fn flag(b: &mut GraphBuilder, holds: u8) -> ValueId {
        let data = vec![holds].into();
        b.constant("flag", Tensor { dtype: DataType::Bool, dims: Vec::new(), data })
    }

    fn captured(outer: ValueId) -> Attribute {
        let mut branch = Graph::new("branch");
        branch.outputs = vec![branch.add_value("outer", ValueKind::Captured(outer), None)];
        Attribute::Graph(Box::new(branch))
    }

    /// Runtimes refuse such a branch, but files have it.
    #[test]
    fn a_branch_may_return_a_value_of_the_graph_around_it() {
        let mut b = GraphBuilder::new("net", 17);
        let (x, z) = (b.input("x", "n,4"), b.input("z", "n,4"));
        let condition = flag(&mut b, 0);
        let branches = [("then_branch", captured(x)), ("else_branch", captured(z))];
        let either = b.op("If", "either", &[condition], branches);
        let y = b.op("Neg", "y", &[either], []);
        let mut model = b.build(&[y]);
        assert!(run(&mut model, &CanonOptions::default()).unwrap());
        let negated = model.graph.node(model.graph.producer(y).unwrap()).input(0).unwrap();
        let copy = model.graph.node(model.graph.producer(negated).unwrap());
        assert_eq!((copy.op.as_str(), copy.input(0)), ("Identity", Some(z)));
    }

    #[test]
    fn an_output_of_the_model_keeps_its_name_and_an_open_condition_its_node() {
        let mut b = GraphBuilder::new("net", 17);
        let (x, open) = (b.input("x", "n,4"), b.typed_input("open", DataType::Bool, ""));
        let condition = flag(&mut b, 1);
        let outputs = [("sure", condition), ("unsure", open)].map(|(name, condition)| {
            let branches = ["then_branch", "else_branch"].map(|branch| {
                let mut graph = Graph::new(branch);
                let x = graph.add_value("x", ValueKind::Captured(x), None);
                graph.outputs = vec![graph.add_op("Relu", "result", &[x], [])];
                (branch, Attribute::Graph(Box::new(graph)))
            });
            b.op("If", name, &[condition], branches)
        });
        let mut model = b.build(&outputs);
        assert!(run(&mut model, &CanonOptions::default()).unwrap());
        let graph = &model.graph;
        assert_eq!(graph.outputs, outputs);
        assert_eq!(outputs.map(|id| graph.value(id).name.as_str()), ["sure", "unsure"]);
        let ops = outputs.map(|id| graph.node(graph.producer(id).unwrap()).op.as_str());
        assert_eq!(ops, ["Relu", "If"]);
    }
}
