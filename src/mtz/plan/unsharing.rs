//! Gives up pairs until a size is reached: always those that cost most per parameter saved.
//!
//! A step changes the savings of a few sites, so what further steps would save is kept per group, and
//! computed anew only beside the last step. Sums over all sites decide between steps that are as good as
//! each other up to rounding.

use std::collections::BTreeMap;

use super::savings::{Counts, Savings};

/// A correspondence whose number of shared neurons is to be chosen.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// The layer name that rules match.
    pub(super) layer: String,
    /// Costs of its pairs, ascending.
    pub(super) costs: Vec<f64>,
    /// The largest number of shared neurons.
    pub(super) most: usize,
}

/// The next step of a group.
struct Step {
    /// Shared neurons after it.
    fewer: usize,
    /// The costs that it takes away.
    gain: f64,
    /// The parameters that it adds, up to rounding.
    grown: f64,
}

impl Step {
    /// The step of one group; `None` if it has none that takes away any costs.
    fn of(
        group: &Group,
        at: usize,
        counts: &Counts,
        savings: &Savings,
        multiple: usize,
    ) -> Option<Step> {
        let shared = *counts.get(&at)?;
        let fewer = shared - step(group, shared, multiple)?;
        let left = &group.costs[..cheapest(group, shared)];
        let gain: f64 = left[cheapest(group, fewer)..].iter().sum();
        let grown = savings.lost(counts, at, fewer);
        (gain > 0.0 && grown != 0.0).then_some(Step { fewer, gain, grown })
    }

    /// The least and the largest gain per parameter that it may have; the least is zero if it may be
    /// impossible. `None` if it is impossible: `room` is what the joint model may grow.
    fn range(&self, room: f64, rounding: f64) -> Option<(f64, f64)> {
        if self.grown - rounding > room {
            return None;
        }
        let is_sure = self.grown > rounding && self.grown + rounding <= room;
        let least = if is_sure { self.gain / (self.grown + rounding) } else { 0.0 };
        Some((least, self.gain / (self.grown - rounding).max(0.0)))
    }
}

/// The number of neurons that each group shares. `separate`, `least` and `parameters` are those of all nets,
/// of a joint model with as many shared neurons as possible, and the wanted maximum.
pub(super) fn unshare(
    groups: &BTreeMap<usize, Group>,
    savings: &Savings,
    (separate, least, parameters): (u64, u64, u64),
    multiple: usize,
) -> Counts {
    let mut counts: Counts = groups.iter().map(|(of, group)| (*of, group.most)).collect();
    let all = savings.sum(&counts);
    // Weights that are always shared are not the saving of any group.
    let constant = separate as f64 - least as f64 - all;
    let size = |counts: &Counts| separate as f64 - constant - savings.sum(counts);
    let rounding = savings.rounding(separate as f64 + constant.abs() + all);
    let next = |at: usize, counts: &Counts| {
        groups.get(&at).and_then(|group| Step::of(group, at, counts, savings, multiple))
    };
    let mut steps: BTreeMap<usize, Step> =
        groups.keys().filter_map(|at| Some((*at, next(*at, &counts)?))).collect();
    let mut now = size(&counts);
    loop {
        let mut best: Option<(f64, (usize, usize), f64)> = None;
        for (at, step) in promising(&steps, parameters as f64 - now, rounding) {
            let shared = counts.insert(at, step.fewer);
            let then = size(&counts);
            counts.extend(shared.map(|shared| (at, shared)));
            let grown = then - now;
            let ratio = step.gain / grown;
            let is_best = best.is_none_or(|(most, ..)| ratio.total_cmp(&most).is_ge());
            if then <= parameters as f64 && grown > 0.0 && is_best {
                best = Some((ratio, (at, step.fewer), then));
            }
        }
        let Some((_, (at, fewer), then)) = best else { return counts };
        counts.insert(at, fewer);
        now = then;
        for beside in savings.beside(at) {
            match next(beside, &counts) {
                Some(step) => steps.insert(beside, step),
                None => steps.remove(&beside),
            };
        }
    }
}

/// The groups whose step may be the best one, ascending.
fn promising(steps: &BTreeMap<usize, Step>, room: f64, rounding: f64) -> Vec<(usize, &Step)> {
    let range = |(at, step): (&usize, &Step)| Some((*at, step.range(room, rounding)?));
    let possible: Vec<(usize, (f64, f64))> = steps.iter().filter_map(range).collect();
    let bound = possible.iter().map(|(_, (least, _))| *least).fold(0.0, f64::max);
    let best = possible.into_iter().filter(|(_, (_, most))| *most >= bound);
    best.filter_map(|(at, _)| Some((at, steps.get(&at)?))).collect()
}

/// Pairs to unshare per step: a 64th of all, rounded to multiples.
fn step(group: &Group, shared: usize, multiple: usize) -> Option<usize> {
    let multiple = multiple.max(1);
    let step = (group.most / 64).max(1).next_multiple_of(multiple);
    let over = shared % multiple;
    let step = if over > 0 { over } else { step.min(shared) };
    (step > 0).then_some(step)
}

/// The number of recorded pairs for a number of shared neurons. With more than two tasks there are
/// several pairs per neuron.
fn cheapest(group: &Group, shared: usize) -> usize {
    (group.costs.len() * shared).checked_div(group.most).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::savings::Saving;
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// [`unshare`], with the whole size for every group at every step.
    fn plainly(
        groups: &BTreeMap<usize, Group>,
        savings: &Savings,
        (separate, least, parameters): (u64, u64, u64),
        multiple: usize,
    ) -> Counts {
        let mut counts: Counts = groups.iter().map(|(of, group)| (*of, group.most)).collect();
        let constant = separate as f64 - least as f64 - savings.sum(&counts);
        let size = |counts: &Counts| separate as f64 - constant - savings.sum(counts);
        loop {
            let now = size(&counts);
            let step = |(at, group): (&usize, &Group)| {
                let shared = *counts.get(at)?;
                let fewer = shared - step(group, shared, multiple)?;
                let mut changed = counts.clone();
                changed.insert(*at, fewer);
                let then = size(&changed);
                let grown = then - now;
                let left = &group.costs[..cheapest(group, shared)];
                let gain: f64 = left[cheapest(group, fewer)..].iter().sum();
                let is_possible = then <= parameters as f64 && grown > 0.0 && gain > 0.0;
                is_possible.then_some((*at, fewer, gain / grown))
            };
            let best = groups.iter().filter_map(step).max_by(|a, b| a.2.total_cmp(&b.2));
            let Some((at, fewer, _)) = best else { return counts };
            counts.insert(at, fewer);
        }
    }

    /// A chain of groups, some of which also read the first one. Layers that are `alike` tie.
    fn random(seed: u64, alike: bool) -> (BTreeMap<usize, Group>, Vec<Saving>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut groups, mut savings) = (BTreeMap::new(), Vec::new());
        for at in 0..rng.random_range(1..8usize) {
            let most = if alike { 30 } else { rng.random_range(1..90) };
            let pairs = if rng.random_bool(0.3) { 2 * most } else { most };
            let pairs = if alike { most } else { pairs };
            let mut costs: Vec<f64> = (0..pairs).map(|_| rng.random_range(0.0..1.0)).collect();
            if alike || rng.random_bool(0.2) {
                costs.fill(if alike { 0.1 } else { 0.0 });
            }
            costs.sort_by(f64::total_cmp);
            if rng.random_bool(0.9) {
                groups.insert(at, Group { layer: at.to_string(), costs, most });
            }
            let per = if alike { 3.0 / 7.0 } else { rng.random_range(0.1..9.0) };
            let from = [at.checked_sub(1), (at > 1 && rng.random_bool(0.5)).then_some(0)];
            savings.push(Saving {
                correspondence: at,
                rows: most,
                fixed: if at == 0 { 9.0 } else { 1.0 },
                columns: from.into_iter().flatten().map(|from| (from, per)).collect(),
                copies: rng.random_range(0..3usize) as f64,
            });
        }
        (groups, savings)
    }

    #[test]
    fn steps_are_those_of_the_whole_size() {
        for seed in 0..200 {
            let (groups, savings) = random(seed, seed % 3 == 0);
            let savings = Savings::new(savings);
            let most: Counts = groups.iter().map(|(at, group)| (*at, group.most)).collect();
            let all = savings.sum(&most) as u64;
            let (separate, least) = (3 * all + 100, 2 * all + 50);
            for part in [0, 1, 3, 4] {
                let numbers = (separate, least, least + all * part / 4 + part);
                for multiple in [1, 8] {
                    let wanted = plainly(&groups, &savings, numbers, multiple);
                    assert_eq!(unshare(&groups, &savings, numbers, multiple), wanted, "{seed}");
                }
            }
        }
    }
}
