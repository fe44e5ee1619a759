//! Makes node names unique. The format allows several nodes of one name, but some runtimes refuse them.

use crate::naming::UniqueNames;
use crate::onnx::proto::{GraphProto, NodeProto};

/// Appends numbers to names that occur several times in a graph and its sub-graphs. The first node of a
/// name keeps it. Nodes without a name stay so.
pub(super) fn make_unique(graph: &mut GraphProto) {
    let mut given = Vec::new();
    visit(graph, &mut |node| given.push(node.name().to_owned()));
    let mut names = UniqueNames::reserving(given);
    visit(graph, &mut |node| {
        if !node.name().is_empty() {
            node.name = Some(names.claim(node.name()));
        }
    });
}

fn visit(graph: &mut GraphProto, act: &mut impl FnMut(&mut NodeProto)) {
    for node in &mut graph.node {
        act(node);
        for attribute in &mut node.attribute {
            let single = attribute.g.iter_mut();
            single.chain(&mut attribute.graphs).for_each(|inner| visit(inner, act));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::AttributeProto;

    fn graph(names: &[&str]) -> GraphProto {
        let node =
            |name: &&str| NodeProto { name: Some((*name).to_owned()), ..NodeProto::default() };
        GraphProto { node: names.iter().map(node).collect(), ..GraphProto::default() }
    }

    #[test]
    fn no_two_nodes_are_called_the_same() {
        let mut whole = graph(&["a", "", "a", "a.1", "if", ""]);
        let branch = AttributeProto { g: Some(graph(&["a", "if"])), ..AttributeProto::default() };
        whole.node[4].attribute.push(branch);
        make_unique(&mut whole);
        let mut names = Vec::new();
        visit(&mut whole, &mut |node| names.push(node.name().to_owned()));
        assert_eq!(names, ["a", "", "a.2", "a.1", "if", "a.3", "if.1", ""]);
    }
}
