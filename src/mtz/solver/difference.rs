//! Differences in few bits, which a task adds to common weights.
//!
//! Where the neurons of B join those of A, the cost of all pairs is ½ Σ δᵀ P δ over the rows δ = w_j − w_i of Δ
//! ([`super::pair_cost`]). If B adds D to the common weights, δ − d is left in place of δ. D has whole numbers
//! of 4 or 8 bits, times one step per row. With P = Uᵀ U, what is left of a row costs ‖U (δ − d)‖². Numbers are
//! chosen from the last column to the first: each rounds its entry plus what the numbers behind it left
//! over, as far as it can make up for that (as GPTQ does),
//!
//!   d_c ≈ δ_c + Σ_{k > c} (U_ck / U_cc) (δ_k − d_k).
//!
//! A and B then get the best common weights of A and of B without D. So of two tasks one has a difference, and of
//! n tasks all but the first. W + D and W − D with half the steps would leave the same cost, and take one more
//! node.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView1, Axis, s};

use super::bits::Bits;
use super::cholesky::{DAMPING, Spd, ridge};
use super::correction::{Change, Correction};
use super::junction::Junction;
use super::pair_cost::Problem;
use crate::error::Result;

/// Inputs up to which numbers make up for others: P takes memory in proportion to their square.
const MOST_INPUTS: usize = 3000;

/// Steps that are tried for each row: parts of the one that makes its largest entry the largest number.
const STEPS: i32 = 12;

impl Problem {
    /// The difference that leaves least of the cost of `pairs`, with the part that it removes and the part
    /// that is left; only these parts unless it is `kept`.
    ///
    /// # Errors
    /// As [`Problem::cost`].
    pub(crate) fn difference(
        &self,
        pairs: &[(usize, usize)],
        bits: Bits,
        kept: bool,
        damping: f64,
    ) -> Result<Correction> {
        let wanted = self.differences(pairs);
        let junction = Junction::of([&self.h_a, &self.h_b], damping);
        let factor = junction.factor(0.0)?;
        let pull = junction.pull(0.0, &factor);
        let upper = match wanted.ncols() <= MOST_INPUTS {
            true => {
                let matrix = pull.products(Array2::eye(wanted.ncols()).view());
                Some(Spd::factor(matrix.view(), ridge(matrix.view(), DAMPING))?.upper())
            }
            false => None,
        };
        let rows: Vec<(Vec<i8>, f32)> = wanted
            .axis_iter(Axis(0))
            .into_par_iter()
            .map(|row| rounded(row, upper.as_ref(), bits.most()))
            .collect();
        let mut numbers = Array2::zeros(wanted.dim());
        for (mut row, (found, _)) in numbers.rows_mut().into_iter().zip(&rows) {
            row.iter_mut().zip(found).for_each(|(to, from)| *to = *from);
        }
        let steps: Vec<f32> = rows.iter().map(|(_, step)| *step).collect();
        let change = Change::Difference { bits, numbers, steps };
        let left = &wanted - &change.sum().mapv(f64::from);
        let weights = self.roots(pairs).mapv(|root| root * root);
        let [before, after] =
            [&wanted, &left].map(|rows| pull.squares(rows.view()).dot(&weights).max(0.0));
        let after = after.min(before);
        Ok(Correction {
            change: if kept { change } else { Change::default() },
            gains: vec![before - after, after],
            ..Correction::default()
        })
    }
}

/// The numbers of a row, and its step.
pub(super) fn rounded(
    row: ArrayView1<f64>,
    upper: Option<&Array2<f64>>,
    most: f64,
) -> (Vec<i8>, f32) {
    let largest = row.iter().fold(0.0f64, |largest, w| largest.max(w.abs()));
    let weight = |column: usize| upper.map_or(1.0, |upper| upper[(column, column)].powi(2));
    let number = |value: f64, step: f64| (value / step).round().clamp(-most, most);
    let mut best: Option<(f64, f32)> = None;
    for part in 0..STEPS {
        let step = (largest / most * (1.0 - f64::from(part) / 20.0)) as f32;
        if !step.is_normal() {
            continue;
        }
        let wide = f64::from(step);
        let error = row
            .indexed_iter()
            .map(|(column, value)| weight(column) * (value - wide * number(*value, wide)).powi(2));
        let error: f64 = error.sum();
        if best.is_none_or(|(least, _)| error < least) {
            best = Some((error, step));
        }
    }
    let Some((_, step)) = best else { return (vec![0; row.len()], 1.0) };
    let wide = f64::from(step);
    let (mut numbers, mut left) = (vec![0i8; row.len()], Array1::<f64>::zeros(row.len()));
    for column in (0..row.len()).rev() {
        let behind = upper.map_or(0.0, |upper| {
            let (factors, left) =
                (upper.slice(s![column, column + 1..]), left.slice(s![column + 1..]));
            factors.dot(&left) / upper[(column, column)]
        });
        let found = number(row[column] + behind, wide);
        numbers[column] = found as i8;
        left[column] = row[column] - wide * found;
    }
    (numbers, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mtz::solver::pair_cost::tests::problem;
    use proptest::prelude::*;

    fn pairs() -> Vec<(usize, usize)> {
        (0..4).map(|i| (i, 3 - i)).collect()
    }

    /// The summed cost of all pairs where B has a difference.
    fn cost_with(p: &Problem, change: &Array2<f32>) -> f64 {
        let mut p = p.clone();
        for ((_, j), change) in pairs().iter().zip(change.rows()) {
            p.w_b.row_mut(*j).zip_mut_with(&change, |w, c| *w -= c);
        }
        let cost = p.cost(super::super::pair_cost::Metric::Hessian, 0.0).unwrap();
        pairs().iter().map(|pair| cost[*pair]).sum()
    }

    /// Each entry rounded by itself, with the step of the largest.
    fn naive(wanted: &Array2<f64>, most: f64) -> Array2<f32> {
        let mut found = wanted.mapv(|v| v as f32);
        for mut row in found.rows_mut() {
            let step = row.iter().fold(0.0f32, |a, b| a.max(b.abs())) / most as f32;
            row.mapv_inplace(|v| (v / step).round() * step);
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_left_is_what_it_says(inputs in 2usize..12, seed: u64) {
            let p = problem(inputs, 4, 4, seed);
            for bits in [Bits::Four, Bits::Eight] {
                let found = p.difference(&pairs(), bits, true, 0.0).unwrap();
                let left = cost_with(&p, &found.change.sum());
                let said = found.gains[1] / 2.0;
                prop_assert!((left - said).abs() < 1e-4 * (1e-3 + found.gains[0]), "{left} {said}");
                let unused = p.difference(&pairs(), bits, false, 0.0).unwrap();
                prop_assert!(unused.change.is_none() && unused.gains == found.gains);
            }
        }
    }

    #[test]
    fn numbers_that_make_up_for_others_leave_less_than_naive_ones() {
        let (mut found, mut naively) = (0.0, 0.0);
        for seed in 0..16 {
            let p = problem(24, 4, 4, seed);
            let difference = p.difference(&pairs(), Bits::Four, true, 0.0).unwrap();
            found += cost_with(&p, &difference.change.sum());
            naively += cost_with(&p, &naive(&p.differences(&pairs()), Bits::Four.most()));
        }
        assert!(found < 0.85 * naively, "{found} against {naively}");
    }

    #[test]
    fn equal_rows_have_no_difference() {
        let mut p = problem(6, 4, 4, 1);
        let same = p.w_a.select(Axis(0), &[3, 2, 1, 0]);
        p.w_b.assign(&same);
        let found = p.difference(&pairs(), Bits::Four, true, 0.0).unwrap();
        assert!(found.change.sum().iter().all(|v| *v == 0.0));
    }
}
