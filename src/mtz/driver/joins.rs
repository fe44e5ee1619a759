//! How the layers of a site come to share neurons, one net after the other.

use std::collections::HashMap;

use ndarray::{Array2, ArrayView2, Axis, concatenate};

use crate::couple::Channel;
use crate::error::{Context, Result};
use crate::mtz::joint::{Thin, may_have_correction, may_have_scale};
use crate::mtz::matching::{Pairing, Share, pair_by_owners};
use crate::mtz::options::Method;
use crate::mtz::site::{CommonInputs, SiteLayer, SiteRecord};
use crate::mtz::solver::hessian::{Gain, Hessian, Reduced, block};
use crate::mtz::solver::low_rank::LowRank;
use crate::mtz::solver::neuron_set::{
    NeuronSet, PairProblem, WeightChange, complement, join_sets, reduced, some_columns,
    split_by_set,
};
use crate::mtz::solver::pair_cost::Weights;
use crate::mtz::solver::refit::connections;
use crate::mtz::statistics::LayerStats;

use super::Driver;

/// The state of a layer among others, and what follows from them.
pub(super) struct LayerState {
    pub(super) stats: LayerStats,
    /// The layer's common inputs with their columns; the bias is the last, where it is one of them.
    inputs: Vec<(usize, usize)>,
    has_bias: bool,
    /// How the other columns make up for a change of these.
    gain: Option<Gain>,
    /// Rows that are shared, with the mean squared error of each one's pre-activation.
    pub(super) shared: Vec<usize>,
    pub(super) errors: Vec<f64>,
    /// The mean squares of their pre-activations, added up.
    pub(super) total: f64,
    /// What its weights have besides the common ones.
    pub(super) correction: Option<Thin>,
    /// The layer's weights before any were shared, where they are asked for.
    fitted: Option<Weights>,
}

/// The common inputs of the site's member `at` with their columns. The bias is the weight of the `constant`
/// input, which is shared unless every task keeps its own bias.
fn inputs(
    member: &SiteLayer,
    at: usize,
    columns: &CommonInputs,
    constant: usize,
    keeps_bias: bool,
) -> Vec<(usize, usize)> {
    let bias = member.layer.layer.bias.filter(|_| !keeps_bias);
    let bias = bias.map(|_| (columns.count, constant));
    columns.of[at].iter().copied().chain(bias).collect()
}

impl LayerState {
    /// The layer's weights before any were shared, where they were kept.
    pub(super) fn fitted(&self) -> ArrayView2<'_, f32> {
        self.fitted.as_ref().unwrap_or(&self.stats.weights).view()
    }
}

impl Driver<'_> {
    /// Every layer as a neuron set of its own, over the inputs that it has in common with others; whether
    /// its weights are to be kept as they are now (`keep`).
    pub(super) fn layer_states(
        &self,
        members: &[SiteLayer],
        columns: &CommonInputs,
        all_stats: Vec<LayerStats>,
        keep: bool,
    ) -> Result<(Vec<LayerState>, Vec<NeuronSet>)> {
        let mut states = Vec::new();
        let mut sets = Vec::new();
        for (at, (member, stats)) in members.iter().zip(all_stats).enumerate() {
            let (mut set, gain) = self.neuron_set(member, at, columns, &stats)?;
            set.importance = self.importance(member.task, member.id, &stats);
            set.rank = self.rank(member);
            set.scales = may_have_scale(&member.layer);
            let keeps_bias = self.options.budget.keeps_bias(&member.layer);
            states.push(LayerState {
                inputs: inputs(member, at, columns, stats.weights.ncols() - 1, keeps_bias),
                has_bias: member.layer.layer.bias.is_some(),
                gain,
                shared: Vec::new(),
                errors: Vec::new(),
                total: 0.0,
                correction: None,
                fitted: keep.then(|| stats.weights.clone()),
                stats,
            });
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
    ) -> Result<(NeuronSet, Option<Gain>)> {
        let (constant, keeps_bias) =
            (stats.weights.ncols() - 1, self.options.budget.keeps_bias(&member.layer));
        let (inputs, shared): (Vec<usize>, Vec<usize>) =
            inputs(member, at, columns, constant, keeps_bias).into_iter().unzip();
        let alpha = self.options.task_weights(self.joint.tasks.len());
        let has_bias = member.layer.layer.bias.is_some();
        let own = self.reduced(&stats.observed.hessian(), &shared, has_bias)?;
        let set = NeuronSet {
            members: vec![at],
            inputs,
            hessian: own.hessian.times(alpha[member.task]),
            weights: some_columns(&stats.weights, &shared),
            importance: None,
            rows: (0..stats.weights.nrows()).map(|row| vec![row]).collect(),
            sparse: connections(stats.weights.view()).is_some(),
            constant: columns.count,
            rank: None,
            scales: false,
            corrections: Vec::new(),
        };
        Ok((set, own.gain))
    }

    /// The rank of a layer's correction; `None` where corrections are not asked for or cannot be.
    fn rank(&self, member: &SiteLayer) -> Option<usize> {
        let ranks = self.options.corrections.as_ref()?;
        let rank = ranks.get(&(member.task, member.id)).copied().unwrap_or(0);
        may_have_correction(&member.layer).then_some(rank)
    }

    /// A layer's Hessian over its shared columns (eqs. 7–8). In `refit`, what private columns can
    /// make up for does not count, and the gain tells how they do.
    fn reduced(&self, hessian: &Hessian, shared: &[usize], has_bias: bool) -> Result<Reduced> {
        reduced(hessian, shared, adjustable(hessian.size(), has_bias), self.options)
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
        let mut costs: Vec<Array2<f64>> =
            problems.iter_mut().map(|m| m.cost(self.options)).collect::<Result<_>>()?;
        let mut cost = match costs.len() {
            1 => costs.remove(0),
            _ => {
                let views: Vec<_> = costs.iter().map(|c| c.view()).collect();
                concatenate(Axis(0), &views).unwrap_or_default()
            }
        };
        if self.is_free(&members[next_net.members[0]]) {
            cost.fill(0.0);
        }
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

    /// Whether pairs cost nothing where a layer pairs its group: it keeps its weights, and layers that do
    /// not are still to come.
    fn is_free(&self, member: &SiteLayer) -> bool {
        let mut sites = self.alignment.sites.iter();
        let keeps =
            sites.any(|site| site.layers[member.task] == Some(member.id) && site.own_weights);
        let later = self.later.get(&(member.task, member.id));
        keeps && later.is_some_and(|later| later.cost.iter().any(|cost| *cost != 0.0))
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
            let (inputs, own): (Vec<usize>, Vec<usize>) = shared.iter().copied().unzip();
            let rows: Vec<usize> = set.rows.iter().map(|r| r[nth]).collect();
            let places = set.places(&inputs);
            let mut common = some_columns(&set.weights, &places);
            let correction = set.corrections.iter().find(|own| own.member == *at);
            if let Some(correction) = correction.filter(|own| own.is_some()) {
                let plain = common.to_owned();
                common = correction.added_to(&plain, &rows, &places).into_shared();
                state.correction = Some(thin(correction, plain, &rows, &places, &own));
            }
            let width = adjustable(state.stats.weights.ncols(), state.has_bias);
            let private = complement(&own, width);
            let adjusts = self.options.method == Method::Refit && !private.is_empty();
            let hessian = state.stats.observed.hessian();
            let fewer = match adjusts && shared.len() < state.inputs.len() {
                true => self.reduced(&hessian, &own, state.has_bias)?.gain,
                false => None,
            };
            let gain = fewer.as_ref().or(state.gain.as_ref()).filter(|_| adjusts);
            let block = block(state.stats.weights.ncols());
            let blocks = common.axis_chunks_iter(Axis(0), block);
            for (common, rows) in blocks.zip(rows.chunks(block)) {
                let change = WeightChange {
                    columns: &own,
                    common,
                    private: &private,
                    gain,
                    sparse: set.sparse,
                };
                let before = state.stats.weights.select(Axis(0), rows);
                state.total += hessian.mean_square(before.view()).sum();
                let changed = change.of(before.clone());
                state.errors.extend(hessian.mean_square((&changed - &before).view()));
                let new = rows.iter().zip(changed.rows());
                new.for_each(|(row, new)| state.stats.weights.row_mut(*row).assign(&new));
            }
            state.shared.extend(rows);
        }
        Ok(())
    }
}

/// A correction as the layer's own rows and columns.
fn thin(
    correction: &LowRank,
    common: Array2<f32>,
    rows: &[usize],
    places: &[usize],
    columns: &[usize],
) -> Thin {
    let order: Vec<usize> =
        rows.iter().filter_map(|row| correction.rows.iter().position(|own| own == row)).collect();
    Thin {
        rows: rows.to_vec(),
        columns: columns.to_vec(),
        common,
        scale: order.iter().filter_map(|row| correction.scale.get(*row).copied()).collect(),
        left: correction.left.select(Axis(0), &order),
        right: correction.right.select(Axis(1), places),
    }
}

/// How many columns of a layer's matrix can make up for others. The last is the constant's, which has no
/// weight where there is no bias.
fn adjustable(columns: usize, has_bias: bool) -> usize {
    columns - usize::from(!has_bias)
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
