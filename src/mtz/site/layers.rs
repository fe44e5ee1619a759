//! The layers of a site.

use std::collections::{BTreeMap, HashMap};

use crate::align::{Alignment, Site, TaskGroup, TaskId, TaskLayer, only_group};
use crate::couple::{CoupledLayer, GroupId, LayerId};
use crate::error::Result;
use crate::mtz::joint::{JointModel, Neuron};

/// The layer of one task at a site.
#[derive(Debug, Clone)]
pub(crate) struct SiteLayer {
    pub(crate) task: TaskId,
    pub(crate) id: LayerId,
    pub(crate) layer: CoupledLayer,
}

impl SiteLayer {
    /// The layer's task and number.
    pub(crate) fn place(&self) -> TaskLayer {
        self.task.layer(self.id)
    }

    /// The group of the layer's rows, if it is one group.
    pub(crate) fn group(&self) -> Option<TaskGroup> {
        only_group(&self.layer.outputs).map(|group| self.task.group(group))
    }

    /// The groups that the layer reads, in the order of its columns.
    pub(crate) fn input_groups(&self) -> Vec<GroupId> {
        let mut groups: Vec<GroupId> = Vec::new();
        for channel in self.layer.inputs.iter().flatten() {
            if !groups.contains(&channel.group) {
                groups.push(channel.group);
            }
        }
        groups
    }

    /// The number of columns per channel of a group; `None` if it differs between channels.
    pub(crate) fn pixels(&self, group: GroupId) -> Option<usize> {
        let mut columns: HashMap<usize, usize> = HashMap::new();
        let read = self.layer.inputs.iter().flatten().filter(|c| c.group == group);
        read.for_each(|c| *columns.entry(c.index).or_default() += 1);
        let mut counts = columns.into_values();
        let first = counts.next()?;
        counts.all(|n| n == first).then_some(first)
    }

    /// Whether the layer reads channels that it produces.
    pub(crate) fn consumes_own_outputs(&self) -> bool {
        let inputs = self.layer.inputs.as_deref().unwrap_or_default();
        let reads = inputs.iter().any(|c| Some(self.task.group(c.group)) == self.group());
        reads && !self.layer.per_channel
    }
}

/// Names and sizes of a site's layers, for records. Lists follow `tasks`.
pub(crate) struct SiteShape {
    pub(crate) tasks: Vec<usize>,
    pub(crate) layers: Vec<String>,
    pub(crate) neurons: Vec<usize>,
    pub(crate) inputs: Vec<usize>,
}

impl SiteShape {
    /// Of a site's layers, in their order.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] if a layer's weight is not a matrix.
    pub(crate) fn of(joint: &JointModel, members: &[SiteLayer]) -> Result<SiteShape> {
        let sizes = |m: &SiteLayer| m.layer.layer.sizes(joint.task(m.task).graph());
        let sizes: Vec<(usize, usize, usize)> = members.iter().map(sizes).collect::<Result<_>>()?;
        Ok(SiteShape {
            tasks: members.iter().map(|m| m.task.0).collect(),
            layers: members.iter().map(|m| m.layer.name.clone()).collect(),
            neurons: sizes.iter().map(|(out, ..)| *out).collect(),
            inputs: sizes.iter().map(|(_, inputs, _)| *inputs).collect(),
        })
    }
}

/// The layers of a site.
pub(crate) fn layers_at(joint: &JointModel, site: &Site) -> Vec<SiteLayer> {
    let member = |own: TaskLayer| {
        let layer = joint.layer(own).clone();
        SiteLayer { task: own.task, id: own.layer, layer }
    };
    site.members().map(member).collect()
}

/// The layers of a site whose groups correspond.
pub(crate) fn corresponding_layers(
    joint: &JointModel,
    alignment: &Alignment,
    site: &Site,
) -> Vec<SiteLayer> {
    let all = layers_at(joint, site);
    of_one_correspondence(alignment, &all).into_iter().map(|i| all[i].clone()).collect()
}

/// Weights per row and input of corresponding layers.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a layer's weight is not a matrix.
pub(crate) fn taps(joint: &JointModel, members: &[SiteLayer]) -> Result<usize> {
    match members.first() {
        Some(m) => Ok(m.layer.layer.sizes(joint.task(m.task).graph())?.2),
        None => Ok(1),
    }
}

/// The neurons that rows of at least two layers share: their (layer, row) pairs, by neuron. Rows of a layer that are
/// one channel correspond to those of other layers in their order.
pub(crate) fn common_neurons(
    joint: &JointModel,
    members: &[SiteLayer],
) -> Vec<Vec<(usize, usize)>> {
    let mut rows: BTreeMap<(Neuron, usize), Vec<(usize, usize)>> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        for (row, neuron) in joint.neurons_of_rows(member.place()).into_iter().enumerate() {
            if let Some(neuron) = neuron {
                rows.entry(neuron).or_default().push((at, row));
            }
        }
    }
    rows.into_values().filter(|rows| rows.len() > 1).collect()
}

/// The layers of the correspondence that most layers belong to.
pub(crate) fn of_one_correspondence(alignment: &Alignment, all: &[SiteLayer]) -> Vec<usize> {
    let correspondence = |m: &SiteLayer| alignment.correspondence(m.group()?);
    let correspondences: Vec<Option<usize>> = all.iter().map(correspondence).collect();
    let size = |correspondence: &usize| {
        correspondences.iter().filter(|c| **c == Some(*correspondence)).count()
    };
    let largest = correspondences.iter().flatten().rev().max_by_key(|c| size(c));
    (0..all.len())
        .filter(|i| correspondences[*i].is_some() && correspondences[*i].as_ref() == largest)
        .collect()
}
