//! Pairing and fusing channels of depthwise layers, where every channel has inputs of its own and
//! so a small Hessian of its own.
//!
//! The formulas are those of [`super::pair_cost`] and [`super::fuse`]. A pair is factored by itself, so
//! sensitivities are exact here. The factor is written out: for a dozen weights a call to LAPACK
//! costs many times the arithmetic, and there is one factor for each of n_A·n_B pairs.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis};

use crate::error::{Error, ErrorKind, Result};

use super::cholesky::ridge;
use super::pair_cost::{Metric, not_finite, sensitivity};
use super::shapes::{self, Side, misshapen};

/// A channel whose input is always zero needs some damping.
const LEAST_DAMPING: f64 = 1e-6;

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
        let others = Weighed::all(&self.h_b, &self.s_b, damping);
        let rows = cost.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
        rows.try_for_each(|(i, mut row)| {
            let mut shared = Sharing::of(self, i, damping);
            for (j, d) in row.iter_mut().enumerate() {
                *d = shared.cost(&others[j], self.w_b.row(j))?;
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

/// s H + ridge of one channel, k×k in row-major order.
struct Weighed(Vec<f64>);

impl Weighed {
    fn new(hessian: ArrayView2<'_, f64>, importance: f64, damping: f64) -> Weighed {
        let ridge = importance * ridge(hessian, damping.max(LEAST_DAMPING));
        let mut values: Vec<f64> = hessian.iter().map(|h| importance * h).collect();
        values.iter_mut().step_by(hessian.ncols() + 1).for_each(|d| *d += ridge);
        Weighed(values)
    }

    fn all(hessians: &Array3<f64>, importance: &Option<Array1<f64>>, damping: f64) -> Vec<Weighed> {
        let each = hessians.outer_iter().enumerate();
        each.map(|(j, h)| Weighed::new(h, sensitivity(importance, j), damping)).collect()
    }
}

/// The costs of sharing one of A's channels. Memory is reused, since there are as many pairs as channels
/// squared.
struct Sharing<'a> {
    own: Weighed,
    weights: ArrayView1<'a, f64>,
    delta: Vec<f64>,
    pull: Vec<f64>,
    step: Vec<f64>,
    sum: Vec<f64>,
}

impl<'a> Sharing<'a> {
    fn of(problem: &'a ChannelwiseProblem, i: usize, damping: f64) -> Sharing<'a> {
        let hessian = problem.h_a.index_axis(Axis(0), i);
        let zeros = vec![0.0; problem.w_a.ncols()];
        Sharing {
            own: Weighed::new(hessian, sensitivity(&problem.s_a, i), damping),
            weights: problem.w_a.row(i),
            delta: zeros.clone(),
            pull: zeros.clone(),
            step: zeros,
            sum: Vec::new(),
        }
    }

    /// ½ δᵀ s_i H_A (δ − step), where (s_i H_A + s_j H_B) step = s_i H_A δ.
    fn cost(&mut self, other: &Weighed, weights: ArrayView1<'_, f64>) -> Result<f64> {
        let k = self.delta.len();
        for tap in 0..k {
            self.delta[tap] = self.weights[tap] - weights[tap];
        }
        self.pull.fill(0.0);
        // The Hessian is symmetric, so its rows are its columns.
        for tap in 0..k {
            subtract(&mut self.pull, -self.delta[tap], &self.own.0[tap * k..][..k]);
        }
        if self.pull.iter().all(|p| *p == 0.0) {
            return Ok(0.0);
        }
        self.sum.clone_from(&self.own.0);
        subtract(&mut self.sum, -1.0, &other.0);
        self.step.clone_from(&self.pull);
        solve_small(&mut self.sum, &mut self.step).ok_or_else(indefinite)?;
        let mut product = 0.0;
        for tap in 0..k {
            product += self.pull[tap] * (self.delta[tap] - self.step[tap]);
        }
        Ok((product / 2.0).max(0.0))
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
mod tests {
    use super::*;
    use crate::calib::product::tests::random;
    use crate::mtz::solver::cholesky::DAMPING;
    use crate::mtz::solver::pair_cost::Problem;
    use crate::mtz::solver::pair_cost::tests::{sensitivities, single, spd};
    use ndarray::{array, stack};

    fn hessians(n: usize, k: usize, seed: u64) -> Array3<f64> {
        let each: Vec<_> = (0..n as u64).map(|i| spd(k, seed + i)).collect();
        stack(Axis(0), &each.iter().map(|h| h.view()).collect::<Vec<_>>()).unwrap()
    }

    fn problem(k: usize) -> ChannelwiseProblem {
        ChannelwiseProblem {
            h_a: hessians(4, k, 10),
            h_b: hessians(3, k, 20),
            w_a: single(random(4, k, 1)).mapv(f64::from),
            w_b: single(random(3, k, 2)).mapv(f64::from),
            s_a: None,
            s_b: None,
        }
    }

    /// The same pair as a layer of one neuron each, sensitivities multiplied into the Hessians.
    fn alone(p: &ChannelwiseProblem, i: usize, j: usize) -> Problem {
        let row = |w: &Array2<f64>, i| single(w.select(Axis(0), &[i]));
        Problem {
            h_a: (&p.h_a.index_axis(Axis(0), i) * sensitivity(&p.s_a, i)).into(),
            h_b: (&p.h_b.index_axis(Axis(0), j) * sensitivity(&p.s_b, j)).into(),
            w_a: row(&p.w_a, i),
            w_b: row(&p.w_b, j),
            s_a: None,
            s_b: None,
        }
    }

    /// The common weights of a pair.
    fn fused(p: &ChannelwiseProblem, (i, j): (usize, usize), damping: f64) -> Array1<f64> {
        let (h_a, h_b) = p.hessians(i, j);
        let channel = |hessian, weights, importance| ChannelNeuron { hessian, weights, importance };
        let a = channel(h_a, p.w_a.row(i), sensitivity(&p.s_a, i));
        let b = channel(h_b, p.w_b.row(j), sensitivity(&p.s_b, j));
        common_weights(&[a, b], damping).unwrap()
    }

    #[test]
    fn every_pair_is_a_layer_of_its_own() {
        for k in [1, 2, 10] {
            let plain = problem(k);
            let (s_a, s_b) = (sensitivities(4, 3), sensitivities(3, 4));
            let sensitive = ChannelwiseProblem { s_a, s_b, ..plain.clone() };
            for p in [plain, sensitive] {
                let cost = p.cost(Metric::Hessian, DAMPING).unwrap();
                for ((i, j), d) in cost.indexed_iter() {
                    let single = alone(&p, i, j);
                    let expected = single.cost(Metric::Hessian, DAMPING).unwrap()[(0, 0)];
                    assert!((d - expected).abs() < 1e-10 * (1.0 + expected));
                    let weights = fused(&p, (i, j), DAMPING);
                    let wanted = single.fuse(&[(0, 0)], DAMPING).unwrap();
                    let wanted = wanted.row(0).mapv(f64::from);
                    assert!((&weights - &wanted).iter().all(|d| d.abs() < 1e-6));
                }
            }
        }
    }

    #[test]
    fn other_metrics_are_plain_distances() {
        let p = problem(3);
        for metric in [Metric::Weight, Metric::Activation] {
            for ((i, j), d) in p.cost(metric, 0.0).unwrap().indexed_iter() {
                let expected = alone(&p, i, j).cost(metric, 0.0).unwrap()[(0, 0)];
                assert!((d - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn costs_of_some_channels_are_those_among_all() {
        let p = problem(3);
        let some = ChannelwiseProblem {
            h_a: p.h_a.select(Axis(0), &[3, 1]),
            w_a: p.w_a.select(Axis(0), &[3, 1]),
            ..p.clone()
        };
        for metric in [Metric::Hessian, Metric::Weight, Metric::Activation] {
            let [all, some] = [&p, &some].map(|p| p.cost(metric, DAMPING).unwrap());
            assert_eq!(some, all.select(Axis(0), &[3, 1]));
        }
    }

    #[test]
    fn equal_and_dead_channels_are_harmless() {
        let mut p = problem(3);
        p.h_a.index_axis_mut(Axis(0), 1).fill(0.0);
        p.h_b.index_axis_mut(Axis(0), 1).fill(0.0);
        p.w_b.row_mut(2).assign(&p.w_a.row(0));
        p.s_a = Some(array![1.0, 1.0, 0.0, 1.0]);
        let cost = p.cost(Metric::Hessian, 0.0).unwrap();
        assert_eq!(cost[(0, 2)], 0.0);
        assert!(cost[(1, 1)] < 1e-12);
        assert_eq!(fused(&p, (0, 2), 0.0), p.w_a.row(0));
        assert_eq!(fused(&p, (2, 0), 0.0), p.w_b.row(0));
    }

    #[test]
    fn what_is_not_a_number_is_a_numeric_error() {
        let mut p = problem(3);
        p.h_a[(0, 0, 0)] = f64::NAN;
        let error = p.cost(Metric::Hessian, DAMPING).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Numeric);
    }
}
