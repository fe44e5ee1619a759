//! Families of groups with the same attention heads: queries and keys, and values.
//!
//! The first group of a family pairs the heads. The costs of a pair of heads in the other groups count,
//! too, and so do those at layers whose rows are the heads, such as tables of relative positions.

use std::collections::BTreeSet;

use ndarray::Array2;

use crate::align::{TaskChannel, TaskGroup};
use crate::error::Result;
use crate::mtz::matching::{HeadBlocks, Pairing};
use crate::mtz::site::{HeadCosts, Heads};

use super::search::GroupSearch;

/// Pairs of heads.
pub(super) type HeadPairs = BTreeSet<(usize, usize)>;

impl GroupSearch<'_> {
    /// Records the costs of pairs of heads in a group, and adds their costs in the other groups. The
    /// first group of a family drops the known pairs of heads, so that they can change, and returns
    /// them.
    pub(super) fn reopen(
        &mut self,
        next_net: TaskGroup,
        total: &Array2<f64>,
        heads: &mut Heads,
    ) -> Result<Option<HeadPairs>> {
        if let Some(costs) = self.choice.head_costs(total, &heads.blocks)? {
            let named =
                |((a, b), cost): ((usize, usize), &f64)| ((heads.rows[a], heads.columns[b]), *cost);
            self.heads.insert(next_net, costs.indexed_iter().map(named).collect());
        }
        let mut elsewhere = HeadCosts::new();
        self.elsewhere(next_net).for_each(|(pair, cost)| {
            *elsewhere.entry(pair).or_default() += cost;
        });
        heads.blocks.elsewhere = Some(heads.matrix(&elsewhere));
        let others = self.others(next_net);
        let is_first = others.iter().all(|other| next_net < *other);
        let is_open = !others.iter().any(|other| self.before.is_settled(*other));
        let known = heads.blocks.known.take_if(|_| is_first && is_open);
        Ok(known.map(|pairs| pairs.into_iter().collect()))
    }

    /// If the pairs of heads have changed, unshares the other groups of the family, to pair them again.
    pub(super) fn close(
        &mut self,
        next_net: TaskGroup,
        blocks: &HeadBlocks,
        pairing: &Pairing,
        known: &HeadPairs,
    ) {
        let head = |all: &[Vec<usize>], at: usize| all.iter().position(|own| own.contains(&at));
        let found: Option<HeadPairs> = pairing
            .pairs()
            .iter()
            .map(|(i, j)| Some((head(&blocks.rows, *i)?, head(&blocks.columns, *j)?)))
            .collect();
        if found.as_ref() != Some(known) {
            self.others(next_net).into_iter().for_each(|other| self.joint.unshare(other));
        }
    }

    /// The costs of pairs of heads in the other groups of a family.
    pub(super) fn elsewhere(
        &self,
        group: TaskGroup,
    ) -> impl Iterator<Item = ((TaskChannel, TaskChannel), f64)> + use<'_> {
        let nest = self.joint.task(group.task).coupling().nest(group.group);
        let heads = nest.map_or(group, |nest| group.task.group(nest.heads));
        let others = self.members(heads).into_iter().chain([heads]);
        let costs = others.filter(move |other| *other != group);
        costs
            .filter_map(|other| self.heads.get(&other))
            .flatten()
            .map(|(pair, cost)| (*pair, *cost))
    }

    /// Whether the channels of a group are the heads of other groups.
    pub(super) fn is_of_heads(&self, group: TaskGroup) -> bool {
        !self.members(group).is_empty()
    }

    /// Records the costs of pairs of heads at layers whose rows they are. Returns the costs in the groups
    /// with these heads, which pair them.
    pub(super) fn weigh_heads(
        &mut self,
        next_net: TaskGroup,
        rows: &[TaskChannel],
        total: &Array2<f64>,
    ) -> Array2<f64> {
        let named = |((i, j), cost): ((usize, usize), &f64)| {
            Some(((*rows.get(i)?, next_net.channel(j)), *cost))
        };
        self.heads.insert(next_net, total.indexed_iter().filter_map(named).collect());
        let mut elsewhere = Array2::zeros(total.raw_dim());
        for ((a, b), cost) in self.elsewhere(next_net) {
            let place = rows.iter().position(|row| *row == a).map(|row| (row, b.channel.index));
            if let Some(sum) = place.and_then(|place| elsewhere.get_mut(place)) {
                *sum += cost;
            }
        }
        elsewhere
    }

    /// The other groups of a net with the same heads.
    fn others(&self, group: TaskGroup) -> Vec<TaskGroup> {
        let nest = self.joint.task(group.task).coupling().nest(group.group);
        let all = nest.map(|nest| self.members(group.task.group(nest.heads))).unwrap_or_default();
        all.into_iter().filter(|other| *other != group).collect()
    }

    /// The groups of a net with these heads.
    fn members(&self, heads: TaskGroup) -> Vec<TaskGroup> {
        let nests = self.joint.task(heads.task).coupling().nests.iter();
        let own = nests.filter(|nest| nest.heads == heads.group);
        own.map(|nest| heads.task.group(nest.channels)).collect()
    }
}
