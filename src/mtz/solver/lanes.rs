//! The costs of sharing channels that have small Hessians, for several pairs at once.
//!
//! With δ = w_i − w_j, the cost of a pair (eq. 12) is
//!
//! ```text
//! ½ δᵀ A (A + B)⁻¹ B δ = ½ (δᵀ A δ − |L⁻¹ A δ|²)        L Lᵀ = A + B
//! ```
//!
//! so half a substitution is enough. There is one factor for each of n_A·n_B pairs, of a dozen rows, which
//! are too few for vector instructions. So pairs lie side by side, and every step is one of all of them.

use std::ops::{Add, Div, Mul, Sub};

/// Pairs side by side.
pub(super) const LANES: usize = 8;

/// A number of each pair. Its operators must be part of their caller, since only then lanes stay in vector
/// registers; the compiler does not always see that.
#[derive(Debug, Clone, Copy)]
struct Lanes([f64; LANES]);

impl Lanes {
    const ZERO: Lanes = Lanes([0.0; LANES]);

    #[inline(always)]
    fn all(value: f64) -> Lanes {
        Lanes([value; LANES])
    }

    fn of(number: impl Fn(usize) -> f64) -> Lanes {
        Lanes(std::array::from_fn(number))
    }

    #[inline(always)]
    fn sqrt(mut self) -> Lanes {
        for lane in &mut self.0 {
            *lane = lane.sqrt();
        }
        self
    }
}

/// An operator on each lane.
macro_rules! lanewise {
    ($($operator:ident $name:ident $sign:tt),*) => {$(
        impl $operator for Lanes {
            type Output = Lanes;

            #[inline(always)]
            fn $name(mut self, other: Lanes) -> Lanes {
                for lane in 0..LANES {
                    self.0[lane] $sign other.0[lane];
                }
                self
            }
        }
    )*};
}

lanewise!(Add add +=, Sub sub -=, Mul mul *=, Div div /=);

/// A channel: its Hessian, k×k, and its k weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel<'a> {
    pub(super) hessian: &'a [f64],
    pub(super) weights: &'a [f64],
}

impl Channel<'_> {
    /// The columns of the Hessian down to the diagonal, one after the other.
    fn columns(&self) -> impl Iterator<Item = f64> {
        let size = self.weights.len();
        (0..size).flat_map(move |c| (0..=c).map(move |r| self.hessian[r * size + c]))
    }
}

/// [`LANES`] channels of a net, side by side. Spare lanes repeat the last channel.
#[derive(Debug)]
pub(super) struct Block {
    columns: Vec<Lanes>,
    weights: Vec<Lanes>,
}

impl Block {
    /// All channels of a net.
    pub(super) fn all(channels: &[Channel<'_>]) -> Vec<Block> {
        let block = |channels: &[Channel<'_>]| Block {
            columns: side_by_side(channels.iter().map(|own| own.columns().collect()).collect()),
            weights: side_by_side(channels.iter().map(|own| own.weights.to_vec()).collect()),
        };
        channels.chunks(LANES).map(block).collect()
    }
}

/// The numbers of channels, which all have as many.
fn side_by_side(channels: Vec<Vec<f64>>) -> Vec<Lanes> {
    let Some(last) = channels.last() else { return Vec::new() };
    let lanes = |at| Lanes::of(|lane| channels.get(lane).unwrap_or(last)[at]);
    (0..last.len()).map(lanes).collect()
}

/// The pairs of one channel with the channels of blocks. Memory is reused, since there are as many pairs as
/// channels squared.
#[derive(Debug)]
pub(super) struct Pairs<'a> {
    own: Channel<'a>,
    columns: Vec<f64>,
    delta: Vec<Lanes>,
    /// A + B, and A δ as one more column.
    system: Vec<Lanes>,
}

impl<'a> Pairs<'a> {
    pub(super) fn new(own: Channel<'a>) -> Pairs<'a> {
        let columns: Vec<f64> = own.columns().collect();
        let size = own.weights.len();
        let system = vec![Lanes::ZERO; columns.len() + size];
        Pairs { own, columns, delta: vec![Lanes::ZERO; size], system }
    }

    /// The costs with the channels of a block; not finite where the channels are not. `None` where A + B is
    /// not positive definite.
    pub(super) fn costs(&mut self, others: &Block) -> Option<[f64; LANES]> {
        let sums = self.columns.iter().zip(&others.columns);
        for (sum, (own, other)) in self.system.iter_mut().zip(sums) {
            *sum = Lanes::all(*own) + *other;
        }
        let weights = self.own.weights.iter().zip(&others.weights);
        for (delta, (own, other)) in self.delta.iter_mut().zip(weights) {
            *delta = Lanes::all(*own) - *other;
        }
        let alone = self.pull();
        substitute(&mut self.system, self.delta.len());
        let mut twice = alone;
        for half in &self.system[self.columns.len()..] {
            twice = twice - *half * *half;
        }
        let mut costs = [0.0; LANES];
        for ((cost, alone), twice) in costs.iter_mut().zip(alone.0).zip(twice.0) {
            *cost = match alone {
                // Equal channels, or one without inputs, whatever the sum of Hessians is.
                0.0 => 0.0,
                alone if !alone.is_finite() => alone,
                // A pivot that is not positive leaves its mark on all that follows.
                _ if !twice.is_finite() => return None,
                _ => (twice / 2.0).max(0.0),
            };
        }
        Some(costs)
    }

    /// Writes A δ. Returns δᵀ A δ.
    fn pull(&mut self) -> Lanes {
        let rows = self.own.hessian.chunks_exact(self.delta.len().max(1));
        let pull = &mut self.system[self.columns.len()..];
        let mut form = Lanes::ZERO;
        for ((pull, delta), row) in pull.iter_mut().zip(&self.delta).zip(rows) {
            let mut sum = Lanes::ZERO;
            for (h, delta) in row.iter().zip(&self.delta) {
                sum = sum + Lanes::all(*h) * *delta;
            }
            form = form + sum * *delta;
            *pull = sum;
        }
        form
    }
}

/// Replaces the last column b of a system of `size` columns and b by L⁻¹ b. L is the factor of the other
/// columns, which hold them down to their diagonals.
fn substitute(system: &mut [Lanes], size: usize) {
    for row in 0..size {
        let start = row * (row + 1) / 2;
        let (before, mut behind) = system.split_at_mut(start + row + 1);
        let column = &before[start..start + row];
        let mut pivot = before[start + row];
        for v in column {
            pivot = pivot - *v * *v;
        }
        let inverse = Lanes::all(1.0) / pivot.sqrt();
        for other in row + 1..=size {
            let (next, rest) = behind.split_at_mut((other + 1).min(size));
            let mut left = next[row];
            for (a, b) in column.iter().zip(&next[..row]) {
                left = left - *a * *b;
            }
            next[row] = left * inverse;
            behind = rest;
        }
    }
}
