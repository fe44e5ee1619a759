//! Operators that move, add and drop axes.

use crate::ir::{DataType, Dim, TensorType};

use super::super::{NodeView, normal_axis};
use super::{Rows, of_input, one};

pub(super) const RULES: Rows = &[
    (&["Shape"], shape),
    (&["Size"], |_| one(DataType::I64, Some(Vec::new()))),
    (&["Squeeze"], squeeze),
    (&["Unsqueeze"], unsqueeze),
    (&["Transpose"], transpose),
];

fn shape(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let length =
        node.shape(0).map_or(Dim::Unknown, |s| Dim::Known(shape_range(node, s.len()).len()));
    one(DataType::I64, Some(vec![length]))
}

/// The axes whose extents a `Shape` returns.
pub(in crate::ops) fn shape_range(node: &NodeView<'_>, rank: usize) -> std::ops::Range<usize> {
    let wide = rank as i64;
    let bound = |v: i64| {
        let v = if v < 0 { v.saturating_add(wide) } else { v };
        usize::try_from(v.clamp(0, wide)).unwrap_or(0)
    };
    let start = bound(node.node.int("start", 0));
    start..bound(node.node.int("end", wide)).max(start)
}

fn squeeze(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let squeezed = node.shape(0).and_then(|shape| {
        let axes = squeezed_axes(node, &shape)?;
        let kept = shape.into_iter().enumerate().filter(|(i, _)| !axes.contains(i));
        Some(kept.map(|(_, dim)| dim).collect())
    });
    of_input(node, 0, squeezed)
}

/// The axes that a `Squeeze` removes; `None` if they depend on open extents.
pub(in crate::ops) fn squeezed_axes(node: &NodeView<'_>, shape: &[Dim]) -> Option<Vec<usize>> {
    if node.node.input(1).is_none() && node.node.ints("axes").is_none_or(<[i64]>::is_empty) {
        // Exporters mean the axes of extent 1 at export. An open first axis is the batch, so it stays.
        let all_known = shape.iter().skip(1).all(|d| d.known().is_some());
        let ones = shape.iter().enumerate().filter(|(_, dim)| **dim == Dim::Known(1));
        return all_known.then(|| ones.map(|(axis, _)| axis).collect());
    }
    node.axes(1, shape.len())
}

fn unsqueeze(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let unsqueezed = node.shape(0).and_then(|shape| {
        let axes = unsqueezed_axes(node, shape.len())?;
        let rank = shape.len() + axes.len();
        let mut rest = shape.into_iter();
        let dim = |axis| if axes.contains(&axis) { Some(Dim::Known(1)) } else { rest.next() };
        (0..rank).map(dim).collect()
    });
    of_input(node, 0, unsqueezed)
}

/// The axes of the result that an `Unsqueeze` of an operand of rank `rank` adds.
pub(in crate::ops) fn unsqueezed_axes(node: &NodeView<'_>, rank: usize) -> Option<Vec<usize>> {
    let count = node.node.ints("axes").map(<[i64]>::len).or_else(|| Some(node.ints(1)?.len()))?;
    node.axes(1, rank.checked_add(count)?)
}

fn transpose(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let transposed = node.shape(0).and_then(|shape| {
        permutation(node, shape.len())?.iter().map(|axis| shape.get(*axis).cloned()).collect()
    });
    of_input(node, 0, transposed)
}

/// The operand's axis of each output axis of a `Transpose`.
pub(in crate::ops) fn permutation(node: &NodeView<'_>, rank: usize) -> Option<Vec<usize>> {
    match node.node.ints("perm") {
        Some(perm) if perm.len() == rank => perm.iter().map(|p| normal_axis(*p, rank)).collect(),
        Some(_) => None,
        None => Some((0..rank).rev().collect()),
    }
}
