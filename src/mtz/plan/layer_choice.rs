//! Which layers keep their weights, where whole layers are the unit of sharing.
//!
//! A trial in which all layers share tells what each costs and saves. Layers that keep their weights stay
//! dense, one node per task, and their channels stay paired, so that giving one layer up changes nothing
//! about what the others can share: savings add up.

use std::collections::BTreeSet;

use crate::align::Alignment;
use crate::mtz::site::SiteRecord;

use super::prediction::Prediction;

/// At the knee, a part of the saving must buy so many times that part of the loss.
const KNEE_SLOPE: f64 = 1.5;

/// Errors up to this part of the pre-activations' mean square are rounding.
const NEGLIGIBLE: f64 = 1e-6;

/// What it costs and saves to share the weights of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerCost {
    /// Place of its site.
    pub place: usize,
    /// What its errors mean for the outputs; 0 where they are rounding.
    pub loss: f64,
    /// Parameters that are stored once in place of once per task.
    pub saved: u64,
}

/// What the layers cost and save that shared weights in a trial; `plan` is that of the trial.
pub fn layer_costs(
    alignment: &Alignment,
    plan: &Prediction,
    trial: &[SiteRecord],
) -> Vec<LayerCost> {
    let sites = alignment.sites.iter().enumerate().filter(|(_, site)| site.is_common());
    let sites = sites.zip(plan.sites.iter().zip(trial));
    let cost = |((place, site), (plan, record)): ((usize, _), (&super::SitePlan, &SiteRecord))| {
        let shares = record.reason.is_none() && plan.saved > 0 && !alignment.is_duplicate(site);
        let is_rounding = record.relative_errors.iter().all(|error| *error < NEGLIGIBLE);
        let loss = if is_rounding { 0.0 } else { record.loss.max(0.0) };
        shares.then_some(LayerCost { place, loss, saved: plan.saved })
    };
    sites.filter_map(cost).collect()
}

/// The layers that keep their weights where `spare` parameters may be stored again: those that take away
/// most loss per parameter. Every layer that still fits is taken, in this order.
pub fn for_size(costs: &[LayerCost], spare: u64) -> BTreeSet<usize> {
    let mut left = spare;
    let mut own = BTreeSet::new();
    for cost in by_slope(costs).filter(|cost| cost.loss > 0.0) {
        if cost.saved <= left {
            left -= cost.saved;
            own.insert(cost.place);
        }
    }
    own
}

/// The layers that keep their weights at the knee of the curve of loss over size: those that take away a
/// much larger part of the loss than they take of the saving.
pub fn at_knee(costs: &[LayerCost]) -> BTreeSet<usize> {
    let loss: f64 = costs.iter().map(|cost| cost.loss).sum();
    let saved: u64 = costs.iter().map(|cost| cost.saved).sum();
    let pays = |cost: &&LayerCost| {
        cost.loss > 0.0 && cost.loss / loss > KNEE_SLOPE * cost.saved as f64 / saved as f64
    };
    costs.iter().filter(pays).map(|cost| cost.place).collect()
}

/// The part of what all layers save that those with `own` weights give up, in parameters.
pub fn given_up(costs: &[LayerCost], own: &BTreeSet<usize>) -> u64 {
    costs.iter().filter(|cost| own.contains(&cost.place)).map(|cost| cost.saved).sum()
}

/// Layers with most loss per parameter first.
fn by_slope(costs: &[LayerCost]) -> impl Iterator<Item = &LayerCost> {
    let mut sorted: Vec<&LayerCost> = costs.iter().collect();
    let slope = |cost: &LayerCost| cost.loss / cost.saved.max(1) as f64;
    sorted.sort_by(|a, b| slope(b).total_cmp(&slope(a)).then(a.place.cmp(&b.place)));
    sorted.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(all: &[(f64, u64)]) -> Vec<LayerCost> {
        let cost = |(place, (loss, saved)): (usize, &(f64, u64))| LayerCost {
            place,
            loss: *loss,
            saved: *saved,
        };
        all.iter().enumerate().map(cost).collect()
    }

    #[test]
    fn what_takes_away_most_loss_per_parameter_is_given_up_first() {
        let costs = costs(&[(1.0, 10), (1.0, 1000), (3.0, 100)]);
        assert_eq!(for_size(&costs, 0), BTreeSet::new());
        assert_eq!(for_size(&costs, 10), BTreeSet::from([0]));
        assert_eq!(for_size(&costs, 110), BTreeSet::from([0, 2]));
        assert_eq!(for_size(&costs, 109), BTreeSet::from([0]));
        assert_eq!(for_size(&costs, 2000), BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn larger_layers_make_room_for_smaller_ones_that_fit() {
        assert_eq!(for_size(&costs(&[(10.0, 100), (1.0, 20)]), 50), BTreeSet::from([1]));
    }

    #[test]
    fn the_knee_keeps_small_costly_layers_and_nothing_where_nothing_is_lost() {
        assert_eq!(at_knee(&costs(&[(5.0, 10), (1.0, 1000)])), BTreeSet::from([0]));
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
