//! Weights inside sub-graphs move to the graph around them, which the sub-graphs may read: there, what
//! several models have in common is stored once, and each weight has a place of its own in a plan.

use crate::ir::{Attribute, Graph, Tensor, ValueId};

/// Constants of fewer elements stay where they are: shapes, axes, bounds.
const FEWEST: usize = 64;

/// Moves the weights of all sub-graphs out of them.
pub(super) fn run(graph: &mut Graph) {
    let nodes: Vec<_> =
        graph.nodes().filter(|(_, node)| node.subgraphs().next().is_some()).collect();
    let nodes: Vec<_> = nodes.into_iter().map(|(id, node)| (id, node.attributes.clone())).collect();
    for (id, mut attributes) in nodes {
        for attribute in attributes.values_mut() {
            let Attribute::Graph(sub) = attribute else { continue };
            run(sub);
            for (inner, tensor) in weights(sub) {
                let name = sub.value(inner).name.clone();
                let outer = graph.add_initializer(&name, tensor);
                sub.set_captured(inner, outer);
            }
        }
        graph.edit_node(id, |node| node.attributes = attributes);
    }
}

/// The weights of a graph. What is an output stays: it must be computed inside.
fn weights(graph: &Graph) -> Vec<(ValueId, Tensor)> {
    let ids = graph.values().map(|(id, _)| id).filter(|id| !graph.outputs.contains(id));
    let weights = ids.filter_map(|id| Some((id, graph.initializer(id)?.clone())));
    weights.filter(|(_, tensor)| tensor.len() >= FEWEST).collect()
}
