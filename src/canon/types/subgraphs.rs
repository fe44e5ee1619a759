//! Types inside sub-graphs: of captured values, of values that a loop carries, and of all computed
//! values.

use crate::error::Result;
use crate::ir::{Attribute, DataType, Dim, Graph, NodeId, TensorType, ValueKind};
use crate::ops::normal_axis;

/// Infers the types of all values in the sub-graphs of a node.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a sub-graph has a cycle.
pub(super) fn infer(graph: &mut Graph, id: NodeId) -> Result<()> {
    if graph.node(id).subgraphs().next().is_none() {
        return Ok(());
    }
    let fed = fed(graph, id);
    let mut attributes = graph.node(id).attributes.clone();
    for attribute in attributes.values_mut() {
        let Attribute::Graph(sub) = attribute else { continue };
        capture(sub, graph);
        for (input, ty) in sub.inputs.clone().into_iter().zip(&fed) {
            let declared = sub.value(input).ty.clone();
            sub.set_type(input, super::refined(ty.clone(), declared));
        }
        super::infer(sub)?;
    }
    graph.edit_node(id, |node| node.attributes = attributes);
    Ok(())
}

/// Gives captured values their outer types.
fn capture(sub: &mut Graph, outer: &Graph) {
    let captured: Vec<_> = sub
        .values()
        .filter_map(|(id, value)| match value.kind {
            ValueKind::Captured(from) => Some((id, super::of(outer, from)?)),
            _ => None,
        })
        .collect();
    for (id, ty) in captured {
        sub.set_type(id, Some(ty));
    }
}

/// Types of the inputs of a node's sub-graphs, as far as they follow from the node.
fn fed(graph: &Graph, id: NodeId) -> Vec<Option<TensorType>> {
    let node = graph.node(id);
    let ty = |index: usize| super::of(graph, node.input(index)?);
    match node.op.as_str() {
        "Loop" if node.domain.is_empty() => {
            let scalar = |dtype| Some(TensorType { dtype, shape: Some(Vec::new()) });
            // Carried values may change their shape after the first step.
            let carried =
                (2..node.inputs.len()).map(|i| ty(i).map(|ty| TensorType { shape: None, ..ty }));
            [scalar(DataType::I64), scalar(DataType::Bool)].into_iter().chain(carried).collect()
        }
        "Scan" if node.domain.is_empty() => {
            let scanned = usize::try_from(node.int("num_scan_inputs", 0)).unwrap_or(0);
            let states = node.inputs.len().saturating_sub(scanned);
            let axes = node.ints("scan_input_axes").unwrap_or_default();
            let one = |index: usize| match index.checked_sub(states) {
                None => ty(index),
                Some(place) => without(ty(index)?, axes.get(place).copied().unwrap_or(0)),
            };
            (0..node.inputs.len()).map(one).collect()
        }
        _ => Vec::new(),
    }
}

/// The type of one step of a scanned value.
fn without(ty: TensorType, axis: i64) -> Option<TensorType> {
    let shape = ty.shape.and_then(|mut shape: Vec<Dim>| {
        let axis = normal_axis(axis, shape.len())?;
        shape.remove(axis);
        Some(shape)
    });
    Some(TensorType { dtype: ty.dtype, shape })
}
