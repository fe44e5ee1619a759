//! Replaces computed shapes, and decisions that follow from them, by constants.
//!
//! Emission must adapt shapes to new numbers of channels. It can read and rewrite a constant, but not a
//! computation. Sizes are followed as formulas of named extents, so an open batch is no obstacle.

use ndarray::ArrayD;

use crate::error::Result;
use crate::ir::{DataType, Dim, Graph, Model, NodeId, Size, Tensor, ValueId};
use crate::ops::Sizes;

use super::{CanonOptions, rewire, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let known = types::follow(graph)?;
    let mut modified = false;
    for (value, sizes) in graph.values().map(|(id, _)| id).zip(&known).collect::<Vec<_>>() {
        if let Some(sizes) = sizes {
            modified |= materialise(graph, value, sizes);
        }
    }
    for id in graph.topological_order()? {
        let target = graph.node(id).input(1).and_then(|v| known.get(v.index())?.as_ref());
        if let Some(target) = target {
            modified |= fix_target(graph, id, target);
        }
    }
    Ok(modified)
}

/// Turns a computed value whose elements are all known into a constant.
fn materialise(graph: &mut Graph, value: ValueId, sizes: &Sizes) -> bool {
    let Some(numbers) = sizes.numbers() else { return false };
    let dims = if sizes.scalar { Vec::new() } else { vec![numbers.len()] };
    let tensor = match graph.value(value).ty.as_ref().map(|t| t.dtype) {
        Some(dtype @ (DataType::I32 | DataType::I64 | DataType::Bool)) => {
            let numbers = ArrayD::from_shape_vec(dims, numbers).ok();
            numbers.and_then(|numbers| Tensor::from_ints(dtype, &numbers))
        }
        _ => None,
    };
    tensor.is_some_and(|tensor| rewire::replace_by_constant(graph, value, tensor))
}

/// Gives a reshape a constant target. Sizes that equal the operand's extent at the same place are
/// copied (0); one other size may be left to the runtime (-1).
fn fix_target(graph: &mut Graph, id: NodeId, target: &Sizes) -> bool {
    let node = graph.node(id);
    let (Some(data), Some(shape)) = (node.input(0), node.input(1)) else { return false };
    if !node.is("Reshape") || graph.initializer(shape).is_some() || node.int("allowzero", 0) != 0 {
        return false;
    }
    let from = types::shape(graph, data).unwrap_or_default();
    let Some(fixed) = constant_target(&target.elements, &from) else { return false };
    let name = format!("{}.shape", node.name);
    let constant = graph.add_initializer(&name, Tensor::from_i64(vec![fixed.len()], &fixed));
    graph.edit_node(id, |node| node.inputs[1] = Some(constant));
    true
}

fn constant_target(target: &[Option<Size>], from: &[Dim]) -> Option<Vec<i64>> {
    let mut fixed = Vec::with_capacity(target.len());
    for (axis, size) in target.iter().enumerate() {
        let dim = size.clone().map_or(Dim::Unknown, Size::dim);
        let copied = from.get(axis).is_some_and(|d| d.is_surely(&dim) && d.known().is_none());
        fixed.push(match size.as_ref().and_then(Size::value) {
            Some(number) => number,
            None if copied => 0,
            None => -1,
        });
    }
    (fixed.iter().filter(|s| **s == -1).count() <= 1).then_some(fixed)
}
