//! Pairing and fusing channels of depthwise layers, where every channel has inputs of its own and
//! so a small Hessian of its own.
//!
//! The formulas are those of [`super::pair_cost`] and [`super::fuse`]. A pair is factored by itself, so
//! sensitivities are exact here. Factors are written out: for a dozen weights a call to LAPACK costs many
//! times the arithmetic.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis, s};

use crate::error::{Error, ErrorKind, Result};

use super::channel_bias::Windows;
use super::cholesky::ridge;
use super::lanes::{Block, Channel, LANES, Pairs};
use super::pair_cost::{Metric, not_finite, sensitivity};
use super::shapes::{self, Side, misshapen};

/// A channel whose input is always zero needs some damping.
pub(super) const LEAST_DAMPING: f64 = 1e-6;

/// One depthwise layer of each net: n_A and n_B channels with k weights each (taps and bias).
#[derive(Debug, Clone)]
pub struct ChannelwiseProblem {
    /// α/n_A Σ x xᵀ of each of A's channels, n_A×k×k.
    pub h_a: Array3<f64>,
    /// (1−α)/n_B Σ x xᵀ of each of B's channels, n_B×k×k.
    pub h_b: Array3<f64>,
    /// Weights of A's channels, n_A×k.
    pub w_a: Array2<f64>,
    /// Weights of B's channels, n_B×k.
    pub w_b: Array2<f64>,
    /// Weight of each channel's error in A, n_A numbers ≥ 0; `None` stands for 1.
    pub s_a: Option<Array1<f64>>,
    /// Weight of each channel's error in B, n_B numbers ≥ 0; `None` stands for 1.
    pub s_b: Option<Array1<f64>>,
}

impl ChannelwiseProblem {
    /// The problem where every task keeps its own biases.
    pub(crate) fn without_biases(self) -> ChannelwiseProblem {
        let taps = |weights: Array2<f64>| {
            weights.slice(s![.., ..weights.ncols().saturating_sub(1)]).to_owned()
        };
        ChannelwiseProblem {
            h_a: Windows::of(&self.h_a).hessians,
            h_b: Windows::of(&self.h_b).hessians,
            w_a: taps(self.w_a),
            w_b: taps(self.w_b),
            ..self
        }
    }

    /// The cost of each pair, n_A×n_B; see [`super::pair_cost::Problem::cost`].
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where the shapes of the fields do not fit together; [`ErrorKind::Numeric`]
    /// where numbers are not finite or a Hessian is far from positive definite.
    pub fn cost(&self, metric: Metric, damping: f64) -> Result<Array2<f64>> {
        self.check()?;
        let mut cost = Array2::zeros((self.w_a.nrows(), self.w_b.nrows()));
        match metric {
            Metric::Hessian => self.write_shared(&mut cost, damping)?,
            Metric::Weight => {
                write_each(&mut cost, |i, j| self.delta(i, j).mapv(|v| v * v).sum() / 2.0)
            }
            Metric::Activation => write_each(&mut cost, |i, j| {
                let delta = self.delta(i, j);
                let (h_a, h_b) = self.hessians(i, j);
                (form(h_a, delta.view()) + form(h_b, delta.view())) / 2.0
            }),
        }
        if cost.iter().all(|d| d.is_finite()) { Ok(cost) } else { Err(not_finite()) }
    }

    /// Writes the costs of sharing each pair.
    fn write_shared(&self, cost: &mut Array2<f64>, damping: f64) -> Result<()> {
        let own = Weighed::all((&self.h_a, &self.w_a, &self.s_a), damping);
        let others = Weighed::all((&self.h_b, &self.w_b, &self.s_b), damping);
        let others: Vec<Channel<'_>> = others.iter().map(Weighed::channel).collect();
        let blocks = Block::all(&others);
        let rows = cost.axis_iter_mut(Axis(0)).into_par_iter().zip(&own);
        rows.try_for_each(|(mut row, own)| {
            let mut pairs = Pairs::new(own.channel());
            for (mut part, block) in row.axis_chunks_iter_mut(Axis(0), LANES).zip(&blocks) {
                let costs = pairs.costs(block).ok_or_else(indefinite)?;
                part.iter_mut().zip(costs).for_each(|(d, cost)| *d = cost);
            }
            Ok(())
        })
    }

    fn check(&self) -> Result<()> {
        let sides = [(&self.w_a, &self.h_a, &self.s_a), (&self.w_b, &self.h_b, &self.s_b)];
        let square = sides.iter().all(|(_, hessians, _)| hessians.dim().1 == hessians.dim().2);
        if !square {
            return Err(misshapen("a channel's Hessian is not square"));
        }
        shapes::check(sides.map(|(weights, hessians, sensitivities)| Side {
            weights: weights.dim(),
            inputs: hessians.dim().1,
            hessians: Some(hessians.dim().0),
            sensitivities: sensitivities.as_ref(),
        }))
    }

    fn delta(&self, i: usize, j: usize) -> Array1<f64> {
        &self.w_a.row(i) - &self.w_b.row(j)
    }

    fn hessians(&self, i: usize, j: usize) -> (ArrayView2<'_, f64>, ArrayView2<'_, f64>) {
        (self.h_a.index_axis(Axis(0), i), self.h_b.index_axis(Axis(0), j))
    }
}

/// Writes a number for each pair.
fn write_each(cost: &mut Array2<f64>, number: impl Fn(usize, usize) -> f64 + Sync + Send) {
    let rows = cost.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
    rows.for_each(|(i, mut row)| {
        row.iter_mut().enumerate().for_each(|(j, d)| *d = number(i, j));
    });
}

/// One channel: s H + ridge, k×k in row-major order, and its weights.
struct Weighed {
    hessian: Vec<f64>,
    weights: Vec<f64>,
}

impl Weighed {
    /// The channels of a layer, from their Hessians, weights and sensitivities.
    fn all(
        (hessians, weights, importance): (&Array3<f64>, &Array2<f64>, &Option<Array1<f64>>),
        damping: f64,
    ) -> Vec<Weighed> {
        let each = hessians.outer_iter().zip(weights.outer_iter()).enumerate();
        let weighed =
            |(n, (hessian, weights)): (usize, (ArrayView2<'_, f64>, ArrayView1<'_, f64>))| {
                let importance = sensitivity(importance, n);
                let ridge = importance * ridge(hessian, damping.max(LEAST_DAMPING));
                let mut hessian: Vec<f64> = hessian.iter().map(|h| importance * h).collect();
                hessian.iter_mut().step_by(weights.len() + 1).for_each(|d| *d += ridge);
                Weighed { hessian, weights: weights.to_vec() }
            };
        each.map(weighed).collect()
    }

    fn channel(&self) -> Channel<'_> {
        Channel { hessian: &self.hessian, weights: &self.weights }
    }
}

/// `values -= factor · others`.
fn subtract(values: &mut [f64], factor: f64, others: &[f64]) {
    let others = &others[..values.len()];
    for at in 0..values.len() {
        values[at] -= factor * others[at];
    }
}

/// One channel of a depthwise layer of one net.
#[derive(Debug, Clone, Copy)]
pub struct ChannelNeuron<'a> {
    /// α/n Σ x xᵀ, k×k.
    pub hessian: ArrayView2<'a, f64>,
    /// Its k weights.
    pub weights: ArrayView1<'a, f64>,
    /// How much its error matters.
    pub importance: f64,
}

/// The best common weights of channels of any number of nets, at least one:
/// (Σ s H) w = Σ s H w_t. Equal channels keep their weights bit for bit.
///
/// # Errors
/// [`ErrorKind::Usage`] where there is no channel or the shapes do not fit together;
/// [`ErrorKind::Numeric`] where numbers are not finite or the Hessians are not positive definite.
pub fn common_weights(channels: &[ChannelNeuron<'_>], damping: f64) -> Result<Array1<f64>> {
    let Some(last) = channels.last() else { return Err(misshapen("there is no channel")) };
    let reference = last.weights.to_owned();
    let k = reference.len();
    if channels.iter().any(|c| c.weights.len() != k || c.hessian.dim() != (k, k)) {
        return Err(misshapen(format!("not all channels have {k} weights")));
    }
    let (mut sum, mut pull) = (Array2::zeros((k, k)), Array1::zeros(k));
    for channel in channels {
        let ridge = ridge(channel.hessian, damping.max(LEAST_DAMPING));
        let delta = &channel.weights - &reference;
        let own = channel.hessian.dot(&delta) + &delta * ridge;
        pull.scaled_add(channel.importance, &own);
        sum.scaled_add(channel.importance, &channel.hessian);
        sum.diag_mut().mapv_inplace(|d| d + ridge * channel.importance);
    }
    if pull.iter().all(|p| *p == 0.0) {
        return Ok(reference);
    }
    let (mut sum, mut step) = (sum.into_raw_vec_and_offset().0, pull.to_vec());
    solve_small(&mut sum, &mut step).ok_or_else(indefinite)?;
    let weights = reference + Array1::from(step);
    if weights.iter().all(|w| w.is_finite()) { Ok(weights) } else { Err(not_finite()) }
}

fn indefinite() -> Error {
    Error::new(ErrorKind::Numeric, "a channel's Hessian is not positive definite")
        .hint("use more calibration samples or a larger damping")
}

fn form(h: ArrayView2<f64>, x: ArrayView1<f64>) -> f64 {
    h.dot(&x).dot(&x)
}

/// Replaces b by h⁻¹ b, by elimination in place; `None` where h is not positive definite. Only the upper
/// triangle of h is read.
fn solve_small(h: &mut [f64], b: &mut [f64]) -> Option<()> {
    let k = b.len();
    for i in 0..k {
        let (above, below) = h.split_at_mut((i + 1) * k);
        let pivots = &above[i * k..];
        let pivot = pivots[i];
        if pivot.is_nan() || pivot <= 0.0 {
            return None;
        }
        for row in i + 1..k {
            let ratio = pivots[row] / pivot;
            subtract(&mut below[(row - i - 1) * k..][row..k], ratio, &pivots[row..]);
            b[row] -= ratio * b[i];
        }
    }
    for i in (0..k).rev() {
        let mut known = 0.0;
        for j in i + 1..k {
            known += h[i * k + j] * b[j];
        }
        b[i] = (b[i] - known) / h[i * k + i];
    }
    Some(())
}

#[cfg(test)]
mod tests;
