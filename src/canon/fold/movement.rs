//! Operators that move elements without changing them.

use ndarray::{ArrayD, Axis, IxDyn};

use crate::ir::{Attribute, Dim, Graph, Node, NodeId, Tensor};
use crate::ops::{self, NodeView, normal_axis, picked, slices};

/// The operators of this file.
pub(super) const OPS: &[&str] = &[
    "ConstantOfShape",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Concat",
    "Gather",
    "Slice",
    "Expand",
];

/// The source of a result's elements.
pub(super) enum Movement {
    Reshape(Vec<usize>),
    Transpose(Vec<usize>),
    /// Axis and indices of the first input, and the shape of the indices.
    Gather(usize, Vec<usize>, Vec<usize>),
    /// Axis and indices, one axis after the other.
    Pick(Vec<(usize, Vec<usize>)>),
    Concat(usize),
    Expand(Vec<usize>),
}

/// The result of a movement, if the node is one and its result has at most `largest` elements.
pub(super) fn value(
    graph: &Graph,
    id: NodeId,
    inputs: &[&Tensor],
    largest: usize,
) -> Option<Tensor> {
    let node = graph.node(id);
    if node.op == "ConstantOfShape" {
        return filled(node, inputs.first()?, largest);
    }
    let movement = movement(graph, id, inputs, largest)?;
    match inputs.first()?.dtype.size()? {
        1 => moved::<1>(&movement, inputs),
        2 => moved::<2>(&movement, inputs),
        4 => moved::<4>(&movement, inputs),
        8 => moved::<8>(&movement, inputs),
        _ => None,
    }
}

/// A tensor of equal elements.
fn filled(node: &Node, shape: &Tensor, largest: usize) -> Option<Tensor> {
    let dims: Option<Vec<usize>> =
        shape.to_i64()?.iter().map(|d| usize::try_from(*d).ok()).collect();
    let dims = dims?;
    let count = product(&dims).filter(|n| *n <= largest)?;
    let zero = Tensor::from_f32(&ndarray::arr1(&[0.0]).into_dyn());
    let element = match node.attributes.get("value") {
        Some(Attribute::Tensor(element)) => element,
        Some(_) => return None,
        None => &zero,
    };
    // The standard has one element; many of them would fill another shape, or the memory.
    let is_one = element.dtype.size() == Some(element.data.len());
    is_one.then(|| Tensor { dtype: element.dtype, dims, data: element.data.repeat(count).into() })
}

pub(super) fn product(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
}

/// The movement that a node is, if it is one and its result has at most `largest` elements.
pub(super) fn movement(
    graph: &Graph,
    id: NodeId,
    inputs: &[&Tensor],
    largest: usize,
) -> Option<Movement> {
    let view = NodeView::new(graph, id, &[]);
    let node = view.node;
    let from = &inputs.first()?.dims;
    Some(match node.op.as_str() {
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => Movement::Reshape(fixed_shape(&view)?),
        "Transpose" => Movement::Transpose(fixed_order(node, from.len())?),
        "Concat" => Movement::Concat(normal_axis(node.int("axis", 0), from.len())?),
        "Gather" => {
            let axis = normal_axis(node.int("axis", 0), from.len())?;
            let wrap = |i: &i64| normal_axis(*i, from[axis]);
            let indices: Option<Vec<usize>> = inputs.get(1)?.to_i64()?.iter().map(wrap).collect();
            let length = (product(from)? / from[axis].max(1)).checked_mul(indices.as_ref()?.len());
            length.filter(|n| *n <= largest)?;
            Movement::Gather(axis, indices?, inputs.get(1)?.dims.clone())
        }
        "Slice" => {
            let axes = slices(&view, from.len())?.into_iter();
            Movement::Pick(axes.map(|(a, b, e, s)| (a, picked(from[a], b, e, s))).collect())
        }
        "Expand" => {
            let target = inputs.get(1)?.to_i64()?;
            let target: Option<Vec<usize>> =
                target.iter().map(|d| usize::try_from(*d).ok()).collect();
            let dims = broadcast_dims(from, &target?)?;
            product(&dims).filter(|n| *n <= largest)?;
            Movement::Expand(dims)
        }
        _ => return None,
    })
}

/// The inferred output shape.
fn fixed_shape(view: &NodeView<'_>) -> Option<Vec<usize>> {
    let ty = ops::infer(view).into_iter().next()??;
    ty.shape?.iter().map(Dim::known).collect()
}

fn fixed_order(node: &Node, rank: usize) -> Option<Vec<usize>> {
    let order: Vec<usize> = match node.ints("perm") {
        Some(perm) => perm.iter().map(|p| normal_axis(*p, rank)).collect::<Option<_>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    sorted.into_iter().eq(0..rank).then_some(order)
}

/// The shape that two shapes broadcast to.
pub(super) fn broadcast_dims(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], axis: usize| {
        (axis + dims.len()).checked_sub(rank).and_then(|i| dims.get(i).copied()).unwrap_or(1)
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (n, m) if n == m || m == 1 => Some(n),
            (1, m) => Some(m),
            _ => None,
        })
        .collect()
}

/// Applies a movement to elements of `N` bytes.
fn moved<const N: usize>(movement: &Movement, inputs: &[&Tensor]) -> Option<Tensor> {
    let first = elements::<N>(inputs.first()?)?;
    let result: ArrayD<[u8; N]> = match movement {
        Movement::Reshape(dims) => first.into_shape_with_order(IxDyn(dims)).ok()?,
        Movement::Transpose(order) => first.permuted_axes(IxDyn(order)),
        Movement::Gather(axis, indices, shape) => {
            let dims = [&first.shape()[..*axis], shape, &first.shape()[axis + 1..]].concat();
            // Entries of a later axis need not lie in standard order.
            let picked = first.select(Axis(*axis), indices).as_standard_layout().into_owned();
            picked.into_shape_with_order(IxDyn(&dims)).ok()?
        }
        Movement::Pick(axes) => {
            axes.iter().fold(first, |array, (axis, indices)| array.select(Axis(*axis), indices))
        }
        Movement::Concat(axis) => return Tensor::joined(inputs, *axis),
        Movement::Expand(dims) => first.broadcast(IxDyn(dims))?.to_owned(),
    };
    let data: Vec<u8> = result.iter().flatten().copied().collect();
    Some(Tensor { dtype: inputs.first()?.dtype, dims: result.shape().to_vec(), data: data.into() })
}

fn elements<const N: usize>(tensor: &Tensor) -> Option<ArrayD<[u8; N]>> {
    let (chunks, rest) = tensor.data.as_chunks::<N>();
    if tensor.dtype.size() != Some(N) || !rest.is_empty() {
        return None;
    }
    ArrayD::from_shape_vec(IxDyn(&tensor.dims), chunks.to_vec()).ok()
}
