//! Chooses the output positions of a convolution that become rows.

use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Positions that a mean over all of a sample takes at most.
const MEAN_POSITIONS: usize = 256;

/// Stretch `i` of `count` equal ones that `available` positions are cut into.
fn stretch(i: usize, count: usize, available: usize) -> Range<usize> {
    let edge = |i: usize| (i as u128 * available as u128 / count as u128) as usize;
    edge(i)..edge(i + 1)
}

/// Positions for a mean over all `available` ones: one in each of equal stretches. Even steps would take the
/// same few columns of every line of a picture whose width they divide.
pub(super) fn spread(available: usize) -> Vec<usize> {
    /// 2³² over the golden ratio: multiples of it fall evenly into any range.
    const GOLDEN: u32 = 2_654_435_769;
    let count = available.min(MEAN_POSITIONS);
    let place = |i: usize| {
        let Range { start, end } = stretch(i, count, available);
        let part = u64::from((i as u32).wrapping_mul(GOLDEN));
        start + ((part * (end - start) as u64) >> 32) as usize
    };
    (0..count).map(place).collect()
}

/// The output positions of each sample that become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// Every position.
    All,
    /// A seeded subset, spread evenly: one position in each of `per_sample` equal intervals.
    ///
    /// It depends only on the seed, the sample and the number of positions. So a layer's input and its
    /// pre-activation, and all nets that run on the same samples, get the same positions.
    Sampled {
        /// Positions per sample; all of them if a sample has no more.
        per_sample: usize,
        /// Seed of the choice.
        seed: u64,
        /// Number of the batch's first sample in the whole data set.
        first_sample: usize,
        /// If not all samples give rows: the number of those that do, and the number of all. One
        /// sample is taken from each of as many equal intervals of the data set.
        of: Option<(usize, usize)>,
    },
}

impl Positions {
    /// Rows per sample of `available` positions.
    pub(super) fn per_sample(self, available: usize) -> usize {
        match self {
            Positions::All => available,
            Positions::Sampled { per_sample, .. } => per_sample.min(available),
        }
    }

    /// The samples of this batch that give rows; `None` for all.
    pub(super) fn samples(self, samples: usize) -> Option<Vec<usize>> {
        let Positions::Sampled { seed, first_sample, of: Some((wanted, all)), .. } = self else {
            return None;
        };
        let is_chosen = |sample: &usize| {
            let sample = first_sample + sample;
            let stretch = (sample as u128 * wanted as u128 / all.max(1) as u128) as usize;
            let edge =
                |i: usize| (i as u128 * all as u128).div_ceil(wanted.max(1) as u128) as usize;
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(u64::MAX - stretch as u64);
            rng.random_range(edge(stretch) as u64..edge(stretch + 1) as u64) as usize == sample
        };
        Some((0..samples).filter(is_chosen).collect())
    }

    /// The chosen positions of each of some `samples` of this batch, one after the other; `None` for all
    /// positions.
    pub(super) fn chosen(self, samples: &[usize], available: usize) -> Option<Vec<usize>> {
        let Positions::Sampled { per_sample, seed, first_sample, .. } = self else { return None };
        if per_sample >= available {
            return None;
        }
        let stretch = |i: usize| {
            let Range { start, end } = stretch(i, per_sample, available);
            start as u64..end as u64
        };
        let of_sample = |sample: &usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream((first_sample + sample) as u64);
            (0..per_sample).map(move |i| rng.random_range(stretch(i)) as usize)
        };
        Some(samples.iter().flat_map(of_sample).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_take_all_columns_of_a_picture_alike() {
        assert!(spread(0).is_empty());
        assert_eq!(spread(256), (0..256).collect::<Vec<_>>());
        for width in [17, 28, 32, 64, 100, 112, 128, 224, 256, 512] {
            let taken = spread(width * width);
            assert!(taken.len() == 256.min(width * width) && taken.is_sorted_by(|a, b| a < b));
            assert!(taken.iter().all(|position| *position < width * width));
            for part in 0..4 {
                let is_in = |position: &&usize| (**position % width) * 4 / width == part;
                let count = taken.iter().filter(is_in).count();
                assert!((48..=80).contains(&count), "{count} of width {width} in part {part}");
            }
        }
    }

    #[test]
    fn sampled_positions_are_spread_and_independent_of_batching() {
        let batch =
            |first_sample| Positions::Sampled { per_sample: 5, seed: 1, first_sample, of: None };
        let twenty: Vec<usize> = (0..20).collect();
        let all = batch(0).chosen(&twenty, 23).unwrap();
        for (sample, chosen) in all.chunks(5).enumerate() {
            for (i, position) in chosen.iter().enumerate() {
                assert!((i * 23 / 5..(i + 1) * 23 / 5).contains(position));
            }
            assert_eq!(chosen, batch(sample).chosen(&[0], 23).unwrap());
        }
        assert_eq!(batch(0).per_sample(4), 4);
        assert_eq!(batch(0).chosen(&[0, 1, 2], 5), None);
    }

    #[test]
    fn fewer_rows_than_samples_come_from_all_parts_of_the_data() {
        for (wanted, all) in [(1, 1), (1, 10), (7, 10), (9, 10), (10, 10), (33, 1000)] {
            let batch = |first_sample| Positions::Sampled {
                per_sample: 1,
                seed: 5,
                first_sample,
                of: Some((wanted, all)),
            };
            let chosen = batch(0).samples(all).unwrap();
            assert_eq!(chosen.len(), wanted, "{wanted} of {all}");
            for (i, sample) in chosen.iter().enumerate() {
                assert!(sample * wanted < (i + 1) * all && (sample + 1) * wanted > i * all);
                assert_eq!(batch(*sample).samples(1).unwrap(), [0]);
            }
        }
    }
}
