//! What it costs to share the neurons of groups that several layers make: a residual stream, or the
//! channels of a depthwise convolution.
//!
//! One pairing serves all producers, so its cost is the sum of theirs; this is what sec. 3.7 of the
//! paper becomes where no layer counts as fully merged. What a later producer costs depends on how its
//! inputs are paired, and in a residual net these lie behind the group. So before the walk through the
//! layers all groups are paired, one after the other and again with what was found, until nothing
//! changes, on statistics of the original nets. Of that the later producers' costs are kept. The pairs
//! themselves are found anew at each group's first layer, where the nets as they are by then count.

mod costs;
mod search;
mod statistics;

use std::collections::{BTreeMap, HashMap};

use ndarray::Array2;

use crate::align::{TaskChannel, TaskGroup, TaskLayer};
use crate::error::Result;
use crate::mtz::joint::JointModel;
use crate::mtz::matching::Share;
use crate::mtz::plan::consumed_before_produced;
use crate::mtz::site::{SettledGroups, SiteLayer, layers_at};

use super::Driver;
use search::GroupSearch;

/// What is known of groups before the walk.
pub(super) struct Outlook {
    /// The nets with the groups that are settled already.
    pub(super) joint: JointModel,
    pub(super) settled: SettledGroups,
    pub(super) later: LaterCosts,
}

/// What the later layers of groups cost, by the layer at which a task joins others.
#[derive(Default)]
pub(super) struct LaterCosts(BTreeMap<TaskLayer, GroupCosts>);

/// What the later layers of a group cost where a task joins others at its first layer.
pub(super) struct GroupCosts {
    /// The row of each channel of the others.
    pub(super) neurons: HashMap<TaskChannel, usize>,
    /// Neurons × channels of the task.
    pub(super) cost: Array2<f64>,
    /// What each pair costs at all layers, in units that are the same for all groups.
    pub(super) pair_costs: Vec<f64>,
}

impl LaterCosts {
    /// What later layers cost where a task joins others at `layer`.
    pub(super) fn at(&self, layer: TaskLayer) -> Option<&GroupCosts> {
        self.0.get(&layer)
    }

    /// Whether pairs cost anything at later layers.
    pub(super) fn cost_anything(&self, layer: TaskLayer) -> bool {
        self.at(layer).is_some_and(|later| later.cost.iter().any(|cost| *cost != 0.0))
    }

    /// Costs of pairs fixed before the walk came to their first layer.
    pub(super) fn pair_costs(&self, layer: TaskLayer) -> Vec<f64> {
        self.at(layer).map(|later| later.pair_costs.clone()).unwrap_or_default()
    }

    fn insert(&mut self, layer: TaskLayer, costs: GroupCosts) {
        self.0.insert(layer, costs);
    }
}

/// A correspondence and the sites that make its channels.
struct CorrespondingGroups {
    /// The group of each task that has one.
    groups: Vec<TaskGroup>,
    /// Places in the alignment's sites.
    sites: Vec<usize>,
    /// Whether the first of them reads what it makes.
    is_recurrent: bool,
    /// The site that reads its channels before any site pairs them, if one does.
    consumer: Option<usize>,
}

impl Driver<'_> {
    /// Finds out what sharing neurons costs at the later layers of groups that several layers make;
    /// `None` where there are no such groups.
    pub(super) fn look_ahead(&self) -> Result<Option<Outlook>> {
        let correspondences = self.correspondences()?;
        let is_open = |c: &CorrespondingGroups| {
            (c.sites.len() > 1 || c.is_recurrent || c.consumer.is_some())
                && c.groups.iter().any(|group| !self.settled.is_settled(*group))
        };
        let last =
            correspondences.iter().filter(|c| is_open(c)).flat_map(|c| &c.sites).max().copied();
        let Some(last) = last.filter(|_| !self.shares_nothing()) else { return Ok(None) };
        let needed: Vec<CorrespondingGroups> =
            correspondences.into_iter().filter(|c| c.sites[0] <= last).collect();
        let statistics = self.original_statistics(&needed, last)?;
        GroupSearch::new(self, statistics).run(&needed).map(Some)
    }

    fn shares_nothing(&self) -> bool {
        let mut layers = self.joint.tasks().iter().flat_map(|t| &t.coupling().layers);
        let nothing = |share| share == Share::Count(0) || share == Share::Fraction(0.0);
        layers.all(|l| nothing(self.options.budget.share(&l.name, l.outputs.len())))
    }

    /// All correspondences with the sites at which their neurons can be shared.
    fn correspondences(&self) -> Result<Vec<CorrespondingGroups>> {
        let mut correspondences: BTreeMap<usize, CorrespondingGroups> = BTreeMap::new();
        let early = consumed_before_produced(self.joint, self.alignment, &self.producers);
        for (place, site) in self.alignment.sites.iter().enumerate() {
            if !site.is_common() || self.alignment.is_duplicate(site) {
                continue;
            }
            let all = layers_at(self.joint, site);
            let members: Vec<&SiteLayer> =
                all.iter().filter(|m| self.correspondence(m).is_some()).collect();
            let Some(correspondence) = members.first().and_then(|m| self.correspondence(m)) else {
                continue;
            };
            let fits = |m: &&SiteLayer| self.statistics.fits(self.joint.task(m.task), &m.layer);
            if members.len() < 2 || !members.iter().all(fits) {
                continue;
            }
            let is_recurrent = members.iter().any(|m| m.consumes_own_outputs());
            let consumer = early.get(&correspondence).map(|(consumer, _)| *consumer);
            let new = CorrespondingGroups {
                groups: self.alignment.members(correspondence).collect(),
                sites: Vec::new(),
                is_recurrent,
                consumer,
            };
            let entry = correspondences.entry(correspondence).or_insert(new);
            entry.sites.push(place);
        }
        let mut correspondences: Vec<CorrespondingGroups> = correspondences.into_values().collect();
        correspondences.sort_by_key(|c| c.sites[0]);
        Ok(correspondences)
    }

    fn correspondence(&self, member: &SiteLayer) -> Option<usize> {
        self.alignment.correspondence(member.group()?)
    }
}
