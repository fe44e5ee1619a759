//! Operators whose operands are repeated along axes of extent 1.

use std::collections::BTreeSet;

use crate::ops::normal_axis;

use super::Operands;

/// Each operand may be broadcast to the other.
pub(super) fn both_ways(operands: &Operands<'_>) -> Option<String> {
    let count = operands.0.node.inputs.len();
    // A node may have thousands of constants of a few shapes.
    let shapes: BTreeSet<Vec<usize>> =
        (0..count).filter_map(|slot| operands.constant(slot)).collect();
    let mut shapes = shapes.iter();
    shapes.find_map(|dims| (0..count).find_map(|other| clash(operands, dims, other, false)))
}

/// The second operand takes the shape of the first.
pub(super) fn one_way(operands: &Operands<'_>) -> Option<String> {
    clash(operands, &operands.constant(1)?, 0, true)
}

/// Scale and shift have the shape of the normalised axes.
pub(super) fn layer_norm(operands: &Operands<'_>) -> Option<String> {
    let rank = operands.rank(0)?;
    let axis = operands.int("axis", -1);
    let Some(first) = normal_axis(axis, rank) else {
        return Some(format!("normalises from axis {axis} of {rank}"));
    };
    [1, 2].into_iter().find_map(|slot| {
        let dims = operands.constant(slot)?;
        if dims.len() > rank - first {
            return Some(format!("has {} axes in input {slot} for {}", dims.len(), rank - first));
        }
        clash(operands, &dims, 0, true)
    })
}

/// The operand is broadcast to a given shape.
pub(super) fn expand(operands: &Operands<'_>) -> Option<String> {
    let target = operands.ints(1)?;
    let Some(target) = target.iter().map(|n| usize::try_from(*n).ok()).collect::<Option<Vec<_>>>()
    else {
        return Some(format!("has the target {target:?}"));
    };
    clash(operands, &target, 0, false)
}

/// The fault of a constant of shape `dims` that does not broadcast with input `other`.
fn clash(operands: &Operands<'_>, dims: &[usize], other: usize, one_way: bool) -> Option<String> {
    let shape = operands.shape(other)?;
    let missing = dims.len().saturating_sub(shape.len());
    let behind = dims.iter().rev().zip(shape.iter().rev());
    let mut pairs = behind.filter_map(|(own, other)| Some((*own, other.known()?)));
    let clashes = pairs.any(|(own, other)| own != other && own != 1 && (one_way || other != 1));
    let too_long = one_way && dims.iter().take(missing).any(|extent| *extent != 1);
    (clashes || too_long).then(|| {
        let known = shape.iter().map(|d| d.known().map_or("?".to_owned(), |n| n.to_string()));
        let known: Vec<String> = known.collect();
        format!("has a constant of shape {dims:?} beside a value of shape [{}]", known.join(", "))
    })
}
