//! Shared neurons that some of the layers fused with each other read, and others do not.
//!
//! Channels with the same owner are one piece of an axis, and a layer has one block of weights for the
//! columns of a piece. If fused layers read different neurons of one owner, this block differs between
//! tasks and would be stored once per task. So these neurons are pieces by the layers that read them.

use std::collections::{BTreeMap, BTreeSet};

use crate::align::{TaskId, TaskLayer};
use crate::couple::{Channel, CoupledLayer, LayerId};
use crate::mtz::joint::{Block, JointModel, Neuron};

/// The tasks that read a neuron, by the number of their fused layers.
pub(crate) type ReadBy = BTreeMap<u32, Vec<TaskId>>;

/// Neurons that are not read by all fused layers whose tasks own them.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    of: BTreeMap<Neuron, ReadBy>,
    /// The numbers of the fused layers.
    numbers: BTreeSet<u32>,
}

impl Readers {
    /// Those of a joint model.
    pub(crate) fn of(joint: &JointModel) -> Self {
        let owners = joint.owners();
        let mut readers = Readers::default();
        for (task, net) in joint.task_ids().zip(joint.tasks()) {
            let numbers = (0..).map(LayerId).zip(&joint.fused()[task.0]);
            for ((id, number), layer) in numbers.zip(&net.coupling().layers) {
                let own = task.layer(id);
                let Some(number) = number.filter(|_| !layer.per_channel) else { continue };
                if !has_common_rows(joint, own) {
                    continue;
                }
                for (neuron, tasks) in unlike(joint, own, &owners) {
                    readers.numbers.insert(number);
                    readers.of.entry(neuron).or_default().insert(number, tasks);
                }
            }
        }
        readers
    }

    /// All these neurons.
    pub(crate) fn neurons(&self) -> impl Iterator<Item = Neuron> {
        self.of.keys().copied()
    }

    /// The tasks that read a neuron, ascending, for each number of fused layers that do not all read it.
    pub(crate) fn of_neuron(&self, neuron: Neuron) -> Option<&ReadBy> {
        self.of.get(&neuron)
    }

    /// Whether the fused layers of a number read different neurons of one owner.
    pub(crate) fn differ(&self, number: u32) -> bool {
        self.numbers.contains(&number)
    }

    /// Cuts a block of a group into blocks with the same readers. `neurons` are those of the group's
    /// channels.
    pub(crate) fn cut(&self, block: Block, neurons: &[Option<Neuron>]) -> Vec<Block> {
        let readers = |neuron: Option<Neuron>| neuron.and_then(|n| self.of.get(&n));
        let mut blocks: Vec<Block> = Vec::new();
        for channel in block.channels {
            let neuron = neurons.get(channel).copied().flatten();
            match blocks.iter_mut().find(|b| readers(b.first) == readers(neuron)) {
                Some(block) => block.channels.push(channel),
                None => {
                    let (owner, channels) = (block.owner.clone(), vec![channel]);
                    blocks.push(Block { owner, channels, first: neuron });
                }
            }
        }
        blocks
    }
}

/// Whether a layer has rows in common with those that it was fused with.
fn has_common_rows(joint: &JointModel, own: TaskLayer) -> bool {
    let holders = joint.holders(own, |layer| &layer.outputs);
    joint.partners(own).len() > 1 && holders.values().any(|tasks| tasks.len() > 1)
}

/// The neurons that a layer reads, with the tasks whose fused layers read them, as far as these tasks
/// differ between neurons of one owner.
fn unlike(
    joint: &JointModel,
    own: TaskLayer,
    owners: &[Vec<TaskId>],
) -> Vec<(Neuron, Vec<TaskId>)> {
    let holders = joint.holders(own, columns);
    let channels = columns(joint.layer(own)).iter();
    let read: BTreeSet<Neuron> =
        channels.filter_map(|channel| joint.neuron(own.task.channel(*channel))).collect();
    let mut by_owner: BTreeMap<&[TaskId], Vec<(Neuron, Vec<TaskId>)>> = BTreeMap::new();
    for neuron in read {
        let tasks = holders.get(&neuron).cloned().unwrap_or_default();
        by_owner.entry(&owners[neuron.0 as usize]).or_default().push((neuron, tasks));
    }
    let differ = |all: &Vec<(Neuron, Vec<TaskId>)>| all.iter().any(|(_, tasks)| *tasks != all[0].1);
    by_owner.into_values().filter(differ).flatten().collect()
}

fn columns(layer: &CoupledLayer) -> &[Channel] {
    layer.inputs.as_deref().unwrap_or_default()
}
