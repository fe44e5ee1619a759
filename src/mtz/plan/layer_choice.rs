//! Chooses the layers that keep their weights when whole layers are the unit of sharing.
//!
//! A trial that shares all layers measures the cost and the saving of each. A layer that keeps its
//! weights stays dense, one node per task, and its channels stay paired. So its choice does not
//! change what other layers can share, and savings add up.

use std::collections::BTreeSet;

use crate::align::{Alignment, Site, TaskId, TaskLayer};
use crate::ir::NodeId;
use crate::mtz::joint::JointModel;
use crate::mtz::options::Bits;
use crate::mtz::site::SiteRecord;

use super::prediction::Prediction;
use super::sizes::of_difference;

/// At the knee, giving up a part of the saving must remove this many times that part of the loss.
const KNEE_SLOPE: f64 = 1.5;

/// Errors up to this part of the pre-activations' mean square are rounding.
const NEGLIGIBLE: f64 = 1e-6;

/// A trial with corrections predicts a layer's cost without them if this part of the cost is left.
const LEAST_LEFT: f64 = 0.05;

/// Resolution of sizes in the knapsack problem.
const SCALE: u64 = 10_000;

/// Size and loss of a layer with corrections.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curve {
    /// The corrected layers: those of all tasks but the first.
    pub layers: Vec<TaskLayer>,
    /// What corrections there can be, by size.
    pub points: Vec<Point>,
}

/// Corrections of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Their rank, or the bits of differences.
    pub rank: usize,
    /// The parameters that they take in all layers.
    pub size: u64,
    /// The part of the layer's loss that remains.
    pub left: f64,
}

impl Curve {
    /// The part of the loss that a correction of this rank leaves.
    pub fn left(&self, rank: usize) -> f64 {
        self.points.iter().find(|point| point.rank == rank).map_or(1.0, |point| point.left)
    }

    /// The least parameters of corrections.
    pub fn least(&self) -> u64 {
        self.points.iter().map(|point| point.size).min().unwrap_or(0)
    }
}

/// Cost and saving of sharing the weights of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerCost {
    /// Places of its sites: several for gates of a recurrent node, and for a node that produces several
    /// groups.
    pub places: Vec<usize>,
    /// Loss of the outputs; 0 if the layer's errors are rounding.
    pub loss: f64,
    /// Parameters that are stored once instead of once per task.
    pub saved: u64,
    /// Size and gain of corrections of low rank, if the layer can have them.
    pub curve: Option<Curve>,
}

/// Cost and saving of each layer that shared weights in a trial, or would have. `plan` is that of a
/// merge that shares all, `delta` are the bits of differences if corrections are such. Layers that the user
/// leaves to the tasks are not included.
pub fn layer_costs(
    joint: &JointModel,
    alignment: &Alignment,
    plan: &Prediction,
    trial: &[SiteRecord],
    delta: Option<Bits>,
) -> Vec<LayerCost> {
    let mut costs: Vec<(Option<NodeId>, LayerCost)> = Vec::new();
    let sites = alignment.sites.iter().enumerate().filter(|(_, site)| site.is_common());
    for ((place, site), (plan, record)) in sites.zip(plan.sites.iter().zip(trial)) {
        let is_open = record.reason.is_none() || record.keeps_weights();
        let is_fixed = site.own_weights || alignment.is_duplicate(site);
        if !is_open || is_fixed || plan.saved == 0 {
            continue;
        }
        let is_rounding = record.relative_errors.iter().all(|error| *error < NEGLIGIBLE)
            && !record.keeps_weights();
        let curve = curve(joint, site, record, delta);
        let levels = record.ranks.iter().chain(&record.bits);
        let corrected = levels.map(|(_, rank)| *rank).max().unwrap_or(0);
        let left = curve.as_ref().map_or(1.0, |curve| curve.left(corrected).max(LEAST_LEFT));
        let loss = if is_rounding { 0.0 } else { record.loss.max(0.0) / left };
        let mut members = site.members();
        let node = members.next().map(|own| joint.layer(own).layer.node);
        match costs.iter_mut().find(|(other, _)| node.is_some() && *other == node) {
            Some((_, cost)) => {
                cost.places.push(place);
                cost.loss += loss;
                cost.saved += plan.saved;
                cost.curve = None;
            }
            None => {
                let saved = plan.saved;
                costs.push((node, LayerCost { places: vec![place], loss, saved, curve }));
            }
        }
    }
    costs.into_iter().map(|(_, cost)| cost).collect()
}

/// Size and loss of a site's corrections, as measured by a trial.
fn curve(
    joint: &JointModel,
    site: &Site,
    record: &SiteRecord,
    delta: Option<Bits>,
) -> Option<Curve> {
    let (mut layers, mut size, mut sums) = (Vec::new(), 0, Vec::new());
    for (task, gains) in &record.gains {
        let task = TaskId(*task);
        let own = task.layer(site.layer_of(task)?);
        let (out, inputs, taps) = joint.layer(own).layer.sizes(joint.task(task).graph()).ok()?;
        layers.push(own);
        size += match delta {
            Some(bits) => {
                of_difference(out as u64, (out * inputs * taps) as u64, bits.count() as u64)
            }
            None => (out + inputs * taps) as u64,
        };
        sums.resize(sums.len().max(gains.len()), 0.0);
        sums.iter_mut().zip(gains).for_each(|(sum, gain)| *sum += gain);
    }
    let total: f64 = sums.iter().sum();
    let left = |rank: usize| sums.iter().skip(rank).sum::<f64>() / total;
    let points = match delta {
        Some(bits) => vec![Point { rank: bits.count(), size, left: left(1) }],
        None => {
            let point = |rank: usize| Point { rank, size: size * rank as u64, left: left(rank) };
            (0..=sums.len()).map(point).collect()
        }
    };
    (total > 0.0).then_some(Curve { layers, points })
}

/// The layers that keep their weights if `spare` more parameters may be stored: those that together
/// remove most loss. This is a knapsack problem, solved with sizes rounded up to ten-thousandths.
pub fn for_size(costs: &[LayerCost], spare: u64) -> BTreeSet<usize> {
    let wanted: Vec<&LayerCost> = costs.iter().filter(|cost| cost.loss > 0.0).collect();
    let total: u64 = wanted.iter().map(|cost| cost.saved).sum();
    if total <= spare {
        return wanted.iter().flat_map(|cost| cost.places.iter().copied()).collect();
    }
    let steps = usize::try_from(spare.min(SCALE)).unwrap_or_default();
    let size = |cost: &LayerCost| -> usize {
        let share = u128::from(cost.saved) * steps as u128;
        usize::try_from(share.div_ceil(u128::from(spare.max(1)))).unwrap_or(usize::MAX)
    };
    let mut best = vec![0.0; steps + 1];
    let mut taken: Vec<Vec<bool>> = Vec::new();
    for cost in &wanted {
        let (size, mut row) = (size(cost).max(1), vec![false; steps + 1]);
        for room in (size..=steps).rev() {
            let with = best[room - size] + cost.loss;
            if with > best[room] {
                best[room] = with;
                row[room] = true;
            }
        }
        taken.push(row);
    }
    let (mut room, mut own) = (steps, BTreeSet::new());
    for (cost, row) in wanted.iter().zip(&taken).rev() {
        if row[room] {
            room -= size(cost).max(1);
            own.extend(&cost.places);
        }
    }
    own
}

/// The layers that keep their weights at the knee of the curve of loss over size: each removes a much
/// larger part of the loss than it gives up of the saving. The largest loss counts only as much as
/// the second largest, so that a single essential layer does not make all others look harmless.
pub fn at_knee(costs: &[LayerCost]) -> BTreeSet<usize> {
    let mut losses: Vec<f64> = costs.iter().map(|cost| cost.loss).collect();
    losses.sort_unstable_by(f64::total_cmp);
    let most = losses.iter().rev().nth(1).or(losses.last()).copied().unwrap_or(0.0);
    let total: f64 = losses.iter().map(|loss| loss.min(most)).sum();
    let saved: f64 = costs.iter().map(|cost| cost.saved as f64).sum();
    let pays = |cost: &&LayerCost| {
        let (loss, size) = (cost.loss.min(most) / total, cost.saved as f64 / saved);
        cost.loss > 0.0 && loss > KNEE_SLOPE * size
    };
    costs.iter().filter(pays).flat_map(|cost| cost.places.iter().copied()).collect()
}

/// The parameters that layers with `own` weights no longer save.
pub fn given_up(costs: &[LayerCost], own: &BTreeSet<usize>) -> u64 {
    let is_own = |cost: &&LayerCost| cost.places.iter().all(|place| own.contains(place));
    costs.iter().filter(is_own).map(|cost| cost.saved).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(all: &[(f64, u64)]) -> Vec<LayerCost> {
        let cost = |(place, (loss, saved)): (usize, &(f64, u64))| LayerCost {
            places: vec![place],
            loss: *loss,
            saved: *saved,
            curve: None,
        };
        all.iter().enumerate().map(cost).collect()
    }

    #[test]
    fn what_takes_away_most_loss_is_given_up() {
        let costs = costs(&[(1.0, 10), (1.0, 1000), (3.0, 100)]);
        assert_eq!(for_size(&costs, 0), BTreeSet::new());
        assert_eq!(for_size(&costs, 10), BTreeSet::from([0]));
        assert_eq!(for_size(&costs, 110), BTreeSet::from([0, 2]));
        assert_eq!(for_size(&costs, 109), BTreeSet::from([2]));
        assert_eq!(for_size(&costs, 2000), BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn layers_that_fit_together_are_better_than_the_best_one() {
        assert_eq!(for_size(&costs(&[(10.0, 100), (1.0, 20)]), 50), BTreeSet::from([1]));
        let costs = costs(&[(6.0, 10), (5.0, 9), (5.0, 9)]);
        assert_eq!(for_size(&costs, 18), BTreeSet::from([1, 2]));
        let large: Vec<LayerCost> =
            costs.iter().map(|c| LayerCost { saved: c.saved << 50, ..c.clone() }).collect();
        assert_eq!(for_size(&large, 18 << 50), BTreeSet::from([1, 2]));
    }

    #[test]
    fn the_knee_keeps_small_costly_layers_and_nothing_where_nothing_is_lost() {
        assert_eq!(at_knee(&costs(&[(5.0, 10), (1.0, 1000)])), BTreeSet::from([0]));
        let costly = costs(&[(1000.0, 10), (1.0, 10), (0.1, 1000)]);
        assert_eq!(at_knee(&costly), BTreeSet::from([0, 1]));
        assert_eq!(at_knee(&costs(&[(1.0, 100), (1.0, 100)])), BTreeSet::new());
        assert_eq!(at_knee(&costs(&[(0.0, 100), (0.0, 1)])), BTreeSet::new());
        assert_eq!(for_size(&costs(&[(0.0, 100)]), 1000), BTreeSet::new());
    }

    #[test]
    fn savings_add_up() {
        let costs = costs(&[(1.0, 10), (1.0, 1000)]);
        assert_eq!(given_up(&costs, &BTreeSet::from([1])), 1000);
        assert_eq!(given_up(&costs, &BTreeSet::new()), 0);
    }
}
