//! Partitions of a task's channels: blocks of groups, and the pieces that they form.
//!
//! Channels with the same owner are one piece of an axis, whatever groups they belong to. Order and
//! extent of a shared piece follow from its neurons, and where these are repeated from the order of whole runs,
//! so they are the same in every task that has its copies of them in the same order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::align::TaskId;
use crate::couple::{Channel, GroupId, LayerId};
use crate::ir::NodeId;
use crate::mtz::joint::{Block, JointModel, Neuron, Owner};
use crate::ops::LayerKind;

use super::heads::cut_in_heads;
use super::readers::Readers;

/// Indices along an axis that form one piece.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The group of the first channel.
    pub(crate) group: GroupId,
    /// The owner of the channels.
    pub(crate) owner: Owner,
    /// The first neuron, if they are shared.
    pub(crate) first: Option<Neuron>,
    /// The indices, in joint order.
    pub(crate) positions: Vec<usize>,
}

/// The blocks of a task's groups in the joint model.
#[derive(Debug)]
pub(crate) struct Partition {
    /// By group; each block with whether it must stay a piece of its own.
    blocks: Vec<Vec<(Block, bool)>>,
    sizes: Vec<usize>,
}

impl Partition {
    /// The partition of each task of a joint model.
    pub(crate) fn of(joint: &JointModel, readers: &Readers) -> Vec<Partition> {
        let mut apart = fused_otherwise(joint);
        apart.extend(readers.neurons());
        joint.task_ids().map(|task| Partition::of_task(joint, task, readers, &apart)).collect()
    }

    fn of_task(
        joint: &JointModel,
        task: TaskId,
        readers: &Readers,
        apart: &BTreeSet<Neuron>,
    ) -> Partition {
        let coupling = joint.task(task).coupling();
        let touched = touched(joint, task);
        let own = Owner::Tasks(vec![task]);
        let blocks =
            joint.layout(task).into_iter().zip(coupling.groups()).map(|(blocks, (id, group))| {
                // Shared neurons count only if a layer with common weights produces or consumes them.
                if !touched.contains(&id) && blocks.iter().any(|b| b.owner.is_shared()) {
                    let channels = (0..group.size).collect();
                    return vec![(Block { owner: own.clone(), channels, first: None }, false)];
                }
                let stays = |block: &Block| match &block.owner {
                    Owner::Input => !group.producers.is_empty(),
                    Owner::Tasks(_) => block.first.is_some_and(|neuron| apart.contains(&neuron)),
                };
                let neurons = &joint.sharing(task)[id.0];
                let blocks = blocks.into_iter().flat_map(|block| readers.cut(block, neurons));
                blocks.map(|b| (stays(&b), b)).map(|(s, b)| (b, s)).collect()
            });
        let sizes = coupling.groups.iter().map(|group| group.size).collect();
        let mut blocks: Vec<Vec<(Block, bool)>> = blocks.collect();
        cut_in_heads(joint, task, &touched, &mut blocks);
        Partition { blocks, sizes }
    }

    /// The parts of an axis with these channels: shared parts first, then the task's own. Copies of whole
    /// runs of channels stay side by side, as in a `Concat`, and so do the pixels of one channel. Where channels are
    /// repeated, runs that do not overlap keep their order, so that nothing moves.
    pub(crate) fn parts(&self, channels: &[Channel]) -> Vec<Part> {
        self.cut(channels, shortest_run, as_they_lie)
    }

    /// The parts of the rows of a layer. Their order follows from the neurons alone, whatever the order of
    /// the task's own rows.
    pub(crate) fn rows(&self, channels: &[Channel]) -> Vec<Part> {
        self.cut(channels, |_| 1, |runs| runs)
    }

    /// `order` brings the runs of a part, block by block and turn by turn, into their order.
    fn cut(
        &self,
        channels: &[Channel],
        width: fn(&[&[usize]]) -> usize,
        order: fn(Vec<Vec<usize>>) -> Vec<Vec<usize>>,
    ) -> Vec<Part> {
        let mut places: BTreeMap<GroupId, Vec<Vec<usize>>> = BTreeMap::new();
        for (position, channel) in channels.iter().enumerate() {
            let size = self.sizes[channel.group.0];
            let own = places.entry(channel.group).or_insert_with(|| vec![Vec::new(); size]);
            own[channel.index].push(position);
        }
        let mut found: Vec<Found> = Vec::new();
        for (group, places) in &places {
            for (block, apart) in &self.blocks[group.0] {
                let own: Vec<&[usize]> =
                    block.channels.iter().map(|c| places[*c].as_slice()).collect();
                let turns = in_turns(&own, width(&own));
                if !turns.is_empty() {
                    let (owner, first) = (block.owner.clone(), block.first);
                    let part = Part { group: *group, owner, first, positions: Vec::new() };
                    found.push(Found { part, is_repeated: turns.len() > 1, turns, apart: *apart });
                }
            }
        }
        found.sort_by_key(|Found { part, apart, .. }| {
            let width = if let Owner::Tasks(tasks) = &part.owner { tasks.len() } else { 0 };
            (Reverse(width), part.owner.clone(), *apart, part.first)
        });
        side_by_side(found, order)
    }
}

/// A part of one group, with its indices turn by turn.
struct Found {
    part: Part,
    turns: Vec<Vec<usize>>,
    /// Whether a channel has several turns.
    is_repeated: bool,
    /// Whether it must stay a part of its own.
    apart: bool,
}

/// The indices of several channels: in each turn, the next `width` of every channel.
fn in_turns(channels: &[&[usize]], width: usize) -> Vec<Vec<usize>> {
    let width = width.max(1);
    let turns = channels.iter().map(|own| own.len().div_ceil(width)).max().unwrap_or(0);
    let of_turn = |turn: usize| -> Vec<usize> {
        let runs = channels.iter().filter_map(|own| own.chunks(width).nth(turn));
        runs.flatten().copied().collect()
    };
    (0..turns).map(of_turn).collect()
}

/// Runs in the order of their indices if none lies within another, as they are else. Channels may have another order
/// within the runs of another task, but runs of corresponding axes have the same order.
fn as_they_lie(runs: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut sorted = runs.clone();
    sorted.sort_by_key(|run| run.iter().min().copied());
    let is_before = |pair: &[Vec<usize>]| pair[0].iter().max() < pair[1].iter().min();
    if sorted.windows(2).all(is_before) { sorted } else { runs }
}

/// The fewest neighbouring indices of one channel, such as its pixels.
fn shortest_run(channels: &[&[usize]]) -> usize {
    let runs = channels.iter().flat_map(|own| own.chunk_by(|a, b| a + 1 == *b));
    runs.map(<[usize]>::len).min().unwrap_or(1)
}

/// Joins parts with the same owner, except those that must stay apart.
fn side_by_side(found: Vec<Found>, order: fn(Vec<Vec<usize>>) -> Vec<Vec<usize>>) -> Vec<Part> {
    let mut joined: Vec<Found> = Vec::new();
    let mut is_open = false;
    for one in found {
        let apart = one.apart;
        match joined.last_mut() {
            Some(last) if is_open && !apart && last.part.owner == one.part.owner => {
                last.turns.extend(one.turns);
                last.is_repeated |= one.is_repeated;
            }
            _ => joined.push(one),
        }
        is_open = !apart;
    }
    let whole = |Found { mut part, turns, is_repeated, .. }: Found| {
        part.positions = if is_repeated { order(turns).concat() } else { turns.concat() };
        if part.first.is_none() {
            part.positions.sort_unstable();
        }
        part
    };
    joined.into_iter().map(whole).collect()
}

/// The groups of a task that layers with common weights, or a common part of them, produce or consume.
fn touched(joint: &JointModel, task: TaskId) -> BTreeSet<GroupId> {
    let layers = joint.task(task).coupling().layers.iter().enumerate();
    let common = layers.filter(|(id, _)| {
        let own = task.layer(LayerId(*id));
        joint.partners(own).len() > 1 || joint.based_layer(own).is_some()
    });
    let channels =
        common.flat_map(|(_, layer)| layer.outputs.iter().chain(layer.inputs.iter().flatten()));
    channels.map(|channel| channel.group).collect()
}

/// The nodes of all tasks whose weights are fused with each other.
type Partners = Vec<(TaskId, NodeId)>;

/// Shared neurons of nodes whose rows are fused with different nodes. Such rows cannot be stored as one
/// weight.
fn fused_otherwise(joint: &JointModel) -> BTreeSet<Neuron> {
    let mut partners: BTreeMap<u32, Partners> = BTreeMap::new();
    for (task, net) in joint.task_ids().zip(joint.tasks()) {
        for (layer, number) in net.coupling().layers.iter().zip(&joint.fused()[task.0]) {
            let Some(number) = number else { continue };
            let of_number = partners.entry(*number).or_default();
            if !of_number.contains(&(task, layer.layer.node)) {
                of_number.push((task, layer.layer.node));
            }
        }
    }
    let owners = joint.owners();
    let mut apart = BTreeSet::new();
    for (task, net) in joint.task_ids().zip(joint.tasks()) {
        type Rows<'a> = (NodeId, &'a LayerKind, &'a [TaskId]);
        let mut rows: HashMap<Rows<'_>, (Vec<&Partners>, Vec<Neuron>)> = HashMap::new();
        let none = Partners::new();
        for (layer, number) in net.coupling().layers.iter().zip(&joint.fused()[task.0]) {
            let with = number.and_then(|n| partners.get(&n)).filter(|p| p.len() > 1);
            for neuron in layer.outputs.iter().filter_map(|c| joint.neuron(task.channel(*c))) {
                let owners = owners[neuron.0 as usize].as_slice();
                let own = rows.entry((layer.layer.node, &layer.layer.kind, owners)).or_default();
                if !own.0.contains(&with.unwrap_or(&none)) {
                    own.0.push(with.unwrap_or(&none));
                }
                own.1.push(neuron);
            }
        }
        apart.extend(rows.into_values().filter(|(with, _)| with.len() > 1).flat_map(|r| r.1));
    }
    apart
}
