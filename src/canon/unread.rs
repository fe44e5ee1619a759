//! Leaves out optional outputs that nobody reads.
//!
//! Exporters name indices of maxima, statistics and last states whether or not they are read. A node with such an
//! output gets its channels whole, or hides the fused operators around it.

use crate::ir::{Graph, Node, NodeId};

use super::rewire;
use super::unfuse::RUNTIME;

/// Operators with their domains and their optional outputs. Those of `BatchNormalization` tell its mode, so
/// they stay. A recurrent layer keeps the first one ([`super::recurrent`]).
const OPTIONAL: &[(&str, &[&str], &[usize])] = &[
    ("", &["Dropout", "GRU", "MaxPool", "RNN", "SimplifiedLayerNormalization"], &[1]),
    ("", &["LSTM", "LayerNormalization"], &[1, 2]),
    ("", &["Unique"], &[1, 2, 3]),
    (RUNTIME, &["SimplifiedLayerNormalization"], &[1]),
    (RUNTIME, &["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"], &[1, 2, 3]),
];

/// The places of a node's optional outputs.
fn optional(node: &Node) -> Option<&'static [usize]> {
    let is_of = |(domain, ops, _): &&(&str, &[&str], &[usize])| {
        node.domain == *domain && ops.contains(&node.op.as_str())
    };
    OPTIONAL.iter().find(is_of).map(|(.., places)| *places)
}

/// Leaves out unread optional outputs of all nodes.
pub(super) fn leave_out(graph: &mut Graph) {
    let several = graph.nodes().filter(|(_, node)| node.outputs.len() > 1);
    let several: Vec<(NodeId, &[usize])> =
        several.filter_map(|(id, node)| Some((id, optional(node)?))).collect();
    if several.is_empty() {
        return;
    }
    let readers = graph.consumers();
    for (id, places) in several {
        let node = graph.node(id);
        let is_unread = |place: &&usize| {
            let output = node.output(**place);
            output.is_some_and(|output| rewire::is_unused(graph, &readers, output))
        };
        let unread: Vec<usize> = places.iter().filter(is_unread).copied().collect();
        if unread.is_empty() && node.outputs.last() != Some(&None) {
            continue;
        }
        graph.edit_node(id, |node| {
            unread.iter().for_each(|place| node.outputs[*place] = None);
            while node.outputs.len() > 1 && node.outputs.last() == Some(&None) {
                node.outputs.pop();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;
    use crate::ir::{Attribute, ValueId, ValueKind};

    /// Adds a node with three outputs.
    fn three(b: &mut GraphBuilder, op: &str, inputs: &[ValueId]) -> [ValueId; 3] {
        let outputs = ["y", "a", "b"].map(|n| b.graph().add_value(n, ValueKind::Detached, None));
        b.graph().add_node(Node {
            name: op.to_owned(),
            op: op.to_owned(),
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: outputs.map(Some).to_vec(),
            attributes: [("hidden_size".to_owned(), Attribute::Int(2))].into(),
            ..Node::default()
        });
        outputs
    }

    #[test]
    fn outputs_that_nobody_reads_are_left_out() {
        for read in 0..3 {
            let mut b = GraphBuilder::new("net", 17);
            let (x, scale) = (b.input("x", "n,4"), b.weights("scale", &[4]));
            let outputs = three(&mut b, "LayerNormalization", &[x, scale]);
            let z = b.op("Relu", "z", &[outputs[read]], []);
            let mut graph = b.build(&[z, outputs[0]]).graph;
            leave_out(&mut graph);
            let node = graph.node(graph.producer(outputs[0]).unwrap());
            let wanted = [vec![0], vec![0, 1], vec![0, 2]][read].clone();
            let found = (0..3).filter(|place| node.output(*place).is_some());
            assert_eq!(found.collect::<Vec<usize>>(), wanted);
            assert_eq!(node.outputs.len(), 1 + read);
        }
    }

    #[test]
    fn outputs_of_the_model_and_those_with_a_meaning_stay() {
        let mut b = GraphBuilder::new("net", 17);
        let (x, scale) = (b.input("x", "n,4"), b.weights("scale", &[4]));
        let [y, mean, _] = three(&mut b, "LayerNormalization", &[x, scale]);
        let mut graph = b.build(&[y, mean]).graph;
        leave_out(&mut graph);
        assert_eq!(graph.node(graph.producer(y).unwrap()).outputs, [Some(y), Some(mean)]);
        for op in ["BatchNormalization", "Split", "TopK"] {
            let mut b = GraphBuilder::new("net", 17);
            let x = b.input("x", "n,4");
            let [y, ..] = three(&mut b, op, &[x]);
            let mut graph = b.build(&[y]).graph;
            leave_out(&mut graph);
            assert_eq!(graph.node(graph.producer(y).unwrap()).outputs.len(), 3, "{op}");
        }
    }

    #[test]
    fn a_recurrent_layer_keeps_all_steps() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "t,n,3");
        let (w, r) = (b.weights("w", &[1, 8, 3]), b.weights("r", &[1, 8, 2]));
        let [steps, _, cell] = three(&mut b, "LSTM", &[x, w, r]);
        let graph = crate::canon::canonicalise(b.build(&[cell]), &Default::default());
        let graph = graph.unwrap().into_inner().graph;
        let lstm = graph.node(graph.producer(cell).unwrap());
        assert_eq!(lstm.outputs, [Some(steps), None, Some(cell)]);
    }
}
