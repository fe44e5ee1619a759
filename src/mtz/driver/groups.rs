//! What it costs to share the neurons of groups that several layers make: a residual stream, or the
//! channels of a depthwise convolution.
//!
//! One pairing serves all producers, so its cost is the sum of theirs; this is what sec. 3.7 of the
//! paper becomes where no layer counts as fully merged. What a later producer costs depends on how its
//! inputs are paired, and in a residual net these lie behind the group. So before the walk through the
//! layers all groups are paired, one after the other and again with what was found, until nothing
//! changes, on statistics of the original nets. Of that the later producers' costs are kept. The pairs
//! themselves are found anew at each group's first layer, where the nets as they are by then count.

use std::collections::{BTreeMap, HashMap};

use ndarray::Array2;

use crate::couple::{Channel, GroupId, LayerId};
use crate::error::{Context, Result};
use crate::mtz::matching::Share;
use crate::mtz::options::Method;
use crate::mtz::plan::consumed_before_produced;
use crate::mtz::site::{SettledGroups, SiteLayer, layers_at};
use crate::mtz::statistics::{ChannelStats, LayerStats};

use super::Driver;
use super::group_costs::Producer;
use super::joins::against_chance;

/// Rounds through all groups at most.
const SWEEPS: usize = 4;

/// One of so many calibration rows is enough to say which neurons are alike.
const FEWER_ROWS: usize = 4;

/// Statistics of the original nets' layers.
#[derive(Default)]
pub(super) struct OriginalStats {
    pub(super) layers: BTreeMap<(usize, LayerId), LayerStats>,
    pub(super) depthwise: BTreeMap<(usize, LayerId), ChannelStats>,
}

/// What the later layers of a group cost where a task joins others at its first layer.
pub(super) struct LaterCosts {
    /// The row of each channel of the others.
    pub(super) neurons: HashMap<(usize, Channel), usize>,
    /// Neurons × channels of the task.
    pub(super) cost: Array2<f64>,
    /// What each pair costs at all layers, in units that are the same for all groups.
    pub(super) pair_costs: Vec<f64>,
}

/// A correspondence and the sites that make its channels.
pub(super) struct CorrespondingGroups {
    /// The group of each task that has one.
    pub(super) groups: Vec<(usize, GroupId)>,
    /// Places in the alignment's sites.
    pub(super) sites: Vec<usize>,
    /// Whether the first of them reads what it makes.
    pub(super) is_recurrent: bool,
    /// The site that reads its channels before any site pairs them, if one does.
    pub(super) consumer: Option<usize>,
}

/// Neurons of a correspondence so far.
pub(super) struct KnownNeurons {
    /// The channel of each of their owners.
    pub(super) owners: Vec<Vec<(usize, Channel)>>,
    /// The neuron of each channel.
    pub(super) places: HashMap<(usize, Channel), usize>,
}

impl KnownNeurons {
    fn new(owners: Vec<Vec<(usize, Channel)>>) -> KnownNeurons {
        let channels = owners.iter().enumerate();
        let places = channels.flat_map(|(n, own)| own.iter().map(move |c| (*c, n))).collect();
        KnownNeurons { owners, places }
    }
}

impl Driver<'_> {
    /// Finds out what sharing neurons costs at the later layers of groups that several layers make.
    pub(super) fn look_ahead(&mut self) -> Result<()> {
        let correspondences = self.correspondences()?;
        let is_open = |c: &CorrespondingGroups| {
            (c.sites.len() > 1 || c.is_recurrent || c.consumer.is_some())
                && c.groups.iter().any(|group| !self.settled.is_settled(*group))
        };
        let last =
            correspondences.iter().filter(|c| is_open(c)).flat_map(|c| &c.sites).max().copied();
        let Some(last) = last.filter(|_| !self.shares_nothing()) else { return Ok(()) };
        let needed: Vec<CorrespondingGroups> =
            correspondences.into_iter().filter(|c| c.sites[0] <= last).collect();
        let statistics = self.original_statistics(&needed, last)?;
        let before = self.settled.clone();
        self.progress.begin("pairing groups", (SWEEPS * needed.len()) as u64);
        for correspondence in &needed {
            correspondence
                .consumer
                .map_or(Ok(()), |site| self.pair_by_consumers(&correspondence.groups, site))?;
        }
        for _ in 0..SWEEPS {
            let mut changed = false;
            for correspondence in &needed {
                self.progress.check()?;
                changed |= self.pair_groups(correspondence, &statistics, &before)?;
                self.progress.step();
            }
            if !changed {
                break;
            }
        }
        needed.iter().filter(|c| c.is_recurrent).try_for_each(|c| self.settle_recurrent(c))?;
        for correspondence in needed.iter().filter(|c| c.consumer.is_some()) {
            self.settled.join(&correspondence.groups);
        }
        let open = needed.iter().flat_map(|c| &c.groups).filter(|g| !self.settled.is_settled(**g));
        open.for_each(|(task, group)| self.joint.unshare(*task, *group));
        self.joint.renumber();
        Ok(())
    }

    fn shares_nothing(&self) -> bool {
        let mut layers = self.joint.tasks.iter().flat_map(|t| &t.coupling.layers);
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
            let fit = members.iter().all(|m| self.fits(m.task, &m.layer));
            if members.len() < 2 || !fit {
                continue;
            }
            let groups = self.alignment.groups[correspondence].iter().enumerate();
            let groups = groups.filter_map(|(task, group)| Some((task, (*group)?))).collect();
            let is_recurrent = members.iter().any(|m| m.consumes_own_outputs());
            let consumer = early.get(&correspondence).map(|(consumer, _)| *consumer);
            let new = CorrespondingGroups { groups, sites: Vec::new(), is_recurrent, consumer };
            let entry = correspondences.entry(correspondence).or_insert(new);
            entry.sites.push(place);
        }
        let mut correspondences: Vec<CorrespondingGroups> = correspondences.into_values().collect();
        correspondences.sort_by_key(|c| c.sites[0]);
        Ok(correspondences)
    }

    fn correspondence(&self, member: &SiteLayer) -> Option<usize> {
        self.alignment.correspondence(member.task, member.group()?)
    }

    /// Statistics of the layers that make the correspondences.
    fn original_statistics(
        &mut self,
        correspondences: &[CorrespondingGroups],
        last: usize,
    ) -> Result<OriginalStats> {
        let sites: Vec<usize> = correspondences
            .iter()
            .flat_map(|c| c.sites.iter().copied())
            .filter(|s| *s <= last)
            .collect();
        let mut statistics = OriginalStats::default();
        let batches: usize = self.streams.iter().map(|s| s.original.source().batches()).sum();
        self.progress.begin("statistics of groups", (batches * sites.len()) as u64);
        self.rows = (self.options.max_rows / FEWER_ROWS).max(1);
        for task in 0..self.joint.tasks.len() {
            let layers = (0..self.joint.tasks[task].coupling.layers.len()).map(LayerId);
            let is_needed = |id: &LayerId| {
                sites.iter().any(|s| self.alignment.sites[*s].layers[task] == Some(*id))
            };
            let needed: Vec<LayerId> = layers.filter(is_needed).collect();
            let kept = self.streams[task].original.clone();
            for id in needed {
                let layer = self.layer(task, id);
                match layer.per_channel {
                    true => {
                        statistics.depthwise.insert((task, id), self.channel_stats(task, &layer)?);
                    }
                    false => {
                        statistics.layers.insert((task, id), self.layer_stats(task, &layer)?);
                    }
                }
            }
            self.streams[task].original = kept;
        }
        self.rows = self.options.max_rows;
        Ok(statistics)
    }

    /// Pairs the groups of a correspondence anew, but for those that were settled `before`; whether that
    /// changed anything.
    fn pair_groups(
        &mut self,
        correspondence: &CorrespondingGroups,
        statistics: &OriginalStats,
        before: &SettledGroups,
    ) -> Result<bool> {
        let old = self.joint.neurons_of(&correspondence.groups);
        let mut order = correspondence.groups.clone();
        order.sort_by_key(|g| !before.is_settled(*g));
        // What a recurrent layer costs depends on the pairs it had so far.
        let open = order.iter().filter(|g| !before.is_settled(**g) && !correspondence.is_recurrent);
        let open: Vec<(usize, GroupId)> = open.copied().collect();
        open.iter().for_each(|(task, group)| self.joint.unshare(*task, *group));
        let mut told_apart = false;
        let mut here: Vec<(usize, GroupId)> = Vec::new();
        for group in order {
            if !here.is_empty() && !here.iter().any(|other| before.settled_together(*other, group))
            {
                told_apart |= self.join_group(correspondence, &here, group, statistics)?;
            }
            here.push(group);
        }
        if correspondence.consumer.is_some() && !told_apart {
            // What makes the channels does not tell them apart yet; what reads them has.
            open.iter().for_each(|(task, group)| self.joint.unshare(*task, *group));
            self.joint.share_all(&old);
        }
        Ok(self.joint.neurons_of(&correspondence.groups) != old)
    }

    /// Pairs one group with those of its correspondence that are there already; whether what makes them says what
    /// pairs cost.
    fn join_group(
        &mut self,
        correspondence: &CorrespondingGroups,
        here: &[(usize, GroupId)],
        next_net: (usize, GroupId),
        statistics: &OriginalStats,
    ) -> Result<bool> {
        let neurons = KnownNeurons::new(self.joint.neurons_of(here));
        let size = self.joint.tasks[next_net.0].coupling.group(next_net.1).size;
        let shape = (neurons.owners.len(), size);
        let mut costs: Vec<Array2<f64>> = Vec::new();
        let mut first: Option<Vec<SiteLayer>> = None;
        for site in &correspondence.sites {
            let mut members = layers_at(self.joint, &self.alignment.sites[*site]);
            members.retain(|m| here.iter().chain([&next_net]).any(|(task, _)| *task == m.task));
            let place = members.iter().position(|m| m.task == next_net.0);
            let Some(place) = place.filter(|_| members.len() > 1) else { continue };
            let producer = Producer { members: &members, next_net: place };
            let mut cost = Array2::zeros(shape);
            if self.counts(*site, &correspondence.sites) {
                self.add_cost(&producer, &neurons, statistics, &mut cost)?;
            }
            costs.push(cost);
            first.get_or_insert(members);
        }
        let Some(first) = first else { return Ok(false) };
        let later = costs.iter().skip(1).fold(Array2::zeros(shape), |sum, c| sum + c);
        let total = &costs[0] + &later;
        let name = first[0].layer.name.clone();
        let owners: Vec<usize> = neurons.owners.iter().map(Vec::len).collect();
        let pairing = self.choose(&total, &owners, &name).at_node(&name)?;
        let unit = match self.options.method {
            Method::Refit => 1.0,
            Method::Mtz => against_chance(&total),
        };
        let pair_costs = pairing.costs().iter().map(|cost| cost * unit).collect();
        if correspondence.is_recurrent {
            self.joint.unshare(next_net.0, next_net.1);
        }
        for (i, j) in pairing.pairs() {
            let Some(first) = neurons.owners[*i].first() else { continue };
            let channel = Channel { group: next_net.1, index: *j };
            self.joint.share(*first, (next_net.0, channel));
        }
        self.remember(&first, next_net, neurons, later, pair_costs);
        Ok(total.iter().any(|cost| *cost != 0.0))
    }

    /// Whether what pairs cost at a site matters to the channels that it and others of `sites` produce:
    /// weights that the tasks keep cost nothing. They tell which channels are alike where nothing else does.
    fn counts(&self, site: usize, sites: &[usize]) -> bool {
        let keeps = |site: &usize| self.alignment.sites[*site].own_weights;
        !keeps(&site) || sites.iter().all(keeps)
    }

    /// Keeps what the later layers of a group cost, in the units of its first one, and the pairs' costs.
    fn remember(
        &mut self,
        first: &[SiteLayer],
        next_net: (usize, GroupId),
        neurons: KnownNeurons,
        later: Array2<f64>,
        pair_costs: Vec<f64>,
    ) {
        let Some(own) = first.iter().find(|m| m.task == next_net.0) else { return };
        let unit = (self.layer_weight(&first[0]) * self.layer_weight(own)).sqrt();
        let cost = later / unit.max(f64::MIN_POSITIVE);
        let later = LaterCosts { neurons: neurons.places, cost, pair_costs };
        self.later.insert((own.task, own.id), later);
    }
}
