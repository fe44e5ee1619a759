//! How the layers of a site come to share neurons, one net after the other.

use std::collections::HashMap;

use ndarray::{Array2, Axis, concatenate};

use crate::couple::Channel;
use crate::error::{Context, Result};

use super::columns::{Columns, rest};
use super::hessian::{Gain, Hessian, Reduced, block};
use super::matcher::{Pairing, Share, pair_sets};
use super::members::Member;
use super::options::Method;
use super::party::{Change, Meeting, Party, by_party, join_all, reduced, some_columns};
use super::refit::connections;
use super::run::Zip;
use super::site::{Side, SiteRecord};

/// A side among others, and what follows from them.
pub(super) struct Seat {
    pub(super) side: Side,
    /// The layer's common inputs with their columns; the bias is the last.
    inputs: Vec<(usize, usize)>,
    /// How the other columns make up for a change of these.
    gain: Option<Gain>,
    /// Whether any rows are shared.
    pub(super) shares: bool,
    /// Mean squared error of the shared rows' pre-activations, and their mean squares, both added up.
    pub(super) error: (f64, f64),
}

/// The common inputs of the site's member `at` with their columns. The bias is the weight of a
/// constant input, which is always shared.
fn inputs(member: &Member, at: usize, columns: &Columns) -> Vec<(usize, usize)> {
    let channels = member.layer.inputs.as_ref().map_or(0, Vec::len);
    let bias = member.layer.layer.bias.map(|_| (columns.count, channels * columns.taps));
    columns.of[at].iter().copied().chain(bias).collect()
}

impl Zip<'_> {
    /// Every layer as a party of its own, over the inputs that it has in common with others.
    pub(super) fn seats(
        &self,
        members: &[Member],
        columns: &Columns,
        sides: Vec<Side>,
    ) -> Result<(Vec<Seat>, Vec<Party>)> {
        let mut seats = Vec::new();
        let mut parties = Vec::new();
        for (at, (member, side)) in members.iter().zip(sides).enumerate() {
            let (mut party, gain) = self.party(member, at, columns, &side)?;
            party.importance = self.importance(member.task, member.id, &side);
            let inputs = inputs(member, at, columns);
            seats.push(Seat { side, inputs, gain, shares: false, error: (0.0, 0.0) });
            parties.push(party);
        }
        Ok((seats, parties))
    }

    /// A layer, the site's member `at`, as a party without importance, and its gain.
    pub(super) fn party(
        &self,
        member: &Member,
        at: usize,
        columns: &Columns,
        side: &Side,
    ) -> Result<(Party, Option<Gain>)> {
        let (inputs, shared): (Vec<usize>, Vec<usize>) =
            inputs(member, at, columns).into_iter().unzip();
        let alpha = self.options.weights(self.joint.tasks.len());
        let own = self.reduced(&side.observed.hessian(), &shared)?;
        let party = Party {
            members: vec![at],
            inputs,
            hessian: own.hessian.times(alpha[member.task]),
            weights: some_columns(&side.weights, &shared),
            importance: None,
            rows: (0..side.weights.nrows()).map(|row| vec![row]).collect(),
            sparse: connections(side.weights.view()).is_some(),
            constant: columns.count,
        };
        Ok((party, own.gain))
    }

    /// A layer's Hessian over its shared columns (eqs. 7–8). In `refit`, what private columns can
    /// make up for does not count, and the gain tells how they do.
    fn reduced(&self, hessian: &Hessian, shared: &[usize]) -> Result<Reduced> {
        // The last column is the constant's; it is private only where there is no bias, and then it
        // has no weight to adjust.
        reduced(hessian, shared, hessian.size().saturating_sub(1), self.options)
    }

    /// Lets the parties join one by one.
    pub(super) fn gather(
        &mut self,
        members: &[Member],
        mut parties: Vec<Party>,
        record: &mut SiteRecord,
    ) -> Result<Vec<Party>> {
        // Those whose neurons are settled go first: they tell the others which neurons these are.
        parties.sort_by_key(|p| !self.is_settled(&members[p.members[0]]));
        join_all(parties, false, self.options, |here, newcomer, meetings| {
            let own = &members[newcomer.members[0]];
            let others = here.iter().flat_map(|p| &p.members);
            let settled = others.into_iter().any(|other| self.are_settled(&members[*other], own));
            match settled {
                true => {
                    record.pair_costs.extend(self.settled_ahead(own));
                    Ok(self.known_pairs(members, here, newcomer))
                }
                false => self.pair(members, here, newcomer, meetings, record),
            }
        })
        .at_node(&members[0].layer.name)
    }

    /// Pairs a layer's neurons with those gathered so far and records them as shared.
    fn pair(
        &mut self,
        members: &[Member],
        parties: &[Party],
        newcomer: &Party,
        meetings: &mut [Meeting],
        record: &mut SiteRecord,
    ) -> Result<Vec<Vec<(usize, usize)>>> {
        let name = &members[0].layer.name;
        let so_far: usize = parties.iter().map(|p| p.rows.len()).sum();
        let most = so_far.min(newcomer.rows.len());
        let share = self.options.budget.share(name, most);
        if matches!(share, Share::Count(0)) || matches!(share, Share::Fraction(0.0)) {
            return Ok(vec![Vec::new(); parties.len()]);
        }
        let mut costs: Vec<Array2<f64>> =
            meetings.iter_mut().map(|m| m.cost(self.options)).collect::<Result<_>>()?;
        let mut cost = match costs.len() {
            1 => costs.remove(0),
            _ => {
                let views: Vec<_> = costs.iter().map(|c| c.view()).collect();
                concatenate(Axis(0), &views).unwrap_or_default()
            }
        };
        self.add_later(members, parties, newcomer, &mut cost);
        let owners =
            parties.iter().flat_map(|p| std::iter::repeat_n(p.members.len(), p.rows.len()));
        let owners: Vec<usize> = owners.collect();
        let pairing = self.choose(&cost, &owners, name)?;
        let unit = self.unit(&members[parties[0].members[0]], &members[newcomer.members[0]], &cost);
        record.pair_costs.extend(pairing.costs().iter().map(|c| c * unit));
        let pairs = by_party(parties, &pairing);
        for (party, pairs) in parties.iter().zip(&pairs) {
            for (i, j) in pairs {
                let a = channel(members, party, *i);
                self.joint.share(a, channel(members, newcomer, *j));
            }
        }
        Ok(pairs)
    }

    /// Pairs neurons, which `owners` tasks have each, with a newcomer's.
    ///
    /// In `refit`, a newcomer keeps to the neurons that most tasks share. What that costs is made up for
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
            Method::Refit => pair_sets(&*self.matcher, cost.view(), owners, share)?,
            Method::Mtz => self.matcher.pair(cost.view(), share)?,
        };
        Ok(found.rounded_down(most, self.options.budget.multiple_of(share)))
    }

    /// What makes costs of different layers comparable: mean sensitivities in `refit`; in `mtz`, how
    /// much better a pair is than one drawn by lot.
    fn unit(&self, a: &Member, b: &Member, cost: &Array2<f64>) -> f64 {
        match self.options.method {
            Method::Refit => (self.layer_weight(a) * self.layer_weight(b)).sqrt(),
            Method::Mtz => against_chance(cost),
        }
    }

    /// Adds what the pairs cost at later layers of their group.
    fn add_later(
        &self,
        members: &[Member],
        parties: &[Party],
        newcomer: &Party,
        cost: &mut Array2<f64>,
    ) {
        let own = &members[newcomer.members[0]];
        let Some(later) = self.later.get(&(own.task, own.id)) else { return };
        let neurons = parties.iter().flat_map(|p| (0..p.rows.len()).map(move |n| (p, n)));
        for ((party, n), mut cost) in neurons.zip(cost.rows_mut()) {
            let Some(row) = later.neurons.get(&channel(members, party, n)) else { continue };
            for (j, cost) in cost.iter_mut().enumerate() {
                let (_, channel) = channel(members, newcomer, j);
                *cost += later.cost[(*row, channel.index)];
            }
        }
    }

    /// Pairs that another site of the same group has settled, by party.
    pub(super) fn known_pairs(
        &self,
        members: &[Member],
        parties: &[Party],
        newcomer: &Party,
    ) -> Vec<Vec<(usize, usize)>> {
        let neuron = |party: &Party, n: usize| {
            let (task, channel) = channel(members, party, n);
            self.joint.neuron(task, channel)
        };
        let theirs: HashMap<_, usize> =
            (0..newcomer.rows.len()).filter_map(|j| Some((neuron(newcomer, j)?, j))).collect();
        let of_party = |party: &Party| {
            let neurons = 0..party.rows.len();
            neurons.filter_map(|i| Some((i, *theirs.get(&neuron(party, i)?)?))).collect()
        };
        parties.iter().map(of_party).collect()
    }

    /// Gives the rows of a party's members their common weights.
    pub(super) fn settle(
        &self,
        party: &Party,
        columns: &Columns,
        seats: &mut [Seat],
    ) -> Result<()> {
        let holders = columns.holders(&party.members);
        for (nth, at) in party.members.iter().enumerate() {
            let seat = &mut seats[*at];
            let is_common = |i: &&(usize, usize)| holders.get(i.0).is_none_or(|n| *n > 1);
            let shared: Vec<(usize, usize)> =
                seat.inputs.iter().filter(is_common).copied().collect();
            let (inputs, own): (Vec<usize>, Vec<usize>) = shared.iter().copied().unzip();
            let rows: Vec<usize> = party.rows.iter().map(|r| r[nth]).collect();
            let common = some_columns(&party.weights, &party.places(&inputs));
            let private = rest(&own, seat.side.weights.ncols() - 1);
            let adjusts = self.options.method == Method::Refit && !private.is_empty();
            let hessian = seat.side.observed.hessian();
            let fewer = match adjusts && shared.len() < seat.inputs.len() {
                true => self.reduced(&hessian, &own)?.gain,
                false => None,
            };
            let gain = fewer.as_ref().or(seat.gain.as_ref()).filter(|_| adjusts);
            let block = block(seat.side.weights.ncols());
            let blocks = common.axis_chunks_iter(Axis(0), block);
            for (common, rows) in blocks.zip(rows.chunks(block)) {
                let change = Change {
                    columns: &own,
                    common,
                    private: &private,
                    gain,
                    sparse: party.sparse,
                };
                let before = seat.side.weights.select(Axis(0), rows);
                seat.error.1 += hessian.energy(before.view()).sum();
                let changed = change.of(before.clone());
                seat.error.0 += hessian.energy((&changed - &before).view()).sum();
                let new = rows.iter().zip(changed.rows());
                new.for_each(|(row, new)| seat.side.weights.row_mut(*row).assign(&new));
            }
            seat.shares = true;
        }
        Ok(())
    }
}

/// What makes a pair's cost relative to that of one drawn by lot.
pub(super) fn against_chance(cost: &Array2<f64>) -> f64 {
    cost.mean().filter(|mean| *mean > 0.0).map_or(1.0, f64::recip)
}

/// The channel of a party's neuron in the first of its members.
fn channel(members: &[Member], party: &Party, neuron: usize) -> (usize, Channel) {
    let member = &members[party.members[0]];
    (member.task, member.layer.outputs[party.rows[neuron][0]])
}
