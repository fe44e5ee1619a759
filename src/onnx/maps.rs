//! Scores in place of maps.
//!
//! Exporters of classifiers turn their scores into a sequence of maps from classes to scores, for one caller's
//! convenience. The numbers are the same, but no tensor holds them.

use crate::ir::{Graph, Model, Node, NodeId, ValueId};

/// The operator of `ai.onnx.ml` that makes maps.
pub(crate) const MAP: &str = "ZipMap";

/// Whether a node makes maps of its input.
pub(crate) fn is_map(node: &Node) -> bool {
    node.op == MAP && node.domain == "ai.onnx.ml"
}

/// The model with its scores in place of maps of them, under the same names; `None` if it has no maps that are
/// outputs only.
pub(crate) fn with_scores(model: &Model) -> Option<Model> {
    let graph = &model.graph;
    let ends = |(id, node): (NodeId, &Node)| {
        let (scores, maps) = (node.input(0)?, node.output(0)?);
        let is_end = is_map(node) && !is_read(graph, maps);
        is_end.then_some((id, scores, maps))
    };
    let found: Vec<_> = graph.nodes().filter_map(ends).collect();
    if found.is_empty() {
        return None;
    }
    let mut changed = model.clone();
    for (id, scores, maps) in found {
        changed.graph.set_type_like(maps, graph, scores);
        changed.graph.edit_node(id, |node| {
            node.op = "Identity".to_owned();
            node.domain.clear();
            node.attributes.clear();
        });
    }
    Some(changed)
}

fn is_read(graph: &Graph, value: ValueId) -> bool {
    graph.nodes().any(|(_, node)| node.reads().any(|read| read == value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn maps_at_the_end_are_scores() {
        for domain in ["ai.onnx.ml", "elsewhere"] {
            let mut b = GraphBuilder::new("net", 17);
            let x = b.input("x", "n,3");
            let scores = b.op("Softmax", "scores", &[x], []);
            let maps = b.op(MAP, "maps", &[scores], [("classlabels_int64s", [0, 1, 2].into())]);
            let id = b.graph().producer(maps).unwrap();
            b.graph().edit_node(id, |node| node.domain = domain.to_owned());
            b.graph().set_foreign_type(maps, vec![1]);
            let model = b.build(&[maps]);
            let Some(changed) = with_scores(&model) else {
                assert_eq!(domain, "elsewhere");
                continue;
            };
            let graph = &changed.graph;
            assert!(graph.node(id).is("Identity") && graph.node(id).attributes.is_empty());
            assert_eq!(graph.value(graph.outputs[0]).name, "maps");
            assert_eq!(graph.value(maps).foreign_type, None);
            assert_eq!(with_scores(&changed), None);
        }
    }
}
