//! Drops the empty names behind the last input of a node, each of which stands for an input that is left out.
//!
//! They have no meaning. But ONNX Runtime looks for the inputs of some operators by their number, and the process
//! ends where it finds an empty name.

use super::outline::{Node, Outline};
use crate::onnx::proto::{ModelProto, NodeProto};

/// Drops them from all nodes of a model.
pub(super) fn drop_last(model: &mut ModelProto) {
    model.graph.iter_mut().for_each(|graph| drop_from(&mut graph.node));
    model.functions.iter_mut().for_each(|function| drop_from(&mut function.node));
}

fn drop_from(nodes: &mut [NodeProto]) {
    for node in nodes {
        let last = node.input.iter().rposition(|name| !name.is_empty());
        node.input.truncate(last.map_or(0, |last| last + 1));
        for attribute in &mut node.attribute {
            let graphs = attribute.g.iter_mut().chain(&mut attribute.graphs);
            graphs.for_each(|graph| drop_from(&mut graph.node));
        }
    }
}

impl Outline {
    /// Whether a node of the model has such names.
    pub(super) fn ends_empty(&self) -> bool {
        let of_functions = self.functions.iter().flat_map(|function| &function.nodes);
        let mut nodes = self.graph.iter().flat_map(|graph| &graph.nodes).chain(of_functions);
        nodes.any(Node::ends_empty)
    }
}

impl Node {
    fn ends_empty(&self) -> bool {
        let graphs = self.attributes.iter().flat_map(|a| a.graph.iter().chain(&a.graphs));
        let mut inner = graphs.flat_map(|graph| &graph.nodes);
        self.inputs.last().is_some_and(Vec::is_empty) || inner.any(Node::ends_empty)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::onnx::proto::{AttributeProto, FunctionProto, GraphProto, ValueInfoProto};

    fn node(inputs: &[&str], inner: Option<NodeProto>) -> NodeProto {
        let attribute = |node: NodeProto| AttributeProto {
            name: Some("body".into()),
            g: Some(GraphProto { node: vec![node], ..GraphProto::default() }),
            ..AttributeProto::default()
        };
        NodeProto {
            op_type: Some("Clip".into()),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec!["y".into()],
            attribute: inner.map(attribute).into_iter().collect(),
            ..NodeProto::default()
        }
    }

    fn model(nodes: Vec<NodeProto>, function: Vec<NodeProto>) -> ModelProto {
        let info = |name: &str| ValueInfoProto { name: Some(name.into()), ..Default::default() };
        let graph = GraphProto {
            node: nodes,
            input: vec![info("x")],
            output: vec![info("y")],
            ..GraphProto::default()
        };
        let function = FunctionProto { node: function, ..FunctionProto::default() };
        ModelProto { graph: Some(graph), functions: vec![function], ..ModelProto::default() }
    }

    #[test]
    fn empty_names_are_dropped_behind_the_last_input_only() {
        let (all, kept) = (node(&["x", "", "a", "", ""], None), node(&["x", "", "a"], None));
        let outer = |inner: &NodeProto| node(&["x"], Some(inner.clone()));
        let places = [
            (model(vec![all.clone()], vec![]), model(vec![kept.clone()], vec![])),
            (model(vec![outer(&all)], vec![]), model(vec![outer(&kept)], vec![])),
            (model(vec![], vec![all]), model(vec![], vec![kept])),
            (model(vec![node(&["", ""], None)], vec![]), model(vec![node(&[], None)], vec![])),
        ];
        for (mut given, wanted) in places {
            let ends_empty = |model: &ModelProto| {
                Outline::decode(model.encode_to_vec().as_slice()).unwrap().ends_empty()
            };
            assert!(ends_empty(&given) && !ends_empty(&wanted));
            drop_last(&mut given);
            assert_eq!(given, wanted);
        }
    }
}
