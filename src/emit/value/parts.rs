//! Into which pieces a tracked axis falls.

use crate::couple::{Channel, ChannelAxis, GroupId};
use crate::emit::task::TaskEmitter;
use crate::ir::ValueId;
use crate::mtz::joint::{Neuron, Owner};

use super::pieces::{Held, Piece, pick};

/// Indices along an axis whose channels belong to one block of one group.
pub(crate) struct Part {
    pub(crate) group: GroupId,
    pub(crate) owner: Owner,
    /// The first neuron of the block, where it is shared.
    pub(crate) first: Option<Neuron>,
    pub(crate) positions: Vec<usize>,
}

impl TaskEmitter<'_> {
    /// The parts of an axis with these channels: group by group, each in joint order.
    pub(crate) fn parts(&self, channels: &[Channel]) -> Vec<Part> {
        let mut groups = Vec::new();
        for channel in channels {
            if !groups.contains(&channel.group) {
                groups.push(channel.group);
            }
        }
        let mut parts = Vec::new();
        for group in groups {
            let size = self.source().coupling.group(group).size;
            let mut places = vec![Vec::new(); size];
            for (position, channel) in channels.iter().enumerate() {
                if channel.group == group {
                    places[channel.index].push(position);
                }
            }
            for block in self.blocks(group) {
                let at = block.channels.iter().flat_map(|c| places[*c].iter().copied());
                let mut positions: Vec<usize> = at.collect();
                if block.first.is_none() {
                    positions.sort_unstable();
                }
                if !positions.is_empty() {
                    let (owner, first) = (block.owner.clone(), block.first);
                    parts.push(Part { group, owner, first, positions });
                }
            }
        }
        parts
    }

    /// A whole value cut into the pieces that its channels fall into.
    pub(crate) fn cut(&mut self, axis: &ChannelAxis, value: ValueId, name: &str) -> Held {
        let len = axis.channels.len();
        let pieces = self.parts(&axis.channels).into_iter().map(|part| {
            let place: Vec<i64> = part.positions.iter().map(|p| *p as i64).collect();
            let name = self.name(&part.owner, name);
            let value = pick(self.builder, axis.axis, value, &place, len, &name);
            Piece { value, owner: part.owner, positions: part.positions }
        });
        Held::Pieces { axis: axis.axis, len, pieces: pieces.collect() }
    }
}
