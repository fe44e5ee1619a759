//! Producers and consumers of channels, in the order of the walk.

use std::collections::{BTreeMap, BTreeSet};

use crate::align::{Alignment, Site};
use crate::couple::GroupId;
use crate::mtz::joint::JointModel;
use crate::mtz::site::{CommonInputs, SiteLayer, corresponding_layers};

/// The producers of each correspondence: the places of their sites, ascending, and the names by which
/// budgets match them.
pub(crate) struct Producers(BTreeMap<usize, Vec<(usize, String)>>);

impl Producers {
    pub(crate) fn of(joint: &JointModel, alignment: &Alignment) -> Producers {
        let mut producers: BTreeMap<usize, Vec<(usize, String)>> = BTreeMap::new();
        for (place, site) in alignment.sites.iter().enumerate().filter(|(_, s)| s.is_common()) {
            let members = corresponding_layers(joint, alignment, site);
            let Some(first) = members.first() else { continue };
            let correspondence = first.group().and_then(|group| alignment.correspondence(group));
            let shares_nothing = have_unlike_inputs(joint, alignment, &members);
            if let Some(correspondence) = correspondence.filter(|_| !shares_nothing) {
                producers
                    .entry(correspondence)
                    .or_default()
                    .push((place, first.layer.name.clone()));
            }
        }
        Producers(producers)
    }

    /// The name of the first producer of `correspondence`.
    pub(crate) fn first(&self, correspondence: usize) -> Option<&str> {
        self.0.get(&correspondence)?.first().map(|(_, name)| name.as_str())
    }

    /// Whether `correspondence` has a producer at `place` or later.
    pub(crate) fn produced_from(&self, correspondence: usize, place: usize) -> bool {
        self.0
            .get(&correspondence)
            .is_some_and(|producers| producers.iter().any(|(at, _)| *at >= place))
    }
}

/// The layers of a site that read channels of other layers.
pub(crate) fn consumers(joint: &JointModel, alignment: &Alignment, site: &Site) -> Vec<SiteLayer> {
    if alignment.is_duplicate(site) {
        return Vec::new();
    }
    let mut members = corresponding_layers(joint, alignment, site);
    members.retain(|m| !m.layer.per_channel);
    members
}

/// Correspondences with a consumer at or before their first corresponding producer: a residual stream
/// after different first layers, or channels whose first producer is depthwise. Maps each to the
/// places of its first consumer and its first producer.
pub(crate) fn consumed_before_produced(
    joint: &JointModel,
    alignment: &Alignment,
    producers: &Producers,
) -> BTreeMap<usize, (usize, usize)> {
    let mut early = BTreeMap::new();
    for (place, site) in alignment.sites.iter().enumerate().filter(|(_, s)| s.is_common()) {
        let members = corresponding_layers(joint, alignment, site);
        let depthwise = members.iter().all(|m| m.layer.per_channel);
        for correspondence in consumed_correspondences(alignment, &members) {
            let first = producers.0.get(&correspondence).and_then(|producers| producers.first());
            let is_early = |made: usize| made > place || (depthwise && made == place);
            if let Some((made, _)) = first.filter(|(made, _)| is_early(*made)) {
                early.entry(correspondence).or_insert((place, *made));
            }
        }
    }
    early
}

/// Whether layers have no input in common and can get none, so that they can never share anything: at most one
/// of them reads channels that can be paired. The others read different model inputs, or channels that cannot
/// be followed.
fn have_unlike_inputs(joint: &JointModel, alignment: &Alignment, members: &[SiteLayer]) -> bool {
    let can_be_paired = |member: &SiteLayer, group: GroupId| {
        let place = member.task.group(group);
        joint.group(place).frozen.is_none() || alignment.correspondence(place).is_some()
    };
    let reads_some = |m: &&SiteLayer| m.input_groups().iter().any(|g| can_be_paired(m, *g));
    let per_channel = members.iter().any(|m| m.layer.per_channel);
    !per_channel
        && members.iter().filter(reads_some).count() < members.len().min(2)
        && CommonInputs::of(joint, alignment, members, 1).count == 0
}

/// The correspondences that several layers read.
fn consumed_correspondences(alignment: &Alignment, members: &[SiteLayer]) -> Vec<usize> {
    let mut consumers: BTreeMap<usize, usize> = BTreeMap::new();
    for member in members {
        let groups = member.input_groups().into_iter();
        let correspondences: BTreeSet<usize> =
            groups.filter_map(|g| alignment.correspondence(member.task.group(g))).collect();
        correspondences
            .into_iter()
            .for_each(|correspondence| *consumers.entry(correspondence).or_default() += 1);
    }
    consumers
        .into_iter()
        .filter(|(_, n)| *n > 1)
        .map(|(correspondence, _)| correspondence)
        .collect()
}
