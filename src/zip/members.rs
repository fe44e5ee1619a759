//! Layers that are zipped together, and why some are not.

use std::collections::BTreeMap;

use crate::align::{Alignment, Site, only_group};
use crate::calib::gram::Moments;
use crate::couple::{CoupledLayer, GroupId, LayerId};
use crate::error::Result;

use super::columns::Columns;
use super::joint::{JointModel, Neuron};
use super::memory::Extent;

/// The layer of one task at a site.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) task: usize,
    pub(super) id: LayerId,
    pub(super) layer: CoupledLayer,
}

impl Member {
    /// The group of the layer's rows, where they are of one.
    pub(super) fn group(&self) -> Option<GroupId> {
        only_group(&self.layer.outputs)
    }
}

/// What is to be done at a site.
pub(super) struct Chosen {
    /// All layers of the site.
    pub(super) all: Vec<Member>,
    /// Which of them can share neurons; none where there is a reason.
    pub(super) zipped: Vec<usize>,
    /// The common inputs of those that can.
    pub(super) columns: Columns,
    /// Weights per row and input.
    pub(super) taps: usize,
    /// Whether the layers are the same as they are, so that nothing is to be done.
    pub(super) duplicates: bool,
    /// Why no neurons can be shared, where none can.
    pub(super) reason: Option<String>,
}

impl Chosen {
    /// What can be done at a site of several layers.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] if a layer's weight is not a matrix.
    pub(super) fn at(joint: &JointModel, alignment: &Alignment, site: &Site) -> Result<Chosen> {
        let all = members_at(joint, site);
        let duplicates = alignment.is_duplicate(site);
        let zipped = match duplicates {
            true => (0..all.len()).collect(),
            false => of_one_class(alignment, &all),
        };
        let members: Vec<Member> = zipped.iter().map(|i| all[*i].clone()).collect();
        let taps = taps(joint, &all)?;
        let columns = Columns::of(joint, alignment, &members, taps);
        let reason = match members.len() {
            _ if duplicates => None,
            0 | 1 => Some(apart(alignment, &all)),
            _ => obstacle(&members, &columns),
        };
        let (zipped, columns) = match reason {
            Some(_) => (Vec::new(), Columns::default()),
            None => (zipped, columns),
        };
        Ok(Chosen { all, zipped, columns, taps, duplicates, reason })
    }

    /// The layers that can share neurons, in the tasks' order.
    pub(super) fn members(&self) -> Vec<Member> {
        self.zipped.iter().map(|i| self.all[*i].clone()).collect()
    }
}

/// The layers of a site.
pub(super) fn members_at(joint: &JointModel, site: &Site) -> Vec<Member> {
    let member = |(task, id): (usize, LayerId)| {
        let layer = joint.tasks[task].coupling.layer(id).clone();
        Member { task, id, layer }
    };
    site.members().map(member).collect()
}

/// The layers of a site whose groups correspond.
pub(super) fn class_members(joint: &JointModel, alignment: &Alignment, site: &Site) -> Vec<Member> {
    let all = members_at(joint, site);
    of_one_class(alignment, &all).into_iter().map(|i| all[i].clone()).collect()
}

/// Weights per row and input of corresponding layers.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a layer's weight is not a matrix.
pub(super) fn taps(joint: &JointModel, members: &[Member]) -> Result<usize> {
    match members.first() {
        Some(m) => Ok(m.layer.layer.sizes(&joint.tasks[m.task].model.graph)?.2),
        None => Ok(1),
    }
}

/// The layers whose groups correspond: those of the correspondence that most layers belong to.
fn of_one_class(alignment: &Alignment, all: &[Member]) -> Vec<usize> {
    let class = |m: &Member| alignment.class(m.task, m.group()?);
    let classes: Vec<Option<usize>> = all.iter().map(class).collect();
    let size = |class: &usize| classes.iter().filter(|c| **c == Some(*class)).count();
    let largest = classes.iter().flatten().rev().max_by_key(|c| size(c));
    (0..all.len()).filter(|i| classes[*i].is_some() && classes[*i].as_ref() == largest).collect()
}

/// Why no two of the layers can share neurons.
fn apart(alignment: &Alignment, all: &[Member]) -> String {
    if all.iter().any(|m| m.group().is_none()) {
        return "its channels belong to several groups".to_owned();
    }
    let refusal = |m: &Member| alignment.refused.get(&(m.task, m.group()?)).cloned();
    all.iter()
        .find_map(refusal)
        .unwrap_or_else(|| "its channels correspond to those of another layer".to_owned())
}

/// Why layers of corresponding groups cannot share neurons.
fn obstacle(members: &[Member], columns: &Columns) -> Option<String> {
    let with_bias = members.iter().filter(|m| m.layer.layer.bias.is_some()).count();
    if with_bias > 0 && with_bias < members.len() {
        return Some("only some of the layers have a bias".to_owned());
    }
    let per_channel = members.iter().all(|m| m.layer.per_channel);
    (columns.count == 0 && !per_channel).then(|| "no input is shared".to_owned())
}

/// Bytes that the statistics of one layer take; `targets` tells whether they hold pre-activations.
pub(super) fn statistics_bytes(
    joint: &JointModel,
    task: usize,
    layer: &CoupledLayer,
    targets: bool,
) -> u64 {
    let Ok((out, inputs, taps)) = layer.layer.sizes(&joint.tasks[task].model.graph) else {
        return u64::MAX;
    };
    match layer.per_channel {
        true => Moments::bytes(taps, usize::from(targets)).saturating_mul(out as u64),
        false => Moments::bytes(inputs.saturating_mul(taps), if targets { out } else { 0 }),
    }
}

/// What a layer takes of memory; `None` for a depthwise layer, which takes hardly any.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the layer's weight is not a matrix.
pub(super) fn extent(
    joint: &JointModel,
    task: usize,
    layer: &CoupledLayer,
) -> Result<Option<Extent>> {
    let (outputs, inputs, taps) = layer.layer.sizes(&joint.tasks[task].model.graph)?;
    let inputs = inputs.saturating_mul(taps).saturating_add(1);
    let tasks = joint.tasks.len();
    Ok((!layer.per_channel).then_some(Extent { outputs, inputs, tasks }))
}

/// The neurons that rows of two layers or more are: (layer, row) of each, by neuron.
pub(super) fn common_neurons(joint: &JointModel, members: &[Member]) -> Vec<Vec<(usize, usize)>> {
    let mut rows: BTreeMap<Neuron, Vec<(usize, usize)>> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        for (row, channel) in member.layer.outputs.iter().enumerate() {
            if let Some(neuron) = joint.neuron(member.task, *channel) {
                rows.entry(neuron).or_default().push((at, row));
            }
        }
    }
    rows.into_values().filter(|rows| rows.len() > 1).collect()
}
