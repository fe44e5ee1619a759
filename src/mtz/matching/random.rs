//! Random pairs: the paper's baseline.

use ndarray::ArrayView2;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::Result;

use super::{Matcher, Pairing, Quota, Share};

pub(crate) const NAME: &str = "random";

/// Random pairs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Random {
    /// Seed; layers of the same size draw the same pairs.
    pub seed: u64,
}

impl Matcher for Random {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pair(&self, cost: ArrayView2<f64>, share: Share) -> Result<Pairing> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut shuffled = |n: usize| {
            let mut order: Vec<usize> = (0..n).collect();
            order.shuffle(&mut rng);
            order
        };
        let (rows, columns) = (shuffled(cost.nrows()), shuffled(cost.ncols()));
        let drawn = rows.into_iter().zip(columns);
        let pairs = match share.quota(cost)? {
            Quota::Exactly(count) => drawn.take(count).collect(),
            Quota::Below(limit) => drawn.filter(|pair| cost[*pair] < limit).collect(),
        };
        Pairing::new(cost, pairs)
    }
}
