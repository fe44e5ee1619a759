//! Gradients of operators that pick or join indices along an axis.

use crate::error::Result;
use crate::ir::{Attribute, Dim, Node, NodeId, ValueId};
use crate::ops::{NodeView, normal_axis, picked, slices};

use super::{Grads, Tape, in_groups, unsupported};

/// A node's axis, and its extent in a value.
fn extent(tape: &Tape, node: &Node, value: ValueId) -> Result<(usize, usize)> {
    let shape = tape.shape(value)?;
    let axis = normal_axis(node.int("axis", 0), shape.len());
    let extent = axis.and_then(|a| shape.get(a)).and_then(Dim::known);
    axis.zip(extent).ok_or_else(|| unsupported("indices along an extent known only at run time"))
}

/// The axis and index of a `Gather` of one index from an axis whose extent is known only at run time.
fn lone_index(tape: &Tape, node: &Node, rank: usize) -> Option<(usize, i64)> {
    let axis = normal_axis(node.int("axis", 0), rank)?;
    let is_open = tape.shape(node.input(0)?).ok()?.get(axis)?.known().is_none();
    let index = tape.graph.initializer(node.input(1)?).filter(|t| t.dims.is_empty() && is_open)?;
    Some((axis, *index.to_i64()?.first()?))
}

impl Tape {
    /// The value among zeros, from index `start` of `axis` on, with the extent that `like` has there.
    fn padded_to(
        &mut self,
        value: ValueId,
        like: ValueId,
        (axis, rank): (usize, usize),
        start: i64,
    ) -> ValueId {
        let extents = [like, value].map(|value| {
            let shape = self.op("Shape", &[value]);
            self.cut(shape, 0, axis, axis + 1)
        });
        let given = self.ints(&[start]);
        let before = match start {
            0.. => given,
            _ => self.op("Add", &[extents[0], given]),
        };
        let taken = self.op("Add", &[before, extents[1]]);
        let behind = self.op("Sub", &[extents[0], taken]);
        let others = [axis, rank - 1, rank - 1 - axis].map(|n| self.ints(&vec![0; n]));
        let pads = [others[0], before, others[1], behind, others[2]];
        let pads = self.op_with("Concat", &pads, [("axis", Attribute::Int(0))]);
        self.op("Pad", &[value, pads])
    }

    /// Indices `start..end` along `axis`.
    fn cut(&mut self, value: ValueId, axis: usize, start: usize, end: usize) -> ValueId {
        let bounds = [start, end, axis].map(|n| self.ints(&[n as i64]));
        self.op("Slice", &[value, bounds[0], bounds[1], bounds[2]])
    }

    /// Scatters by addition: a tensor of extent `extent` along `axis`, where the entries of `value`
    /// are added at `indices`.
    fn scattered(
        &mut self,
        value: ValueId,
        (axis, rank): (usize, usize),
        indices: &[usize],
        extent: usize,
    ) -> Result<ValueId> {
        let first = indices.first().copied().unwrap_or(0);
        let is_run =
            !indices.is_empty() && indices.iter().enumerate().all(|(i, at)| *at == first + i);
        if is_run {
            let mut pads = vec![0; 2 * rank];
            pads[axis] = first as i64;
            pads[rank + axis] = (extent - first - indices.len()) as i64;
            let pads = self.ints(&pads);
            return Ok(self.op("Pad", &[value, pads]));
        }
        // An entry of zeros after the value stands for "nothing". Each round adds one more entry for
        // every repeated index.
        let mut pads = vec![0; 2 * rank];
        pads[rank + axis] = 1;
        let pads = self.ints(&pads);
        let padded = self.op("Pad", &[value, pads]);
        let mut from: Vec<Vec<usize>> = vec![Vec::new(); extent];
        for (entry, at) in indices.iter().enumerate() {
            from[*at].push(entry);
        }
        let rounds = from.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let mut total = None;
        for round in 0..rounds {
            let entry = |f: &Vec<usize>| f.get(round).copied().unwrap_or(indices.len()) as i64;
            let entries = self.ints(&from.iter().map(entry).collect::<Vec<_>>());
            let attributes = [("axis", Attribute::Int(axis as i64))];
            let part = self.op_with("Gather", &[padded, entries], attributes);
            total = Some(match total {
                Some(sum) => self.op("Add", &[sum, part]),
                None => part,
            });
        }
        total.ok_or_else(|| unsupported("nothing to add up"))
    }
}

pub(super) fn concat(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let mut start = 0;
    let mut grads = Vec::new();
    for index in 0..node.inputs.len() {
        let (axis, extent) = extent(tape, node, tape.input(node, index)?)?;
        let end = start + extent;
        grads.push(tape.wants(node, index).then(|| tape.cut(dy, axis, start, end)));
        start = end;
    }
    Ok(grads)
}

pub(super) fn split(tape: &mut Tape, _: NodeId, node: &Node, _: ValueId) -> Grads {
    let axis = Attribute::Int(node.int("axis", 0));
    let mut parts = Vec::new();
    for output in node.outputs.iter().flatten() {
        parts.push(match tape.gradient(*output) {
            Some(gradient) => gradient,
            None => {
                let shape = tape.op("Shape", &[*output]);
                tape.op("ConstantOfShape", &[shape])
            }
        });
    }
    if parts.len() != node.outputs.len() {
        return Err(unsupported("a split with an output that is left out"));
    }
    let joined = |parts: &[ValueId]| tape.op_with("Concat", parts, [("axis", axis.clone())]);
    Ok(vec![Some(in_groups(parts, joined))])
}

pub(super) fn slice(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let shape = tape.shape(x)?;
    let bounds = slices(&NodeView::new(&tape.graph, id, &[]), shape.len())
        .ok_or_else(|| unsupported("a slice with computed bounds"))?;
    let mut gradient = dy;
    for (axis, start, end, step) in bounds {
        let Some(extent) = shape[axis].known() else {
            if step != 1 {
                return Err(unsupported("a slice of an extent known only at run time"));
            }
            gradient = tape.padded_to(gradient, x, (axis, shape.len()), start);
            continue;
        };
        let indices = picked(extent, start, end, step);
        gradient = tape.scattered(gradient, (axis, shape.len()), &indices, extent)?;
    }
    Ok(vec![Some(gradient)])
}

pub(super) fn gather(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let rank = tape.shape(x)?.len();
    if let Some((axis, index)) = lone_index(tape, node, rank) {
        // A scalar index drops the axis.
        let axes = tape.ints(&[axis as i64]);
        let dy = tape.op("Unsqueeze", &[dy, axes]);
        return Ok(vec![Some(tape.padded_to(dy, x, (axis, rank), index))]);
    }
    let (axis, extent) = extent(tape, node, x)?;
    let view = NodeView::new(&tape.graph, id, &[]);
    let index_rank = view.shape(1).map(|shape| shape.len());
    let indices: Option<Vec<usize>> = view
        .ints(1)
        .filter(|_| index_rank.is_some_and(|r| r <= 1))
        .and_then(|all| all.iter().map(|i| normal_axis(*i, extent)).collect());
    let indices = indices.ok_or_else(|| unsupported("a gather with computed indices"))?;
    // A scalar index drops the axis.
    let dy = match index_rank {
        Some(0) => {
            let axis = tape.ints(&[axis as i64]);
            tape.op("Unsqueeze", &[dy, axis])
        }
        _ => dy,
    };
    Ok(vec![Some(tape.scattered(dy, (axis, rank), &indices, extent)?)])
}

pub(super) fn triangle(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let inputs: Vec<ValueId> = std::iter::once(dy).chain(node.input(1)).collect();
    let upper = ("upper", Attribute::Int(node.int("upper", 1)));
    Ok(vec![Some(tape.op_with("Trilu", &inputs, [upper]))])
}
