//! Operators with sub-graphs. The values of sub-graphs have been typed before.

use crate::ir::{Attribute, Dim, Graph, TensorType};

use super::super::{NodeView, normal_axis};
use super::Rows;

pub(super) const RULES: Rows = &[(&["If"], branches), (&["Loop"], repeated), (&["Scan"], scanned)];

fn body<'a>(node: &NodeView<'a>, name: &str) -> Option<&'a Graph> {
    match node.node.attributes.get(name) {
        Some(Attribute::Graph(graph)) => Some(graph),
        _ => None,
    }
}

fn outputs(graph: &Graph) -> impl Iterator<Item = Option<TensorType>> + '_ {
    graph.outputs.iter().map(|output| match graph.initializer(*output) {
        Some(tensor) => Some(tensor.ty()),
        None => graph.value(*output).ty.clone(),
    })
}

/// The common types of both branches.
fn branches(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let (Some(then), Some(other)) = (body(node, "then_branch"), body(node, "else_branch")) else {
        return Vec::new();
    };
    outputs(then).zip(outputs(other)).map(|(a, b)| common(a?, b?)).collect()
}

fn common(a: TensorType, b: TensorType) -> Option<TensorType> {
    let shape = match (a.shape, b.shape) {
        (Some(a), Some(b)) if a.len() == b.len() => {
            let same = |(a, b): (&Dim, &Dim)| if a.is_surely(b) { a.clone() } else { Dim::Unknown };
            Some(a.iter().zip(&b).map(same).collect())
        }
        _ => None,
    };
    (a.dtype == b.dtype).then_some(TensorType { dtype: a.dtype, shape })
}

/// Carried values may change their shape from step to step; the others get an axis of steps.
fn repeated(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let Some(body) = body(node, "body") else { return Vec::new() };
    let carried = node.node.inputs.len().saturating_sub(2);
    let types = outputs(body).skip(1).enumerate().map(|(index, ty)| match index < carried {
        true => ty,
        false => ty.and_then(|ty| stacked(ty, 0, &Dim::Unknown)),
    });
    types.collect()
}

fn scanned(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let Some(body) = body(node, "body") else { return Vec::new() };
    let scanned = usize::try_from(node.node.int("num_scan_inputs", 0)).unwrap_or(0);
    let states = node.node.inputs.len().saturating_sub(scanned);
    let axis = |list: &str, index: usize| {
        node.node.ints(list).and_then(|axes| axes.get(index).copied()).unwrap_or(0)
    };
    let steps = (0..scanned).find_map(|index| {
        let shape = node.shape(states.saturating_add(index))?;
        shape.get(normal_axis(axis("scan_input_axes", index), shape.len())?).cloned()
    });
    let steps = steps.unwrap_or(Dim::Unknown);
    let types = outputs(body).enumerate().map(|(index, ty)| match index.checked_sub(states) {
        None => ty,
        Some(index) => stacked(ty?, axis("scan_output_axes", index), &steps),
    });
    types.collect()
}

/// The type of the values of all steps, stacked on a new axis.
fn stacked(ty: TensorType, axis: i64, steps: &Dim) -> Option<TensorType> {
    let shape = ty.shape.and_then(|mut shape| {
        let axis = normal_axis(axis, shape.len().checked_add(1)?)?;
        shape.insert(axis, steps.clone());
        Some(shape)
    });
    Some(TensorType { dtype: ty.dtype, shape })
}
