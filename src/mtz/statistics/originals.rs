//! Findings about the original nets, which merges of the same nets have in common.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::align::TaskLayer;
use crate::mtz::matching::Pairings;
use crate::mtz::solver::layer::LayerStats;

use super::channel_costs::ChannelCosts;
use super::channels::ChannelStats;

/// Statistics of the original nets' layers, and what follows from them alone.
#[derive(Default)]
pub(crate) struct OriginalStats {
    pub(crate) layers: BTreeMap<TaskLayer, LayerStats>,
    pub(crate) depthwise: BTreeMap<TaskLayer, ChannelStats>,
    pub(crate) costs: ChannelCosts,
}

impl OriginalStats {
    pub(crate) fn has(&self, layer: TaskLayer) -> bool {
        self.layers.contains_key(&layer) || self.depthwise.contains_key(&layer)
    }

    /// Forgets costs, and layers from the last one on, until the rest takes at most `room` bytes.
    fn shrink(&mut self, room: u64) {
        let mut left = room;
        let mut fits = |bytes: u64| {
            let rest = left.checked_sub(bytes);
            left = rest.unwrap_or(0);
            rest.is_some()
        };
        self.depthwise.retain(|_, stats| fits(stats.bytes()));
        self.layers.retain(|_, stats| fits(stats.bytes()));
        self.costs.retain(fits);
    }

    fn bytes(&self) -> u64 {
        let layers = self.layers.values().map(LayerStats::bytes);
        let layers = layers.chain(self.depthwise.values().map(ChannelStats::bytes));
        layers.sum::<u64>() + self.costs.bytes()
    }
}

/// Findings that one merge leaves to the next. The merges have the same nets, samples and limits of rows,
/// and the same metric, damping and matcher.
#[derive(Default)]
pub struct Originals {
    left: Mutex<OriginalStats>,
    pairings: Pairings,
}

impl Originals {
    /// Takes what the last merge left.
    pub(crate) fn take(&self) -> OriginalStats {
        std::mem::take(&mut *self.lock())
    }

    /// Leaves statistics to the next merge, as many as fit into `room` bytes.
    pub(crate) fn leave(&self, mut statistics: OriginalStats, room: u64) {
        statistics.shrink(room);
        *self.lock() = statistics;
    }

    /// The pairs found so far.
    pub(crate) fn pairings(&self) -> Pairings {
        self.pairings.clone()
    }

    /// Bytes of what was left.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    fn lock(&self) -> MutexGuard<'_, OriginalStats> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::TaskId;
    use crate::calib::gram::Moments;
    use crate::couple::LayerId;
    use ndarray::Array2;

    #[test]
    fn what_does_not_fit_is_forgotten() {
        let stats = || {
            let channel = |layer| {
                let moments = vec![Moments::new(3); 2];
                let own = TaskId(0).layer(LayerId(layer));
                (own, ChannelStats { moments, weights: Array2::zeros((2, 4)) })
            };
            OriginalStats { depthwise: (0..3).map(channel).collect(), ..OriginalStats::default() }
        };
        let one = 2 * Moments::bytes(3, 0) + 8 * 8;
        let originals = Originals::default();
        for (room, layers) in [(0, 0), (one, 1), (3 * one - 1, 2), (u64::MAX, 3)] {
            originals.leave(stats(), room);
            assert_eq!(originals.bytes(), layers * one);
            assert_eq!(originals.take().depthwise.len() as u64, layers);
            assert!(originals.take().depthwise.is_empty());
        }
    }
}
