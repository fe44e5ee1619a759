//! Types inside sub-graphs: of captured values, of values that a loop carries, and of all computed values.
//!
//! A value that a loop carries keeps its shape, unless a step may return another one: then its shape is open.

use crate::error::{ErrorKind, Result};
use crate::ir::{Attribute, DataType, Dim, Graph, Node, NodeId, TensorType, ValueKind};
use crate::ops::normal_axis;

/// Largest nesting depth at which the shapes of loop-carried values are inferred: each level repeats the
/// inference of those inside it.
const DEEPEST: usize = 4;

/// Infers the types of all values in the sub-graphs of a node. A branch that cannot run, as one for another number of
/// axes, is no fault, since it is never taken; its types are inferred up to the node at which it ends.
///
/// # Errors
/// [`ErrorKind::Format`] if a sub-graph has a cycle, or the body of a loop a node that its constants do not fit.
pub(super) fn infer(graph: &mut Graph, id: NodeId) -> Result<()> {
    if graph.node(id).subgraphs().next().is_none() {
        return Ok(());
    }
    let mut fed = fed(graph, id);
    let (is_loop, is_choice) = (graph.node(id).is("Loop"), graph.node(id).is("If"));
    if is_loop && depth(graph.node(id)) > DEEPEST {
        fed.iter_mut().skip(FIRST_STATE).for_each(forget);
    }
    loop {
        let mut attributes = graph.node(id).attributes.clone();
        let mut kept = true;
        for attribute in attributes.values_mut() {
            let Attribute::Graph(sub) = attribute else { continue };
            capture(sub, graph);
            for (input, ty) in sub.inputs.clone().into_iter().zip(&fed) {
                let declared = sub.value(input).ty.clone();
                sub.set_type(input, super::refined(ty.clone(), declared));
            }
            if let Err(error) = super::infer(sub) {
                let is_refused = !is_choice || error.kind() != ErrorKind::Format;
                if is_refused || sub.topological_order().is_err() {
                    return Err(error);
                }
            }
            kept &= !is_loop || keeps(&mut fed, sub);
        }
        if kept {
            graph.edit_node(id, |node| node.attributes = attributes);
            return Ok(());
        }
    }
}

/// The first input of a loop's body that is carried, after the count and the condition.
const FIRST_STATE: usize = 2;

/// Whether a step of a loop returns the shapes that it was fed. Forgets all other shapes.
fn keeps(fed: &mut [Option<TensorType>], body: &Graph) -> bool {
    let mut kept = true;
    for (state, output) in fed.iter_mut().skip(FIRST_STATE).zip(body.outputs.iter().skip(1)) {
        let Some(shape) = state.as_ref().and_then(|ty| ty.shape.as_ref()) else { continue };
        let returned = super::shape(body, *output);
        if !returned.is_some_and(|returned| Dim::are_surely(&returned, shape)) {
            forget(state);
            kept = false;
        }
    }
    kept
}

fn forget(ty: &mut Option<TensorType>) {
    if let Some(ty) = ty {
        ty.shape = None;
    }
}

/// The nesting depth of the sub-graphs of a node.
fn depth(node: &Node) -> usize {
    let inner = |sub: &Graph| sub.nodes().map(|(_, node)| depth(node)).max().unwrap_or(0);
    node.subgraphs().map(|sub| 1 + inner(sub)).max().unwrap_or(0)
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
            let carried = (FIRST_STATE..node.inputs.len()).map(ty);
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
