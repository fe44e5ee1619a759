//! Nodes that treat every channel alone.

use crate::emit::task::TaskEmitter;
use crate::emit::value::pieces::{Held, Piece};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{NodeId, Tensor, ValueId};
use crate::mtz::joint::Owner;
use crate::ops::{Operand, Partwise};

impl TaskEmitter<'_> {
    /// A node that treats every channel alone, once per piece.
    pub(crate) fn emit_partwise(&mut self, id: NodeId, partwise: &Partwise) -> Result<()> {
        let node = self.graph().node(id);
        let Some(output) = node.output(0) else { return Ok(()) };
        let mut operands: Vec<Option<Held>> = Vec::new();
        for (i, operand) in partwise.operands.iter().enumerate() {
            operands.push(match (operand, node.input(i)) {
                (Operand::Channels, Some(value)) => Some(self.held(value)?),
                // Only parts of other operands may be wanted.
                _ => None,
            });
        }
        let mut partition = common_partition(partwise, &operands);
        if partition.is_none() {
            self.cut_alike(id, partwise, &mut operands)?;
            partition = common_partition(partwise, &operands);
        }
        let Some(partition) = partition else { return self.emit_whole(id) };
        let mut pieces = Vec::new();
        for (index, (owner, positions)) in partition.iter().enumerate() {
            let mut copy = node.clone();
            copy.name = self.name(owner, &node.name);
            let expanded = expand(positions, partwise.output.atoms.len(), partwise.expand);
            for (i, operand) in partwise.operands.iter().enumerate() {
                let Some(source) = node.input(i) else { continue };
                let value = match (operand, &operands[i]) {
                    (Operand::Channels, Some(Held::Pieces { pieces, .. })) => pieces[index].value,
                    (Operand::Param { axis }, _) => self.param(source, *axis, owner, positions)?,
                    (Operand::Shape { entry }, _) => {
                        self.resized(id, *entry, owner, expanded.len())?
                    }
                    _ => self.whole(source)?,
                };
                copy.inputs[i] = Some(value);
            }
            let value = self.builder.single(copy);
            pieces.push(Piece { value, owner: owner.clone(), positions: expanded });
        }
        let held =
            Held::Pieces { axis: partwise.output.axis, len: partwise.output.atoms.len(), pieces };
        self.hold(output, held);
        Ok(())
    }

    /// Cuts operands that came in different pieces at the bounds of their channels' blocks.
    fn cut_alike(
        &mut self,
        id: NodeId,
        partwise: &Partwise,
        operands: &mut [Option<Held>],
    ) -> Result<()> {
        let node = self.graph().node(id);
        for (i, operand) in partwise.operands.iter().enumerate() {
            let (Operand::Channels, Some(source)) = (operand, node.input(i)) else { continue };
            let Some(axis) = self.source().coupling().axis(source) else { continue };
            let value = self.whole(source)?;
            operands[i] = Some(self.cut(axis, value, &node.name));
        }
        Ok(())
    }

    /// The target shape of reshape `id` for a piece of channels, of which `n` come out at `entry`.
    fn resized(&mut self, id: NodeId, entry: usize, owner: &Owner, n: usize) -> Result<ValueId> {
        let node = self.graph().node(id);
        let (Some(data), Some(source)) = (node.input(0), node.input(1)) else {
            return Err(Error::new(ErrorKind::Format, "a reshape without a target shape"));
        };
        let target = self.graph().initializer(source).and_then(Tensor::to_i64);
        let Some(mut target) = target else { return self.whole(source) };
        let channels = self.source().coupling().axis(data);
        for (axis, size) in target.iter_mut().enumerate() {
            match (channels, *size) {
                (_, count) if axis == entry && count != -1 => *size = n as i64,
                // A zero copies the extent at its place, and there the input has fewer channels now.
                (Some(c), 0) if axis == c.axis => *size = c.channels.len() as i64,
                _ => {}
            }
        }
        let tensor = Tensor::from_i64(vec![target.len()], &target);
        Ok(self.builder.constant(&self.name(owner, &self.graph().value(source).name), tensor))
    }
}

/// The pieces that all operands with channels are cut into; `None` if they are cut differently.
fn common_partition(
    partwise: &Partwise,
    operands: &[Option<Held>],
) -> Option<Vec<(Owner, Vec<usize>)>> {
    let mut partition: Option<Vec<(Owner, Vec<usize>)>> = None;
    for (operand, held) in partwise.operands.iter().zip(operands) {
        if *operand != Operand::Channels {
            continue;
        }
        let Some(Held::Pieces { pieces, .. }) = held else { return None };
        let own: Vec<_> = pieces.iter().map(|p| (p.owner.clone(), p.positions.clone())).collect();
        match &partition {
            None => partition = Some(own),
            Some(first) if *first == own => {}
            Some(_) => return None,
        }
    }
    partition
}

/// Where `positions` of an axis end up when the axis is repeated outside and inside.
fn expand(positions: &[usize], len: usize, (outer, inner): (usize, usize)) -> Vec<usize> {
    let n = len / (outer * inner).max(1);
    let mut out = Vec::with_capacity(positions.len() * outer * inner);
    for o in 0..outer {
        for p in positions {
            out.extend((0..inner).map(|i| (o * n + p) * inner + i));
        }
    }
    out
}
