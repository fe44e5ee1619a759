//! How the layers of a site come to share neurons, one net after the other.

use std::collections::HashMap;

use ndarray::{Array2, Axis, concatenate};

use crate::couple::Channel;
use crate::error::{Context, Result};
use crate::mtz::matching::{Pairing, Share, pair_by_owners};
use crate::mtz::options::Method;
use crate::mtz::site::{CommonInputs, SiteLayer, SiteRecord};
use crate::mtz::solver::fuse::mean_square;
use crate::mtz::solver::neuron_set::{
    NeuronSet, PairProblem, WeightChange, complement, join_sets, reduced, split_by_set,
};
use crate::mtz::solver::refit::connections;
use crate::mtz::statistics::LayerStats;

use super::Driver;

/// The state of a layer among others, and what follows from them.
pub(super) struct LayerState {
    pub(super) stats: LayerStats,
    /// The layer's common inputs with their columns; the bias is the last.
    inputs: Vec<(usize, usize)>,
    /// How the other columns make up for a change of these; see [`readjust`](crate::mtz::solver::fuse::readjust).
    gain: Option<Array2<f64>>,
    /// Rows that are shared, and their weights before they were.
    pub(super) shared: Vec<usize>,
    before: Array2<f64>,
}

/// The common inputs of the site's member `at` with their columns. The bias is the weight of a
/// constant input, which is always shared.
fn inputs(member: &SiteLayer, at: usize, columns: &CommonInputs) -> Vec<(usize, usize)> {
    let channels = member.layer.inputs.as_ref().map_or(0, Vec::len);
    let bias = member.layer.layer.bias.map(|_| (columns.count, channels * columns.taps));
    columns.of[at].iter().copied().chain(bias).collect()
}

impl LayerState {
    /// Mean squared error of the shared rows' pre-activations, and their mean squares, both added up.
    pub(super) fn error(&self) -> Result<(f64, f64)> {
        if self.shared.is_empty() {
            return Ok((0.0, 0.0));
        }
        let h = self.stats.moments.scaled(1.0)?;
        let before = self.before.select(Axis(0), &self.shared);
        let change = &self.stats.weights.select(Axis(0), &self.shared) - &before;
        let total = mean_square(h.view(), before.view()).sum();
        Ok((mean_square(h.view(), change.view()).sum(), total))
    }
}

impl Driver<'_> {
    /// Every layer as a neuron set of its own, over the inputs that it has in common with others.
    pub(super) fn layer_states(
        &self,
        members: &[SiteLayer],
        columns: &CommonInputs,
        all_stats: Vec<LayerStats>,
    ) -> Result<(Vec<LayerState>, Vec<NeuronSet>)> {
        let mut states = Vec::new();
        let mut sets = Vec::new();
        for (at, (member, stats)) in members.iter().zip(all_stats).enumerate() {
            let (mut set, gain) = self.neuron_set(member, at, columns, &stats)?;
            set.importance = self.importance(member.task, member.id, &stats);
            let (inputs, before) = (inputs(member, at, columns), stats.weights.clone());
            states.push(LayerState { stats, inputs, gain, shared: Vec::new(), before });
            sets.push(set);
        }
        Ok((states, sets))
    }

    /// A layer, the site's member `at`, as a neuron set without importance, and its gain.
    pub(super) fn neuron_set(
        &self,
        member: &SiteLayer,
        at: usize,
        columns: &CommonInputs,
        stats: &LayerStats,
    ) -> Result<(NeuronSet, Option<Array2<f64>>)> {
        let (inputs, shared): (Vec<usize>, Vec<usize>) =
            inputs(member, at, columns).into_iter().unzip();
        let alpha = self.options.task_weights(self.joint.tasks.len());
        let (hessian, gain) = self.reduced(stats.moments.scaled(alpha[member.task])?, &shared)?;
        let set = NeuronSet {
            members: vec![at],
            inputs,
            hessian,
            weights: stats.weights.select(Axis(1), &shared),
            importance: None,
            rows: (0..stats.weights.nrows()).map(|row| vec![row]).collect(),
            sparse: connections(&stats.weights).is_some(),
            constant: columns.count,
        };
        Ok((set, gain))
    }

    /// A layer's Hessian over its shared columns (eqs. 7–8). In `refit`, what private columns can
    /// make up for does not count, and the gain tells how they do.
    fn reduced(
        &self,
        hessian: Array2<f64>,
        shared: &[usize],
    ) -> Result<(Array2<f64>, Option<Array2<f64>>)> {
        if shared.iter().copied().eq(0..hessian.nrows()) {
            return Ok((hessian, None));
        }
        // The last column is the constant's; it is private only where there is no bias, and then it
        // has no weight to adjust.
        reduced(hessian.view(), shared, hessian.nrows() - 1, self.options)
    }

    /// Lets the neuron sets join one by one.
    pub(super) fn gather(
        &mut self,
        members: &[SiteLayer],
        mut sets: Vec<NeuronSet>,
        record: &mut SiteRecord,
    ) -> Result<Vec<NeuronSet>> {
        // Those whose neurons are settled go first: they tell the others which neurons these are.
        sets.sort_by_key(|p| !self.is_settled(&members[p.members[0]]));
        join_sets(sets, false, self.options, |here, next_net, problems| {
            let own = &members[next_net.members[0]];
            let others = here.iter().flat_map(|p| &p.members);
            let settled = others.into_iter().any(|other| self.are_settled(&members[*other], own));
            match settled {
                true => {
                    record.pair_costs.extend(self.settled_ahead(own));
                    Ok(self.known_pairs(members, here, next_net))
                }
                false => self.pair(members, here, next_net, problems, record),
            }
        })
        .at_node(&members[0].layer.name)
    }

    /// Pairs a layer's neurons with those gathered so far and records them as shared.
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
        let costs: Vec<Array2<f64>> =
            problems.iter_mut().map(|m| m.cost(self.options)).collect::<Result<_>>()?;
        let views: Vec<_> = costs.iter().map(|c| c.view()).collect();
        let mut cost = match costs.as_slice() {
            [only] => only.clone(),
            _ => concatenate(Axis(0), &views).unwrap_or_default(),
        };
        self.add_later(members, sets, next_net, &mut cost);
        let owners = sets.iter().flat_map(|p| std::iter::repeat_n(p.members.len(), p.rows.len()));
        let owners: Vec<usize> = owners.collect();
        let pairing = self.choose(&cost, &owners, name)?;
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

    /// Pairs neurons, which `owners` tasks have each, with the next net's.
    ///
    /// In `refit`, the next net keeps to the neurons that most tasks share. What that costs is made up for
    /// later; in `mtz` nothing would do that.
    pub(super) fn choose(
        &self,
        cost: &Array2<f64>,
        owners: &[usize],
        name: &str,
    ) -> Result<Pairing> {
        let most = cost.nrows().min(cost.ncols());
        let share = self.options.budget.share(name, most);
        let found = match self.options.method {
            Method::Refit => pair_by_owners(&*self.matcher, cost.view(), owners, share)?,
            Method::Mtz => self.matcher.pair(cost.view(), share)?,
        };
        Ok(found.rounded_down(most, self.options.budget.multiple_of(share)))
    }

    /// What makes costs of different layers comparable: mean sensitivities in `refit`; in `mtz`, how
    /// much better a pair is than one drawn by lot.
    fn unit(&self, a: &SiteLayer, b: &SiteLayer, cost: &Array2<f64>) -> f64 {
        match self.options.method {
            Method::Refit => (self.layer_weight(a) * self.layer_weight(b)).sqrt(),
            Method::Mtz => against_chance(cost),
        }
    }

    /// Adds what the pairs cost at later layers of their group.
    fn add_later(
        &self,
        members: &[SiteLayer],
        sets: &[NeuronSet],
        next_net: &NeuronSet,
        cost: &mut Array2<f64>,
    ) {
        let own = &members[next_net.members[0]];
        let Some(later) = self.later.get(&(own.task, own.id)) else { return };
        let neurons = sets.iter().flat_map(|p| (0..p.rows.len()).map(move |n| (p, n)));
        for ((set, n), mut cost) in neurons.zip(cost.rows_mut()) {
            let Some(row) = later.neurons.get(&channel(members, set, n)) else { continue };
            for (j, cost) in cost.iter_mut().enumerate() {
                let (_, channel) = channel(members, next_net, j);
                *cost += later.cost[(*row, channel.index)];
            }
        }
    }

    /// Pairs that another site of the same group has settled, by neuron set.
    pub(super) fn known_pairs(
        &self,
        members: &[SiteLayer],
        sets: &[NeuronSet],
        next_net: &NeuronSet,
    ) -> Vec<Vec<(usize, usize)>> {
        let neuron = |set: &NeuronSet, n: usize| {
            let (task, channel) = channel(members, set, n);
            self.joint.neuron(task, channel)
        };
        let theirs: HashMap<_, usize> =
            (0..next_net.rows.len()).filter_map(|j| Some((neuron(next_net, j)?, j))).collect();
        let of_set = |set: &NeuronSet| {
            let neurons = 0..set.rows.len();
            neurons.filter_map(|i| Some((i, *theirs.get(&neuron(set, i)?)?))).collect()
        };
        sets.iter().map(of_set).collect()
    }

    /// Gives the rows of a neuron set's members their common weights.
    pub(super) fn settle(
        &self,
        set: &NeuronSet,
        columns: &CommonInputs,
        states: &mut [LayerState],
    ) -> Result<()> {
        let holders = columns.holders(&set.members);
        for (nth, at) in set.members.iter().enumerate() {
            let state = &mut states[*at];
            let is_common = |i: &&(usize, usize)| holders.get(i.0).is_none_or(|n| *n > 1);
            let shared: Vec<(usize, usize)> =
                state.inputs.iter().filter(is_common).copied().collect();
            let inputs: Vec<usize> = shared.iter().map(|(input, _)| *input).collect();
            let own: Vec<usize> = shared.iter().map(|(_, column)| *column).collect();
            let rows: Vec<usize> = set.rows.iter().map(|r| r[nth]).collect();
            let common = set.weights.select(Axis(1), &set.places(&inputs));
            let weights = &mut state.stats.weights;
            let private = complement(&own, weights.ncols() - 1);
            let adjusts = self.options.method == Method::Refit && !private.is_empty();
            let gain = match (adjusts, &state.gain) {
                (false, _) => None,
                (true, Some(gain)) if shared.len() == state.inputs.len() => Some(gain.clone()),
                (true, _) => self.reduced(state.stats.moments.scaled(1.0)?, &own)?.1,
            };
            let change = WeightChange {
                columns: &own,
                common: &common,
                private: &private,
                gain: gain.as_ref(),
                sparse: set.sparse,
            };
            let changed = change.of(weights.select(Axis(0), &rows));
            rows.iter()
                .zip(changed.rows())
                .for_each(|(row, new)| weights.row_mut(*row).assign(&new));
            state.shared.extend(rows);
        }
        Ok(())
    }
}

/// What makes a pair's cost relative to that of one drawn by lot.
pub(super) fn against_chance(cost: &Array2<f64>) -> f64 {
    cost.mean().filter(|mean| *mean > 0.0).map_or(1.0, f64::recip)
}

/// The channel of a neuron set's neuron in the first of its members.
fn channel(members: &[SiteLayer], set: &NeuronSet, neuron: usize) -> (usize, Channel) {
    let member = &members[set.members[0]];
    (member.task, member.layer.outputs[set.rows[neuron][0]])
}
