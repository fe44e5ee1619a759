//! Finds the layers and groups of several nets that correspond.
//!
//! Nets are added one at a time. A new net's layers are aligned with the sites found so far by their
//! longest common subsequence, weighted by the parameters that sharing could save. So nets of
//! different depths share their common layers. Groups follow from their layers.

mod coupled_inputs;
mod duplicates;
mod groups;
mod layers;
mod lineage;
mod order;
mod run;
mod task;
mod worth;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::couple::{Channel, Coupling, GroupId, LayerId};
use crate::ir::Graph;

pub use duplicates::Duplicates;
pub use lineage::{Lineage, Matching};
pub use order::{inputs_like, order_like};
pub use task::{TaskChannel, TaskGroup, TaskId, TaskLayer};

/// The correspondence between nets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Alignment {
    /// Every layer of every net once, corresponding layers together, in a topological order of each
    /// net.
    pub sites: Vec<Site>,
    /// Corresponding groups of at least two nets, whose channels may be paired.
    pub groups: Vec<Correspondence>,
    /// Corresponding model inputs of at least two nets, whose channels are shared unchanged.
    pub inputs: Vec<Correspondence>,
    /// Corresponding model inputs with different numbers or orders of channels. Channels of the same
    /// index are shared.
    pub unlike_inputs: Vec<Correspondence>,
    /// Those of [`Alignment::inputs`] that layers of several nets write to as well, as in `x + f(x)`.
    /// Channels of the same index are shared.
    pub coupled_inputs: Vec<Correspondence>,
    /// Groups behind corresponding layers that cannot be paired, with the reason.
    pub refused: BTreeMap<TaskGroup, String>,
    /// Layers that are identical in several nets.
    pub duplicates: Duplicates,
    /// Nets with a backbone in common with another net, whose channels correspond by index.
    pub lineages: Vec<Lineage>,
    /// The first difference of each net but the first from the first; `None` if there is none.
    pub divergences: Vec<Option<Divergence>>,
    /// Layers that write to coupled inputs.
    writers: BTreeSet<TaskLayer>,
    /// The number of the correspondence that each group belongs to.
    correspondences: BTreeMap<TaskGroup, usize>,
}

/// The group of each net, in their order; `None` for a net without a counterpart.
pub type Correspondence = Vec<Option<GroupId>>;

/// Corresponding layers: at least one, and at most one of each net.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The layer of each net, in their order.
    pub layers: Vec<Option<LayerId>>,
    /// Whether the layers keep their weights. Their channels are still paired.
    pub own_weights: bool,
    /// Whether the layers [repeat](crate::couple::CoupledLayer::repeats) those of earlier sites, so that there is
    /// nothing to decide here.
    pub repeats: bool,
}

impl Site {
    /// The layer of each net that has one, in the nets' order.
    pub fn members(&self) -> impl Iterator<Item = TaskLayer> {
        let layers = (0..).map(TaskId).zip(&self.layers);
        layers.filter_map(|(task, layer)| Some(task.layer((*layer)?)))
    }

    /// The layer of one net.
    pub fn layer_of(&self, task: TaskId) -> Option<LayerId> {
        self.layers.get(task.0).copied().flatten()
    }

    /// Whether several nets have the layer, which repeats no other.
    pub fn is_common(&self) -> bool {
        !self.repeats && self.members().count() > 1
    }
}

/// The first pair of layers at which two nets differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// Layer of the first net; `None` where it has no more layers.
    pub a: Option<String>,
    /// Layer of the other net; `None` where it has no more layers.
    pub b: Option<String>,
    /// What differs.
    pub difference: String,
}

/// One side of an alignment.
#[derive(Clone, Copy)]
pub struct Net<'a> {
    /// The net's graph.
    pub graph: &'a Graph,
    /// Its channel structure.
    pub coupling: &'a Coupling,
    /// Whether neurons of its output layers may be shared. Outputs keep their order in any case.
    pub shares_outputs: bool,
}

/// Aligns nets.
pub fn align(nets: &[Net<'_>], matching: Matching) -> Alignment {
    let sites = layers::sites(nets);
    let (mut groups, mut refused) = groups::groups(nets, &sites);
    let duplicates = duplicates::duplicates(nets, &sites);
    let frozen = duplicates::groups(nets, &sites, &duplicates, &groups);
    refused.retain(|own, _| !frozen.iter().any(|f| f[own.task.0] == Some(own.group)));
    groups.extend(frozen);
    let lineages = lineage::lineages(nets, &sites, matching);
    let by_index = lineage::add_groups(nets, &lineages, &mut groups);
    let (inputs, unlike_inputs) = groups::inputs(nets, &sites);
    let coupled = coupled_inputs::add_groups(nets, &inputs, &mut groups);
    refused.retain(|group, _| !by_index.contains(group) && !coupled.groups.contains(group));
    let divergences = (1..nets.len()).map(|net| layers::divergence(nets, &sites, net)).collect();
    let mut correspondences = BTreeMap::new();
    for (number, groups) in groups.iter().enumerate() {
        members(groups).for_each(|own| {
            correspondences.entry(own).or_insert(number);
        });
    }
    Alignment {
        sites,
        groups,
        inputs,
        unlike_inputs,
        coupled_inputs: coupled.inputs,
        refused,
        duplicates,
        lineages,
        divergences,
        writers: coupled.layers,
        correspondences,
    }
}

impl Alignment {
    /// Sites that several nets have.
    pub fn common(&self) -> impl Iterator<Item = &Site> {
        self.sites.iter().filter(|site| site.is_common())
    }

    /// Whether the layers of a site are duplicates: identical, with identical layers before them.
    pub fn is_duplicate(&self, site: &Site) -> bool {
        let nets = |member: TaskLayer| self.duplicates.get(&member);
        let has_all = |nets: &BTreeSet<TaskId>| site.members().all(|m| nets.contains(&m.task));
        site.members().all(|member| nets(member).is_some_and(has_all))
    }

    /// The first net whose layer corresponds by index with that of `net`, itself included; `None` if
    /// the net has no lineage with any other.
    pub fn ancestor(&self, own: TaskLayer) -> Option<TaskId> {
        let up = |own: TaskLayer| {
            let lineage = self.lineages.iter().find(|lineage| lineage.net == own.task)?;
            let (parent, _) = lineage.layers.iter().find(|(_, layer)| *layer == own.layer)?;
            Some(lineage.parent.layer(*parent))
        };
        let is_parent = |lineage: &Lineage| {
            let mut parents = lineage.layers.iter().map(|(parent, _)| parent);
            lineage.parent == own.task && parents.any(|parent| *parent == own.layer)
        };
        let first = std::iter::successors(Some(own), |own| up(*own)).last()?.task;
        (first != own.task || self.lineages.iter().any(is_parent)).then_some(first)
    }

    /// Whether layers of a site correspond by index.
    pub fn is_by_index(&self, site: &Site) -> bool {
        let is_by_index =
            |own: TaskLayer| self.writers.contains(&own) || self.ancestor(own).is_some();
        site.members().any(is_by_index)
    }

    /// Splits the sites behind the `last`-th, so that their layers have no counterparts.
    pub fn cut_behind(&mut self, last: usize) {
        let all = 0..self.sites.len();
        self.take_apart(&all.filter(|place| *place > last).collect());
    }

    /// Splits the sites at some places, so that their layers have no counterparts.
    pub fn take_apart(&mut self, places: &BTreeSet<usize>) {
        for (place, site) in std::mem::take(&mut self.sites).into_iter().enumerate() {
            if !places.contains(&place) {
                self.sites.push(site);
                continue;
            }
            for member in site.members() {
                let mut layers = vec![None; site.layers.len()];
                layers[member.task.0] = Some(member.layer);
                self.sites.push(Site { layers, own_weights: false, repeats: site.repeats });
                self.duplicates.remove(&member);
            }
        }
    }

    /// Lets the layers at some places keep their weights: only their channels are paired. Duplicate
    /// layers stay shared.
    pub fn keep_weights(&mut self, places: &BTreeSet<usize>) {
        for place in places {
            let is_duplicate = self.sites.get(*place).is_some_and(|site| self.is_duplicate(site));
            if let Some(site) = self.sites.get_mut(*place).filter(|_| !is_duplicate) {
                site.own_weights = true;
            }
        }
    }

    /// The groups of a correspondence, in the nets' order.
    pub fn members(&self, correspondence: usize) -> impl Iterator<Item = TaskGroup> {
        members(&self.groups[correspondence])
    }

    /// The number of the correspondence that a group belongs to.
    pub fn correspondence(&self, own: TaskGroup) -> Option<usize> {
        self.correspondences.get(&own).copied()
    }
}

/// The groups of a correspondence, in the nets' order.
pub fn members(groups: &Correspondence) -> impl Iterator<Item = TaskGroup> {
    let all = (0..).map(TaskId).zip(groups);
    all.filter_map(|(task, group)| Some(task.group((*group)?)))
}

/// The group of `channels`, if all belong to one.
pub fn only_group(channels: &[Channel]) -> Option<GroupId> {
    let first = channels.first()?.group;
    channels.iter().all(|c| c.group == first).then_some(first)
}

#[cfg(test)]
mod tests;
