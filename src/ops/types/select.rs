//! Operators that join, cut, pick or sort.

use crate::ir::{DataType, Dim, Size, TensorType};

use super::super::join::{picked_count, slices};
use super::super::{NodeView, normal_axis};
use super::{Rows, agreed, extent, of_input, one, open, typed_as};

pub(super) const RULES: Rows = &[
    (&["Concat"], concat),
    (&["Split"], split),
    (&["Slice"], slice),
    (&["Gather"], gather),
    (&["GatherElements"], |node| of_input(node, 0, node.shape(1))),
    (&["GatherND"], gather_nd),
    (&["Compress"], compress),
    (&["NonZero"], non_zero),
    (&["NonMaxSuppression"], |_| one(DataType::I64, Some(vec![Dim::Unknown, Dim::Known(3)]))),
    (&["OneHot"], one_hot),
    (&["TopK"], top_k),
    (&["Unique"], unique),
];

fn concat(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shapes: Vec<Option<Vec<Dim>>> =
        (0..node.node.inputs.len()).map(|i| node.shape(i)).collect();
    let rank = shapes.iter().flatten().map(Vec::len).next();
    let axis = rank.and_then(|rank| normal_axis(node.node.int("axis", 0), rank));
    let shape = rank.zip(axis).map(|(rank, axis)| {
        let shapes: Vec<Vec<Dim>> = shapes
            .into_iter()
            .map(|s| s.filter(|s| s.len() == rank).unwrap_or_else(|| open(rank)))
            .collect();
        let along = |at: usize| shapes.iter().filter_map(move |shape| shape.get(at));
        let dim = |at: usize| match at == axis {
            true => Dim::sum(along(at)),
            false => along(at).fold(Dim::Unknown, |all, own| agreed(&all, own)),
        };
        (0..rank).map(dim).collect()
    });
    of_input(node, 0, shape)
}

fn split(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let parts = node.shape(0).map(|shape| split_sizes(node, &shape));
    let part = |index: usize| {
        let shape = node.shape(0).map(|mut shape| {
            let axis = normal_axis(node.node.int("axis", 0), shape.len());
            let size = parts.as_ref().and_then(|parts| parts.get(index)).cloned();
            match axis.and_then(|axis| shape.get_mut(axis)) {
                Some(dim) => *dim = size.unwrap_or(Dim::Unknown),
                None => shape.fill(Dim::Unknown),
            }
            shape
        });
        typed_as(node, 0, shape)
    };
    (0..node.node.outputs.len()).map(part).collect()
}

/// Extents of the parts of a `Split` of a value of this shape, as far as known.
pub(in crate::ops) fn split_sizes(node: &NodeView<'_>, shape: &[Dim]) -> Vec<Dim> {
    if let Some(sizes) = node.node.ints("split") {
        return sizes.iter().map(|size| extent(*size)).collect();
    }
    if node.node.input(1).is_some() {
        let sizes = node.elements(1).unwrap_or_default();
        return sizes.into_iter().map(|size| size.map_or(Dim::Unknown, Size::dim)).collect();
    }
    let count = node.node.outputs.len();
    let axis = normal_axis(node.node.int("axis", 0), shape.len());
    let Some(total) = axis.and_then(|axis| shape.get(axis)) else { return open(count) };
    match total.known() {
        // The last part may be smaller.
        Some(total) => {
            let each = total.div_ceil(count.max(1));
            let part = |i: usize| each.min(total.saturating_sub(i.saturating_mul(each)));
            (0..count).map(|i| Dim::Known(part(i))).collect()
        }
        None => open(count),
    }
}

fn slice(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let sliced = node.shape(0).map(|mut shape| {
        match slices(node, shape.len()) {
            Some(slices) => {
                for (axis, start, end, step) in slices {
                    if let Some(dim) = shape.get_mut(axis) {
                        *dim = cut(dim, start, end, step);
                    }
                }
            }
            None => cut_by_formulas(node, &mut shape),
        }
        shape
    });
    of_input(node, 0, sliced)
}

/// Bounds that lie behind the end of every axis. Exporters write this number, or a larger one, for all that is left
/// of an open extent.
const BEHIND_ALL: i64 = 1_000_000_000;

/// The extent of `start..end` by `step` of an axis.
fn cut(dim: &Dim, start: i64, end: i64, step: i64) -> Dim {
    if let Some(n) = dim.known() {
        return Dim::Known(picked_count(n, start, end, step));
    }
    let to_the_end = end >= BEHIND_ALL;
    match (start, step) {
        // All of an open extent, in reverse.
        (-1 | BEHIND_ALL.., -1) if end <= -BEHIND_ALL => dim.clone(),
        (0.., 1) if to_the_end && start == 0 => dim.clone(),
        // Bounds counted from the end. These hold if the axis is long enough.
        (0.., 1) if to_the_end => start.checked_neg().map_or(Dim::Unknown, |less| dim.plus(less)),
        (0.., 1) if end < 0 => end.checked_sub(start).map_or(Dim::Unknown, |less| dim.plus(less)),
        (..=-1, 1) if end < 0 => extent(end.saturating_sub(start).max(0)),
        (..=-1, 1) if to_the_end => start.checked_neg().map_or(Dim::Unknown, extent),
        (0, 1..) if to_the_end => dim.plus(step.saturating_sub(1)).over(step),
        _ => Dim::Unknown,
    }
}

/// The extents after cuts whose bounds may be formulas. If it is unknown which axes are cut, all
/// extents become unknown.
fn cut_by_formulas(node: &NodeView<'_>, shape: &mut [Dim]) {
    let bounds = || {
        let (starts, ends) = (node.elements(1)?, node.elements(2)?);
        let axes: Vec<i64> = match node.node.input(3) {
            Some(_) => node.ints(3)?,
            None => (0..i64::try_from(starts.len()).ok()?).collect(),
        };
        let steps = match node.node.input(4) {
            Some(_) => node.ints(4)?,
            None => vec![1; starts.len()],
        };
        let places = axes.iter().map(|axis| normal_axis(*axis, shape.len()));
        let places = places.collect::<Option<Vec<usize>>>()?;
        (starts.len() == ends.len() && starts.len() == places.len() && starts.len() == steps.len())
            .then_some((starts, ends, places, steps))
    };
    let Some((starts, ends, places, steps)) = bounds() else {
        return shape.fill(Dim::Unknown);
    };
    for (((axis, start), end), step) in places.into_iter().zip(starts).zip(ends).zip(steps) {
        let number = |size: &Option<Size>| size.as_ref().and_then(Size::value);
        let Some(dim) = shape.get_mut(axis) else { continue };
        *dim = match (number(&start), number(&end), step) {
            (Some(start), Some(end), step) => cut(dim, start, end, step),
            // The whole extent.
            (Some(0), None, 1) if end.clone().map(Size::dim).is_some_and(|e| e.is_surely(dim)) => {
                continue;
            }
            _ => within(dim, start, end, step),
        };
    }
}

/// The extent of a cut by formulas, if the bounds surely lie inside the axis, or the cut begins at its start.
fn within(dim: &Dim, start: Option<Size>, end: Option<Size>, step: i64) -> Dim {
    let length = || {
        let (start, end, all) = (start?, end?, Size::of(dim)?);
        if let (Some(0), Some(all), 1) = (start.value(), all.value(), step) {
            return end.capped(all);
        }
        let whole = end == all || end.value().is_some_and(|end| end >= BEHIND_ALL);
        let inside = start.is_natural() && end.is_natural() && all.minus(&end)?.is_natural();
        match (step == 1, whole) {
            (true, true) if all.minus(&start)?.is_natural() => all.minus(&start),
            (true, false) if inside && end.minus(&start)?.is_natural() => end.minus(&start),
            _ => None,
        }
    };
    length().map_or(Dim::Unknown, Size::dim)
}

/// The axes of the indices replace the gathered axis.
fn gather(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = node.shape(0).zip(node.shape(1)).and_then(|(data, indices)| {
        let axis = normal_axis(node.node.int("axis", 0), data.len())?;
        Some([data.get(..axis)?, &indices, data.get(axis.saturating_add(1)..)?].concat())
    });
    of_input(node, 0, shape)
}

fn gather_nd(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = node.shape(0).zip(node.shape(1)).and_then(|(data, indices)| {
        let batch = usize::try_from(node.node.int("batch_dims", 0)).ok()?;
        let (depth, leading) = indices.split_last()?;
        let picked = batch.checked_add(depth.known()?)?;
        Some([leading, data.get(picked..)?].concat())
    });
    of_input(node, 0, shape)
}

fn compress(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = match node.node.attributes.contains_key("axis") {
        true => node.shape(0).and_then(|mut shape| {
            let axis = normal_axis(node.node.int("axis", 0), shape.len())?;
            *shape.get_mut(axis)? = Dim::Unknown;
            Some(shape)
        }),
        false => Some(open(1)),
    };
    of_input(node, 0, shape)
}

fn non_zero(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let rank = node.shape(0).map_or(Dim::Unknown, |shape| Dim::Known(shape.len()));
    one(DataType::I64, Some(vec![rank, Dim::Unknown]))
}

fn one_hot(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = node.shape(0).and_then(|mut shape| {
        let rank = shape.len().checked_add(1)?;
        let axis = normal_axis(node.node.int("axis", -1), rank)?;
        shape.insert(axis, node.number(1).map_or(Dim::Unknown, Size::dim));
        Some(shape)
    });
    of_input(node, 2, shape)
}

fn top_k(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let count = match node.node.attributes.contains_key("k") {
        true => extent(node.node.int("k", -1)),
        false => node.number(1).map_or(Dim::Unknown, Size::dim),
    };
    let shape = node.shape(0).and_then(|mut shape| {
        let axis = normal_axis(node.node.int("axis", -1), shape.len())?;
        *shape.get_mut(axis)? = count;
        Some(shape)
    });
    let indices = TensorType { dtype: DataType::I64, shape: shape.clone() };
    vec![typed_as(node, 0, shape), Some(indices)]
}

fn unique(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let whole = !node.node.attributes.contains_key("axis");
    let shape = match whole {
        true => Some(open(1)),
        false => node.shape(0).and_then(|mut shape| {
            let axis = normal_axis(node.node.int("axis", 0), shape.len())?;
            *shape.get_mut(axis)? = Dim::Unknown;
            Some(shape)
        }),
    };
    let list = |dim: Dim| Some(TensorType { dtype: DataType::I64, shape: Some(vec![dim]) });
    let unknown = || list(Dim::Unknown);
    vec![typed_as(node, 0, shape), unknown(), unknown(), unknown()]
}
