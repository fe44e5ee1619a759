//! Corrections of low rank, which a task adds to common weights.
//!
//! If neurons of B join neurons of A, the best common weights leave the cost ½ Σ δᵀ P δ over the
//! differences δ = w_j − w_i of all pairs ([`super::pair_cost`]). A correction U V of B's weights
//! removes a part of low rank from the differences Δ. The common weights are then those of A and of the
//! corrected B. Let S be the weights of the rows' errors. The cost falls most if U V keeps the largest
//! singular values of S^½ Δ P^½. Its left singular vectors Q are the eigenvectors of S^½ Δ P Δᵀ S^½, so
//!
//!   U = S^−½ Q  and  V = Qᵀ S^½ Δ,
//!
//! and P^½ is never needed. At full rank, A and B keep their weights. Every task except the first needs a
//! correction.
//!
//! In addition, each neuron of B may be a multiple of the common neuron: B joins with w_j/s, and its errors
//! count s² times as much. With r the weight of B's errors over that of A's, the cost is in proportion to
//! (s w_i − w_j)ᵀ P (s w_i − w_j) / (1 + r s²). It is least at the positive root of r c s² + (a − r b) s = c with
//! a = w_iᵀ P w_i, b = w_jᵀ P w_j, and c = w_iᵀ P w_j. This acts like a BatchNorm of each task after
//! common weights, even if an exporter has folded it.

use ndarray::{Array1, Array2, Axis, s};

use super::cholesky::eigenpairs;
use super::correction::{Change, Correction};
use super::junction::Junction;
use super::pair_cost::{Problem, sensitivity};
use crate::calib::product::times;
use crate::calib::wide::widened;
use crate::error::Result;

/// Limit of rows: eigenvectors take time in proportion to the third power of their number.
const MOST_ROWS: usize = 3000;

/// Least weight of a row's error, relative to the mean, so that corrections of rows with tiny weights
/// stay bounded.
const LEAST: f64 = 1e-3;

/// Limit of scales, and of their inverses.
const MOST_SCALE: f64 = 4.0;

/// Whether so many pairs can have a correction.
pub(crate) fn may_correct(pairs: usize) -> bool {
    (1..=MOST_ROWS).contains(&pairs)
}

impl Problem {
    /// The correction of `rank` that reduces the cost of `pairs` most; U has one row per pair. The
    /// `constant` input is excluded, since biases are not corrected. `None` for too many rows.
    ///
    /// # Errors
    /// As [`Problem::cost`].
    pub(crate) fn low_rank(
        &self,
        pairs: &[(usize, usize)],
        rank: usize,
        constant: Option<usize>,
        damping: f64,
    ) -> Result<Option<Correction>> {
        if !may_correct(pairs.len()) {
            return Ok(None);
        }
        let roots = self.roots(pairs);
        let mut scaled = self.differences(pairs);
        if let Some(column) = constant {
            scaled.column_mut(column).fill(0.0);
        }
        scaled *= &roots.view().insert_axis(Axis(1));
        let junction = Junction::of([&self.h_a, &self.h_b], damping);
        let factor = junction.factor(0.0)?;
        let cost = junction.pull(0.0, &factor).products(scaled.view());
        let (values, vectors) = eigenpairs(&cost)?;
        let rank = rank.min(pairs.len()).min(scaled.ncols());
        let chosen = vectors.slice(s![.., ..rank]);
        let mut right = times(chosen.t(), scaled.view());
        let mut left = &chosen / &roots.view().insert_axis(Axis(1));
        balance(&mut left, &mut right);
        let [left, right] = [left, right].map(|factor| factor.mapv(|v| v as f32));
        Ok(Some(Correction {
            change: Change::LowRank { left, right },
            gains: values.iter().map(|v| v.max(0.0)).collect(),
            ..Correction::default()
        }))
    }

    /// The scale s of each pair: neuron j is about s times neuron i.
    ///
    /// # Errors
    /// As [`Problem::cost`].
    pub(crate) fn scales(
        &self,
        pairs: &[(usize, usize)],
        constant: Option<usize>,
        damping: f64,
    ) -> Result<Vec<f32>> {
        let (left, right): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
        let mut rows = [(&self.w_a, left), (&self.w_b, right)]
            .map(|(weights, rows)| widened(weights.select(Axis(0), &rows).view()));
        if let Some(column) = constant {
            rows.iter_mut().for_each(|w| w.column_mut(column).fill(0.0));
        }
        let junction = Junction::of([&self.h_a, &self.h_b], damping);
        let factor = junction.factor(0.0)?;
        let pull = junction.pull(0.0, &factor);
        let images = [0, 1].map(|side| junction.images(rows[side].view()));
        let features = [pull.features(&images[0]), pull.features(&images[1])];
        let (of_before, of_after) = pull.parts();
        let products = |of: usize, with: usize| {
            let before = junction.row_products(rows[of].view(), rows[with].view(), &images[with]);
            let after = (&features[of] * &features[with]).sum_axis(Axis(0));
            before * of_before + after * of_after
        };
        let (own, other, common) = (products(0, 0), products(1, 1), products(1, 0));
        let scale = |(row, (i, j)): (usize, &(usize, usize))| {
            let ratio = sensitivity(&self.s_b, *j) / sensitivity(&self.s_a, *i);
            best_scale([own[row], other[row], common[row]], ratio) as f32
        };
        Ok(pairs.iter().enumerate().map(scale).collect())
    }

    /// w_j − w_i of each pair.
    pub(super) fn differences(&self, pairs: &[(usize, usize)]) -> Array2<f64> {
        let mut differences = Array2::zeros((pairs.len(), self.w_a.ncols()));
        for ((i, j), mut row) in pairs.iter().zip(differences.rows_mut()) {
            let weights = self.w_b.row(*j).into_iter().zip(self.w_a.row(*i));
            let values = row.iter_mut().zip(weights);
            values.for_each(|(to, (b, a))| *to = f64::from(*b) - f64::from(*a));
        }
        differences
    }

    /// The square root of the weight of each pair's error.
    pub(super) fn roots(&self, pairs: &[(usize, usize)]) -> Array1<f64> {
        let weight = |(i, j): &(usize, usize)| {
            (sensitivity(&self.s_a, *i) * sensitivity(&self.s_b, *j)).sqrt()
        };
        let weights: Array1<f64> = pairs.iter().map(weight).collect();
        let least = weights.mean().unwrap_or(1.0) * LEAST;
        let floor = if least > 0.0 { least } else { 1.0 };
        weights.mapv(|weight| weight.max(floor).sqrt())
    }
}

/// The scale with the least cost, for the products a, b and c and the ratio r; 1 where there is none.
fn best_scale([a, b, c]: [f64; 3], r: f64) -> f64 {
    let half = (r * b - a) / 2.0;
    // Of two equal forms of the root, the one without a difference of close numbers.
    let root = (half * half + r * c * c).sqrt();
    let scale = if half > 0.0 { (half + root) / (r * c) } else { c / (root - half) };
    match scale > 0.0 && c > 0.0 {
        true => scale.clamp(1.0 / MOST_SCALE, MOST_SCALE),
        false => 1.0,
    }
}

/// Makes each column of U as long as its row of V.
fn balance(left: &mut Array2<f64>, right: &mut Array2<f64>) {
    for (mut column, mut row) in left.columns_mut().into_iter().zip(right.rows_mut()) {
        let (a, b) = (column.dot(&column), row.dot(&row));
        if a > 0.0 && b > 0.0 {
            let factor = (b / a).sqrt().sqrt();
            column *= factor;
            row /= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mtz::solver::cholesky::DAMPING;
    use crate::mtz::solver::pair_cost::Metric;
    use crate::mtz::solver::pair_cost::tests::{problem, sensitivities};
    use proptest::prelude::*;

    #[test]
    fn multiples_are_found() {
        let mut p = problem(9, 4, 3, 5);
        let pairs = [(0, 2), (3, 0), (1, 1)];
        for ((i, j), scale) in pairs.iter().zip([0.5, 2.0, 100.0]) {
            let weights = p.w_a.row(*i).mapv(|w| w * scale);
            p.w_b.row_mut(*j).assign(&weights);
        }
        let found = p.scales(&pairs, None, 0.0).unwrap();
        let wanted = [0.5, 2.0, 4.0];
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?}");
    }

    /// The total cost of all pairs with B's correction.
    fn left_over(p: &Problem, pairs: &[(usize, usize)], rank: usize) -> f64 {
        let found = p.low_rank(pairs, rank, None, 0.0).unwrap().unwrap();
        let mut p = p.clone();
        let change = found.change.sum();
        for ((_, j), change) in pairs.iter().zip(change.rows()) {
            p.w_b.row_mut(*j).zip_mut_with(&change, |w, c| *w -= c);
        }
        let cost = p.cost(Metric::Hessian, 0.0).unwrap();
        pairs.iter().map(|pair| cost[*pair]).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn each_rank_takes_what_it_says(inputs in 2usize..12, seed: u64) {
            let p = problem(inputs, 4, 4, seed);
            let pairs: Vec<_> = (0..4).map(|i| (i, 3 - i)).collect();
            let gains = p.low_rank(&pairs, 0, None, 0.0).unwrap().unwrap().gains;
            for rank in 0..=4 {
                let left: f64 = gains.iter().skip(rank).sum::<f64>() / 2.0;
                let found = left_over(&p, &pairs, rank);
                prop_assert!((found - left).abs() < 1e-4 * (1e-3 + gains[0]), "{found} {left}");
            }
        }

        #[test]
        fn no_other_scale_costs_less(products in [0.1f64..9.0, 0.1f64..9.0], r in 0.1f64..9.0, part in 0.0f64..1.0) {
            let [a, b] = products;
            let c = part * (a * b).sqrt();
            let cost = |s: f64| (s * s * a - 2.0 * s * c + b) / (1.0 + r * s * s);
            let found = cost(best_scale([a, b, c], r));
            for step in 0..=40 {
                let other = MOST_SCALE.powf(step as f64 / 20.0 - 1.0);
                prop_assert!(c == 0.0 || found <= cost(other) * (1.0 + 1e-9), "{found} {other}");
            }
        }

        #[test]
        fn all_ranks_are_the_difference(inputs in 2usize..12, seed: u64) {
            let mut p = problem(inputs, 4, 3, seed);
            p.s_a = sensitivities(4, seed ^ 4);
            p.s_b = sensitivities(3, seed ^ 5);
            let pairs = [(0, 2), (3, 0), (1, 1)];
            let found = p.low_rank(&pairs, 3, None, DAMPING).unwrap().unwrap();
            let change = found.change.sum().mapv(f64::from);
            let wanted = p.differences(&pairs);
            prop_assert!((&change - &wanted).iter().all(|d| d.abs() < 1e-3));
        }
    }
}
