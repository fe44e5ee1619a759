//! Folds `DequantizeLinear` of constants.

use crate::ir::{Codes, Graph, NodeId, Tensor};
use crate::ops::normal_axis;

use super::Budget;

/// The result of a `DequantizeLinear` of constants, and its quantisation.
pub(super) fn value(graph: &Graph, id: NodeId, budget: &mut Budget) -> Option<(Tensor, Codes)> {
    let node = graph.node(id);
    if !node.is("DequantizeLinear") {
        return None;
    }
    let constant = |index: usize| graph.initializer(node.input(index)?);
    let (stored, scale) = (constant(0)?, constant(1)?);
    let zero = match node.input(2) {
        Some(value) => Some(graph.initializer(value)?.clone()),
        None => None,
    };
    let rank = stored.dims.len();
    let is_uniform = scale.len() == 1;
    let axis = if is_uniform { 0 } else { normal_axis(node.int("axis", 1), rank)? };
    let flat = |tensor: &Tensor| tensor.dims.len() <= 1 && tensor.dims.len() <= rank;
    // With `block_size`, each block of indices has a scale; older versions ignore that attribute.
    if !flat(scale) || node.int("block_size", 0) != 0 || !zero.as_ref().is_none_or(flat) {
        return None;
    }
    let bytes = (stored.len() as u64).checked_mul(scale.dtype.size()? as u64)?;
    if !budget.take(&[stored], bytes) {
        return None;
    }
    let codes = Codes { dtype: stored.dtype, axis, scale: scale.clone(), zero };
    Some((codes.decode(stored)?, codes))
}
