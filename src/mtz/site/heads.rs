//! Attention heads among the channels that are paired.

use std::collections::HashMap;

use crate::align::TaskChannel;
use crate::mtz::joint::{JointModel, Neuron};
use crate::mtz::matching::HeadBlocks;

/// The identity of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Head {
    Shared(Neuron),
    Own(TaskChannel),
}

/// The heads of the channels of two sides; `None` if the channels belong to no heads. If only one
/// side has heads, there are no blocks, so nothing is paired.
pub(crate) fn head_blocks(
    joint: &JointModel,
    rows: &[TaskChannel],
    columns: &[TaskChannel],
) -> Option<HeadBlocks> {
    let nest = |own: &TaskChannel| joint.task(own.task).coupling().nest(own.channel.group);
    let mut nests = rows.iter().chain(columns).map(nest);
    let is_fixed = nests.clone().flatten().any(|nest| nest.is_fixed);
    if nests.all(|nest| nest.is_none()) {
        return None;
    }
    let (Some(rows), Some(columns)) = (heads(joint, rows), heads(joint, columns)) else {
        return Some(HeadBlocks::default());
    };
    let place = |head: &Head| rows.iter().position(|(own, _)| own == head);
    let known = columns.iter().enumerate().filter(|(_, (head, _))| matches!(head, Head::Shared(_)));
    let known: Vec<(usize, usize)> =
        known.filter_map(|(column, (head, _))| Some((place(head)?, column))).collect();
    let channels = |all: Vec<(Head, Vec<usize>)>| all.into_iter().map(|(_, own)| own).collect();
    Some(HeadBlocks {
        rows: channels(rows),
        columns: channels(columns),
        is_fixed,
        known: (!known.is_empty()).then_some(known),
    })
}

/// The heads of some channels, each with the places of its channels; `None` if a channel belongs to
/// no head.
fn heads(joint: &JointModel, channels: &[TaskChannel]) -> Option<Vec<(Head, Vec<usize>)>> {
    let mut found: Vec<(Head, Vec<usize>)> = Vec::new();
    let mut places: HashMap<Head, usize> = HashMap::new();
    for (at, channel) in channels.iter().enumerate() {
        let own = joint.task(channel.task).coupling().head(channel.channel)?;
        let own = channel.task.channel(own);
        let head = joint.neuron(own).map_or(Head::Own(own), Head::Shared);
        let place = *places.entry(head).or_insert_with(|| {
            found.push((head, Vec::new()));
            found.len() - 1
        });
        found[place].1.push(at);
    }
    Some(found)
}
