//! Values with one entry per depth for all heads, in the order that the depths of a piece have.

use crate::couple::ChannelAxis;
use crate::emit::task::TaskEmitter;
use crate::emit::value::pieces::{Held, Piece, concat, join, pick};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{NodeId, ValueId};
use crate::mtz::joint::Owner;
use crate::ops::{Operand, Partwise};

impl TaskEmitter<'_> {
    /// The positions of the operand of a node that has channels on two axes, by piece, with the number of depths;
    /// `None` without such an operand.
    pub(super) fn on_two_axes(
        &self,
        id: NodeId,
        partwise: &Partwise,
        operands: &[Option<Held>],
    ) -> Option<(Vec<Vec<usize>>, usize)> {
        let node = self.graph().node(id);
        partwise.operands.iter().zip(operands).enumerate().find_map(|(slot, (role, held))| {
            let Some(Held::Pieces { pieces, .. }) = held else { return None };
            let value = node.input(slot).filter(|_| *role == Operand::Channels)?;
            let width = self.width(value)?;
            Some((pieces.iter().map(|piece| piece.positions.clone()).collect(), width))
        })
    }

    /// The number of depths of a value with channels on two axes.
    fn width(&self, value: ValueId) -> Option<usize> {
        let within = self.source().coupling().axis(value)?.within?;
        self.graph().value(value).ty.as_ref()?.shape.as_ref()?.get(within)?.known()
    }

    /// A value with one entry per depth along `axis`, in the order that depths have in a piece of heads.
    pub(super) fn depths(
        &mut self,
        source: ValueId,
        axis: usize,
        owner: &Owner,
        order: &[usize],
    ) -> Result<ValueId> {
        if self.graph().initializer(source).is_some() {
            return self.param(source, axis, owner, order);
        }
        let name = self.name(owner, &self.graph().value(source).name);
        let (value, positions) = match self.held(source)? {
            Held::Pieces { axis: own, pieces, .. } if own == axis => {
                join(self.builder, axis, &pieces, &name)
            }
            _ => (self.whole(source)?, (0..order.len()).collect()),
        };
        let mut places = vec![0i64; positions.len()];
        for (place, position) in positions.iter().enumerate() {
            *places.get_mut(*position).ok_or_else(unlike)? = place as i64;
        }
        let wanted: Option<Vec<i64>> = order.iter().map(|p| places.get(*p).copied()).collect();
        Ok(pick(self.builder, axis, value, &wanted.ok_or_else(unlike)?, positions.len(), &name))
    }

    /// The entries of a constant that belong to a piece of whole heads of `width` depths, which may have any order in
    /// each head. The constant has these axes of heads and of depths.
    pub(super) fn entries_of_heads(
        &mut self,
        source: ValueId,
        [heads, depths]: [usize; 2],
        owner: &Owner,
        (positions, width): (&[usize], usize),
    ) -> Result<ValueId> {
        let own = Owner::Tasks(vec![self.task]);
        let owner = if *owner == Owner::Input { &own } else { owner };
        if let Some((all, order)) = heads_and_order(positions, width) {
            return self.block(source, &[(heads, &all), (depths, &order)], owner);
        }
        let mut values = Vec::new();
        for run in positions.chunks(width.max(1)) {
            let (head, order) = heads_and_order(run, width).ok_or_else(unlike)?;
            values.push(self.block(source, &[(heads, &head), (depths, &order)], owner)?);
        }
        let name = self.name(owner, &self.graph().value(source).name);
        Ok(concat(self.builder, heads, &values, &format!("{name}.heads")))
    }

    /// Whether a node makes channels that are pairs of the heads of one operand and the depths of another one, which may
    /// have depths of its own for each head.
    pub(super) fn makes_pairs(&self, id: NodeId, partwise: &Partwise) -> bool {
        let is_wide = |value: &ValueId| {
            self.source().coupling().axis(*value).is_some_and(|axis| axis.within.is_some())
        };
        let is_of_depths =
            |role: &Operand| matches!(role, Operand::Depths { .. } | Operand::Entries { .. });
        let has_depths = partwise.operands.iter().any(is_of_depths);
        let node = self.graph().node(id);
        has_depths && partwise.output.within.is_some() && !node.inputs.iter().flatten().any(is_wide)
    }

    /// Writes a product of the scores of each head with values that all heads read.
    pub(super) fn emit_pairs(&mut self, id: NodeId, partwise: &Partwise) -> Result<()> {
        let node = self.graph().node(id);
        let Some(output) = node.output(0) else { return Ok(()) };
        let axis = self.source().coupling().axis(output).cloned().ok_or_else(unlike)?;
        let width = self.width(output).ok_or_else(unlike)?;
        let mut pieces = Vec::new();
        for part in self.parts(&axis.channels) {
            let heads = whole_heads(&part.positions, width).ok_or_else(unlike)?;
            let order = heads_and_order(&part.positions, width).map(|(_, order)| order);
            let mut copy = node.clone();
            copy.name = self.name(&part.owner, &node.name);
            for (slot, role) in partwise.operands.iter().enumerate() {
                let Some(source) = node.input(slot) else { continue };
                let value = match role {
                    Operand::Depths { axis } => {
                        let order = order.as_ref().ok_or_else(unlike)?;
                        self.depths(source, *axis, &part.owner, order)?
                    }
                    Operand::Entries { heads, depths } => {
                        let piece = (part.positions.as_slice(), width);
                        self.entries_of_heads(source, [*heads, *depths], &part.owner, piece)?
                    }
                    _ => self.of_heads(source, &part.owner, &heads)?,
                };
                copy.inputs[slot] = Some(value);
            }
            let value = self.builder.node(copy, &[true]).into_iter().flatten().next();
            let value = value.ok_or_else(unlike)?;
            pieces.push(Piece { value, owner: part.owner, positions: part.positions });
        }
        let ChannelAxis { axis, channels, .. } = axis;
        self.hold(output, Held::Pieces { axis, len: channels.len(), pieces });
        Ok(())
    }

    /// The part of a value with one index per head that holds these heads.
    fn of_heads(&mut self, source: ValueId, owner: &Owner, heads: &[usize]) -> Result<ValueId> {
        if let Held::Pieces { pieces, .. } = self.held(source)?
            && let Some(own) = pieces.iter().find(|piece| piece.positions == heads)
        {
            return Ok(own.value);
        }
        let axis = self.source().coupling().axis(source).cloned().ok_or_else(unlike)?;
        let (value, name) =
            (self.whole(source)?, self.name(owner, &self.graph().value(source).name));
        let place: Vec<i64> = heads.iter().map(|head| *head as i64).collect();
        Ok(pick(self.builder, axis.axis, value, &place, axis.channels.len(), &name))
    }
}

/// The heads of a piece with whole heads of `width` depths, in any order in each; `None` for other pieces.
fn whole_heads(positions: &[usize], width: usize) -> Option<Vec<usize>> {
    let of_run = |run: &[usize]| {
        let head = run.first()? / width;
        (run.len() == width && run.iter().all(|at| at / width == head)).then_some(head)
    };
    positions.chunks(width.max(1)).map(of_run).collect()
}

/// The heads of a piece with whole heads of `width` depths, and the order of depths that all of them have; `None` for
/// other pieces.
pub(super) fn heads_and_order(
    positions: &[usize],
    width: usize,
) -> Option<(Vec<usize>, Vec<usize>)> {
    let mut runs = positions.chunks(width.max(1));
    let order: Vec<usize> = runs.next()?.iter().map(|at| at % width).collect();
    let of_run = |run: &[usize]| {
        let head = run.first()? / width;
        let own = run.iter().zip(&order).all(|(at, depth)| *at == head * width + depth);
        (own && run.len() == width).then_some(head)
    };
    let heads: Option<Vec<usize>> = positions.chunks(width.max(1)).map(of_run).collect();
    Some((heads?, order))
}

pub(super) fn unlike() -> Error {
    Error::new(ErrorKind::Unsupported, "attention heads whose channels are stored in unlike orders")
        .hint("report the model as one that this version cannot store")
}

#[cfg(test)]
mod tests {
    use super::heads_and_order;

    #[test]
    fn heads_of_a_piece_have_one_order_of_depths() {
        assert_eq!(heads_and_order(&[5, 3, 4, 2, 0, 1], 3), Some((vec![1, 0], vec![2, 0, 1])));
        assert_eq!(heads_and_order(&[0, 1, 2, 3, 5, 4], 3), None);
        assert_eq!(heads_and_order(&[0, 1, 2, 4], 3), None);
    }
}
