//! The choices of a curve of size against loss: what its points share.

use std::iter;

use crate::mtz::options::Unit;
use crate::mtz::plan::layer_choice::{LayerCost, at_knee, for_size, given_up};
use crate::mtz::plan::ranks::{Spending, spend};

use super::search::{Choice, Full, Search};

/// Number of sizes at which choices of layers are tried.
const STEPS: u64 = 200;

/// The choices of all points except that of full sharing. No two of them merge alike.
pub(super) fn choices(search: &Search<'_>, full: &Full, points: usize) -> Vec<Choice> {
    let more = points.saturating_sub(1);
    let sizes = match search.job.options.unit {
        Unit::Layer => return evenly(by_layers(search, full), &full.costs, more),
        Unit::Neuron => more,
        // Two choices reach each size.
        Unit::Mixed => more.div_ceil(2),
    };
    let all = &full.outcome.sizes;
    let (least, most) = (all.joint().min(all.separate()), all.separate());
    let step = |at: usize| least + (most - least) * at as u64 / (sizes as u64 + 1);
    let found = (1..=sizes).flat_map(|at| search.choices(full, step(at)));
    let mut choices = distinct(&search.everything(), found);
    choices.truncate(more);
    choices
}

/// Choices of layers that keep their weights, and of corrections if they are to be chosen. The first one
/// is at the knee, which is a merge's default, unless that shares all.
fn by_layers(search: &Search<'_>, full: &Full) -> Vec<Choice> {
    let costs = &full.costs;
    let own = at_knee(costs);
    let knee = search.spent_at_knee(costs, &own);
    let total = losing(costs);
    let spare = |step: u64| (u128::from(total) * u128::from(step) / u128::from(STEPS)) as u64;
    let spares = (1..=STEPS).map(spare);
    let choice = |Spending { own, ranks }| Choice { own, ranks, ..search.everything() };
    if search.chooses_ranks() {
        let spendings = iter::once(knee).chain(spares).map(|spare| spend(costs, spare));
        return distinct(&search.everything(), spendings.map(choice));
    }
    let sets = iter::once(own).chain(spares.map(|spare| for_size(costs, spare)));
    let choices = sets.map(|own| choice(Spending { own, ..Spending::default() }));
    distinct(&search.everything(), choices)
}

/// The choices that merge otherwise than `full` sharing and than those before them.
fn distinct(full: &Choice, all: impl Iterator<Item = Choice>) -> Vec<Choice> {
    let mut kept: Vec<Choice> = Vec::new();
    for choice in all {
        if !kept.iter().chain([full]).any(|other| other.merges_as(&choice)) {
            kept.push(choice);
        }
    }
    kept
}

/// As many choices as are wanted, spread evenly over the resulting sizes. The first one is among them.
fn evenly(all: Vec<Choice>, costs: &[LayerCost], wanted: usize) -> Vec<Choice> {
    let sizes: Vec<u64> = all.iter().map(|choice| spent(costs, choice)).collect();
    let places = spread(&sizes, losing(costs), wanted);
    places.into_iter().filter_map(|place| all.get(place).cloned()).collect()
}

/// Places of sizes that are spread evenly up to `total`; the first size is among them.
fn spread(sizes: &[u64], total: u64, wanted: usize) -> Vec<usize> {
    if sizes.is_empty() {
        return Vec::new();
    }
    let mut chosen = vec![0];
    for at in (1..=wanted).rev() {
        let target = total as f64 * at as f64 / wanted as f64;
        let distance = |size: u64| (size as f64 - target).abs();
        let open = sizes.iter().enumerate().filter(|(place, _)| !chosen.contains(place));
        let nearest = open.min_by(|a, b| distance(*a.1).total_cmp(&distance(*b.1)));
        let nearest = nearest.map(|(place, _)| place).filter(|_| chosen.len() < wanted);
        chosen.extend(nearest);
    }
    chosen.truncate(wanted);
    chosen
}

/// The parameters that layers save that lose anything by sharing.
fn losing(costs: &[LayerCost]) -> u64 {
    costs.iter().filter(|cost| cost.loss > 0.0).map(|cost| cost.saved).sum()
}

/// The parameters that a choice takes beside those of full sharing.
fn spent(costs: &[LayerCost], choice: &Choice) -> u64 {
    let correction = |cost: &LayerCost| {
        let curve = cost.curve.as_ref()?;
        let rank = curve.layers.iter().find_map(|own| choice.ranks.get(own))?;
        curve.points.iter().find(|point| point.rank == *rank).map(|point| point.size)
    };
    given_up(costs, &choice.own) + costs.iter().filter_map(correction).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::TaskId;
    use crate::couple::LayerId;
    use crate::mtz::matching::Share;
    use crate::mtz::plan::layer_choice::{Curve, Point};

    fn choice(own: &[usize], shares: &[usize], ranks: &[(usize, usize)]) -> Choice {
        let share = |count: &usize| ("layer".to_owned(), Share::Count(*count));
        let rank = |(layer, rank): &(usize, usize)| (TaskId(1).layer(LayerId(*layer)), *rank);
        Choice {
            own: own.iter().copied().collect(),
            shares: shares.iter().map(share).collect(),
            ranks: ranks.iter().map(rank).collect(),
            probe: 0,
        }
    }

    #[test]
    fn points_that_merge_alike_are_one() {
        let all = [
            choice(&[], &[], &[]),
            choice(&[1], &[], &[]),
            choice(&[1], &[5], &[]),
            choice(&[1], &[], &[(0, 2)]),
            choice(&[1], &[5], &[]),
            Choice { probe: 64, ..choice(&[1], &[], &[]) },
        ];
        let kept = distinct(&choice(&[], &[], &[]), all.clone().into_iter());
        assert_eq!(kept.len(), 3);
        assert!(kept.iter().zip(&all[1..4]).all(|(kept, wanted)| kept.merges_as(wanted)));
    }

    #[test]
    fn sizes_are_spread_evenly_and_the_first_one_stays() {
        assert_eq!(spread(&[30, 10, 20, 50, 100], 100, 2), [0, 4]);
        assert_eq!(spread(&[30, 10, 20, 50, 100], 100, 3), [0, 4, 3]);
        assert_eq!(spread(&[30, 10], 100, 5), [0, 1]);
        assert!(spread(&[30, 10], 100, 0).is_empty() && spread(&[], 0, 3).is_empty());
    }

    #[test]
    fn layers_of_their_own_and_corrections_take_parameters() {
        let cost = |place: usize| LayerCost {
            places: vec![place],
            loss: 1.0,
            saved: 100,
            curve: Some(Curve {
                layers: vec![TaskId(1).layer(LayerId(place))],
                points: vec![Point { rank: 2, size: 30, left: 0.5 }],
            }),
        };
        let costs = [cost(0), cost(1), cost(2)];
        assert_eq!(spent(&costs, &choice(&[0], &[], &[(1, 2)])), 130);
        assert_eq!(losing(&costs), 300);
    }
}
