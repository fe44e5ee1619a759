//! Writes nodes that read all channels at once, in any order.

use crate::emit::task::TaskEmitter;
use crate::emit::value::pieces::{Held, Piece, join, split};
use crate::error::Result;
use crate::ir::{NodeId, ValueId};
use crate::mtz::joint::Owner;
use crate::ops::{Operand, Together};

/// The channels of a node's operands, side by side in one order.
struct Joined {
    /// By operand; `None` for those without channels.
    values: Vec<Option<ValueId>>,
    /// Owner and positions of each piece, in order.
    parts: Vec<(Owner, Vec<usize>)>,
}

impl Joined {
    fn positions(&self) -> Vec<usize> {
        self.parts.iter().flat_map(|(_, positions)| positions.iter().copied()).collect()
    }
}

impl TaskEmitter<'_> {
    /// Writes a node that reads all channels at once, over the concatenation of its pieces. Its
    /// constants are permuted alike, so no `Gather` is needed.
    pub(crate) fn emit_together(&mut self, id: NodeId, together: &Together) -> Result<()> {
        let node = self.graph().node(id);
        let Some(joined) = self.joined(id, together)? else { return self.emit_whole(id) };
        let own = Owner::Tasks(vec![self.task]);
        let owner = match joined.parts.as_slice() {
            [(owner, _)] => owner.clone(),
            _ => own,
        };
        let positions = joined.positions();
        let mut copy = node.clone();
        copy.name = self.name(&owner, &node.name);
        for (i, operand) in together.operands.iter().enumerate() {
            let Some(source) = node.input(i) else { continue };
            copy.inputs[i] = Some(match (operand, joined.values[i]) {
                (Operand::Channels, Some(value)) => value,
                (Operand::Param { axis }, _) => self.param(source, *axis, &owner, &positions)?,
                _ => self.whole(source)?,
            });
        }
        let wanted: Vec<bool> = node.outputs.iter().map(Option::is_some).collect();
        copy.outputs.clear();
        let outputs = self.builder.node(copy, &wanted);
        for (slot, value) in outputs.into_iter().enumerate() {
            let (Some(value), Some(source)) = (value, node.output(slot)) else { continue };
            let held = match together.outputs.get(slot).and_then(Option::as_ref) {
                Some(labels) => {
                    let name = self.name(&owner, &node.name);
                    self.apart(&joined, labels.axis, value, &name)
                }
                None => Held::Whole(value),
            };
            self.hold(source, held);
        }
        Ok(())
    }

    /// The operands with channels, each joined into one value; `None` if they are cut differently.
    fn joined(&mut self, id: NodeId, together: &Together) -> Result<Option<Joined>> {
        let node = self.graph().node(id);
        let mut found: Option<Joined> = None;
        for (i, operand) in together.operands.iter().enumerate() {
            let (Operand::Channels, Some(source)) = (operand, node.input(i)) else { continue };
            let Held::Pieces { axis, pieces, .. } = self.held(source)? else { return Ok(None) };
            let parts: Vec<(Owner, Vec<usize>)> =
                pieces.iter().map(|p| (p.owner.clone(), p.positions.clone())).collect();
            let values = vec![None; together.operands.len()];
            let joined = found.get_or_insert(Joined { values, parts: parts.clone() });
            if joined.parts != parts {
                return Ok(None);
            }
            let name = self.name(&Owner::Tasks(vec![self.task]), &node.name);
            joined.values[i] = Some(join(self.builder, axis, &pieces, &name).0);
        }
        Ok(found)
    }

    /// Cuts a value with all channels into the pieces again.
    fn apart(&mut self, joined: &Joined, axis: usize, value: ValueId, name: &str) -> Held {
        let sizes: Vec<usize> = joined.parts.iter().map(|(_, positions)| positions.len()).collect();
        let values = split(self.builder, axis, value, &sizes, name);
        let pieces = values.into_iter().zip(&joined.parts).map(|(value, (owner, positions))| {
            Piece { value, owner: owner.clone(), positions: positions.clone() }
        });
        Held::Pieces { axis, len: sizes.iter().sum(), pieces: pieces.collect() }
    }
}
