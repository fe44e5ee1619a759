//! Operators that change the shape but not the order of elements.

use crate::ir::Dim;

use super::elementwise::on_axis;
use super::space;
use super::types::{flatten_axis, target_shape};
use super::view::known_product;
use super::{Expand, Flow, Labels, NodeView, OpRule, Operand, Partwise};

/// `Flatten`.
pub struct Flatten;
/// `Reshape`.
pub struct Reshape;

impl OpRule for Flatten {
    fn ops(&self) -> &'static [&'static str] {
        &["Flatten"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let (Some(labels), Some(shape)) = (node.labels(0), node.shape(0)) else {
            return Flow::whole("flattening of unknown rank");
        };
        match flatten_axis(node, shape.len()) {
            Some(axis) if labels.axis >= axis => {
                merge(labels, &shape, axis..shape.len(), 1, vec![Operand::Channels])
            }
            _ => Flow::whole("flattening of channels into the batch axis"),
        }
    }
}

/// The flow of merging axes `range` of the operand into output axis `axis`.
fn merge(
    labels: &Labels,
    shape: &[Dim],
    range: std::ops::Range<usize>,
    axis: usize,
    operands: Vec<Operand>,
) -> Flow {
    let outer = known_product(&shape[range.start..labels.axis]);
    let inner = known_product(&shape[labels.axis + 1..range.end]);
    let (Some(outer), Some(inner)) = (outer, inner) else {
        return Flow::whole("flattening of extents that are known only at run time");
    };
    let block = labels.atoms.iter().flat_map(|a| std::iter::repeat_n(*a, inner));
    let atoms = (0..outer).flat_map(|_| block.clone()).collect();
    Flow::Partwise(Partwise {
        output: Labels::along(axis, atoms),
        operands,
        coupled: Vec::new(),
        expand: Expand { outer, inner, width: 1 },
    })
}

impl OpRule for Reshape {
    fn ops(&self) -> &'static [&'static str] {
        &["Reshape"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let (Some(labels), Some(from)) = (node.labels(0), node.shape(0)) else {
            return Flow::whole("a reshape of unknown rank");
        };
        let Some(to) = reshaped(node, &from) else {
            return Flow::whole("a reshape to a computed shape");
        };
        let moved = moved_ones(&from, &to);
        if let Some(axis) = moved.and_then(|m| m.iter().position(|p| *p == Some(labels.axis))) {
            return on_axis(node, axis, vec![Operand::Channels, counted(axis, 1)]);
        }
        let Some((ins, outs)) = block(&from, &to, labels.axis) else {
            return Flow::whole("a reshape that mixes channels with other axes");
        };
        // Ignores axes of extent 1: the channels go to the only other axis.
        let wide: Vec<usize> = outs.clone().filter(|i| to[*i] != Dim::Known(1)).collect();
        let axis = match (wide.as_slice(), outs.clone().next()) {
            ([axis], _) => *axis,
            ([], Some(axis)) => axis,
            ([heads, depths], _) => return split(node, labels, &from[ins], &to, (*heads, *depths)),
            _ => return Flow::whole("a reshape that splits the channel axis"),
        };
        merge(labels, &from, ins, axis, vec![Operand::Channels, counted(axis, 1)])
    }
}

/// A target shape with one entry for the number of channels, or of heads of `width` channels.
pub(super) fn counted(entry: usize, width: usize) -> Operand {
    Operand::Shape { entry, width }
}

/// The output shape of a reshape, as far as it is known.
pub(super) fn reshaped(node: &NodeView<'_>, from: &[Dim]) -> Option<Vec<Dim>> {
    match node.ints(1).and(node.elements(1)) {
        Some(to) => Some(target_shape(node, Some(from), &to)),
        // Type inference has followed computed shapes.
        None => node.output_shape(0),
    }
}

/// The axis of blocks, and their number, for a node that cuts the axis of channels into blocks of
/// consecutive channels; those of a block lie on other axes behind it.
///
/// Decoders cut features into maps this way: a reshape of [batch, maps·rows·columns] to [batch, maps, rows,
/// columns], and a pixel shuffle.
pub fn blocks(node: &NodeView<'_>) -> Option<(usize, usize)> {
    if !node.node.is("Reshape") {
        return space::blocks(node);
    }
    let (labels, from) = (node.labels(0).filter(|labels| labels.within.is_none())?, node.shape(0)?);
    let to = reshaped(node, &from)?;
    let (ins, outs) = block(&from, &to, labels.axis)?;
    let count = to.get(outs.start)?.known().filter(|count| *count > 1)?;
    let alone = known_product(&from[ins])? == labels.atoms.len();
    let is_cut = alone && labels.atoms.len() % count == 0 && labels.atoms.len() > count;
    is_cut.then_some((outs.start, count))
}

/// The flow of a reshape that splits the axis of channels into two, as for attention heads.
fn split(
    node: &NodeView<'_>,
    labels: &Labels,
    merged: &[Dim],
    to: &[Dim],
    (heads, depths): (usize, usize),
) -> Flow {
    let alone = known_product(merged) == Some(labels.atoms.len());
    match to[depths].known().filter(|width| alone && *width > 0) {
        Some(width) => {
            let operands = vec![Operand::Channels, counted(heads, width)];
            match on_axis(node, heads, operands) {
                Flow::Partwise(mut partwise) => {
                    partwise.output.within = Some(depths);
                    Flow::Partwise(partwise)
                }
                other => other,
            }
        }
        None => Flow::whole("a reshape that mixes channels with other axes"),
    }
}

/// The input axis of each output axis, for a reshape that moves, adds and drops only axes of extent 1;
/// `None` for other reshapes.
///
/// Such a reshape is a `Transpose`, `Squeeze` or `Unsqueeze` that exporters write this way because no
/// element moves. An axis of extent 1 stays between the same neighbours if the output has one there. The
/// others take the remaining places in order.
pub fn moved_ones(from: &[Dim], to: &[Dim]) -> Option<Vec<Option<usize>>> {
    let (wide_from, gaps_from) = wide_axes(from);
    let (wide_to, gaps_to) = wide_axes(to);
    let alike = wide_from.iter().zip(&wide_to).all(|(i, o)| from[*i].is_surely(&to[*o]));
    if wide_from.len() != wide_to.len() || !alike {
        return None;
    }
    let mut places = vec![None; to.len()];
    for (i, o) in wide_from.into_iter().zip(wide_to) {
        places[o] = Some(i);
    }
    let (mut left_from, mut left_to) = (Vec::new(), Vec::new());
    for (ins, outs) in gaps_from.into_iter().zip(gaps_to) {
        let staying = ins.len().min(outs.len());
        for (i, o) in ins.iter().zip(&outs) {
            places[*o] = Some(*i);
        }
        left_from.extend_from_slice(&ins[staying..]);
        left_to.extend_from_slice(&outs[staying..]);
    }
    for (i, o) in left_from.into_iter().zip(left_to) {
        places[o] = Some(i);
    }
    Some(places)
}

/// The axes that are not of extent 1, and those of extent 1 before, between and after them.
fn wide_axes(shape: &[Dim]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let (mut wide, mut gaps) = (Vec::new(), vec![Vec::new()]);
    for (axis, dim) in shape.iter().enumerate() {
        match (dim, gaps.last_mut()) {
            (Dim::Known(1), Some(gap)) => gap.push(axis),
            _ => {
                wide.push(axis);
                gaps.push(Vec::new());
            }
        }
    }
    (wide, gaps)
}

type Span = std::ops::Range<usize>;

/// [`block_around`], or [`block_from_behind`].
fn block(from: &[Dim], to: &[Dim], axis: usize) -> Option<(Span, Span)> {
    block_around(from, to, axis).or_else(|| block_from_behind(from, to, axis))
}

/// The smallest runs of input and output axes around input axis `axis` with the same number of
/// elements, such that the axes before them, and those after them, have the same number of elements,
/// too.
fn block_around(from: &[Dim], to: &[Dim], axis: usize) -> Option<(Span, Span)> {
    let (mut i, mut o) = (0, 0);
    while i < from.len() || o < to.len() {
        let (start_i, start_o) = (i, o);
        i += usize::from(i < from.len());
        o += usize::from(o < to.len());
        while !same_extent(&from[start_i..i], &to[start_o..o])? {
            match extent_order(&from[start_i..i], &to[start_o..o])? {
                std::cmp::Ordering::Less if i < from.len() => i += 1,
                std::cmp::Ordering::Greater if o < to.len() => o += 1,
                _ => return None,
            }
        }
        // Includes trailing axes of extent 1, so that [C] → [C, 1, 1] stays one block.
        while i < from.len() && from[i] == Dim::Known(1) && i > axis {
            i += 1;
        }
        while o < to.len() && to[o] == Dim::Known(1) && i > axis {
            o += 1;
        }
        if i > axis {
            return (start_i <= axis).then_some((start_i..i, start_o..o));
        }
    }
    None
}

/// [`block_around`] from the end, for shapes with unknown extents before `axis`.
fn block_from_behind(from: &[Dim], to: &[Dim], axis: usize) -> Option<(Span, Span)> {
    let turned = |shape: &[Dim]| shape.iter().rev().cloned().collect::<Vec<Dim>>();
    let behind = from.len().checked_sub(axis + 1)?;
    let (ins, outs) = block_around(&turned(from), &turned(to), behind)?;
    let back = |span: Span, rank: usize| rank - span.end..rank - span.start;
    Some((back(ins, from.len()), back(outs, to.len())))
}

fn same_extent(a: &[Dim], b: &[Dim]) -> Option<bool> {
    if let ([a], [b]) = (a, b)
        && a.known().is_none()
    {
        return a.is_surely(b).then_some(true);
    }
    Some(known_product(a)? == known_product(b)?)
}

fn extent_order(a: &[Dim], b: &[Dim]) -> Option<std::cmp::Ordering> {
    Some(known_product(a)?.cmp(&known_product(b)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(spec: &[i64]) -> Vec<Dim> {
        let dim = |d: &i64| usize::try_from(*d).map_or(Dim::Symbol("n".into()), Dim::Known);
        spec.iter().map(dim).collect()
    }

    #[test]
    fn blocks_of_reshapes() {
        let block = |from: &[i64], to: &[i64], axis| block_around(&dims(from), &dims(to), axis);
        assert_eq!(block(&[-1, 50, 4, 4], &[-1, 800], 1), Some((1..4, 1..2)));
        assert_eq!(block(&[-1, 50], &[-1, 50, 1, 1], 1), Some((1..2, 1..4)));
        assert_eq!(block(&[-1, 50, 1, 1], &[-1, 50], 1), Some((1..4, 1..2)));
        assert_eq!(block(&[-1, 6, 4, 4], &[-1, 6, 16], 1), Some((1..2, 1..2)));
        assert_eq!(block(&[-1, 6, 4, 4], &[-1, 2, 3, 4, 4], 1), Some((1..2, 1..3)));
        assert_eq!(block(&[-1, 4, 4, 6], &[-1, 96], 3), Some((1..4, 1..2)));
        assert_eq!(block(&[-1, 4], &[4, -1], 1), None);
        let behind = |from: &[i64], to: &[i64], axis| {
            let open = |spec: &[i64]| {
                let all = dims(spec).into_iter();
                all.map(|d| if d.known().is_some() { d } else { Dim::Unknown }).collect::<Vec<_>>()
            };
            block_from_behind(&open(from), &open(to), axis)
        };
        assert_eq!(behind(&[-1, -1, 16], &[-1, -1, 4, 4], 2), Some((2..3, 2..4)));
        assert_eq!(behind(&[-1, 16], &[-1, -1, 4, 4], 1), Some((1..2, 2..4)));
        assert_eq!(behind(&[-1, 16], &[-1, -1, 3, 4], 1), None);
    }

    #[test]
    fn axes_of_extent_1_move_as_in_a_transpose() {
        let moved = |from: &[i64], to: &[i64]| moved_ones(&dims(from), &dims(to));
        let all = |axes: &[usize]| Some(axes.iter().map(|a| Some(*a)).collect::<Vec<_>>());
        // Channels last to channels first and back, with narrow images and batches of one too.
        assert_eq!(moved(&[-1, 76, 32, 1], &[-1, 1, 76, 32]), all(&[0, 3, 1, 2]));
        assert_eq!(moved(&[-1, 1, 76, 32], &[-1, 76, 32, 1]), all(&[0, 2, 3, 1]));
        assert_eq!(moved(&[-1, 76, 1, 1], &[-1, 1, 76, 1]), all(&[0, 3, 1, 2]));
        assert_eq!(moved(&[1, 76, 32, 1], &[1, 1, 76, 32]), all(&[0, 3, 1, 2]));
        assert_eq!(moved(&[-1, 1, 1, 96], &[-1, 96, 1, 1]), all(&[0, 3, 1, 2]));
        // Squeezes and unsqueezes; the batch may be anywhere.
        assert_eq!(moved(&[9, 1, -1, 4], &[9, -1, 4]), all(&[0, 2, 3]));
        let added = Some(vec![Some(0), None, Some(1), Some(2)]);
        assert_eq!(moved(&[-1, 76, 32], &[-1, 1, 76, 32]), added);
        // Anything else moves elements.
        assert_eq!(moved(&[-1, 4, 1], &[4, 1, -1]), None);
        assert_eq!(moved(&[-1, 4, 6], &[-1, 24]), None);
    }
}
