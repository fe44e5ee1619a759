//! Costs of sharing the neurons of groups with several producers: a residual stream, or the channels
//! of a depthwise convolution.
//!
//! One pairing serves all producers, so its cost is the sum of theirs. This replaces sec. 3.7 of the
//! paper, where one layer counts as fully merged. The cost at a later producer depends on the pairing
//! of its inputs, and in a residual net these come after the group. So all groups are paired before
//! the main pass, on statistics of the original nets, and again with the new pairs until nothing
//! changes. Only the later producers' costs are kept. The pairs themselves are found anew at each
//! group's first layer, from the nets as merged so far.

mod costs;
mod families;
mod later;
mod producer;
mod search;
mod statistics;
mod view;

use std::collections::BTreeMap;

use crate::error::Result;
use crate::mtz::plan::consumed_before_produced;
use crate::mtz::site::{SiteLayer, layers_at};

pub(super) use later::{LaterCosts, Outlook};
use search::GroupSearch;
use statistics::original_statistics;
use view::CorrespondingGroups;
pub(super) use view::View;

impl View<'_, '_> {
    /// Computes the costs of pairs at the later producers of groups with several producers; `None` if
    /// there are no such groups.
    pub(in crate::mtz::driver) fn look_ahead(self) -> Result<Option<Outlook>> {
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
        let mut statistics = original_statistics(self, &needed, last)?;
        let room = self.statistics.spare(self.joint)?;
        let outlook = GroupSearch::new(self, &mut statistics, room).run(&needed)?;
        if let Some(originals) = self.originals {
            originals.leave(statistics, room);
        }
        Ok(Some(outlook))
    }

    fn shares_nothing(self) -> bool {
        let tasks = self.joint.tasks().iter();
        self.options.budget.shares_nothing(tasks.flat_map(|task| &task.coupling().layers))
    }

    /// All correspondences with the sites at which their neurons can be shared.
    fn correspondences(self) -> Result<Vec<CorrespondingGroups>> {
        let mut correspondences: BTreeMap<usize, CorrespondingGroups> = BTreeMap::new();
        let early = consumed_before_produced(self.joint, self.alignment, self.producers);
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

    fn correspondence(self, member: &SiteLayer) -> Option<usize> {
        self.alignment.correspondence(member.group()?)
    }
}
