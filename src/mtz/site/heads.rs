//! Attention heads of the channels to pair.

use std::collections::HashMap;

use ndarray::Array2;

use crate::align::{TaskChannel, TaskGroup};
use crate::mtz::joint::{JointModel, Neuron};
use crate::mtz::matching::HeadBlocks;

/// The identity of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Head {
    Shared(Neuron),
    Own(TaskChannel),
}

/// Blocks of channels, one per head, each with the channel that identifies its head.
pub(crate) struct Heads {
    pub(crate) blocks: HeadBlocks,
    pub(crate) rows: Vec<TaskChannel>,
    pub(crate) columns: Vec<TaskChannel>,
}

/// Costs of pairs of heads.
pub(crate) type HeadCosts = HashMap<(TaskChannel, TaskChannel), f64>;

impl Heads {
    /// Costs as a matrix, heads of rows × heads of columns.
    pub(crate) fn matrix(&self, costs: &HeadCosts) -> Array2<f64> {
        let shape = (self.rows.len(), self.columns.len());
        let cost = |(a, b): (usize, usize)| costs.get(&(self.rows[a], self.columns[b]));
        Array2::from_shape_fn(shape, |pair| cost(pair).copied().unwrap_or(0.0))
    }
}

/// The heads of the channels of two sides; `None` if the channels belong to no heads. If only one
/// side has heads, there are no blocks, so nothing is paired.
pub(crate) fn head_blocks(
    joint: &JointModel,
    rows: &[TaskChannel],
    columns: &[TaskChannel],
) -> Option<Heads> {
    let nest = |own: &TaskChannel| joint.task(own.task).coupling().nest(own.channel.group);
    let mut nests = rows.iter().chain(columns).map(nest);
    let is_fixed = nests.clone().flatten().any(|nest| nest.is_fixed);
    let is_common = nests.clone().flatten().any(|nest| nest.is_common);
    if nests.all(|nest| nest.is_none()) {
        return whole_heads(joint, rows, columns);
    }
    let (Some(rows), Some(columns)) = (heads(joint, rows), heads(joint, columns)) else {
        let blocks = HeadBlocks::default();
        return Some(Heads { blocks, rows: Vec::new(), columns: Vec::new() });
    };
    let place = |head: &Head| rows.iter().position(|found| found.head == *head);
    let shared = columns.iter().enumerate().filter(|(_, f)| matches!(f.head, Head::Shared(_)));
    let known: Vec<(usize, usize)> =
        shared.filter_map(|(column, found)| Some((place(&found.head)?, column))).collect();
    let families = is_common.then(|| families(&rows));
    let names = |all: &[Found]| all.iter().map(|found| found.channel).collect();
    let (row_names, column_names) = (names(&rows), names(&columns));
    let places = |all: Vec<Found>| all.into_iter().map(|found| found.places).collect();
    let blocks = HeadBlocks {
        rows: places(rows),
        columns: places(columns),
        is_fixed,
        families,
        known: (!known.is_empty()).then_some(known),
        elsewhere: None,
    };
    Some(Heads { blocks, rows: row_names, columns: column_names })
}

/// The family of each head: heads of one group have one order of channels.
fn families(rows: &[Found]) -> Vec<usize> {
    let mut groups: Vec<TaskGroup> = Vec::new();
    let family = |found: &Found| {
        groups.iter().position(|own| *own == found.group).unwrap_or_else(|| {
            groups.push(found.group);
            groups.len() - 1
        })
    };
    rows.iter().map(family).collect()
}

/// The channels of each net as one block, if they are the depths of heads elsewhere, so that all of them are paired or
/// none.
fn whole_heads(joint: &JointModel, rows: &[TaskChannel], columns: &[TaskChannel]) -> Option<Heads> {
    let group = |own: &TaskChannel| own.task.group(own.channel.group);
    let is_whole =
        |own: &TaskChannel| joint.task(own.task).coupling().are_depths(own.channel.group);
    if !rows.iter().chain(columns).any(is_whole) {
        return None;
    }
    let blocks = |all: &[TaskChannel]| {
        let mut found: Vec<(TaskChannel, Vec<usize>)> = Vec::new();
        for (at, channel) in all.iter().enumerate() {
            match found.iter_mut().find(|(first, _)| group(first) == group(channel)) {
                Some((_, places)) => places.push(at),
                None => found.push((*channel, vec![at])),
            }
        }
        found.into_iter().unzip::<_, _, Vec<TaskChannel>, Vec<Vec<usize>>>()
    };
    let ((rows, row_places), (columns, column_places)) = (blocks(rows), blocks(columns));
    let blocks = HeadBlocks { rows: row_places, columns: column_places, ..HeadBlocks::default() };
    Some(Heads { blocks, rows, columns })
}

/// A head among some channels.
struct Found {
    head: Head,
    /// The channel that identifies it.
    channel: TaskChannel,
    /// The group of its channels.
    group: TaskGroup,
    /// The places of its channels.
    places: Vec<usize>,
}

/// The heads of some channels, each with the places of its channels; `None` if a channel belongs to
/// no head.
fn heads(joint: &JointModel, channels: &[TaskChannel]) -> Option<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    let mut places: HashMap<Head, usize> = HashMap::new();
    for (at, channel) in channels.iter().enumerate() {
        let own = joint.task(channel.task).coupling().head(channel.channel)?;
        let own = channel.task.channel(own);
        let head = joint.neuron(own).map_or(Head::Own(own), Head::Shared);
        let place = *places.entry(head).or_insert_with(|| {
            let group = channel.task.group(channel.channel.group);
            found.push(Found { head, channel: own, group, places: Vec::new() });
            found.len() - 1
        });
        found[place].places.push(at);
    }
    for own in &mut found {
        own.places.sort_by_key(|at| channels[*at].channel.index);
    }
    Some(found)
}
