//! The common weights of neurons that are shared (sec. 3.3, eq. 10), and what follows from them.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Zip};

use super::pair::{Base, Problem, check_sensitivities};
use crate::calib::product::{add_times, times};
use crate::error::{Error, ErrorKind, Result};

/// Pairs of neurons made one.
#[derive(Debug, Clone, PartialEq)]
pub struct Fused {
    /// The common weights, one row per pair.
    pub weights: Array2<f64>,
    /// The cost of each pair: half its weighted error, see [`Problem::cost`].
    pub costs: Array1<f64>,
    /// What each pair's neuron of A loses: its mean squared pre-activation error, times α and
    /// without any sensitivity. Relate it to [`energy`].
    pub errors_a: Array1<f64>,
    /// What each pair's neuron of B loses, times 1 − α.
    pub errors_b: Array1<f64>,
}

impl Problem {
    /// The common weights w = (H_A + H_B)⁻¹ (H_A w_i + H_B w_j) of each pair (i, j), with the
    /// Hessians balanced by the pair's sensitivities as in [`Problem::cost`].
    ///
    /// Computed as one neuron's weights plus a multiple of the difference, so that equal neurons
    /// keep their weights bit for bit.
    ///
    /// # Errors
    /// As [`Problem::cost`].
    ///
    /// # Panics
    /// Where the shapes of the fields do not fit together, or a pair names no neuron.
    pub fn fuse(&self, pairs: &[(usize, usize)], damping: f64) -> Result<Fused> {
        check_sensitivities(&self.s_a, &self.s_b)?;
        let (a, b): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
        let (w_a, w_b) = (self.w_a.select(Axis(0), &a), self.w_b.select(Axis(0), &b));
        let base = Base::of(self, damping);
        let (own, mut weights) = if base.is_a { (&w_a, w_b.clone()) } else { (&w_b, w_a.clone()) };
        let difference = own - &weights;
        let mut costs = Array1::zeros(pairs.len());
        for (level, members) in self.by_level(pairs) {
            let delta = difference.select(Axis(0), &members);
            let pull = base.times(delta.t()) * base.scale(level);
            let step = base.factor(level)?.solve(pull.view());
            let left = &delta.t() - &step;
            for (k, &pair) in members.iter().enumerate() {
                let mut fused = weights.row_mut(pair);
                fused += &step.column(k);
                let (i, j) = pairs[pair];
                costs[pair] = self.balance(i, j).weight * pull.column(k).dot(&left.column(k)) / 2.0;
            }
        }
        if weights.iter().any(|w| !w.is_finite()) {
            return Err(Error::new(ErrorKind::Numeric, "a layer's weights are not finite"));
        }
        let errors_a = energy(self.h_a.view(), (&weights - &w_a).view());
        let errors_b = energy(self.h_b.view(), (&weights - &w_b).view());
        Ok(Fused { weights, costs: costs.mapv(|d: f64| d.max(0.0)), errors_a, errors_b })
    }

    /// The pairs' places in `pairs`, by their balance's level.
    fn by_level(&self, pairs: &[(usize, usize)]) -> BTreeMap<i32, Vec<usize>> {
        let mut levels = BTreeMap::<i32, Vec<usize>>::new();
        for (place, &(i, j)) in pairs.iter().enumerate() {
            levels.entry(self.balance(i, j).level).or_default().push(place);
        }
        levels
    }
}

/// wᵀ H w for each row w of `weights`: the neuron's second moment before activation, or an error's
/// where `weights` is a difference.
///
/// # Panics
/// Where `weights` has not one column per row of `h`.
pub fn energy(h: ArrayView2<f64>, weights: ArrayView2<f64>) -> Array1<f64> {
    let product = times(weights, h);
    Zip::from(product.rows()).and(weights.rows()).map_collect(|hw, w| hw.dot(&w).max(0.0))
}

/// Keeps fused neurons as sparse as the nets were (sec. 3.6): zeros mean "no connection", and of the
/// two neurons' masks the one with more ones is applied (A's where they tie). Rows are pairs.
///
/// # Panics
/// Where the shapes differ.
pub fn apply_masks(fused: &mut Array2<f64>, w_a: ArrayView2<f64>, w_b: ArrayView2<f64>) {
    Zip::from(fused.rows_mut()).and(w_a.rows()).and(w_b.rows()).for_each(|mut w, a, b| {
        let ones = |row: &ArrayView1<f64>| row.iter().filter(|v| **v != 0.0).count();
        let mask = if ones(&b) > ones(&a) { b } else { a };
        w.zip_mut_with(&mask, |w, m| {
            if *m == 0.0 {
                *w = 0.0
            }
        });
    });
}

/// The best private weights once the shared ones have changed: w_P + K (w_S,old − w_S,new).
///
/// `private` is n×P, `gain` is K = H_pp⁻¹ H_ps (P×S, from [`super::solve::schur`]), `old` and `new`
/// are the shared weights n×S before and after.
///
/// # Panics
/// Where the shapes do not fit.
pub fn readjust(
    private: ArrayView2<f64>,
    gain: ArrayView2<f64>,
    old: ArrayView2<f64>,
    new: ArrayView2<f64>,
) -> Array2<f64> {
    let mut adjusted = private.to_owned();
    add_times(1.0, (&old - &new).view(), gain.t(), adjusted.view_mut());
    adjusted
}
