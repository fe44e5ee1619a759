//! Outputs without gradients, such as numbers or names of classes: floats that they are decided by.

use std::collections::HashSet;

use crate::ir::{Graph, ValueId};
use crate::onnx::is_map;

/// Operators whose outputs depend on the sizes of their inputs only.
const SIZES: [&str; 2] = ["Shape", "Size"];

/// The nearest values of floats that a graph's outputs depend on: the outputs themselves, or what texts and whole
/// numbers are computed from.
pub(super) fn deciding(graph: &Graph) -> Vec<ValueId> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut left: Vec<ValueId> = graph.outputs.iter().rev().copied().collect();
    while let Some(value) = left.pop() {
        if !seen.insert(value) {
            continue;
        }
        if may_be_float(graph, value) {
            found.push(value);
        } else if let Some(node) = graph.producer(value).map(|id| graph.node(id)) {
            let is_standard = node.domain.is_empty() || is_map(node);
            let depends = is_standard && !SIZES.contains(&node.op.as_str());
            left.extend(node.reads().filter(|_| depends));
        }
    }
    found.retain(|value| graph.initializer(*value).is_none());
    found
}

/// Whether a value holds floats, as far as is known.
pub(super) fn may_be_float(graph: &Graph, value: ValueId) -> bool {
    match graph.type_of(value) {
        Some(ty) => ty.dtype.is_float(),
        None => graph.value(value).foreign_type.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::infer_types;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn class_numbers_are_decided_by_scores() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,6");
        let scores = b.op("Relu", "scores", &[x], []);
        let best = b.op("ArgMax", "best", &[scores], [("axis", 1.into())]);
        let sizes = b.op("Shape", "sizes", &[x], []);
        let mut graph = b.build(&[best, sizes, scores]).graph;
        infer_types(&mut graph).unwrap();
        assert_eq!(deciding(&graph), [scores]);
    }

    #[test]
    fn maps_are_decided_by_their_scores() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,6");
        let scores = b.op("Softmax", "scores", &[x], []);
        let maps = b.op("ZipMap", "maps", &[scores], []);
        let id = b.graph().producer(maps).unwrap();
        b.graph().edit_node(id, |node| node.domain = "ai.onnx.ml".to_owned());
        b.graph().set_foreign_type(maps, vec![1]);
        let mut graph = b.build(&[maps]).graph;
        infer_types(&mut graph).unwrap();
        assert_eq!(deciding(&graph), [scores]);
    }
}
