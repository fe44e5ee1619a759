//! Writes nodes that treat every channel by itself.

use crate::emit::task::TaskEmitter;
use crate::emit::value::pieces::{Held, Piece, concat};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{NodeId, Tensor, ValueId};
use crate::mtz::joint::Owner;
use crate::ops::{Operand, Partwise};

use super::depths::{heads_and_order, unlike};

impl TaskEmitter<'_> {
    /// Writes a node that treats every channel by itself, once per piece.
    pub(crate) fn emit_partwise(&mut self, id: NodeId, partwise: &Partwise) -> Result<()> {
        if self.makes_pairs(id, partwise) {
            return self.emit_pairs(id, partwise);
        }
        let node = self.graph().node(id);
        let Some(output) = node.outputs.iter().copied().flatten().next() else { return Ok(()) };
        let mut operands = self.held_operands(id, partwise)?;
        let mut partition = match partwise.operands.contains(&Operand::Channels) {
            true => common_partition(partwise, &operands),
            false => self.made(output),
        };
        if partition.is_none() {
            self.cut_alike(id, partwise, &mut operands)?;
            partition = common_partition(partwise, &operands);
        }
        let Some(partition) = partition else { return self.emit_whole(id) };
        if !have_heads_of(&partition, partwise, &operands) {
            return Err(unlike());
        }
        let wanted: Vec<bool> = node.outputs.iter().map(Option::is_some).collect();
        let two_axes = self.on_two_axes(id, partwise, &operands);
        let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); wanted.len()];
        for (index, (owner, positions)) in partition.iter().enumerate() {
            let mut copy = node.clone();
            copy.name = self.name(owner, &node.name);
            let all = partwise.output.atoms.len();
            let expanded = partwise.expand.places(positions, all / partwise.expand.copies().max(1));
            for (i, operand) in partwise.operands.iter().enumerate() {
                let Some(source) = node.input(i) else { continue };
                let value = match (operand, &operands[i]) {
                    (
                        Operand::Channels | Operand::Heads { .. },
                        Some(Held::Pieces { pieces, .. }),
                    ) => pieces[index].value,
                    (Operand::Param { axis }, _) => {
                        let entries = self.entries(source, *axis, (positions, all));
                        self.param(source, *axis, owner, &entries)?
                    }
                    (Operand::Depths { axis }, _) => {
                        let order = two_axes.as_ref().and_then(|(all, width)| {
                            Some(heads_and_order(all.get(index)?, *width)?.1)
                        });
                        self.depths(source, *axis, owner, &order.ok_or_else(unlike)?)?
                    }
                    (Operand::Entries { heads, depths }, _) => {
                        let (all, width) = two_axes.as_ref().ok_or_else(unlike)?;
                        let piece = (all.get(index).ok_or_else(unlike)?.as_slice(), *width);
                        self.entries_of_heads(source, [*heads, *depths], owner, piece)?
                    }
                    (Operand::Shape { entry, width }, _) => {
                        let counts = (expanded.len() / width, all / width);
                        self.resized(id, (i, *entry), owner, counts)?
                    }
                    _ => self.whole(source)?,
                };
                copy.inputs[i] = Some(value);
            }
            for (pieces, value) in pieces.iter_mut().zip(self.builder.node(copy, &wanted)) {
                let positions = expanded.clone();
                pieces.extend(value.map(|value| Piece { value, owner: owner.clone(), positions }));
            }
        }
        let (axis, len) = (partwise.output.axis, partwise.output.atoms.len());
        for (output, pieces) in node.outputs.iter().zip(pieces) {
            let Some(output) = output else { continue };
            self.hold(*output, Held::Pieces { axis, len, pieces });
        }
        Ok(())
    }

    /// The operands with channels. Others are read later, since only some of their entries may be needed.
    fn held_operands(&mut self, id: NodeId, partwise: &Partwise) -> Result<Vec<Option<Held>>> {
        let node = self.graph().node(id);
        let mut operands = Vec::new();
        for (i, operand) in partwise.operands.iter().enumerate() {
            operands.push(match (operand, node.input(i)) {
                (Operand::Channels | Operand::Heads { .. }, Some(value)) => Some(self.held(value)?),
                _ => None,
            });
        }
        Ok(operands)
    }

    /// The entries of a constant for the channels at these positions, of `all`. The constant has one
    /// entry per channel or one per head.
    fn entries(
        &self,
        source: ValueId,
        axis: usize,
        (positions, all): (&[usize], usize),
    ) -> Vec<usize> {
        let count = self.graph().initializer(source).and_then(|tensor| tensor.dims.get(axis));
        match count.map_or(1, |count| all / (*count).max(1)) {
            0 | 1 => positions.to_vec(),
            width => positions.chunks(width).filter_map(|run| Some(run.first()? / width)).collect(),
        }
    }

    /// The pieces of a value whose channels come from constants.
    fn made(&self, output: ValueId) -> Option<Parts> {
        let axis = self.source().coupling().axis(output)?;
        let parts = self.parts(&axis.channels).into_iter();
        Some(parts.map(|part| (part.owner, part.positions)).collect())
    }

    /// Joins operands that are cut differently, and cuts them again into the parts of their channels.
    fn cut_alike(
        &mut self,
        id: NodeId,
        partwise: &Partwise,
        operands: &mut [Option<Held>],
    ) -> Result<()> {
        let node = self.graph().node(id);
        for (i, operand) in partwise.operands.iter().enumerate() {
            let (Operand::Channels, Some(source)) = (operand, node.input(i)) else { continue };
            let axis = self.source().coupling().axis(source).filter(|axis| axis.within.is_none());
            let Some(axis) = axis else { continue };
            let value = self.whole(source)?;
            operands[i] = Some(self.cut(axis, value, &node.name));
        }
        Ok(())
    }

    /// The shape at input `slot` of node `id` for a piece of channels: its entry `entry` is `n` instead of
    /// `all`.
    fn resized(
        &mut self,
        id: NodeId,
        (slot, entry): (usize, usize),
        owner: &Owner,
        (n, all): (usize, usize),
    ) -> Result<ValueId> {
        let node = self.graph().node(id);
        let (Some(data), Some(source)) = (node.input(0), node.input(slot)) else {
            return Err(Error::new(ErrorKind::Format, "a node without the shape of its result"));
        };
        let name = self.name(owner, &self.graph().value(source).name);
        let target = self.graph().initializer(source).and_then(Tensor::to_i64);
        let Some(mut target) = target else {
            let computed = self.whole(source)?;
            return Ok(if n == all { computed } else { self.replaced(computed, entry, n, &name) });
        };
        let channels = self.source().coupling().axis(data).map(|c| c.axis);
        let shape = self.graph().value(data).ty.as_ref().and_then(|ty| ty.shape.as_ref());
        for (axis, size) in target.iter_mut().enumerate() {
            match *size {
                -1 => {}
                _ if axis == entry => *size = n as i64,
                // A zero would copy the input's extent, and the piece has fewer channels there.
                0 if channels == Some(axis) => {
                    let extent = shape.and_then(|shape| shape.get(axis)?.known());
                    extent.into_iter().for_each(|extent| *size = extent as i64);
                }
                _ => {}
            }
        }
        let tensor = Tensor::from_i64(vec![target.len()], &target);
        Ok(self.builder.constant(&name, tensor))
    }

    /// A computed shape with `n` as its entry `entry`.
    fn replaced(&mut self, shape: ValueId, entry: usize, n: usize, name: &str) -> ValueId {
        let mut ints = |value: i64, what: &str| {
            self.builder.constant(&format!("{name}.{what}"), Tensor::from_i64(vec![1], &[value]))
        };
        let (zero, at, behind) =
            (ints(0, "zero"), ints(entry as i64, "at"), ints(entry as i64 + 1, "behind"));
        let (end, count) = (ints(i64::MAX, "end"), ints(n as i64, "count"));
        let before = self.builder.op("Slice", &format!("{name}.before"), &[shape, zero, at], []);
        let rest = self.builder.op("Slice", &format!("{name}.rest"), &[shape, behind, end], []);
        concat(self.builder, 0, &[before, count, rest], &format!("{name}.resized"))
    }
}

type Parts = Vec<(Owner, Vec<usize>)>;

/// The common partition of all operands with channels, as positions along the output's axis; `None` if
/// they are cut differently.
///
/// Some operands may have one index per channel, and others one per head.
fn common_partition(partwise: &Partwise, operands: &[Option<Held>]) -> Option<Parts> {
    let expected = partwise.output.atoms.len() / partwise.expand.copies().max(1);
    // Each with the number of its heads, if only these are the same as those of the others.
    let mut all: Vec<(usize, Parts, Option<usize>)> = Vec::new();
    for (operand, held) in partwise.operands.iter().zip(operands) {
        let count = match operand {
            Operand::Channels => None,
            Operand::Heads { count } => Some(*count),
            _ => continue,
        };
        let Some(Held::Pieces { len, pieces, .. }) = held else { return None };
        let own = pieces.iter().map(|p| (p.owner.clone(), p.positions.clone())).collect();
        all.push((*len, own, count));
    }
    let lengths = all.iter().map(|(len, _, count)| count.unwrap_or(*len));
    let fewest = lengths.chain([expected]).min()?;
    let heads: Option<Vec<Parts>> =
        all.iter().map(|(len, parts, _)| in_heads(parts, len / fewest.max(1))).collect();
    let heads = heads?;
    let mut led = all.iter().filter(|(len, _, count)| count.is_none() && *len == expected);
    let lead = led.next().map(|(_, parts, _)| parts);
    let fits = led.all(|(_, parts, _)| Some(parts) == lead);
    if !fits || heads.windows(2).any(|pair| pair[0] != pair[1]) {
        return None;
    }
    match lead {
        Some(parts) => Some(parts.clone()),
        None if fewest == expected => heads.into_iter().next(),
        None => None,
    }
}

/// Whether operands of which only heads count have pieces of the heads that a partition of other channels has.
fn have_heads_of(partition: &Parts, partwise: &Partwise, operands: &[Option<Held>]) -> bool {
    let all = partwise.output.atoms.len();
    partwise.operands.iter().zip(operands).all(|(role, held)| match (role, held) {
        (Operand::Heads { count }, Some(Held::Pieces { len, pieces, .. })) => {
            let own = pieces.iter().map(|p| (p.owner.clone(), p.positions.clone())).collect();
            let heads = in_heads(&own, len / (*count).max(1));
            heads.is_some() && heads == in_heads(partition, all / (*count).max(1))
        }
        (Operand::Heads { .. }, _) => false,
        _ => true,
    })
}

/// Converts positions of channels to positions of heads of `width` channels; `None` if a piece cuts a
/// head.
fn in_heads(parts: &Parts, width: usize) -> Option<Parts> {
    let head = |run: &[usize]| {
        let head = run.first()? / width;
        (run.len() == width && run.iter().all(|p| p / width == head)).then_some(head)
    };
    let of_part = |(owner, positions): &(Owner, Vec<usize>)| {
        let heads: Option<Vec<usize>> = positions.chunks(width.max(1)).map(head).collect();
        Some((owner.clone(), heads?))
    };
    match width {
        0 => None,
        1 => Some(parts.clone()),
        _ => parts.iter().map(of_part).collect(),
    }
}
