//! Moves weights of sub-graphs to the main graph, and lets the sub-graphs capture them. In the main
//! graph, weights that several models have in common are stored once, and each weight has its place in
//! a plan.

use crate::ir::{Attribute, Graph, Tensor, ValueId};

/// Constants of fewer elements stay in the sub-graph: shapes, axes, bounds.
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

/// The weights of a graph, except its outputs, which a sub-graph must compute itself.
fn weights(graph: &Graph) -> Vec<(ValueId, Tensor)> {
    let ids = graph.values().map(|(id, _)| id).filter(|id| !graph.outputs.contains(id));
    let weights = ids.filter_map(|id| Some((id, graph.initializer(id)?.clone())));
    weights.filter(|(_, tensor)| tensor.len() >= FEWEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::ValueKind;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn weights_of_branches_move_out_and_short_constants_stay() {
        let mut b = GraphBuilder::new("net", 17);
        let (x, condition) = (b.input("x", "n,8"), b.input("c", ""));
        let branch = || {
            let mut sub = Graph::new("branch");
            let outer = sub.add_value("x", ValueKind::Captured(x), None);
            let weight = |n: usize| Tensor::from_f32(&ndarray::ArrayD::ones(vec![8, n]));
            let wide = sub.add_initializer("w", weight(8));
            let short = sub.add_initializer("s", weight(1));
            let product = sub.add_op("MatMul", "product", &[outer, wide], []);
            let y = sub.add_op("MatMul", "y", &[product, short], []);
            sub.outputs.push(y);
            Attribute::Graph(Box::new(sub))
        };
        let branches = [("then_branch", branch()), ("else_branch", branch())];
        let y = b.op("If", "y", &[condition], branches);
        let mut graph = b.build(&[y]).graph;
        run(&mut graph);
        let outside = graph.values().filter(|(id, _)| graph.initializer(*id).is_some()).count();
        assert_eq!(outside, 2);
        let (_, node) = graph.nodes().next().unwrap();
        for sub in node.subgraphs() {
            let left = sub.values().filter_map(|(id, _)| sub.initializer(id));
            assert_eq!(left.map(|t| t.dims.clone()).collect::<Vec<_>>(), [[8, 1]]);
            assert_eq!(sub.captures().count(), 2);
        }
    }
}
