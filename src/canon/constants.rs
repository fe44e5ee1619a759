//! Turns `Constant` nodes into initializers, the only constants that later passes know.

use ndarray::{ArrayD, arr0};

use crate::ir::{Attribute, Graph, Node, Tensor};

use super::rewire;

/// Turns `Constant` nodes into initializers, in sub-graphs, too; strings, sparse tensors and outputs stay
/// nodes.
pub(super) fn to_initializers(graph: &mut Graph) {
    let outer: Vec<_> =
        graph.nodes().filter(|(_, node)| has_inner(node)).map(|(id, _)| id).collect();
    for id in outer {
        graph.edit_node(id, |node| {
            for attribute in node.attributes.values_mut() {
                if let Attribute::Graph(sub) = attribute {
                    to_initializers(sub);
                }
            }
        });
    }
    let constants: Vec<_> = graph
        .nodes()
        .filter(|(_, node)| node.is("Constant"))
        .filter_map(|(_, node)| Some((node.output(0)?, tensor(node)?)))
        .collect();
    for (value, tensor) in constants {
        rewire::replace_by_constant(graph, value, tensor);
    }
}

/// Whether a node has sub-graphs with constants.
fn has_inner(node: &Node) -> bool {
    let is_constant = |(_, node): (_, &Node)| node.is("Constant") || has_inner(node);
    node.subgraphs().any(|sub| sub.nodes().any(is_constant))
}

fn tensor(node: &Node) -> Option<Tensor> {
    node.attributes.iter().find_map(|(name, attribute)| match (name.as_str(), attribute) {
        ("value", Attribute::Tensor(tensor)) => Some(tensor.clone()),
        ("value_int", Attribute::Int(v)) => Some(Tensor::from_i64(Vec::new(), &[*v])),
        ("value_ints", Attribute::Ints(v)) => Some(Tensor::from_i64(vec![v.len()], v)),
        ("value_float", Attribute::Float(v)) => Some(Tensor::from_f32(&arr0(*v).into_dyn())),
        ("value_floats", Attribute::Floats(v)) => {
            Some(Tensor::from_f32(&ArrayD::from_shape_vec(vec![v.len()], v.clone()).ok()?))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn every_kind_of_constant_becomes_an_initializer() {
        let mut b = GraphBuilder::new("net", 13);
        let tensor = Attribute::Tensor(Tensor::from_i64(vec![2], &[4, 5]));
        let values = [
            b.op("Constant", "a", &[], [("value", tensor)]),
            b.op("Constant", "b", &[], [("value_int", 7.into())]),
            b.op("Constant", "c", &[], [("value_ints", [1, 2].into())]),
            b.op("Constant", "d", &[], [("value_float", 0.5.into())]),
            b.op("Constant", "e", &[], [("value_floats", [0.5, 1.5].into())]),
        ];
        let text = b.op("Constant", "f", &[], [("value_string", "s".into())]);
        let y = b.op("Sum", "y", &values, []);
        let mut graph = b.build(&[y, text]).graph;
        to_initializers(&mut graph);
        let dims = values.map(|v| graph.initializer(v).unwrap().dims.clone());
        assert_eq!(dims, [vec![2], vec![], vec![2], vec![], vec![2]]);
        assert!(graph.initializer(text).is_none());
    }
}
