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
    let is_uniform = scale.len() == 1;
    let axis = match is_uniform {
        true => 0,
        false => normal_axis(node.int("axis", 1), stored.dims.len())?,
    };
    let is_flat = |tensor: &Tensor| tensor.dims.len() <= stored.dims.len().min(1);
    let fits = match node.int("block_size", 0) {
        0 => is_flat(scale) && zero.as_ref().is_none_or(is_flat),
        size => {
            is_blocked(stored, scale, axis, size)
                && zero.as_ref().is_none_or(|z| z.dims == scale.dims)
        }
    };
    if !fits {
        return None;
    }
    let bytes = (stored.len() as u64).checked_mul(scale.dtype.size()? as u64)?;
    if !budget.take(&[stored], bytes, 0) {
        return None;
    }
    let codes = Codes { dtype: stored.dtype, axis, scale: scale.clone(), zero };
    Some((codes.decode(stored)?, codes))
}

/// Whether each block of `size` indices along `axis` has a scale, and all blocks are complete.
fn is_blocked(stored: &Tensor, scale: &Tensor, axis: usize, size: i64) -> bool {
    let Ok(size) = usize::try_from(size) else { return false };
    let mut pairs = stored.dims.iter().zip(&scale.dims).enumerate();
    stored.dims.len() == scale.dims.len()
        && scale.len() > 1
        && pairs.all(|(place, (all, blocks))| match place == axis {
            true => blocks.checked_mul(size) == Some(*all),
            false => all == blocks,
        })
}
