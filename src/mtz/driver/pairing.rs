//! Chooses pairs by their costs.

use ndarray::Array2;

use crate::error::Result;
use crate::mtz::joint::{JointModel, Neuron};
use crate::mtz::matching::{
    HeadBlocks, Matcher, Pairing, Pairings, Remembered, head_costs, pair_by_owners, pair_heads,
};
use crate::mtz::options::{MergeOptions, Method};
use crate::mtz::site::SiteLayer;
use crate::mtz::solver::neuron_set::NeuronSet;

use std::collections::HashMap;

use crate::align::TaskChannel;

/// Chooses pairs by their costs.
pub(super) struct PairChoice<'a> {
    options: &'a MergeOptions,
    matcher: Remembered,
    /// Number of nets.
    nets: usize,
}

impl<'a> PairChoice<'a> {
    /// The matcher that `options` name for so many `nets`, with the pairs that it has found before.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Usage`] if the matcher is not known.
    pub(super) fn new(options: &'a MergeOptions, nets: usize, known: Pairings) -> Result<Self> {
        let matcher = Remembered::new(options.matcher()?, known);
        Ok(PairChoice { options, matcher, nets })
    }

    /// Pairs neurons, each with `owners` tasks, with the next net's.
    ///
    /// In `refit`, the next net prefers the neurons that most tasks share: later refits compensate
    /// for the cost, which `mtz` cannot. Channels of attention heads are paired head by head.
    pub(super) fn choose(
        &self,
        cost: &Array2<f64>,
        owners: &[usize],
        heads: Option<&HeadBlocks>,
        name: &str,
    ) -> Result<Pairing> {
        let most = cost.nrows().min(cost.ncols());
        let share = self.options.budget.share_of_join(name, most, self.nets);
        if let Some(heads) = heads {
            return pair_heads(&self.matcher, cost.view(), owners, heads, share);
        }
        let found = match self.options.method {
            Method::Refit => pair_by_owners(&self.matcher, cost.view(), owners, share)?,
            Method::Mtz => self.matcher.pair(cost.view(), share)?,
        };
        Ok(found.rounded_down(most, self.options.budget.multiple_of(share)))
    }

    /// The cost of each pair of heads with the best pairs of its channels; `None` if heads differ in
    /// size.
    pub(super) fn head_costs(
        &self,
        cost: &Array2<f64>,
        heads: &HeadBlocks,
    ) -> Result<Option<Array2<f64>>> {
        head_costs(&self.matcher, cost.view(), heads)
    }
}

/// The factor that makes a pair's cost relative to that of a random pair.
pub(super) fn against_chance(cost: &Array2<f64>) -> f64 {
    cost.mean().filter(|mean| *mean > 0.0).map_or(1.0, f64::recip)
}

/// The channel of a neuron set's neuron in the first of its members.
pub(super) fn channel(members: &[SiteLayer], set: &NeuronSet, neuron: usize) -> TaskChannel {
    let member = &members[set.members[0]];
    member.task.channel(member.layer.outputs[set.rows[neuron][0]])
}

/// Pairs of the same group that another site has settled, by neuron set. Rows that are one channel, as those of a
/// spectrum whose shifted copies are added up, correspond in their order.
pub(super) fn known_pairs(
    joint: &JointModel,
    members: &[SiteLayer],
    sets: &[NeuronSet],
    next_net: &NeuronSet,
) -> Vec<Vec<(usize, usize)>> {
    let neuron = |set: &NeuronSet, n: usize| joint.neuron(channel(members, set, n));
    let mut theirs: HashMap<Neuron, Vec<usize>> = HashMap::new();
    for j in in_order(next_net) {
        if let Some(neuron) = neuron(next_net, j) {
            theirs.entry(neuron).or_default().push(j);
        }
    }
    let of_set = |set: &NeuronSet| {
        let mut met: HashMap<Neuron, usize> = HashMap::new();
        let pair = |i: usize| {
            let neuron = neuron(set, i)?;
            let times = met.entry(neuron).or_default();
            let j = *theirs.get(&neuron)?.get(*times)?;
            *times += 1;
            Some((i, j))
        };
        let mut pairs: Vec<(usize, usize)> = in_order(set).into_iter().filter_map(pair).collect();
        pairs.sort_unstable();
        pairs
    };
    sets.iter().map(of_set).collect()
}

/// The neurons of a set in the order of their rows in its first member.
fn in_order(set: &NeuronSet) -> Vec<usize> {
    let mut neurons: Vec<usize> = (0..set.rows.len()).collect();
    neurons.sort_by_key(|neuron| set.rows[*neuron].first().copied());
    neurons
}
