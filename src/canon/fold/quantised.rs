//! Folds `QuantizeLinear` and `DequantizeLinear` of constants, and casts of constants in half precision.
//!
//! Tools that quantise a model for training or for TensorRT keep float weights, and round them in the graph.

use crate::ir::{Codes, DataType, Factors, Graph, Node, NodeId, Tensor};
use crate::ops::normal_axis;

use super::Budget;

/// The floats that constants in few bits stand for, and how they are stored.
pub(super) fn floats(graph: &Graph, id: NodeId, budget: &mut Budget) -> Option<(Tensor, Codes)> {
    let node = graph.node(id);
    let codes = match node.op.as_str() {
        "DequantizeLinear" => dequantising(graph, node)?,
        "Cast" => widening(graph, node)?,
        _ => return None,
    };
    let stored = graph.initializer(node.input(0)?).filter(|_| node.domain.is_empty())?;
    let bytes = (stored.len() as u64).checked_mul(codes.scale.dtype.size()? as u64)?;
    if !budget.take(&[stored], bytes, 0) {
        return None;
    }
    Some((codes.decode(stored)?, codes))
}

/// The codes of a constant that a `DequantizeLinear` decodes, with the mark of products that read it directly.
pub(super) fn marked(graph: &Graph, id: NodeId, factors: &Factors, codes: Codes) -> Codes {
    let node = graph.node(id);
    let stored = node.input(0).and_then(|value| graph.initializer(value));
    let direct = node.output(0).zip(stored).is_some_and(|(output, stored)| {
        node.is("DequantizeLinear") && factors.round_data(output, stored, &codes)
    });
    Codes { direct, ..codes }
}

/// A constant in few bits behind a node that files write for it: a `Flatten`, which keeps a matrix apart from a
/// product, or a `Gather`, which brings the inputs of blocks into another order.
pub(super) fn behind(graph: &Graph, id: NodeId, budget: &mut Budget) -> Option<(Tensor, Codes)> {
    let node = graph.node(id);
    let value = node.input(0)?;
    let (tensor, codes) = (graph.initializer(value)?, graph.codes(value)?);
    if node.is("Flatten") && node.int("axis", 1) == 1 && tensor.dims.len() == 2 {
        return Some((tensor.clone(), codes.clone()));
    }
    let places = graph.initializer(node.input(1).filter(|_| node.is("Gather"))?)?;
    let axis = normal_axis(node.int("axis", 0), tensor.dims.len())?;
    let extent = *tensor.dims.get(axis)?;
    let each = tensor.data.len().checked_div(extent)?.checked_mul(places.len())?;
    if places.dims.len() != 1 || !budget.take(&[tensor, places], each as u64, 0) {
        return None;
    }
    let order: Option<Vec<usize>> =
        places.to_i64()?.into_iter().map(|place| usize::try_from(place).ok()).collect();
    let order = order.filter(|order| order.iter().all(|place| *place < extent))?;
    Some((tensor.select(axis, &order)?, codes.select(axis, &order)?))
}

/// The integers that constant floats are rounded to.
pub(super) fn integers(graph: &Graph, id: NodeId, budget: &mut Budget) -> Option<Tensor> {
    let node = graph.node(id);
    let is_plain = ["block_size", "precision"].iter().all(|name| node.int(name, 0) == 0);
    if !node.is("QuantizeLinear") || !is_plain {
        return None;
    }
    let stored = graph.initializer(node.input(0)?)?;
    let dtype = match (node.input(2), node.int("output_dtype", 0)) {
        (Some(zero), _) => graph.initializer(zero)?.dtype,
        (None, 0) => DataType::U8,
        (None, code) => DataType::from_code(i32::try_from(code).ok()?),
    };
    let codes = scaled(graph, node, (stored, dtype))?;
    if !is_flat(&codes.scale, stored) || !codes.zero.as_ref().is_none_or(|z| is_flat(z, stored)) {
        return None;
    }
    // Floats take at least as much memory as integers.
    if !budget.take(&[stored], stored.data.len() as u64, 0) {
        return None;
    }
    codes.quantise(stored)
}

/// The codes of a `DequantizeLinear` of constants.
fn dequantising(graph: &Graph, node: &Node) -> Option<Codes> {
    let stored = graph.initializer(node.input(0)?)?;
    let codes = scaled(graph, node, (stored, stored.dtype))?;
    let zero = codes.zero.as_ref();
    let fits = match node.int("block_size", 0) {
        0 => is_flat(&codes.scale, stored) && zero.is_none_or(|zero| is_flat(zero, stored)),
        size => {
            is_blocked(stored, &codes.scale, codes.axis, size)
                && zero.is_none_or(|zero| zero.dims == codes.scale.dims)
        }
    };
    fits.then_some(codes)
}

/// The codes of integers of type `dtype`, by the constant scale and zero point of a node.
fn scaled(graph: &Graph, node: &Node, (stored, dtype): (&Tensor, DataType)) -> Option<Codes> {
    let scale = graph.initializer(node.input(1)?)?.clone();
    let zero = match node.input(2) {
        Some(value) => Some(graph.initializer(value)?.clone()),
        None => None,
    };
    let axis = match scale.len() {
        1 => 0,
        _ => normal_axis(node.int("axis", 1), stored.dims.len())?,
    };
    let block = usize::try_from(node.int("block_size", 0)).ok()?;
    let block = if scale.dims.len() > 1 { block } else { 0 };
    let extent = *stored.dims.get(axis).unwrap_or(&0);
    let is_partial = block > 0 && extent % block != 0;
    let places = is_partial.then(|| (0..extent).collect());
    Some(Codes { dtype, axis, scale, zero, direct: false, block, places })
}

/// The codes of a `Cast` of a constant in half precision to a wider type.
fn widening(graph: &Graph, node: &Node) -> Option<Codes> {
    let half = graph.initializer(node.input(0)?)?.dtype;
    Codes::of_half(half, DataType::from_code(i32::try_from(node.int("to", 0)).ok()?))
}

/// Whether scales or zero points are one for all elements, or one per index of an axis.
fn is_flat(tensor: &Tensor, stored: &Tensor) -> bool {
    tensor.dims.len() <= stored.dims.len().min(1)
}

/// Whether each block of `size` indices along `axis` has a scale. The last block may have fewer.
fn is_blocked(stored: &Tensor, scale: &Tensor, axis: usize, size: i64) -> bool {
    let Some(size) = usize::try_from(size).ok().filter(|size| *size > 0) else { return false };
    let mut pairs = stored.dims.iter().zip(&scale.dims).enumerate();
    stored.dims.len() == scale.dims.len()
        && scale.len() > 1
        && pairs.all(|(place, (all, blocks))| match place == axis {
            true => *blocks == all.div_ceil(size),
            false => all == blocks,
        })
}
