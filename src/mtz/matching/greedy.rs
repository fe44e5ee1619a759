//! The paper's rule (sec. 3.3): repeatedly takes the cheapest pair of free neurons.

use ndarray::ArrayView2;
use rayon::prelude::*;

use crate::error::Result;

use super::{Matcher, Pairing, Quota, Share};

pub(crate) const NAME: &str = "greedy";

/// Always takes the cheapest free pair; of equal costs the one with the lower neuron of A, then of B.
#[derive(Debug, Clone, Copy, Default)]
pub struct Greedy;

impl Matcher for Greedy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pair(&self, cost: ArrayView2<f64>, share: Share) -> Result<Pairing> {
        let (count, limit) = match share.quota(cost)? {
            Quota::Exactly(count) => (count, f64::INFINITY),
            Quota::Below(limit) => (cost.len(), limit),
        };
        let mut candidates: Vec<(f64, usize)> =
            cost.iter().copied().zip(0..).filter(|(d, _)| *d < limit).collect();
        candidates.par_sort_unstable_by(|(d, at), (e, bt)| d.total_cmp(e).then(at.cmp(bt)));
        let mut free = (vec![true; cost.nrows()], vec![true; cost.ncols()]);
        let mut pairs = Vec::new();
        for (_, at) in candidates {
            let (i, j) = (at / cost.ncols(), at % cost.ncols());
            if pairs.len() < count && free.0[i] && free.1[j] {
                (free.0[i], free.1[j]) = (false, false);
                pairs.push((i, j));
            }
        }
        Pairing::new(cost, pairs)
    }
}
