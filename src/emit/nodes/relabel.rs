//! Writes nodes that join, split or reorder channels.

use std::collections::{BTreeMap, HashMap};

use crate::emit::task::TaskEmitter;
use crate::emit::value::partition::Part;
use crate::emit::value::pieces::{Held, Piece, concat, pick, split};
use crate::error::Result;
use crate::ir::{NodeId, ValueId};
use crate::ops::Pick;

/// A part of an output.
struct Wanted {
    /// Number of the output.
    slot: usize,
    part: Part,
    /// Its indices as runs of input pieces, in order.
    runs: Vec<Run>,
}

/// Neighbouring indices of a piece.
struct Run {
    /// Number of the input, and of the piece among its pieces.
    piece: (usize, usize),
    start: usize,
    len: usize,
}

impl TaskEmitter<'_> {
    /// Joins, splits or reorders channels. Writes nodes only if pieces are cut or joined.
    pub(crate) fn emit_relabel(&mut self, id: NodeId, picks: &[Pick]) -> Result<()> {
        let node = self.graph().node(id);
        let mut sources = Vec::new();
        for input in &node.inputs {
            sources.push(match input {
                Some(value) => Some(self.held(*value)?),
                None => None,
            });
        }
        let places = places(&sources);
        let mut wanted = Vec::new();
        for (slot, picked) in picks.iter().enumerate() {
            let Some(output) = node.output(slot) else { continue };
            let axis =
                self.source().coupling().axis(output).filter(|axis| axis.axis == picked.axis);
            let Some(axis) = axis else { return self.emit_whole(id) };
            for part in self.parts(&axis.channels) {
                let taken =
                    part.positions.iter().map(|p| places.get(picked.from.get(*p)?).copied());
                let Some(taken) = taken.collect::<Option<Vec<_>>>() else {
                    return self.emit_whole(id);
                };
                wanted.push(Wanted { slot, part, runs: runs(&taken) });
            }
        }
        let cut = self.cut_apart(&sources, &wanted, &node.name);
        let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); picks.len()];
        for (wanted, cut) in wanted.into_iter().zip(cut) {
            let value = match cut {
                Some(value) => value,
                None => self.assembled(&sources, &wanted, &node.name),
            };
            let Part { owner, positions, .. } = wanted.part;
            pieces[wanted.slot].push(Piece { value, owner, positions });
        }
        for (slot, pieces) in pieces.into_iter().enumerate() {
            let (Some(output), Some(picked)) = (node.output(slot), picks.get(slot)) else {
                continue;
            };
            self.hold(output, Held::Pieces { axis: picked.axis, len: picked.from.len(), pieces });
        }
        Ok(())
    }

    /// Cuts pieces whose parts cover them in order, by one `Split` each. Returns the values of these
    /// parts.
    fn cut_apart(
        &mut self,
        sources: &[Option<Held>],
        wanted: &[Wanted],
        name: &str,
    ) -> Vec<Option<ValueId>> {
        let mut values = vec![None; wanted.len()];
        let mut of_piece: BTreeMap<(usize, usize), Vec<(&Run, usize)>> = BTreeMap::new();
        for (at, part) in wanted.iter().enumerate() {
            part.runs.iter().for_each(|r| of_piece.entry(r.piece).or_default().push((r, at)));
        }
        for (key, mut parts) in of_piece {
            let Some((axis, piece)) = piece_at(sources, key) else { continue };
            parts.sort_by_key(|(run, _)| run.start);
            let mut end = 0;
            let is_cut = parts.len() > 1
                && parts.iter().all(|(run, at)| {
                    let follows = run.start == end && wanted[*at].runs.len() == 1;
                    end += run.len;
                    follows
                });
            if is_cut && end == piece.positions.len() {
                let sizes: Vec<usize> = parts.iter().map(|(run, _)| run.len).collect();
                let name = self.name(&piece.owner, name);
                let cut = split(self.builder, axis, piece.value, &sizes, &name);
                parts.iter().zip(cut).for_each(|((_, at), value)| values[*at] = Some(value));
            }
        }
        values
    }

    /// The value of a part, assembled from input pieces.
    fn assembled(&mut self, sources: &[Option<Held>], wanted: &Wanted, name: &str) -> ValueId {
        let name = self.name(&wanted.part.owner, name);
        let mut keys: Vec<(usize, usize)> = Vec::new();
        for run in &wanted.runs {
            if !keys.contains(&run.piece) {
                keys.push(run.piece);
            }
        }
        let mut axis = 0;
        let mut values = Vec::new();
        // The offset of each piece's index 0 in the concatenation of all values; negative if it is cut
        // off.
        let mut origins: BTreeMap<(usize, usize), i64> = BTreeMap::new();
        let mut extent = 0;
        for key in &keys {
            let Some((along, piece)) = piece_at(sources, *key) else { continue };
            axis = along;
            let own: Vec<&Run> = wanted.runs.iter().filter(|run| run.piece == *key).collect();
            let (start, len) = match own.as_slice() {
                [only] if keys.len() > 1 => (only.start, only.len),
                _ => (0, piece.positions.len()),
            };
            let place: Vec<i64> = (start..start + len).map(|at| at as i64).collect();
            values.push(pick(
                self.builder,
                axis,
                piece.value,
                &place,
                piece.positions.len(),
                &name,
            ));
            origins.insert(*key, extent as i64 - start as i64);
            extent += len;
        }
        let joined = concat(self.builder, axis, &values, &format!("{name}.join"));
        let place = wanted.runs.iter().flat_map(|run| {
            let origin = origins.get(&run.piece).copied().unwrap_or(0);
            (run.start..run.start + run.len).map(move |at| origin + at as i64)
        });
        let place: Vec<i64> = place.collect();
        pick(self.builder, axis, joined, &place, extent, &name)
    }
}

/// The place of each index of each input: its piece, and the index in the piece.
type Places = HashMap<(usize, usize), ((usize, usize), usize)>;

fn places(sources: &[Option<Held>]) -> Places {
    let mut places = Places::new();
    for (input, held) in sources.iter().enumerate() {
        let Some(Held::Pieces { pieces, .. }) = held else { continue };
        for (number, piece) in pieces.iter().enumerate() {
            let own = piece.positions.iter().enumerate();
            places.extend(own.map(|(at, p)| ((input, *p), ((input, number), at))));
        }
    }
    places
}

fn piece_at(sources: &[Option<Held>], (input, number): (usize, usize)) -> Option<(usize, &Piece)> {
    match sources.get(input)?.as_ref()? {
        Held::Pieces { axis, pieces, .. } => Some((*axis, pieces.get(number)?)),
        Held::Whole(_) => None,
    }
}

/// Joins neighbouring indices of one piece into runs.
fn runs(taken: &[((usize, usize), usize)]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (piece, at) in taken {
        match runs.last_mut() {
            Some(run) if run.piece == *piece && run.start + run.len == *at => run.len += 1,
            _ => runs.push(Run { piece: *piece, start: *at, len: 1 }),
        }
    }
    runs
}
