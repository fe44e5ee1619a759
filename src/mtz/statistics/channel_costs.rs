//! Costs of pairs of channels of depthwise layers in the original nets.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView1, Axis, stack};

use crate::align::TaskLayer;
use crate::error::Result;

/// Costs of pairs of channels of two depthwise layers, by the rows of the first one.
///
/// They follow from the original nets alone. So all rounds of pairing have them in common, and all merges
/// of the same nets.
#[derive(Default)]
pub(crate) struct ChannelCosts {
    known: BTreeMap<(TaskLayer, TaskLayer), BTreeMap<usize, Array1<f64>>>,
}

impl ChannelCosts {
    /// The costs of rows of the first layer with all channels of the second one. `compute` returns those that
    /// are not known. They are kept if all of them take at most `room` bytes.
    pub(crate) fn of(
        &mut self,
        layers: (TaskLayer, TaskLayer),
        rows: &[usize],
        room: u64,
        compute: impl FnOnce(&[usize]) -> Result<Array2<f64>>,
    ) -> Result<Array2<f64>> {
        let mut left = room.saturating_sub(self.bytes());
        let known = self.known.entry(layers).or_default();
        let open: Vec<usize> =
            rows.iter().copied().filter(|row| !known.contains_key(row)).collect();
        let computed = match open.is_empty() {
            true => Array2::zeros((0, 0)),
            false => compute(&open)?,
        };
        let all = {
            let mut others = computed.outer_iter();
            let row = |row: &usize| known.get(row).map(|own| own.view()).or_else(|| others.next());
            let all: Vec<ArrayView1<'_, f64>> = rows.iter().filter_map(row).collect();
            stack(Axis(0), &all).unwrap_or_default()
        };
        for (row, costs) in open.into_iter().zip(computed.outer_iter()) {
            let Some(rest) = left.checked_sub(8 * costs.len() as u64) else { break };
            left = rest;
            known.insert(row, costs.to_owned());
        }
        Ok(all)
    }

    /// Forgets the costs of pairs of layers that `stays` is not true of. It is told their bytes.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(u64) -> bool) {
        self.known.retain(|_, rows| stays(bytes(rows)));
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> u64 {
        self.known.values().map(bytes).sum()
    }
}

fn bytes(rows: &BTreeMap<usize, Array1<f64>>) -> u64 {
    rows.values().map(|costs| 8 * costs.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::TaskId;
    use crate::couple::LayerId;

    /// The costs of rows with three channels, and the rows that were computed for them.
    fn asked(costs: &mut ChannelCosts, rows: &[usize], room: u64) -> (Array2<f64>, Vec<usize>) {
        let layers = [0, 1].map(|task| TaskId(task).layer(LayerId(0)));
        let mut computed = Vec::new();
        let all = costs.of((layers[0], layers[1]), rows, room, |open| {
            computed = open.to_vec();
            Ok(Array2::from_shape_fn((open.len(), 3), |(n, j)| (10 * open[n] + j) as f64))
        });
        (all.unwrap(), computed)
    }

    #[test]
    fn every_row_is_computed_once() {
        let mut costs = ChannelCosts::default();
        for (rows, open) in
            [(vec![4, 1], vec![4, 1]), (vec![1, 2, 4], vec![2]), (vec![2, 1], vec![])]
        {
            let (all, computed) = asked(&mut costs, &rows, u64::MAX);
            assert_eq!(
                all,
                Array2::from_shape_fn((rows.len(), 3), |(n, j)| (10 * rows[n] + j) as f64)
            );
            assert_eq!(computed, open);
        }
        assert_eq!(costs.bytes(), 3 * 3 * 8);
    }

    #[test]
    fn rows_without_room_are_computed_anew() {
        let mut costs = ChannelCosts::default();
        let (all, _) = asked(&mut costs, &[0, 1], 30);
        assert_eq!((all.nrows(), costs.bytes()), (2, 24));
        let (again, computed) = asked(&mut costs, &[0, 1], 30);
        assert_eq!((again, computed), (all, vec![1]));
        costs.retain(|bytes| bytes < 24);
        assert_eq!(costs.bytes(), 0);
    }
}
