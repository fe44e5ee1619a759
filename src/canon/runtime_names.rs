//! Renames constants that have a name that ONNX Runtime gives to its own.
//!
//! A model that it has optimised holds shapes of its making, such as `gemm_input_shape_token_3`. Where it
//! optimises a net with such a constant again, it makes a constant of the same name and refuses the net.

use crate::ir::{Attribute, DataType, Graph, ValueId};

/// How the names of shapes end that ONNX Runtime makes when it turns a product and a sum into a `Gemm`.
const MADE: [&str; 2] = ["gemm_input_shape", "gemm_output_shape"];

/// What stands before the number of a name that it has made several times.
const COUNTED: &str = "_token_";

/// Renames constants of a graph and its sub-graphs, but for outputs, whose names are the user's.
pub(super) fn change(graph: &mut Graph) {
    let made: Vec<ValueId> = graph
        .values()
        .filter(|(id, value)| {
            let is_shape = graph.initializer(*id).is_some_and(|t| t.dtype == DataType::I64);
            is_shape && is_made(&value.name) && !graph.outputs.contains(id)
        })
        .map(|(id, _)| id)
        .collect();
    for id in made {
        let name = format!("{}.kept", graph.value(id).name);
        graph.rename_value(id, &name);
    }
    let outer: Vec<_> =
        graph.nodes().filter(|(_, n)| n.subgraphs().next().is_some()).map(|(id, _)| id).collect();
    for id in outer {
        graph.edit_node(id, |node| {
            for attribute in node.attributes.values_mut() {
                if let Attribute::Graph(sub) = attribute {
                    change(sub);
                }
            }
        });
    }
}

/// Whether ONNX Runtime may make a constant of this name.
fn is_made(name: &str) -> bool {
    let counted = name.rsplit_once(COUNTED).is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    counted || MADE.iter().any(|made| name.ends_with(made))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Tensor;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn shapes_that_the_runtime_made_get_names_that_it_does_not_make() {
        for name in ["gemm_input_shape", "axes_token_12", "proj_gemm_output_shape"] {
            let mut b = GraphBuilder::new("net", 13);
            let (x, shape) = (b.input("x", "2,4"), b.ints(name, &[8]));
            let y = b.op("Reshape", "y", &[x, shape], []);
            let mut graph = b.build(&[y]).graph;
            change(&mut graph);
            let kept = graph.value(shape).name.clone();
            assert_eq!(kept, format!("{name}.kept"));
            change(&mut graph);
            assert_eq!(graph.value(shape).name, kept);
        }
    }

    #[test]
    fn other_constants_keep_their_names() {
        for name in ["shape", "gemm_input_shape.kept", "cls_token_", "token_3x", "a_token_b"] {
            assert!(!is_made(name), "{name}");
        }
        let mut graph = Graph::new("net");
        let one = ndarray::arr0(1.0).into_dyn();
        let weight = graph.add_initializer("prompt_token_3", Tensor::from_f32(&one));
        change(&mut graph);
        assert_eq!(graph.value(weight).name, "prompt_token_3");
    }
}
