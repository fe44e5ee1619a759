//! Operators that move elements or reduce along axes.

use crate::ir::Dim;
use crate::ops::normal_axis;

use super::{Operands, length};

pub(super) fn concat(operands: &Operands<'_>) -> Option<String> {
    let count = operands.0.node.inputs.len();
    let rank = (0..count).find_map(|slot| operands.rank(slot))?;
    let axis = operands.int("axis", 0);
    let Some(axis) = normal_axis(axis, rank) else { return Some(no_axis(axis, rank)) };
    // What is like one constant is like all constants that are like it.
    let (slot, dims) = (0..count).find_map(|slot| Some((slot, operands.constant(slot)?)))?;
    let fits = |other: usize| {
        let Some(shape) = operands.shape(other) else { return true };
        let mut pairs = shape.iter().zip(&dims).enumerate();
        let equal =
            |(at, (a, b)): (usize, (&Dim, &usize))| at == axis || a.known().is_none_or(|a| a == *b);
        shape.len() == dims.len() && pairs.all(equal)
    };
    let other = (0..count).find(|other| !fits(*other))?;
    Some(format!("joins input {slot} of shape {dims:?} with input {other}, which is unlike it"))
}

pub(super) fn split(operands: &Operands<'_>) -> Option<String> {
    let rank = operands.rank(0)?;
    let axis = operands.int("axis", 0);
    let Some(axis) = normal_axis(axis, rank) else { return Some(no_axis(axis, rank)) };
    let sizes = operands.ints(1)?;
    let outputs = operands.0.node.outputs.len();
    let total = sizes.iter().try_fold(0i64, |sum, n| sum.checked_add(*n).filter(|_| *n >= 0));
    let extent = operands.extent(0, axis).and_then(|n| i64::try_from(n).ok());
    let fits = sizes.len() == outputs && total.is_some_and(|n| extent.is_none_or(|all| all == n));
    (!fits).then(|| format!("has the sizes {sizes:?} for {outputs} outputs"))
}

pub(super) fn slice(operands: &Operands<'_>) -> Option<String> {
    let starts = operands.ints(1)?;
    let lengths = (1..5).filter_map(|slot| Some(operands.ints(slot)?.len()));
    if lengths.into_iter().any(|n| n != starts.len()) {
        return Some("has unequal numbers of bounds".to_owned());
    }
    if operands.ints(4).is_some_and(|steps| steps.contains(&0)) {
        return Some("has a step of 0".to_owned());
    }
    let rank = operands.rank(0)?;
    match operands.ints(3) {
        Some(axes) => bad_axes(&axes, rank, true),
        None => {
            (starts.len() > rank).then(|| format!("has {} bounds for {rank} axes", starts.len()))
        }
    }
}

pub(super) fn gather(operands: &Operands<'_>) -> Option<String> {
    let rank = operands.rank(0)?;
    let axis = operands.int("axis", 0);
    let Some(axis) = normal_axis(axis, rank) else { return Some(no_axis(axis, rank)) };
    let (extent, indices) = (operands.extent(0, axis)?, operands.ints(1)?);
    let outside = indices.iter().find(|index| normal_axis(**index, extent).is_none())?;
    Some(format!("picks index {outside} of {extent}"))
}

pub(super) fn transpose(operands: &Operands<'_>) -> Option<String> {
    let (rank, perm) = (operands.rank(0)?, operands.attribute("perm")?);
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    let fits = sorted.iter().copied().eq(0..rank as i64);
    (!fits).then(|| format!("has the order {perm:?} for {rank} axes"))
}

pub(super) fn reshape(operands: &Operands<'_>) -> Option<String> {
    let target = operands.ints(1)?;
    let open = target.iter().filter(|n| **n == -1).count();
    if open > 1 || target.iter().any(|n| *n < -1) {
        return Some(format!("has the target {target:?}"));
    }
    let shape = operands.shape(0)?;
    let zero_copies = operands.int("allowzero", 0) == 0;
    if zero_copies && target.iter().skip(shape.len()).any(|n| *n == 0) {
        return Some(format!("copies an extent that a value of {} axes lacks", shape.len()));
    }
    let all: Vec<usize> = shape.iter().map(Dim::known).collect::<Option<_>>()?;
    let extent = |(axis, n): (usize, &i64)| match *n {
        0 if zero_copies => all.get(axis).copied(),
        n => usize::try_from(n).ok(),
    };
    let given: Vec<usize> =
        target.iter().enumerate().filter(|(_, n)| **n != -1).map(extent).collect::<Option<_>>()?;
    let (from, to) = (length(&all), length(&given));
    let fits = if open == 0 { from == to } else { to != 0 && from % to == 0 };
    (!fits).then(|| format!("turns {from} elements into {target:?}"))
}

pub(super) fn flatten(operands: &Operands<'_>) -> Option<String> {
    let (rank, axis) = (operands.rank(0)? as i64, operands.int("axis", 1));
    (!(-rank..=rank).contains(&axis)).then(|| no_axis(axis, rank as usize))
}

/// Runtimes disagree about an empty list: ONNX Runtime takes away all axes of extent 1, others none.
pub(super) fn squeeze(operands: &Operands<'_>) -> Option<String> {
    let axes = operands.ints(1)?;
    let is_wide = |shape: Vec<Dim>| shape.iter().all(|dim| dim.known().is_some_and(|n| n != 1));
    if axes.is_empty() && !operands.shape(0).is_some_and(is_wide) {
        return Some("has an empty list of axes, which runtimes read in different ways".to_owned());
    }
    let rank = operands.rank(0)?;
    bad_axes(&axes, rank, true).or_else(|| {
        let wide = |axis: &&i64| {
            let extent = normal_axis(**axis, rank).and_then(|axis| operands.extent(0, axis));
            extent.is_some_and(|n| n != 1)
        };
        // Checks constants only: other shapes may be stale.
        operands.constant(0)?;
        axes.iter()
            .find(wide)
            .map(|axis| format!("takes away axis {axis}, which is not of extent 1"))
    })
}

pub(super) fn unsqueeze(operands: &Operands<'_>) -> Option<String> {
    let (rank, axes) = (operands.rank(0)?, operands.ints(1)?);
    bad_axes(&axes, rank + axes.len(), true)
}

pub(super) fn pad(operands: &Operands<'_>) -> Option<String> {
    let pads = operands.ints(1)?;
    let rank = operands.rank(0)?;
    let axes = match operands.ints(3) {
        Some(axes) => {
            if let Some(fault) = bad_axes(&axes, rank, true) {
                return Some(fault);
            }
            axes.len()
        }
        None if operands.0.node.input(3).is_some() => return None,
        None => rank,
    };
    (pads.len() != 2 * axes).then(|| format!("has {} widths for {axes} axes", pads.len()))
}

pub(super) fn tile(operands: &Operands<'_>) -> Option<String> {
    let (rank, repeats) = (operands.rank(0)?, operands.ints(1)?);
    let fits = repeats.len() == rank && repeats.iter().all(|n| *n >= 0);
    (!fits).then(|| format!("has the repeats {repeats:?} for {rank} axes"))
}

pub(super) fn reduced(operands: &Operands<'_>) -> Option<String> {
    let rank = operands.rank(0)?;
    let axes = match operands.attribute("axes") {
        Some(axes) => axes.to_vec(),
        None => operands.ints(1)?,
    };
    bad_axes(&axes, rank, false)
}

pub(super) fn on_axis(operands: &Operands<'_>) -> Option<String> {
    let (rank, axis) = (operands.rank(0)?, operands.int("axis", -1));
    // Any axis is valid for a scalar.
    (rank > 0 && normal_axis(axis, rank).is_none()).then(|| no_axis(axis, rank))
}

/// The fault in a list of axes of a value of `rank` axes.
fn bad_axes(axes: &[i64], rank: usize, once: bool) -> Option<String> {
    let mut seen = vec![false; rank];
    for axis in axes {
        let Some(at) = normal_axis(*axis, rank) else { return Some(no_axis(*axis, rank)) };
        if std::mem::replace(&mut seen[at], true) && once {
            return Some(format!("names axis {axis} twice"));
        }
    }
    None
}

fn no_axis(axis: i64, rank: usize) -> String {
    format!("works on axis {axis} of a value of {rank} axes")
}
