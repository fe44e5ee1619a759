//! Joins the layers of a site, one net after the other.

use ndarray::{Array2, Axis, concatenate};

use crate::error::{Context, Result};
use crate::mtz::joint::{may_have_correction, may_have_difference, may_have_scale};
use crate::mtz::matching::Share;
use crate::mtz::options::Method;
use crate::mtz::site::{CommonInputs, SiteLayer, SiteRecord, head_blocks};
use crate::mtz::solver::correction::Wish;
use crate::mtz::solver::layer::{LayerState, LayerStats};
use crate::mtz::solver::neuron_set::{NeuronSet, PairProblem, join_sets, split_by_set};
use crate::mtz::solver::together::Origin;

use super::Driver;
use super::pairing::{against_chance, channel, known_pairs};

impl Driver<'_> {
    /// Makes each layer a neuron set over its common inputs. With `keep`, its weights stay as they
    /// are now.
    pub(super) fn layer_states(
        &self,
        members: &[SiteLayer],
        columns: &CommonInputs,
        all_stats: Vec<LayerStats>,
        keep: bool,
    ) -> Result<(Vec<LayerState>, Vec<NeuronSet>)> {
        let alpha = self.options.task_weights(self.joint.tasks().len());
        let mut states = Vec::new();
        let mut sets = Vec::new();
        for (at, (member, stats)) in members.iter().zip(all_stats).enumerate() {
            let keeps_bias = self.options.budget.keeps_bias(&member.layer);
            let inputs = columns.of_layer(at, &member.layer, &stats, keeps_bias);
            let alpha = alpha[member.task.0];
            let (mut set, gain) = inputs.neuron_set(at, &stats, alpha, self.options.solver())?;
            set.importance = self.weighting.importance(member.place(), &stats);
            set.wish = self.wish(member);
            set.scales = may_have_scale(&member.layer);
            states.push(LayerState::new(stats, inputs, gain, keep));
            sets.push(set);
        }
        Ok((states, sets))
    }

    /// The members of a site as they are before they join, where it is known how errors of their neurons
    /// add up.
    pub(super) fn origins(&self, members: &[SiteLayer], sets: &[NeuronSet]) -> Vec<Origin> {
        let origin = |set: &NeuronSet| {
            let at = *set.members.first()?;
            let metric = self.weighting.metric(members[at].place())?;
            let (hessian, weights) = (set.hessian.clone(), set.weights.clone());
            Some(Origin { at, hessian, weights, inputs: set.inputs.clone(), metric })
        };
        sets.iter().filter_map(origin).collect()
    }

    /// A layer's correction; `None` if corrections are off or impossible.
    pub(super) fn wish(&self, member: &SiteLayer) -> Option<Wish> {
        let ranks = self.options.corrections.as_ref()?;
        let rank = ranks.get(&member.place()).copied().unwrap_or(0);
        let Some(bits) = self.options.delta else {
            return may_have_correction(&member.layer).then_some(Wish::LowRank(rank));
        };
        let graph = self.joint.task(member.task).graph();
        let is_wanted = rank > 0 || !self.probes.is_empty();
        let fits = is_wanted && may_have_difference(&member.layer, graph);
        fits.then_some(Wish::Difference { bits, kept: rank > 0 })
    }

    /// Joins the neuron sets one by one.
    pub(super) fn gather(
        &mut self,
        members: &[SiteLayer],
        mut sets: Vec<NeuronSet>,
        record: &mut SiteRecord,
    ) -> Result<Vec<NeuronSet>> {
        // Sets with settled neurons go first, since their pairs are fixed.
        sets.sort_by_key(|p| !self.is_settled(&members[p.members[0]]));
        join_sets(sets, false, self.options.solver(), |here, next_net, problems| {
            let own = &members[next_net.members[0]];
            let others = here.iter().flat_map(|p| &p.members);
            let settled = others.into_iter().any(|other| self.are_settled(&members[*other], own));
            match settled {
                true => {
                    record.pair_costs.extend(self.later.pair_costs(own.place()));
                    Ok(known_pairs(self.joint, members, here, next_net))
                }
                false => self.pair(members, here, next_net, problems, record),
            }
        })
        .at_node(&members[0].layer.name)
    }

    /// Pairs a layer's neurons with those joined so far, and records them as shared.
    fn pair(
        &mut self,
        members: &[SiteLayer],
        sets: &[NeuronSet],
        next_net: &NeuronSet,
        problems: &mut [PairProblem],
        record: &mut SiteRecord,
    ) -> Result<Vec<Vec<(usize, usize)>>> {
        let name = &members[0].layer.name;
        let so_far: usize = sets.iter().map(|p| p.rows.len()).sum();
        let most = so_far.min(next_net.rows.len());
        let share = self.options.budget.share(name, most);
        if matches!(share, Share::Count(0)) || matches!(share, Share::Fraction(0.0)) {
            return Ok(vec![Vec::new(); sets.len()]);
        }
        let mut cost = self.own_cost(problems)?;
        if self.is_free(&members[next_net.members[0]]) {
            cost.fill(0.0);
        }
        self.add_later(members, sets, next_net, &mut cost);
        let owners = sets.iter().flat_map(|p| std::iter::repeat_n(p.members.len(), p.rows.len()));
        let owners: Vec<usize> = owners.collect();
        let rows = sets.iter().flat_map(|p| (0..p.rows.len()).map(|n| channel(members, p, n)));
        let columns = (0..next_net.rows.len()).map(|n| channel(members, next_net, n));
        let (rows, columns): (Vec<_>, Vec<_>) = (rows.collect(), columns.collect());
        let mut heads = head_blocks(self.joint, &rows, &columns);
        let later = self.later.at(members[next_net.members[0]].place());
        if let (Some(heads), Some(later)) = (&mut heads, later) {
            heads.blocks.elsewhere = Some(heads.matrix(&later.heads));
        }
        let blocks = heads.as_ref().map(|heads| &heads.blocks);
        let pairing = self.choice.choose(&cost, &owners, blocks, name)?;
        let unit = self.unit(&members[sets[0].members[0]], &members[next_net.members[0]], &cost);
        record.pair_costs.extend(pairing.costs().iter().map(|c| c * unit));
        let pairs = split_by_set(sets, &pairing);
        for (set, pairs) in sets.iter().zip(&pairs) {
            for (i, j) in pairs {
                let a = channel(members, set, *i);
                self.joint.share(a, channel(members, next_net, *j));
            }
        }
        Ok(pairs)
    }

    /// The costs of pairs at this layer, with the neurons of one set after those of the other.
    fn own_cost(&self, problems: &mut [PairProblem]) -> Result<Array2<f64>> {
        let options = self.options.solver();
        let mut costs: Vec<Array2<f64>> =
            problems.iter_mut().map(|m| m.cost(options)).collect::<Result<_>>()?;
        if costs.len() == 1 {
            return Ok(costs.remove(0));
        }
        let views: Vec<_> = costs.iter().map(|c| c.view()).collect();
        Ok(concatenate(Axis(0), &views).unwrap_or_default())
    }

    /// The factor that makes costs of different layers comparable: mean sensitivities in `refit`; in
    /// `mtz`, the cost relative to that of a random pair.
    fn unit(&self, a: &SiteLayer, b: &SiteLayer, cost: &Array2<f64>) -> f64 {
        let weight = |member: &SiteLayer| self.weighting.of_layer(member.place());
        match self.options.method {
            Method::Refit => (weight(a) * weight(b)).sqrt(),
            Method::Mtz => against_chance(cost),
        }
    }

    /// Whether pairs cost nothing at the layer that pairs its group: it keeps its weights, and later
    /// layers of the group do not.
    fn is_free(&self, member: &SiteLayer) -> bool {
        let mut sites = self.alignment.sites.iter();
        let keeps =
            sites.any(|site| site.layer_of(member.task) == Some(member.id) && site.own_weights);
        keeps && self.later.cost_anything(member.place())
    }

    /// Adds the pairs' costs at later layers of their group.
    fn add_later(
        &self,
        members: &[SiteLayer],
        sets: &[NeuronSet],
        next_net: &NeuronSet,
        cost: &mut Array2<f64>,
    ) {
        let own = &members[next_net.members[0]];
        let Some(later) = self.later.at(own.place()) else { return };
        let neurons = sets.iter().flat_map(|p| (0..p.rows.len()).map(move |n| (p, n)));
        for ((set, n), mut cost) in neurons.zip(cost.rows_mut()) {
            let Some(row) = later.neurons.get(&channel(members, set, n)) else { continue };
            for (j, cost) in cost.iter_mut().enumerate() {
                let channel = channel(members, next_net, j).channel;
                *cost += later.cost[(*row, channel.index)];
            }
        }
    }
}
