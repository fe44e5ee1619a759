//! The pairing with the least total cost: a linear assignment problem, solved by the algorithm of
//! Jonker and Volgenant.

use lapjv::lapjv;
use ndarray::{ArrayView1, ArrayView2};

use crate::error::{Error, ErrorKind, Result};

use super::{Matcher, Pairing, Quota, Share};

pub(crate) const NAME: &str = "optimal";

/// The pairs with the least total cost.
///
/// For [`Share::MaxCost`]: as many pairs below the limit as possible, and among those sets the one
/// with the least total cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Optimal;

impl Matcher for Optimal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pair(&self, cost: ArrayView2<f64>, share: Share) -> Result<Pairing> {
        let most = cost.nrows().min(cost.ncols());
        let (count, limit) = match share.quota(cost)? {
            Quota::Exactly(count) => (count, f64::INFINITY),
            Quota::Below(limit) => (most, limit),
        };
        let solution = if count == 0 { Vec::new() } else { assign(cost, count, limit)? };
        let real = solution.into_iter().enumerate().take(cost.nrows());
        let pairs = real.filter(|pair| cost.get(*pair).is_some_and(|d| *d < limit)).collect();
        Pairing::new(cost, pairs)
    }
}

/// The column of each row in the least assignment of a square matrix: `cost` with n_B − k dummy rows
/// and n_A − k dummy columns, which must not meet. So every dummy takes up a neuron, and exactly k
/// real pairs remain.
fn assign(cost: ArrayView2<f64>, count: usize, limit: f64) -> Result<Vec<usize>> {
    let (n_a, n_b) = cost.dim();
    let size = n_a + n_b - count;
    let allowed = |d: &&f64| **d < limit;
    // The solver compares costs with an absolute precision of 2⁻⁵², and the sum of allowed costs must
    // stay below the cost of a forbidden pair.
    let largest = cost.iter().filter(allowed).fold(0.0f64, |most, d| most.max(d.abs()));
    let scale = if largest > 0.0 { largest } else { 1.0 };
    // Every solution has the same number of pairs with dummies, so their cost is arbitrary. About
    // half the cost of the dearest real pair lets the solver guess well which neurons stay alone.
    let cheapest =
        |row: ArrayView1<f64>| row.iter().filter(allowed).copied().fold(largest, f64::min);
    let mut cheapest: Vec<f64> = cost.outer_iter().map(cheapest).collect();
    cheapest.sort_unstable_by(f64::total_cmp);
    let alone = cheapest[count - 1] / 2.0;
    let forbidden = 2.0 * size as f64 + 2.0;
    let entry = |at: usize| match (at / size, at % size) {
        (i, j) if i < n_a && j < n_b && cost[(i, j)] < limit => cost[(i, j)] / scale,
        (i, j) if (i < n_a) == (j < n_b) => forbidden,
        _ => alone / scale,
    };
    let matrix = (0..size * size).map(entry).collect();
    let square = lapjv::Matrix::from_shape_vec((size, size), matrix);
    let square = square.map_err(|e| unsolved().because(e))?;
    lapjv(&square).map(|(columns, _)| columns).map_err(|e| unsolved().because(e))
}

fn unsolved() -> Error {
    Error::new(ErrorKind::Numeric, "the assignment problem could not be solved")
        .hint("choose another matcher")
}
