//! Channels that move without changing, and channels side by side.

use std::collections::HashMap;

use crate::emit::task::TaskEmitter;
use crate::emit::value::pieces::{Held, Piece, join, pick};
use crate::error::Result;
use crate::ir::NodeId;
use crate::mtz::joint::Owner;
use crate::ops::Pick;

impl TaskEmitter<'_> {
    /// Channels joined, split or reordered: bookkeeping, except where a piece is cut.
    pub(crate) fn emit_relabel(&mut self, id: NodeId, picks: &[Pick]) -> Result<()> {
        let node = self.graph().node(id);
        let mut sources = Vec::new();
        for input in &node.inputs {
            sources.push(match input {
                Some(value) => Some(self.held(*value)?),
                None => None,
            });
        }
        for (i, picked) in picks.iter().enumerate() {
            let Some(output) = node.output(i) else { continue };
            let mut pieces = Vec::new();
            for (input, held) in sources.iter().enumerate() {
                let Some(Held::Pieces { axis, pieces: sources, .. }) = held else { continue };
                for piece in sources {
                    pieces.extend(self.picked(*axis, piece, input, picked, &node.name));
                }
            }
            let held = Held::Pieces { axis: picked.axis, len: picked.from.len(), pieces };
            self.hold(output, held);
        }
        Ok(())
    }

    /// The part of `piece` that a pick takes.
    fn picked(
        &mut self,
        axis: usize,
        piece: &Piece,
        input: usize,
        pick_: &Pick,
        name: &str,
    ) -> Option<Piece> {
        let at: HashMap<usize, usize> =
            piece.positions.iter().enumerate().map(|(at, p)| (*p, at)).collect();
        let mut taken: Vec<(usize, usize)> = pick_
            .from
            .iter()
            .enumerate()
            .filter(|(_, (from, _))| *from == input)
            .filter_map(|(out, (_, index))| Some((*at.get(index)?, out)))
            .collect();
        taken.sort_unstable();
        if taken.is_empty() {
            return None;
        }
        let place: Vec<i64> = taken.iter().map(|(at, _)| *at as i64).collect();
        let name = self.name(&piece.owner, name);
        let value = pick(self.builder, axis, piece.value, &place, piece.positions.len(), &name);
        let positions = taken.into_iter().map(|(_, out)| out).collect();
        Some(Piece { value, owner: piece.owner.clone(), positions })
    }

    /// Pieces with the same owner side by side, so that a layer has one term per owner.
    pub(crate) fn bundles(&mut self, held: &Held, name: &str) -> Vec<Piece> {
        let (axis, pieces) = match held {
            Held::Whole(_) => return Vec::new(),
            Held::Pieces { axis, pieces, .. } => (*axis, pieces),
        };
        let mut owners: Vec<&Owner> = Vec::new();
        for piece in pieces {
            if !owners.contains(&&piece.owner) {
                owners.push(&piece.owner);
            }
        }
        owners
            .into_iter()
            .map(|owner| {
                let own: Vec<Piece> =
                    pieces.iter().filter(|p| p.owner == *owner).cloned().collect();
                let name = self.name(owner, name);
                let (value, positions) = join(self.builder, axis, &own, &name);
                Piece { value, owner: owner.clone(), positions }
            })
            .collect()
    }
}
