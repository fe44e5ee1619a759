//! Turns a `ReverseSequence` over whole sequences into a `Slice` backwards.
//!
//! TensorFlow reverses an axis this way, around recurrent layers of two directions. The slice is the form of other
//! exporters, and training and measurement know its gradient.

use crate::error::Result;
use crate::ir::{Graph, Model, Node, NodeId, Size, Tensor, ValueId};
use crate::ops::{Sizes, constant_sizes, normal_axis};

use super::{CanonOptions, rewire, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let reversals = graph.nodes().filter(|(_, node)| node.is("ReverseSequence"));
    let reversals: Vec<NodeId> = reversals.map(|(id, _)| id).collect();
    if reversals.is_empty() {
        return Ok(false);
    }
    let sizes = types::follow(graph)?;
    let mut modified = false;
    for id in reversals {
        if let Some(axis) = whole_axis(graph, &sizes, graph.node(id)) {
            modified |= backwards(graph, id, axis).is_some();
        }
    }
    Ok(modified)
}

/// The axis that a node reverses, if the lengths of all sequences are its extent.
fn whole_axis(graph: &Graph, sizes: &[Option<Sizes>], node: &Node) -> Option<i64> {
    let (shape, lengths) = (types::shape(graph, node.input(0)?)?, node.input(1)?);
    let axis = normal_axis(node.int("time_axis", 0), shape.len())?;
    let extent = Size::of(shape.get(axis)?)?;
    let is_whole = all_are(graph, sizes, lengths, &extent)
        || expanded(graph, lengths).is_some_and(|one| all_are(graph, sizes, one, &extent));
    is_whole.then(|| i64::try_from(axis).ok())?
}

/// The value that a node repeats.
fn expanded(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let node = graph.node(graph.producer(value)?);
    node.input(0).filter(|_| node.is("Expand") || node.is("Tile"))
}

/// Whether all elements of a value are this size.
fn all_are(graph: &Graph, sizes: &[Option<Sizes>], value: ValueId, wanted: &Size) -> bool {
    if let (Some(numbers), Some(wanted)) =
        (graph.initializer(value).and_then(Tensor::to_i64), wanted.value())
    {
        return numbers.iter().all(|number| *number == wanted);
    }
    let known = sizes.get(value.index()).cloned().flatten();
    let known = known.or_else(|| constant_sizes(graph, value));
    known.is_some_and(|known| known.elements.iter().all(|size| size.as_ref() == Some(wanted)))
}

fn backwards(graph: &mut Graph, id: NodeId, axis: i64) -> Option<()> {
    let data = graph.node(id).input(0)?;
    let bounds = [-1, i64::MIN, axis, -1].map(|bound| rewire::ints(graph, "reversed", &[bound]));
    graph.edit_node(id, |node| {
        node.op = "Slice".to_owned();
        node.inputs = [data].into_iter().chain(bounds).map(Some).collect();
        node.attributes.clear();
    });
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;
    use crate::ir::{Attribute, DataType};

    const AXES: [(&str, Attribute); 2] =
        [("batch_axis", Attribute::Int(1)), ("time_axis", Attribute::Int(0))];

    fn canonical_ops(b: GraphBuilder, y: ValueId) -> Vec<String> {
        let model = crate::canon::canonicalise(b.build(&[y]), &Default::default()).unwrap();
        model.graph.nodes().map(|(_, node)| node.op.clone()).collect()
    }

    #[test]
    fn whole_sequences_are_sliced_backwards() {
        let mut b = GraphBuilder::new("net", 13);
        let (x, lengths) = (b.input("x", "7,2,3"), b.ints("lengths", &[7, 7]));
        let y = b.op("ReverseSequence", "y", &[x, lengths], AXES);
        assert_eq!(canonical_ops(b, y), ["Slice"]);
    }

    /// As tf2onnx writes it: the length is repeated once per sample.
    #[test]
    fn lengths_of_an_open_batch_are_repeated_extents() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "t,n,3");
        let shape = b.op("Shape", "shape", &[x], []);
        let [time, batch] = [0, 1].map(|axis| {
            let axis = b.ints("axis", &[axis]);
            b.op("Gather", "extent", &[shape, axis], [])
        });
        let lengths = b.op("Expand", "lengths", &[time, batch], []);
        let y = b.op("ReverseSequence", "y", &[x, lengths], AXES);
        assert_eq!(canonical_ops(b, y), ["Slice"]);
    }

    #[test]
    fn shorter_sequences_and_given_lengths_stay() {
        let mut b = GraphBuilder::new("net", 13);
        let (x, lengths) = (b.input("x", "7,2,3"), b.ints("lengths", &[7, 6]));
        let y = b.op("ReverseSequence", "y", &[x, lengths], AXES);
        assert_eq!(canonical_ops(b, y), ["ReverseSequence"]);
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "7,n,3");
        let lengths = b.typed_input("lengths", DataType::I64, "n");
        let y = b.op("ReverseSequence", "y", &[x, lengths], AXES);
        assert_eq!(canonical_ops(b, y), ["ReverseSequence"]);
    }
}
