//! Flow of channels on two axes, as in attention heads.
//!
//! A reshape puts the channels of a layer on an axis of heads and an axis of depths
//! ([`Labels::within`]). Until a reshape puts them on one axis again, heads are permuted as whole
//! blocks. The depths of a head may be permuted, too, if only the product of queries and keys reads
//! them.

use crate::ir::Dim;

use super::beside;
use super::elementwise::on_axis;
use super::reshape::{counted, moved_ones, reshaped};
use super::types::{permutation, squeezed_axes, unsqueezed_axes};
use super::{Atom, Expand, Flow, Labels, NodeView, Operand, Partwise, aligned_axis};

/// A product of stacked matrices, one per head.
#[derive(Debug, Clone, PartialEq)]
pub enum HeadProduct {
    /// Queries times keys, summed over the depths of each head. The scores have one channel per head.
    Scores {
        /// The axis of heads.
        axis: usize,
        /// The number of heads.
        heads: usize,
    },
    /// Values times scores, which have one channel per head, on either side.
    Mixed {
        /// The channels of the values.
        values: Labels,
        /// The channels of the scores.
        scores: Vec<Atom>,
    },
    /// A product of which the depths of one operand are rows or columns. Those of the other operand have places.
    Beside {
        /// Which operand's depths go on.
        operand: usize,
        /// The number of heads.
        heads: usize,
    },
}

/// The product over channels on two axes that a node computes, if any.
pub fn head_product(node: &NodeView<'_>) -> Option<HeadProduct> {
    let (left, right) = (node.labels(0)?, node.labels(1)?);
    let rank = node.shape(0)?.len();
    if !node.node.is("MatMul") || node.shape(1)?.len() != rank || left.axis != right.axis {
        return None;
    }
    let heads = node.shape(0)?.get(left.axis)?.known()?;
    let same = node.shape(1)?.get(right.axis)?.known() == Some(heads);
    let are_stacked = same && left.axis + 2 < rank;
    match (left.within, right.within) {
        (Some(a), Some(b)) if a + 1 == rank && b + 2 == rank && same => {
            let alike = left.atoms.len() == right.atoms.len() && are_distinct(left, right);
            alike.then_some(HeadProduct::Scores { axis: left.axis, heads })
        }
        // As the context of linear attention, and what queries get from it.
        (Some(_), Some(b)) if b + 1 == rank && are_stacked => {
            Some(HeadProduct::Beside { operand: 1, heads })
        }
        (Some(a), Some(_)) if a + 2 == rank && are_stacked => {
            Some(HeadProduct::Beside { operand: 0, heads })
        }
        (None, Some(b)) if b + 1 == rank && same => mixed(right, left, heads, rank),
        // Depths before tokens: values times turned scores.
        (Some(a), None) if a + 2 == rank && same => mixed(left, right, heads, rank),
        _ => None,
    }
}

/// A product of each head with one matrix for all of them, or with a constant one of its own, which sums over depths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommonProduct {
    /// The operand with channels on two axes.
    pub operand: usize,
    /// The axis of depths in the other operand.
    pub depths: usize,
    /// The axis of heads behind the node.
    pub heads: usize,
    /// The axis of heads in the other operand, if it has a matrix of constants for each.
    pub of_each: Option<usize>,
}

/// The product with one matrix for all heads that a node computes, if any: of queries with the only head of keys, or
/// with a table of relative positions, and of learned queries with keys.
pub fn common_product(node: &NodeView<'_>) -> Option<CommonProduct> {
    if !node.node.is("MatMul") {
        return None;
    }
    let shapes = [node.shape(0)?, node.shape(1)?];
    let rank = shapes[0].len().max(shapes[1].len());
    // The axis over which the product sums, counted from the end.
    let behind = [1, 2];
    (0..2).find_map(|operand| {
        let (own, other) = (node.labels(operand)?, 1 - operand);
        let (from, to) = (&shapes[operand], &shapes[other]);
        let within = own.within.filter(|within| within + behind[operand] == from.len())?;
        let depths = to.len().checked_sub(behind[other])?;
        let theirs = node.labels(other);
        let is_one_head = theirs.is_none_or(|l| l.within.is_none() && l.axis == depths);
        let is_stacked = own.axis + 2 < from.len();
        let at = aligned_axis(own.axis, from.len(), to.len()).filter(|_| is_stacked);
        let of_each = at.filter(|axis| to.get(*axis) != Some(&Dim::Known(1)));
        let is_known = theirs.is_some() || node.constant(other).is_some();
        let is_stack = of_each.is_none_or(|axis| {
            let count = to.get(axis).and_then(Dim::known);
            theirs.is_none() && count.is_some() && from.get(own.axis).and_then(Dim::known) == count
        });
        let fits = from.get(within)?.known().is_some_and(|width| {
            to.get(depths).and_then(Dim::known) == Some(width)
                && theirs.is_none_or(|labels| labels.atoms.len() == width)
        });
        (is_one_head && is_stack && is_known && fits).then_some(CommonProduct {
            operand,
            depths,
            heads: own.axis + rank - from.len(),
            of_each,
        })
    })
}

fn mixed(values: &Labels, scores: &Labels, heads: usize, rank: usize) -> Option<HeadProduct> {
    let fits = scores.axis + 2 < rank && scores.atoms.len() == heads;
    fits.then(|| HeadProduct::Mixed { values: values.clone(), scores: scores.atoms.clone() })
}

/// Whether no channel belongs to several heads.
fn are_distinct(left: &Labels, right: &Labels) -> bool {
    [left, right].iter().all(|labels| {
        let mut atoms = labels.atoms.clone();
        atoms.sort_unstable();
        atoms.windows(2).all(|pair| pair[0] != pair[1])
    })
}

/// The roles of scale and shift of a node that normalises over each head and all later axes, like group
/// normalisation; `None` for other nodes.
pub fn group_norm(node: &NodeView<'_>) -> Option<Vec<Operand>> {
    let labels = node.labels(0).filter(|labels| labels.axis == 1)?;
    let heads = node.shape(0)?.get(1)?.known()?;
    let is_one_each = |i| node.constant(i).is_some_and(|tensor| tensor.dims == [heads]);
    let fits = node.node.is("InstanceNormalization") && (1..3).all(is_one_each);
    (fits && labels.within.is_some()).then(|| vec![Operand::Param { axis: 0 }; 2])
}

/// The flow of channels on two axes through a node; `None` if at most whole heads can be permuted.
pub fn head_flow(node: &NodeView<'_>) -> Option<Flow> {
    let labels = node.labels(0).filter(|labels| labels.within.is_some());
    match node.node.op.as_str() {
        "Transpose" => {
            let perm = permutation(node, node.shape(0)?.len())?;
            moved(node, labels?, vec![], |axis| perm.iter().position(|p| *p == axis))
        }
        "Squeeze" => {
            let gone = squeezed_axes(node, &node.shape(0)?)?;
            moved(node, labels?, vec![Operand::Plain], |axis| {
                let before = gone.iter().filter(|a| **a < axis).count();
                (!gone.contains(&axis)).then(|| axis - before)
            })
        }
        "Unsqueeze" => {
            let shape = node.shape(0)?;
            let new = unsqueezed_axes(node, shape.len())?;
            let old: Vec<usize> =
                (0..shape.len() + new.len()).filter(|i| !new.contains(i)).collect();
            moved(node, labels?, vec![Operand::Plain], |axis| old.get(axis).copied())
        }
        "Reshape" => reshape(node, labels?),
        "Expand" => {
            let (from, to) = (node.shape(0)?, node.output_shape(0)?);
            let extent = |shape: &[Dim], axis: usize| shape.get(axis).and_then(Dim::known);
            let kept = |axis: usize| extent(&from, axis).filter(|n| extent(&to, axis) == Some(*n));
            let labels = labels?;
            (from.len() == to.len()
                && kept(labels.axis).is_some()
                && kept(labels.within?).is_some())
            .then_some(())?;
            let width = depth(node, labels)?;
            moved(node, labels, vec![counted(labels.axis, width)], Some)
        }
        "Identity" | "Cast" => moved(node, labels?, vec![], Some),
        "Add" | "Sub" | "Mul" | "Div" => arithmetic(node),
        "MatMul" => beside::product(node),
        _ => None,
    }
}

/// Number of channels per head.
fn depth(node: &NodeView<'_>, labels: &Labels) -> Option<usize> {
    node.shape(0)?.get(labels.within?)?.known()
}

/// The flow of a node that moves both axes by `place`.
fn moved(
    node: &NodeView<'_>,
    labels: &Labels,
    others: Vec<Operand>,
    place: impl Fn(usize) -> Option<usize>,
) -> Option<Flow> {
    let (axis, within) = (place(labels.axis)?, place(labels.within?)?);
    match on_axis(node, axis, [vec![Operand::Channels], others].concat()) {
        Flow::Partwise(mut partwise) => {
            partwise.output.within = Some(within);
            Some(Flow::Partwise(partwise))
        }
        _ => None,
    }
}

/// The flow of a reshape that moves axes of extent 1, merges heads and depths into one axis, or merges
/// the copies of heads that an `Expand` has made.
fn reshape(node: &NodeView<'_>, labels: &Labels) -> Option<Flow> {
    let from = node.shape(0)?;
    let to = reshaped(node, &from)?;
    let (heads, depths, width) = (labels.axis, labels.within?, depth(node, labels)?);
    if let Some(places) = moved_ones(&from, &to) {
        let place = |axis: usize| places.iter().position(|p| *p == Some(axis));
        return moved(node, labels, vec![counted(place(heads)?, width)], place);
    }
    if are_equal(&from, &to) {
        return moved(node, labels, vec![counted(heads, width)], Some);
    }
    if let Some(axis) = merged(&from, &to, heads).filter(|_| depths == heads + 1) {
        let fits = to.get(axis)?.known() == Some(labels.atoms.len());
        let operands = vec![Operand::Channels, counted(axis, 1)];
        return fits.then(|| on_axis(node, axis, operands));
    }
    if let Some(flow) = merged_in_front(&from, &to, labels, width) {
        return Some(flow);
    }
    let tail = from.get(heads + 1..)?;
    let beside = [from.get(..heads)?, tail.get(1..)?].concat();
    let same_others = are_equal(&beside, &[to.get(..heads)?, to.get(heads + 1..)?].concat());
    let copies = tail.first()?.known()?;
    let merged = to.get(heads)?.known() == Some(labels.atoms.len() / width * copies);
    (same_others && merged && depths > heads + 1).then(|| {
        let blocks = labels.atoms.chunks(width);
        let atoms = blocks.flat_map(|block| std::iter::repeat_n(block, copies)).flatten();
        Flow::Partwise(Partwise {
            output: Labels {
                axis: heads,
                atoms: atoms.copied().collect(),
                within: Some(depths - 1),
            },
            operands: vec![Operand::Channels, counted(heads, width)],
            coupled: Vec::new(),
            expand: Expand { outer: 1, inner: copies, width },
        })
    })
}

/// The flow of a reshape that merges an axis of copies with that of heads behind it: all heads come once more.
fn merged_in_front(from: &[Dim], to: &[Dim], labels: &Labels, width: usize) -> Option<Flow> {
    let (heads, depths) = (labels.axis, labels.within?);
    let at = heads.checked_sub(1)?;
    let copies = from.get(at)?.known()?;
    let beside = [from.get(..at)?, from.get(heads + 1..)?].concat();
    let same_others = are_equal(&beside, &[to.get(..at)?, to.get(heads..)?].concat());
    let merged = to.get(at)?.known() == Some(labels.atoms.len() / width * copies);
    (same_others && merged && depths > heads).then(|| {
        let atoms = (0..copies).flat_map(|_| labels.atoms.iter().copied()).collect();
        Flow::Partwise(Partwise {
            output: Labels { axis: at, atoms, within: Some(depths - 1) },
            operands: vec![Operand::Channels, counted(at, width)],
            coupled: Vec::new(),
            expand: Expand { outer: copies, inner: 1, width },
        })
    })
}

/// The output axis into which axis `heads` and the next one are merged, while the axes before or after
/// them stay the same.
fn merged(from: &[Dim], to: &[Dim], heads: usize) -> Option<usize> {
    let (before, behind) = (from.get(..heads)?, from.get(heads + 2..)?);
    if to.get(..heads).is_some_and(|to| Dim::are_surely(before, to)) {
        return Some(heads);
    }
    let axis = to.len().checked_sub(behind.len() + 1)?;
    if Dim::are_surely(behind, to.get(axis + 1..)?) {
        return Some(axis);
    }
    let beside = |shape: &[Dim], kept: usize| [&shape[..heads], &shape[heads + kept..]].concat();
    (to.len() > heads && are_equal(&beside(from, 2), &beside(to, 1))).then_some(heads)
}

/// Whether extents are equal, given that both shapes have the same number of elements.
fn are_equal(from: &[Dim], to: &[Dim]) -> bool {
    let unlike = from.iter().zip(to).filter(|(a, b)| !a.is_surely(b));
    let are_open = unlike.clone().all(|(a, b)| a.known().is_none() || b.known().is_none());
    from.len() == to.len() && are_open && unlike.count() < 2
}

/// The flow of arithmetic between channels on two axes and an operand that is the same for all channels
/// or has channels on the same axes.
fn arithmetic(node: &NodeView<'_>) -> Option<Flow> {
    let rank = node.shape(0)?.len().max(node.shape(1)?.len());
    let lead = (0..2).filter_map(|i| Some((i, node.labels(i)?))).find(|(_, l)| l.within.is_some());
    let (first, lead) = lead?;
    if node.shape(first)?.len() != rank {
        return None;
    }
    let (mut operands, mut coupled) = (Vec::new(), Vec::new());
    for i in 0..2 {
        let shape = node.shape(i)?;
        match node.labels(i) {
            Some(own) if (own.axis, own.within) == (lead.axis, lead.within) => {
                if shape.len() != rank || own.atoms.len() != lead.atoms.len() {
                    return None;
                }
                coupled.push((lead.atoms.clone(), own.atoms.clone()));
                operands.push(Operand::Channels);
            }
            Some(_) => return None,
            None => {
                let same = |axis: usize| match aligned_axis(axis, rank, shape.len()) {
                    Some(axis) => shape.get(axis) == Some(&Dim::Known(1)),
                    None => true,
                };
                (same(lead.axis) && same(lead.within?)).then(|| operands.push(Operand::Plain))?;
            }
        }
    }
    let output = lead.clone();
    Some(Flow::Partwise(Partwise { output, operands, coupled, expand: Expand::NONE }))
}
