//! The arithmetic of a plan: the number of parameters that a joint model stores, by owner.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::align::{TaskId, TaskLayer};
use crate::couple::{Channel, CoupledLayer, LayerId};
use crate::error::Result;
use crate::ir::DataType;
use crate::mtz::joint::{Based, JointModel, Owner};

/// Numbers of layer parameters (weights and biases).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Sizes {
    /// Of each task's net before merging.
    pub originals: Vec<u64>,
    /// Stored once for several tasks.
    pub shared: u64,
    /// Stored for one task only.
    pub specific: Vec<u64>,
}

impl Sizes {
    /// Of the joint model.
    pub fn joint(&self) -> u64 {
        self.shared + self.specific.iter().sum::<u64>()
    }

    /// Of all original nets together.
    pub fn separate(&self) -> u64 {
        self.originals.iter().sum()
    }

    /// Parameters that leave this part, from 0 to 1, of the saving.
    pub fn saving(&self, part: f64) -> u64 {
        let (separate, least) = (self.separate() as f64, self.joint() as f64);
        (least + (1.0 - part) * (separate - least).max(0.0)) as u64
    }
}

/// Counts the parameters of a joint model from its layout alone.
///
/// A weight is stored once for all tasks that own both its neuron and its input and whose layers
/// were fused, however often a net applies it.
///
/// # Errors
/// If a layer's weight is not a matrix.
pub fn sizes(joint: &JointModel) -> Result<Sizes> {
    sizes_by(joint, |layer| joint.shares_bias(layer))
}

/// [`sizes`] with `shares_bias`, which says whether the shared neurons of a layer have one bias for
/// all tasks.
pub(super) fn sizes_by(
    joint: &JointModel,
    shares_bias: impl Fn(TaskLayer) -> Result<bool>,
) -> Result<Sizes> {
    let mut sizes = Sizes { specific: vec![0; joint.tasks().len()], ..Sizes::default() };
    for (task, net) in joint.task_ids().zip(joint.tasks()) {
        let owners = owners(joint, task);
        let mut original = 0;
        let layers = (0..).map(LayerId).zip(&net.coupling().layers);
        for (id, layer) in layers.filter(|(_, layer)| layer.repeats().is_none()) {
            let (out, inputs, taps) = layer.layer.sizes(net.graph())?;
            // Weights that an earlier layer has, too, are stored with it.
            let taps = if layer.weights_of.is_some() { 0 } else { taps };
            let weights = (out * inputs * taps) as u64;
            let has_bias = layer.layer.bias.is_some();
            let biases = if has_bias { out as u64 } else { 0 };
            original += weights + biases;
            let own = task.layer(id);
            if let Some(based) = joint.based_layer(own) {
                let (base, difference) = of_sum(joint, task, based, out as u64, weights);
                sizes.shared += base;
                sizes.specific[task.0] += difference + biases;
                continue;
            }
            let partners = joint.partners(own);
            let common_bias = partners.len() < 2 || shares_bias(own)?;
            // Layers with untracked inputs are fused only if all their inputs are common.
            let columns = match layer.per_channel || layer.inputs.is_none() {
                true => vec![(None, inputs)],
                false => count(joint, own, &owners, columns),
            };
            for (rows, n) in count(joint, own, &owners, rows) {
                let mut add = |tasks: &[&[TaskId]], count: usize| {
                    let common = |t: &&TaskId| tasks.iter().all(|owners| owners.contains(t));
                    let owners: Vec<&TaskId> = partners.iter().filter(common).collect();
                    match owners.as_slice() {
                        // The first owner counts for all owners.
                        [first, _, ..] if **first == task => sizes.shared += count as u64,
                        [_, _, ..] => {}
                        _ => sizes.specific[task.0] += count as u64,
                    }
                };
                let rows: Vec<&[TaskId]> = rows.iter().map(Vec::as_slice).collect();
                if has_bias {
                    let own = [task];
                    let alone = (!common_bias).then_some(&own[..]);
                    add(&rows.iter().copied().chain(alone).collect::<Vec<_>>(), n);
                }
                for (columns, m) in &columns {
                    let both = rows.iter().copied().chain(columns.iter().map(|c| c.as_slice()));
                    add(&both.collect::<Vec<_>>(), n * m * taps);
                }
            }
        }
        sizes.originals.push(original);
    }
    Ok(sizes)
}

/// Parameters of a task's layer of so many rows and weights, whose weights are a sum: of the common part,
/// which counts at the first task that has it, and of the task's difference.
fn of_sum(joint: &JointModel, task: TaskId, based: &Based, rows: u64, weights: u64) -> (u64, u64) {
    let first = joint.base_tasks(based.number).first() == Some(&task);
    let bits = based.difference.as_ref().map(|difference| bits(difference.codes.dtype));
    let own = bits.map_or(0, |bits| of_difference(rows, weights, bits));
    (if first { weights } else { 0 }, own)
}

/// Parameters that a difference of so many bits takes: its numbers, and a step for each of its rows.
pub(super) fn of_difference(rows: u64, weights: u64, bits: u64) -> u64 {
    (weights * bits).div_ceil(32) + rows
}

/// Bits of a number of a difference.
fn bits(dtype: DataType) -> u64 {
    dtype.size().map_or(4, |bytes| 8 * bytes as u64)
}

/// The owners of one side of a block of weights; `None` for a model input, which has no owner.
type Owners = Option<Vec<TaskId>>;

/// The owners of each channel of each group of a task.
fn owners(joint: &JointModel, task: TaskId) -> Vec<Vec<Owners>> {
    let groups = joint.task(task).coupling().groups.iter().zip(joint.layout(task));
    groups
        .map(|(group, blocks)| {
            let mut owners = vec![None; group.size];
            for block in blocks {
                let Owner::Tasks(tasks) = &block.owner else { continue };
                block.channels.iter().for_each(|c| owners[*c] = Some(tasks.clone()));
            }
            owners
        })
        .collect()
}

/// The number of a layer's channels per set of owners, among the layers that were fused with it.
fn count(
    joint: &JointModel,
    own: TaskLayer,
    owners: &[Vec<Owners>],
    channels: fn(&CoupledLayer) -> &[Channel],
) -> Vec<(Owners, usize)> {
    let holders = joint.holders(own, channels);
    let mut counts: BTreeMap<Owners, usize> = BTreeMap::new();
    for channel in channels(joint.layer(own)) {
        let neuron = joint.neuron(own.task.channel(*channel));
        let owners = match neuron.and_then(|neuron| holders.get(&neuron)) {
            Some(holders) => Some(holders.clone()),
            None => owners[channel.group.0][channel.index].clone(),
        };
        *counts.entry(owners).or_default() += 1;
    }
    counts.into_iter().collect()
}

fn rows(layer: &CoupledLayer) -> &[Channel] {
    &layer.outputs
}

fn columns(layer: &CoupledLayer) -> &[Channel] {
    layer.inputs.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_saving_lies_between_all_and_nothing() {
        let sizes = Sizes { originals: vec![300, 100], shared: 150, specific: vec![50, 0] };
        assert_eq!([0.0, 0.5, 1.0].map(|part| sizes.saving(part)), [400, 300, 200]);
        let larger = Sizes { originals: vec![100], shared: 150, specific: vec![50] };
        assert_eq!(larger.saving(0.5), 200);
    }
}
