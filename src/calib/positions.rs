//! Which output positions of a convolution become rows.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Which output positions of each sample become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// Every position.
    All,
    /// A seeded subset, spread evenly: one position in each of `per_sample` equal stretches.
    ///
    /// It depends on the seed, the sample and the number of positions alone. So a layer's input and
    /// its pre-activation, and every net that runs on the same samples, get the same positions.
    Sampled {
        /// Positions per sample; all of them where a sample has no more.
        per_sample: usize,
        /// Seed of the choice.
        seed: u64,
        /// Number of the batch's first sample in the whole data set.
        first_sample: usize,
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

    /// The chosen positions of each of `samples` samples of this batch, one after the other; `None`
    /// where that is every position.
    pub(super) fn chosen(self, samples: usize, available: usize) -> Option<Vec<usize>> {
        let Positions::Sampled { per_sample, seed, first_sample } = self else { return None };
        if per_sample >= available {
            return None;
        }
        let edge = |i: usize| (i as u128 * available as u128 / per_sample as u128) as u64;
        let of_sample = |sample: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream((first_sample + sample) as u64);
            (0..per_sample).map(move |i| rng.random_range(edge(i)..edge(i + 1)) as usize)
        };
        Some((0..samples).flat_map(of_sample).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampled_positions_are_spread_and_independent_of_batching() {
        let batch = |first_sample| Positions::Sampled { per_sample: 5, seed: 1, first_sample };
        let all = batch(0).chosen(20, 23).unwrap();
        for (sample, chosen) in all.chunks(5).enumerate() {
            for (i, position) in chosen.iter().enumerate() {
                assert!((i * 23 / 5..(i + 1) * 23 / 5).contains(position));
            }
            assert_eq!(chosen, batch(sample).chosen(1, 23).unwrap());
        }
        assert_eq!(batch(0).per_sample(4), 4);
        assert_eq!(batch(0).chosen(3, 5), None);
    }
}
