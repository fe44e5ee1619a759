//! Operators that change the shape of their elements, or repeat them.

use crate::ir::{Dim, Size, TensorType};

use super::super::{NodeView, normal_axis};
use super::elementwise::broadcast;
use super::{Rows, extent, of_input};

pub(super) const RULES: Rows = &[
    (&["Flatten"], flatten),
    (&["Reshape"], reshape),
    (&["Expand"], expand),
    (&["Tile"], tile),
    (&["DepthToSpace"], depth_to_space),
    (&["SpaceToDepth"], space_to_depth),
];

fn flatten(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let flat = node.shape(0).and_then(|shape| {
        let (before, behind) = shape.split_at_checked(flatten_axis(node, shape.len())?)?;
        Some(vec![Dim::product(before), Dim::product(behind)])
    });
    // The result is a matrix even if the operand's rank is unknown.
    of_input(node, 0, flat.or_else(|| Some(super::open(2))))
}

/// The number of axes of an operand of rank `rank` that a `Flatten` merges into the first one.
pub(in crate::ops) fn flatten_axis(node: &NodeView<'_>, rank: usize) -> Option<usize> {
    match node.node.int("axis", 1) {
        axis if axis == rank as i64 => Some(rank),
        axis => normal_axis(axis, rank),
    }
}

fn reshape(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape =
        node.elements(1).map(|target| target_shape(node, node.shape(0).as_deref(), &target));
    of_input(node, 0, shape)
}

/// The output shape of a reshape of a value of shape `from` to `target`, as far as that is known.
pub(in crate::ops) fn target_shape(
    node: &NodeView<'_>,
    from: Option<&[Dim]>,
    target: &[Option<Size>],
) -> Vec<Dim> {
    let zero_copies = node.node.int("allowzero", 0) == 0;
    let number = |size: &Option<Size>| size.as_ref().and_then(Size::value);
    let dim = |(axis, size): (usize, &Option<Size>)| match (number(size), size) {
        (Some(0), _) if zero_copies => {
            from.and_then(|f| f.get(axis).cloned()).unwrap_or(Dim::Unknown)
        }
        (Some(n), _) => extent(n),
        (None, Some(size)) => size.clone().dim(),
        (None, None) => Dim::Unknown,
    };
    let mut dims: Vec<Dim> = target.iter().enumerate().map(dim).collect();
    let hole = target.iter().position(|size| number(size) == Some(-1));
    if let Some((hole, from)) = hole.or_else(|| lone_unknown(&dims)).zip(from) {
        dims[hole] = Dim::Unknown;
        dims[hole] = left_over(from, &dims, hole);
    }
    dims
}

/// The axis of the only unknown extent, which follows from the number of elements.
fn lone_unknown(dims: &[Dim]) -> Option<usize> {
    let mut open = dims.iter().enumerate().filter(|(_, dim)| **dim == Dim::Unknown);
    let (axis, _) = open.next()?;
    open.next().is_none().then_some(axis)
}

/// The extent at `hole` that makes `dims` hold as many elements as `from`.
fn left_over(from: &[Dim], dims: &[Dim], hole: usize) -> Dim {
    // Cancels extents on both sides, also those known by name only.
    let mut all = from.to_vec();
    let mut rest = Vec::new();
    for (_, dim) in dims.iter().enumerate().filter(|(axis, _)| *axis != hole) {
        match all.iter().position(|own| own.is_surely(dim)) {
            Some(place) => drop(all.swap_remove(place)),
            None => rest.push(dim),
        }
    }
    let (all, rest) = (Size::of(&Dim::product(&all)), Size::of(&Dim::product(rest)));
    let exact = |all: Size, rest: Size| {
        let quotient = all.over(&rest)?;
        let whole = quotient.times(&rest)? == all;
        // Rejects a fixed quotient that is not exact. An open one must be exact in a valid model.
        (whole || quotient.value().is_none()).then_some(quotient)
    };
    all.zip(rest).and_then(|(all, rest)| exact(all, rest)).map_or(Dim::Unknown, Size::dim)
}

fn expand(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let target = node.elements(1).map(|sizes| {
        let dim = |size: &Option<Size>| size.clone().map_or(Dim::Unknown, Size::dim);
        sizes.iter().map(dim).collect::<Vec<Dim>>()
    });
    of_input(node, 0, node.shape(0).zip(target).map(|(from, to)| broadcast(&[from, to])))
}

fn tile(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let repeats = node.elements(1).unwrap_or_default();
    let tiled = node.shape(0).map(|shape| {
        let times = |(axis, dim): (usize, &Dim)| {
            let repeat = repeats.get(axis)?.as_ref()?;
            Some(dim.computed(|size| size.times(repeat)))
        };
        shape.iter().enumerate().map(|own| times(own).unwrap_or(Dim::Unknown)).collect()
    });
    of_input(node, 0, tiled)
}

fn depth_to_space(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let block = node.node.int("blocksize", 1);
    image(node, |depth| depth.over(block.saturating_mul(block)), |side| side.times(block))
}

fn space_to_depth(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let block = node.node.int("blocksize", 1);
    image(node, |depth| depth.times(block.saturating_mul(block)), |side| side.over(block))
}

/// Images with a new number of channels and new sides.
fn image(
    node: &NodeView<'_>,
    channels: impl Fn(&Dim) -> Dim,
    side: impl Fn(&Dim) -> Dim,
) -> Vec<Option<TensorType>> {
    let shape = node.shape(0).and_then(|shape| {
        let [batch, depth, height, width] = shape.as_slice() else { return None };
        Some(vec![batch.clone(), channels(depth), side(height), side(width)])
    });
    of_input(node, 0, shape)
}
