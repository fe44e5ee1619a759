//! Broadcasting before version 7: along an `axis` of the first operand, and only if requested.

use crate::error::Result;
use crate::ir::{Attribute, Graph, NodeId, ValueId};

use super::super::types;
use super::unsupported;

/// Appends extents of 1 to the second operand, so that alignment from the right puts it at `axis`.
///
/// # Errors
/// [`crate::error::ErrorKind::Unsupported`] where ranks are not known.
pub(super) fn align(graph: &mut Graph, id: NodeId) -> Result<()> {
    let node = graph.node(id);
    let axis = match node.attributes.get("axis") {
        Some(Attribute::Int(axis)) if node.int("broadcast", 0) != 0 => Some(*axis),
        _ => None,
    };
    let (left, right) = (node.input(0), node.input(1));
    if let (Some(axis), Some(left), Some(right)) = (axis, left, right) {
        let rank = |v| types::shape(graph, v).map(|s| s.len());
        let (Some(outer), Some(inner)) = (rank(left), rank(right)) else {
            return Err(unsupported("operands of unknown rank are broadcast along an axis"));
        };
        let axis = if axis < 0 { axis + outer as i64 } else { axis };
        let behind = usize::try_from(axis).ok().and_then(|a| outer.checked_sub(a + inner));
        let Some(behind) = behind else {
            return Err(unsupported("an operand is broadcast along an axis that it does not fit"));
        };
        append_ones(graph, id, right, inner, behind);
    }
    graph.edit_node(id, |node| {
        node.attributes.remove("axis");
        node.attributes.remove("broadcast");
    });
    Ok(())
}

/// Appends extents of 1 to a slope with one element per channel. It belonged to axis 1, and is now
/// aligned from the right.
///
/// # Errors
/// [`crate::error::ErrorKind::Unsupported`] where the rank of the data is not known.
pub(super) fn slope(graph: &mut Graph, id: NodeId) -> Result<()> {
    let node = graph.node(id);
    let (Some(data), Some(slope)) = (node.input(0), node.input(1)) else { return Ok(()) };
    let shape = types::shape(graph, slope);
    if shape.as_ref().is_some_and(|s| s.iter().all(|d| d.known() == Some(1))) {
        return Ok(());
    }
    match (types::shape(graph, data), shape.map(|s| s.len())) {
        (Some(data), Some(1)) => {
            append_ones(graph, id, slope, 1, data.len().saturating_sub(2));
            Ok(())
        }
        _ => Err(unsupported("the slope of a PRelu belongs to an unknown axis")),
    }
}

/// Appends `count` extents of 1 to the node's second input.
fn append_ones(graph: &mut Graph, id: NodeId, value: ValueId, rank: usize, count: usize) {
    if count == 0 {
        return;
    }
    let name = format!("{}.aligned", graph.value(value).name);
    let aligned = match graph.initializer(value).cloned() {
        Some(mut tensor) => {
            tensor.dims.extend(std::iter::repeat_n(1, count));
            graph.add_initializer(&name, tensor)
        }
        None => {
            let axes = (rank..rank + count).map(|axis| axis as i64).collect();
            let aligned =
                graph.add_op("Unsqueeze", &name, &[value], [("axes", Attribute::Ints(axes))]);
            if let Some(unsqueeze) = graph.producer(aligned) {
                types::infer_node(graph, unsqueeze);
            }
            aligned
        }
    };
    graph.edit_node(id, |node| node.inputs[1] = Some(aligned));
}
