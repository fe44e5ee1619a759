//! Chooses the layers that keep their weights, and the ranks of the other layers' corrections.
//!
//! Corrections are a compromise between common weights and weights per task. Each further rank removes
//! a smaller part of a layer's loss. Over all layers, parameters are spent on the steps that remove
//! most loss per parameter.

use std::collections::{BTreeMap, BTreeSet};

use crate::mtz::options::Ranks;

use super::layer_choice::LayerCost;

/// The chosen layers and ranks.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spending {
    /// Places of the sites whose layers keep their weights.
    pub own: BTreeSet<usize>,
    /// Ranks of the other layers' corrections.
    pub ranks: Ranks,
}

/// One step from a layer's common weights towards weights per task.
struct Step {
    layer: usize,
    size: u64,
    /// Loss that it removes per parameter.
    gain: f64,
    /// The layer's rank after the step; `None` for weights per task.
    rank: Option<usize>,
}

/// Spends up to `spare` parameters on the steps that remove most loss per parameter.
pub fn spend(costs: &[LayerCost], spare: u64) -> Spending {
    let mut steps: Vec<Step> =
        costs.iter().enumerate().flat_map(|(layer, cost)| steps(layer, cost)).collect();
    // Steps of one layer stay in order: each removes less per parameter than the one before.
    steps.sort_by(|a, b| b.gain.total_cmp(&a.gain));
    let (mut left, mut stuck) = (spare, BTreeSet::new());
    let mut reached: BTreeMap<usize, Option<usize>> = BTreeMap::new();
    for step in steps {
        if stuck.contains(&step.layer) || step.size > left {
            stuck.insert(step.layer);
            continue;
        }
        left -= step.size;
        reached.insert(step.layer, step.rank);
    }
    let mut spending = Spending::default();
    for (layer, rank) in reached {
        let cost = &costs[layer];
        match (rank, &cost.curve) {
            (Some(rank), Some(curve)) => {
                spending.ranks.extend(curve.layers.iter().map(|own| (*own, rank)));
            }
            _ => spending.own.extend(&cost.places),
        }
    }
    spending
}

/// The steps of a layer along the lower convex hull of loss over size.
fn steps(layer: usize, cost: &LayerCost) -> Vec<Step> {
    if cost.loss <= 0.0 || cost.saved == 0 {
        return Vec::new();
    }
    let mut points: Vec<(u64, f64, Option<usize>)> = vec![(0, cost.loss, Some(0))];
    let corrections = cost.curve.iter().flat_map(|curve| &curve.points);
    let fitting = corrections.filter(|point| point.size > 0 && point.size < cost.saved);
    points.extend(fitting.map(|point| (point.size, cost.loss * point.left, Some(point.rank))));
    points.push((cost.saved, 0.0, None));
    let mut hull: Vec<(u64, f64, Option<usize>)> = Vec::new();
    let slope = |a: &(u64, f64, Option<usize>), b: &(u64, f64, Option<usize>)| {
        (a.1 - b.1) / (b.0 - a.0) as f64
    };
    for point in points {
        while let [.., before, last] = hull.as_slice()
            && slope(before, last) < slope(last, &point)
        {
            hull.pop();
        }
        hull.push(point);
    }
    let pairs = hull.windows(2);
    let step = |pair: &[(u64, f64, Option<usize>)]| {
        let (a, b) = (pair.first()?, pair.get(1)?);
        Some(Step { layer, size: b.0 - a.0, gain: slope(a, b), rank: b.2 })
    };
    pairs.filter_map(step).filter(|step| step.gain > 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::TaskId;
    use crate::couple::LayerId;
    use crate::mtz::plan::layer_choice::{Curve, Point};

    fn cost(place: usize, loss: f64, saved: u64, size: u64, gains: &[f64]) -> LayerCost {
        let layers = vec![TaskId(1).layer(LayerId(place))];
        let left = |rank: usize| gains[rank..].iter().sum();
        let point = |rank: usize| Point { rank, size: size * rank as u64, left: left(rank) };
        let points = (0..=gains.len()).map(point).collect();
        let curve = Some(Curve { layers, points });
        LayerCost { places: vec![place], loss, saved, curve }
    }

    fn ranks(spending: &Spending) -> Vec<(usize, usize)> {
        spending.ranks.iter().map(|(own, rank)| (own.layer.0, *rank)).collect()
    }

    #[test]
    fn ranks_go_where_they_take_away_most_loss() {
        let costs =
            [cost(0, 1.0, 100, 10, &[0.6, 0.3, 0.1]), cost(1, 2.0, 100, 10, &[0.9, 0.05, 0.05])];
        assert_eq!(spend(&costs, 0), Spending::default());
        assert_eq!(ranks(&spend(&costs, 10)), [(1, 1)]);
        assert_eq!(ranks(&spend(&costs, 20)), [(0, 1), (1, 1)]);
        assert_eq!(ranks(&spend(&costs, 39)), [(0, 2), (1, 1)]);
        assert_eq!(ranks(&spend(&costs, 1000)), [(0, 3), (1, 3)]);
    }

    #[test]
    fn small_layers_keep_their_weights_where_ranks_buy_less() {
        let flat = [0.25; 4];
        let costs = [cost(0, 1.0, 12, 10, &flat), cost(1, 1.0, 1000, 100, &flat)];
        let spending = spend(&costs, 112);
        assert_eq!((spending.own, spending.ranks.len()), (BTreeSet::from([0]), 1));
        let none = LayerCost { curve: None, ..cost(0, 1.0, 12, 0, &[]) };
        assert_eq!(spend(std::slice::from_ref(&none), 12).own, BTreeSet::from([0]));
        assert_eq!(spend(&[LayerCost { loss: 0.0, ..none }], 12), Spending::default());
    }
}
