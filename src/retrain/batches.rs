//! The order of samples.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, ErrorKind};

use super::mix;
use crate::naming::counted;

/// Samples for validation at most. More of them would take longer than the steps in between, and weights
/// are compared on the same samples.
const HELD: usize = 2000;

/// Samples for training and for validation, both in ascending order. The same seed gives the same
/// split.
pub(super) fn split(samples: usize, validation: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let part = (samples as f64 * validation) as usize;
    let held = part.min(HELD).min(samples.saturating_sub(1));
    let mut order: Vec<usize> = (0..samples).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut train = order.split_off(held);
    train.sort_unstable();
    order.sort_unstable();
    (train, order)
}

/// Rows that fill batches: excess ones are dropped, and rows are repeated where there are fewer than one batch.
pub(super) fn filling(rows: Vec<usize>, batch: usize) -> Vec<usize> {
    let (len, batch) = (rows.len(), batch.max(1));
    let count = if len < batch { batch } else { len - len % batch };
    rows.iter().cycle().take(count).copied().collect()
}

/// The error for fewer samples than a batch takes.
pub(super) fn unfilled(samples: usize, batch: usize) -> Error {
    let message = format!("a batch of {batch} takes more than {}", counted(samples, "sample"));
    Error::new(ErrorKind::Calibration, message)
}

/// Batches of a data set, one epoch after the other, each in another order. The batch of a step depends
/// only on the step, so training can resume at any step.
pub(super) struct Batches {
    rows: Vec<usize>,
    batch: usize,
    seed: u64,
    /// The epoch of the current order.
    epoch: Option<usize>,
    order: Vec<usize>,
}

impl Batches {
    pub(super) fn new(rows: Vec<usize>, batch: usize, seed: u64) -> Self {
        Batches { rows, batch, seed, epoch: None, order: Vec::new() }
    }

    /// The samples of step `step`, counted from 0.
    pub(super) fn of_step(&mut self, step: usize) -> Vec<usize> {
        (step * self.batch..(step + 1) * self.batch).map(|position| self.at(position)).collect()
    }

    /// How the samples of a step are mixed.
    pub(super) fn mixture(&self, step: usize) -> Vec<f32> {
        mix::parts(self.batch, self.seed, step)
    }

    fn at(&mut self, position: usize) -> usize {
        let len = self.rows.len().max(1);
        let epoch = position / len;
        if self.epoch != Some(epoch) {
            self.order.clone_from(&self.rows);
            let seed = self.seed.wrapping_add((epoch as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            self.order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            self.epoch = Some(epoch);
        }
        self.order.get(position % len).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_sees_every_sample_once_in_another_order() {
        let mut batches = Batches::new((10..22).collect(), 4, 7);
        let mut epoch = |e: usize| -> Vec<usize> {
            (3 * e..3 * e + 3).flat_map(|step| batches.of_step(step)).collect()
        };
        let (mut first, mut second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        first.sort_unstable();
        second.sort_unstable();
        assert_eq!(first, (10..22).collect::<Vec<_>>());
        assert_eq!(first, second);
    }

    #[test]
    fn a_batch_depends_on_its_step_alone() {
        let mut all = Batches::new((0..10).collect(), 3, 1);
        let whole: Vec<Vec<usize>> = (0..9).map(|step| all.of_step(step)).collect();
        let mut later = Batches::new((0..10).collect(), 3, 1);
        assert_eq!(later.of_step(8), whole[8]);
        assert_eq!(later.of_step(3), whole[3]);
    }

    #[test]
    fn validation_takes_its_part_and_leaves_something() {
        let (train, held) = split(50, 0.1, 3);
        assert_eq!((train.len(), held.len()), (45, 5));
        assert!(held.iter().all(|i| !train.contains(i)));
        assert_eq!(split(1, 0.9, 3), (vec![0], vec![]));
        assert_eq!(split(50, 0.1, 3).1, held);
        let (train, held) = split(3 * HELD, 0.9, 3);
        assert_eq!((train.len(), held.len()), (2 * HELD, HELD));
    }

    #[test]
    fn rows_fill_batches() {
        let rows = |len: usize| filling((10..10 + len).collect(), 4);
        assert_eq!(rows(6), [10, 11, 12, 13]);
        assert_eq!(rows(3), [10, 11, 12, 10]);
        assert!(rows(0).is_empty());
    }
}
