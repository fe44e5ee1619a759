//! Pairs all groups repeatedly, until nothing changes.

use std::collections::BTreeMap;

use ndarray::Array2;

use crate::align::{Alignment, TaskChannel, TaskGroup};
use crate::error::{Context, Result};
use crate::mtz::driver::pairing::{PairChoice, against_chance};
use crate::mtz::joint::JointModel;
use crate::mtz::options::{MergeOptions, Method};
use crate::mtz::plan::{InputGroup, UnmatchedInputs, share_inputs, similar_inputs};
use crate::mtz::site::{
    HeadCosts, SettledGroups, SiteLayer, SiteSelection, corresponding_layers, head_blocks,
    layers_at,
};
use crate::mtz::statistics::{OriginalStats, Weighting};
use crate::progress::Progress;

use super::later::{GroupCosts, LaterCosts, Outlook};
use super::producer::{KnownNeurons, Producer};
use super::view::{CorrespondingGroups, View};

/// Limit of rounds through all groups.
const SWEEPS: usize = 4;

/// The pairs so far, in a joint model of their own.
pub(super) struct GroupSearch<'a> {
    pub(super) joint: JointModel,
    pub(super) alignment: &'a Alignment,
    pub(super) options: &'a MergeOptions,
    pub(super) weighting: Weighting<'a>,
    pub(super) statistics: &'a mut OriginalStats,
    /// Bytes at most of costs that stay the same from round to round.
    pub(super) room: u64,
    pub(super) choice: &'a PairChoice<'a>,
    /// The groups that were settled before.
    pub(super) before: &'a SettledGroups,
    settled: SettledGroups,
    later: LaterCosts,
    /// The costs of pairs of attention heads, by the group that joined others.
    pub(super) heads: BTreeMap<TaskGroup, HeadCosts>,
    progress: &'a dyn Progress,
}

/// Costs of pairs at the producers of a group, neurons × channels of the next net.
struct ProducerCosts {
    /// The layers of the first producer.
    first: Vec<SiteLayer>,
    /// The costs at all producers but the first.
    later: Array2<f64>,
    /// The costs at all producers.
    total: Array2<f64>,
}

impl<'a> GroupSearch<'a> {
    /// A search that keeps costs in at most `room` bytes.
    pub(super) fn new(view: View<'a, 'a>, statistics: &'a mut OriginalStats, room: u64) -> Self {
        GroupSearch {
            joint: view.joint.clone(),
            alignment: view.alignment,
            options: view.options,
            weighting: view.weighting,
            statistics,
            room,
            choice: view.choice,
            before: view.settled,
            settled: view.settled.clone(),
            later: LaterCosts::default(),
            heads: BTreeMap::new(),
            progress: view.progress,
        }
    }

    /// Pairs the groups of correspondences. Only pairs that are settled stay.
    pub(super) fn run(mut self, needed: &[CorrespondingGroups]) -> Result<Outlook> {
        self.progress.begin("pairing groups", (SWEEPS * needed.len()) as u64);
        for correspondence in needed {
            let consumer = correspondence.consumer;
            consumer.map_or(Ok(()), |site| self.pair_by_consumers(&correspondence.groups, site))?;
        }
        for _ in 0..SWEEPS {
            let mut changed = false;
            for correspondence in needed {
                self.progress.check()?;
                changed |= self.pair_groups(correspondence)?;
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
        open.for_each(|group| self.joint.unshare(*group));
        self.joint.renumber();
        Ok(Outlook { joint: self.joint, settled: self.settled, later: self.later })
    }

    /// Pairs the groups of a correspondence anew, except settled ones; returns whether that changed
    /// anything.
    fn pair_groups(&mut self, correspondence: &CorrespondingGroups) -> Result<bool> {
        let before = self.before;
        let old = self.joint.neurons_of(&correspondence.groups);
        let mut order = correspondence.groups.clone();
        order.sort_by_key(|g| !before.is_settled(*g));
        // A recurrent layer keeps its pairs so far, since its costs depend on them, and heads keep those
        // of the groups that have them.
        let keeps = |g: &TaskGroup| correspondence.is_recurrent || self.is_of_heads(*g);
        let open = order.iter().filter(|g| !before.is_settled(**g) && !keeps(g));
        let open: Vec<TaskGroup> = open.copied().collect();
        open.iter().for_each(|group| self.joint.unshare(*group));
        let mut told_apart = false;
        let mut here: Vec<TaskGroup> = Vec::new();
        for group in order {
            if !here.is_empty() && !here.iter().any(|other| before.settled_together(*other, group))
            {
                told_apart |= self.join_group(correspondence, &here, group)?;
            }
            here.push(group);
        }
        if correspondence.consumer.is_some() && !told_apart {
            // The producers cannot tell the channels apart yet, so keep the pairs by consumers.
            open.iter().for_each(|group| self.joint.unshare(*group));
            self.joint.share_all(&old);
        }
        Ok(self.joint.neurons_of(&correspondence.groups) != old)
    }

    /// Pairs one group with those of its correspondence that are paired already; returns whether the
    /// producers gave costs.
    fn join_group(
        &mut self,
        correspondence: &CorrespondingGroups,
        here: &[TaskGroup],
        next_net: TaskGroup,
    ) -> Result<bool> {
        let neurons = KnownNeurons::new(self.joint.neurons_of(here));
        let costs = self.producer_costs(correspondence, here, next_net, &neurons)?;
        let Some(ProducerCosts { first, later, total }) = costs else { return Ok(false) };
        let name = first[0].layer.name.clone();
        let owners: Vec<usize> = neurons.owners.iter().map(Vec::len).collect();
        let rows: Vec<TaskChannel> =
            neurons.owners.iter().filter_map(|own| own.first().copied()).collect();
        let size = self.joint.group(next_net).size;
        let columns: Vec<TaskChannel> = (0..size).map(|index| next_net.channel(index)).collect();
        if self.is_of_heads(next_net) {
            let later = later + self.weigh_heads(next_net, &rows, &total);
            self.remember(&first, next_net, neurons, later, Vec::new());
            return Ok(false);
        }
        let mut heads = head_blocks(&self.joint, &rows, &columns);
        let known = match &mut heads {
            Some(heads) => self.reopen(next_net, &total, heads)?,
            None => None,
        };
        let blocks = heads.as_ref().map(|heads| &heads.blocks);
        let pairing = self.choice.choose(&total, &owners, blocks, &name).at_node(&name)?;
        if let (Some(blocks), Some(known)) = (blocks, known) {
            self.close(next_net, blocks, &pairing, &known);
        }
        let unit = match self.options.method {
            Method::Refit => 1.0,
            Method::Mtz => against_chance(&total),
        };
        let pair_costs = pairing.costs().iter().map(|cost| cost * unit).collect();
        if correspondence.is_recurrent {
            self.joint.unshare(next_net);
        }
        for (i, j) in pairing.pairs() {
            let Some(first) = neurons.owners[*i].first() else { continue };
            self.joint.share(*first, next_net.channel(*j));
        }
        self.remember(&first, next_net, neurons, later, pair_costs);
        Ok(total.iter().any(|cost| *cost != 0.0))
    }

    /// The costs of pairs at all producers; `None` if no producer is in several of these nets.
    fn producer_costs(
        &mut self,
        correspondence: &CorrespondingGroups,
        here: &[TaskGroup],
        next_net: TaskGroup,
        neurons: &KnownNeurons,
    ) -> Result<Option<ProducerCosts>> {
        let shape = (neurons.owners.len(), self.joint.group(next_net).size);
        let mut costs: Vec<Array2<f64>> = Vec::new();
        let mut first: Option<Vec<SiteLayer>> = None;
        for site in &correspondence.sites {
            let mut members = layers_at(&self.joint, &self.alignment.sites[*site]);
            members.retain(|m| here.iter().chain([&next_net]).any(|own| own.task == m.task));
            let place = members.iter().position(|m| m.task == next_net.task);
            let Some(place) = place.filter(|_| members.len() > 1) else { continue };
            let producer = Producer { members: &members, next_net: place };
            let mut cost = Array2::zeros(shape);
            if self.counts(*site, &correspondence.sites) {
                self.add_cost(&producer, neurons, &mut cost)?;
            }
            costs.push(cost);
            first.get_or_insert(members);
        }
        let later = costs.iter().skip(1).fold(Array2::zeros(shape), |sum, c| sum + c);
        Ok(first.map(|first| ProducerCosts { first, total: &costs[0] + &later, later }))
    }

    /// Whether the costs at a site count for the channels that `sites` produce. Weights that the
    /// tasks keep cost nothing, so they count only if no other site does.
    fn counts(&self, site: usize, sites: &[usize]) -> bool {
        let keeps = |site: &usize| self.alignment.sites[*site].own_weights;
        !keeps(&site) || sites.iter().all(keeps)
    }

    /// Keeps the costs at the later layers of a group, in the unit of its first layer, and the pairs'
    /// costs.
    fn remember(
        &mut self,
        first: &[SiteLayer],
        next_net: TaskGroup,
        neurons: KnownNeurons,
        later: Array2<f64>,
        pair_costs: Vec<f64>,
    ) {
        let Some(own) = first.iter().find(|m| m.task == next_net.task) else { return };
        let weight = |member: &SiteLayer| self.weighting.of_layer(member.place());
        let unit = (weight(&first[0]) * weight(own)).sqrt();
        let cost = later / unit.max(f64::MIN_POSITIVE);
        let unit = unit.max(f64::MIN_POSITIVE);
        let heads = self.elsewhere(next_net).map(|(pair, cost)| (pair, cost / unit));
        let mut costs = HeadCosts::new();
        heads.for_each(|(pair, cost)| *costs.entry(pair).or_default() += cost);
        let neurons = neurons.places;
        let costs = GroupCosts { neurons, cost, heads: costs, pair_costs };
        self.later.insert(own.place(), costs);
    }

    /// Pairs channels whose consumer comes before their producers, by that consumer, as a first
    /// guess. Depthwise layers produce what they read, and give a better guess.
    fn pair_by_consumers(&mut self, groups: &[TaskGroup], consumer: usize) -> Result<()> {
        let site = &self.alignment.sites[consumer];
        let members = corresponding_layers(&self.joint, self.alignment, site);
        if members.iter().any(|m| m.layer.per_channel) {
            return Ok(());
        }
        let input_group = |own: &TaskGroup| {
            let member = members.iter().position(|m| m.task == own.task)?;
            let size = self.joint.group(*own).size;
            let reads = members[member].pixels(own.group)?;
            let channels = (0..size).collect();
            Some((InputGroup { member, group: own.group, channels }, reads))
        };
        let input_groups: Vec<(InputGroup, usize)> =
            groups.iter().filter_map(input_group).collect();
        let Some(((known, reads), others)) = input_groups.split_first() else { return Ok(()) };
        for (open, _) in others.iter().filter(|(_, own)| own == reads) {
            if self.settled.settled_together(known.place(&members), open.place(&members)) {
                continue;
            }
            let most = known.channels.len().min(open.channels.len());
            let unmatched = UnmatchedInputs { known: known.clone(), open: open.clone(), most };
            let pairs = similar_inputs(&self.joint, &members, &unmatched)?;
            share_inputs(&mut self.joint, &members, &unmatched, &pairs);
        }
        Ok(())
    }

    /// Keeps the pairs of a recurrent correspondence, if its layers have another input in common.
    fn settle_recurrent(&mut self, correspondence: &CorrespondingGroups) -> Result<()> {
        let neurons = self.joint.neurons_of(&correspondence.groups);
        let open = correspondence.groups.iter().filter(|g| !self.settled.is_settled(**g));
        open.for_each(|group| self.joint.unshare(*group));
        let mut common = false;
        for site in &correspondence.sites {
            let site = &self.alignment.sites[*site];
            common |= SiteSelection::at(&self.joint, self.alignment, site)?.reason.is_none();
        }
        if !common {
            return Ok(());
        }
        self.joint.share_all(&neurons);
        self.settled.join(&correspondence.groups);
        Ok(())
    }
}
