//! Reads open extents from the model's inputs instead of hidden values.
//!
//! Exporters read the batch and the number of tokens from hidden values. A `Shape` needs all channels
//! of its operand, so pieces of a hidden value would have to be joined. Inputs are whole anyway.

use std::collections::HashSet;

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Model, Node, NodeId, Size, Tensor, ValueId, ValueKind};
use crate::ops::Sizes;

use super::{CanonOptions, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let known = types::follow(graph)?;
    let mut modified = false;
    for id in graph.topological_order()? {
        let parts = hidden_shape(graph, id).and_then(|(data, output)| {
            let sizes = known.get(output.index())?.as_ref()?;
            Some((output, places(graph, data, sizes)?))
        });
        if let Some((output, parts)) = parts {
            rebuild(graph, id, output, &parts);
            modified = true;
        }
    }
    Ok(modified)
}

/// The operand and output of a `Shape` of a computed value.
fn hidden_shape(graph: &Graph, id: NodeId) -> Option<(ValueId, ValueId)> {
    let node = graph.node(id);
    let data = node.input(0).filter(|data| node.is("Shape") && graph.producer(*data).is_some())?;
    Some((data, node.output(0)?))
}

/// The place where an extent can be read.
enum Place {
    Number(i64),
    /// At an axis of an input.
    Input(ValueId, usize),
}

/// The places of all sizes, if they are numbers or extents of inputs that `data` is computed from.
fn places(graph: &Graph, data: ValueId, sizes: &Sizes) -> Option<Vec<Place>> {
    let inputs = sources(graph, data);
    let place = |size: &Option<Size>| {
        let size = size.as_ref()?;
        if let Some(number) = size.value() {
            return Some(Place::Number(number));
        }
        let dim = size.clone().dim();
        inputs.iter().find_map(|input| {
            let shape = types::shape(graph, *input)?;
            let is_named = |own: &Dim| matches!(own, Dim::Symbol(_)) && *own == dim;
            Some(Place::Input(*input, shape.iter().position(is_named)?))
        })
    };
    sizes.elements.iter().map(place).collect()
}

/// The inputs that a value is computed from, in the model's order.
fn sources(graph: &Graph, value: ValueId) -> Vec<ValueId> {
    let mut seen = HashSet::new();
    let mut stack = vec![value];
    while let Some(value) = stack.pop() {
        if seen.insert(value) {
            let reads = graph.producer(value).map(|id| graph.node(id).reads().collect::<Vec<_>>());
            stack.extend(reads.into_iter().flatten());
        }
    }
    let is_input = |id: &ValueId| graph.value(*id).kind == ValueKind::Input && seen.contains(id);
    graph.inputs.iter().copied().filter(is_input).collect()
}

/// Makes the output of node `id` a concatenation of extents.
fn rebuild(graph: &mut Graph, id: NodeId, output: ValueId, places: &[Place]) {
    let name = graph.node(id).name.clone();
    let parts: Vec<Option<ValueId>> = places
        .iter()
        .map(|place| match place {
            Place::Number(number) => {
                let tensor = Tensor::from_i64(vec![1], &[*number]);
                Some(graph.add_initializer(&format!("{name}.extent"), tensor))
            }
            Place::Input(input, axis) => {
                let tensor = Tensor::from_i64(vec![1], &[i64::try_from(*axis).unwrap_or(0)]);
                let axis = graph.add_initializer(&format!("{name}.axis"), tensor);
                let shape = graph.add_op("Shape", &format!("{name}.shape"), &[*input], []);
                Some(graph.add_op("Gather", &format!("{name}.open"), &[shape, axis], []))
            }
        })
        .collect();
    graph.edit_node(id, |node| {
        *node = Node {
            name: std::mem::take(&mut node.name),
            op: "Concat".to_owned(),
            inputs: parts,
            outputs: vec![Some(output)],
            attributes: [("axis".to_owned(), Attribute::Int(0))].into(),
            ..Node::default()
        };
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn a_shape_of_a_hidden_value_is_that_of_its_input() {
        let mut b = GraphBuilder::new("net", 13);
        let (_, x) = (b.input("other", "n,4"), b.input("x", "n,length,4"));
        let w = b.weights("w", &[4, 8]);
        let hidden = b.op("MatMul", "hidden", &[x, w], []);
        let shape = b.op("Shape", "shape", &[hidden], []);
        let y = b.op("Identity", "y", &[shape], []);
        let mut model = b.build(&[y]);
        assert!(run(&mut model, &CanonOptions::default()).unwrap());
        let graph = &model.graph;
        let concat = graph.node(graph.producer(shape).unwrap());
        assert_eq!((concat.op.as_str(), concat.inputs.len()), ("Concat", 3));
        let shapes = graph.nodes().filter(|(_, node)| node.is("Shape"));
        assert!(shapes.into_iter().all(|(_, node)| node.input(0) == Some(x)));
        assert!(!run(&mut model, &CanonOptions::default()).unwrap(), "nothing is left to do");
    }

    #[test]
    fn an_extent_that_no_input_has_stays_computed() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,length");
        let twice = b.op("Concat", "twice", &[x, x], [("axis", 1.into())]);
        let shape = b.op("Shape", "shape", &[twice], []);
        let mut model = b.build(&[shape]);
        assert!(!run(&mut model, &CanonOptions::default()).unwrap());
    }
}
