//! The common weights of neurons that are shared (sec. 3.3, eq. 10), and what follows from them.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Zip};

use crate::calib::product::{add_times, times};
use crate::error::Result;

use super::pair_cost::{Base, Factors, Problem, check_sensitivities, not_finite};

impl Problem {
    /// The common weights w = (H_A + H_B)⁻¹ (H_A w_i + H_B w_j) of each pair (i, j), one row per pair.
    ///
    /// With sensitivities the Hessians are balanced by the power of two next to s_i/s_j: around its
    /// optimum the error is flat, and so all pairs of one ratio are solved at once.
    ///
    /// Computed as one neuron's weights plus a multiple of the difference, so that equal neurons
    /// keep their weights bit for bit.
    ///
    /// # Errors
    /// As [`Problem::cost`].
    ///
    /// # Panics
    /// Where the shapes of the fields do not fit together, or a pair names no neuron.
    pub fn fuse(&self, pairs: &[(usize, usize)], damping: f64) -> Result<Array2<f64>> {
        self.fuse_with(pairs, damping, &Factors::default())
    }

    /// [`Problem::fuse`] with factors that are there already.
    pub(crate) fn fuse_with(
        &self,
        pairs: &[(usize, usize)],
        damping: f64,
        factors: &Factors,
    ) -> Result<Array2<f64>> {
        check_sensitivities(&self.s_a, &self.s_b)?;
        let (a, b): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
        let (w_a, w_b) = (self.w_a.select(Axis(0), &a), self.w_b.select(Axis(0), &b));
        let base = Base::of(self, damping);
        let (own, mut weights) = if base.is_a { (&w_a, w_b.clone()) } else { (&w_b, w_a.clone()) };
        let difference = own - &weights;
        for (level, members) in self.by_level(pairs) {
            let delta = difference.select(Axis(0), &members);
            let pull = base.times(delta.t()) * base.scale(level);
            let step = match factors.get(level) {
                Some(factor) => factor.solve(pull.view()),
                None => base.factor(level)?.solve(pull.view()),
            };
            for (&pair, step) in members.iter().zip(step.columns()) {
                let mut fused = weights.row_mut(pair);
                fused += &step;
            }
        }
        if weights.iter().any(|w| !w.is_finite()) {
            return Err(not_finite());
        }
        Ok(weights)
    }

    /// The pairs' places in `pairs`, by level.
    fn by_level(&self, pairs: &[(usize, usize)]) -> BTreeMap<i32, Vec<usize>> {
        let mut levels = BTreeMap::<i32, Vec<usize>>::new();
        for (place, &(i, j)) in pairs.iter().enumerate() {
            levels.entry(self.level(i, j)).or_default().push(place);
        }
        levels
    }
}

/// wᵀ H w for each row w of `weights`: the neuron's second moment before activation, or an error's
/// where `weights` is a difference.
///
/// # Panics
/// Where `weights` has not one column per row of `h`.
pub fn mean_square(h: ArrayView2<f64>, weights: ArrayView2<f64>) -> Array1<f64> {
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
/// `private` is n×P, `gain` is K = H_pp⁻¹ H_ps (P×S, from [`super::cholesky::schur`]), `old` and `new`
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::product::tests::{on_threads, random};
    use crate::mtz::solver::cholesky::{DAMPING, schur};
    use crate::mtz::solver::pair_cost::Metric;
    use crate::mtz::solver::pair_cost::tests::{problem, sensitivities};
    use ndarray::{array, concatenate};
    use ndarray_linalg::Inverse;
    use proptest::prelude::*;

    const PAIRS: [(usize, usize); 3] = [(0, 2), (3, 0), (1, 1)];

    /// s_i e_A + s_j e_B of one pair.
    fn weighted_error(p: &Problem, fused: &Array2<f64>, pair: usize) -> f64 {
        let (i, j) = PAIRS[pair];
        let s = |s: &Option<Array1<f64>>, i: usize| s.as_ref().map_or(1.0, |s| s[i]);
        let error = |h: &Array2<f64>, w: ArrayView1<f64>| {
            mean_square(h.view(), (&fused.row(pair) - &w).insert_axis(Axis(0)).view())[0]
        };
        s(&p.s_a, i) * error(&p.h_a, p.w_a.row(i)) + s(&p.s_b, j) * error(&p.h_b, p.w_b.row(j))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn common_weights_are_eq_10(inputs in 1usize..12, seed: u64) {
            let p = problem(inputs, 4, 3, seed);
            let fused = p.fuse(&PAIRS, 0.0).unwrap();
            let inverse = (&p.h_a + &p.h_b).inv().unwrap();
            let cost = p.cost(Metric::Hessian, 0.0).unwrap();
            for (k, &(i, j)) in PAIRS.iter().enumerate() {
                let naive = inverse.dot(&(p.h_a.dot(&p.w_a.row(i)) + p.h_b.dot(&p.w_b.row(j))));
                prop_assert!((&fused.row(k) - &naive).iter().all(|d| d.abs() < 1e-9));
                prop_assert!((weighted_error(&p, &fused, k) / 2.0 - cost[(i, j)]).abs() < 1e-9);
            }
        }

        #[test]
        fn with_sensitivities_the_error_is_as_predicted(inputs in 1usize..12, seed: u64) {
            let mut p = problem(inputs, 4, 3, seed);
            p.s_a = sensitivities(4, seed ^ 4);
            p.s_b = sensitivities(3, seed ^ 5);
            let fused = p.fuse(&PAIRS, 0.0).unwrap();
            let cost = p.cost(Metric::Hessian, 0.0).unwrap();
            for (k, pair) in PAIRS.iter().enumerate() {
                let error = weighted_error(&p, &fused, k) / 2.0;
                prop_assert!((error / cost[*pair] - 1.0).abs() < 0.05);
            }
        }

        #[test]
        fn readjusted_private_weights_are_the_best_ones(shared in 1usize..8, private in 0usize..8, seed: u64) {
            let h = crate::mtz::solver::pair_cost::tests::spd(shared + private, seed);
            let (s, p): (Vec<usize>, Vec<usize>) = ((0..shared).collect(), (shared..shared + private).collect());
            let (old, new) = (random(3, shared, seed ^ 1), random(3, shared, seed ^ 2));
            let before = random(3, private, seed ^ 3);
            let left = schur(h.view(), &s, &p, 0.0).unwrap();
            let after = readjust(before.view(), left.gain.view(), old.view(), new.view());
            let change = concatenate![Axis(1), &new - &old, &after - &before];
            // The gradient with respect to the private weights vanishes …
            let gradient = change.dot(&h);
            prop_assert!(gradient.select(Axis(1), &p).iter().all(|g| g.abs() < 1e-9));
            // … and the Schur complement measures the error that is left.
            let error = mean_square(h.view(), change.view());
            let reduced = mean_square(left.hessian.view(), (&new - &old).view());
            prop_assert!((error - reduced).iter().all(|d| d.abs() < 1e-9));
        }
    }

    #[test]
    fn equal_neurons_keep_their_weights_bit_for_bit() {
        let mut p = problem(20, 4, 3, 1);
        for (i, j) in PAIRS {
            let weights = p.w_a.row(i).to_owned();
            p.w_b.row_mut(j).assign(&weights);
        }
        for _ in 0..2 {
            let fused = p.fuse(&PAIRS, DAMPING).unwrap();
            assert_eq!(fused, p.w_a.select(Axis(0), &[0, 3, 1]));
            std::mem::swap(&mut p.h_a, &mut p.h_b);
        }
    }

    #[test]
    fn no_pairs_are_fused_to_no_weights() {
        assert_eq!(problem(4, 2, 2, 1).fuse(&[], DAMPING).unwrap().dim(), (0, 4));
    }

    #[test]
    fn same_bits_on_any_number_of_threads() {
        let mut p = problem(500, 90, 90, 1);
        p.s_b = sensitivities(90, 2);
        let pairs: Vec<_> = (0..90).map(|i| (i, 89 - i)).collect();
        let run = |threads| on_threads(threads, || p.fuse(&pairs, DAMPING).unwrap());
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn the_mask_with_more_ones_is_applied() {
        let mut fused = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let w_a = array![[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]];
        let w_b = array![[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]];
        apply_masks(&mut fused, w_a.view(), w_b.view());
        assert_eq!(fused, array![[1.0, 0.0, 3.0], [4.0, 5.0, 0.0]]);
    }
}
