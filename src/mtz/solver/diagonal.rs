//! Hessians of tables, whose inputs are one-hot: mean x xᵀ is diagonal, and its entries are the
//! frequencies of picked rows.
//!
//! Inputs are independent, so eqs. 10–12 become quotients of numbers. Let a and b be the damped entries
//! of one input, times the weights of the two neurons' errors. Then its part of a pair's cost is ½ a
//! b/(a + b) δ², and the common weight is w_j + a/(a + b) δ.

use std::sync::Arc;

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis};

use super::cholesky::relative_ridge;
use super::distances::half_distances;
use crate::calib::wide::widened;

/// Least damping, so that rows that were never picked get the mean of both weights.
const LEAST_DAMPING: f64 = 1e-6;

/// A diagonal matrix, times a factor.
#[derive(Debug, Clone)]
pub struct Diagonal {
    entries: Arc<Array1<f64>>,
    factor: f64,
}

impl Diagonal {
    /// The frequencies of rows from their counts, and a constant input without a weight. If no row was
    /// picked at all, all rows get the same frequency.
    pub fn of_counts(counts: &Array1<f64>) -> Diagonal {
        let total = counts.sum();
        let alike = 1.0 / counts.len().max(1) as f64;
        let frequency = |count: &f64| if total > 0.0 { count / total } else { alike };
        let entries = counts.iter().map(frequency).chain([0.0]).collect::<Vec<f64>>();
        Diagonal { entries: Arc::new(entries.into()), factor: 1.0 }
    }

    /// Number of inputs.
    pub fn size(&self) -> usize {
        self.entries.len()
    }

    /// The entries' sum.
    pub fn trace(&self) -> f64 {
        self.factor * self.entries.sum()
    }

    /// The matrix times a factor.
    pub fn times(self, factor: f64) -> Diagonal {
        Diagonal { factor: self.factor * factor, ..self }
    }

    /// The entries.
    pub(super) fn entries(&self) -> Array1<f64> {
        self.entries.as_ref() * self.factor
    }

    /// The matrix of some of the inputs, in the given order.
    ///
    /// # Panics
    /// Where there is no such input.
    pub fn select(&self, inputs: &[usize]) -> Diagonal {
        Diagonal { entries: Arc::new(self.entries.select(Axis(0), inputs)), factor: self.factor }
    }

    /// The sum of matrices, each over inputs that stand at some places among `size`.
    pub(super) fn sum(parts: [(&Diagonal, &[usize]); 2], size: usize) -> Diagonal {
        let mut entries = Array1::zeros(size);
        for (part, places) in parts {
            let own = part.entries();
            places.iter().zip(&own).for_each(|(place, entry)| entries[*place] += entry);
        }
        Diagonal { entries: Arc::new(entries), factor: 1.0 }
    }

    /// wᵀ H w for each row w of `weights`.
    pub(super) fn mean_square<T: Copy + Into<f64> + Sync>(
        &self,
        weights: ArrayView2<T>,
    ) -> Array1<f64> {
        let squares = |row: ArrayView1<T>| {
            let terms = row.iter().zip(self.entries.iter());
            self.factor * terms.map(|(w, h)| (*w).into() * (*w).into() * h).sum::<f64>()
        };
        weights.axis_iter(Axis(0)).into_par_iter().map(squares).collect::<Vec<f64>>().into()
    }

    /// The mean of each row of `weights` times the inputs: for one-hot inputs, the entries are the means.
    pub(super) fn means(&self, weights: ArrayView2<f32>) -> Array1<f64> {
        let mean = |row: ArrayView1<f32>| {
            let terms = row.iter().zip(self.entries.iter());
            self.factor * terms.map(|(w, h)| f64::from(*w) * h).sum::<f64>()
        };
        weights.axis_iter(Axis(0)).into_par_iter().map(mean).collect::<Vec<f64>>().into()
    }

    /// ½ (w_i − w_j)ᵀ H (w_i − w_j) for all rows i of one weight and j of another.
    pub(super) fn distances(&self, weights: [ArrayView2<f32>; 2]) -> Array2<f64> {
        distances(self.entries().view(), weights)
    }

    /// The entries of the damped inverse.
    pub(super) fn inverse(&self, ridge: f64) -> Array1<f64> {
        self.entries().mapv(|entry| (entry + ridge).recip())
    }

    fn damped(&self, damping: f64) -> Array1<f64> {
        self.entries() + relative_ridge(self.trace(), self.size(), damping.max(LEAST_DAMPING))
    }
}

fn distances(entries: ArrayView1<f64>, weights: [ArrayView2<f32>; 2]) -> Array2<f64> {
    let images = weights.map(|w| {
        let mut image = widened(w.t());
        image.axis_iter_mut(Axis(0)).zip(entries).for_each(|(mut row, entry)| row *= *entry);
        image
    });
    half_distances(weights, [images[0].view(), images[1].view()])
}

/// Two diagonal Hessians, damped.
pub(super) struct Diagonals([Array1<f64>; 2]);

impl Diagonals {
    /// Two Hessians over the same inputs; `damping` counts relative to each one's mean entry.
    pub(super) fn of(both: [&Diagonal; 2], damping: f64) -> Diagonals {
        Diagonals(both.map(|own| own.damped(damping)))
    }

    /// The cost of each pair if an error of A counts r = 2^`level` times an error of B.
    pub(super) fn cost(&self, weights: [ArrayView2<f32>; 2], level: f64) -> Array2<f64> {
        let root = level.exp2().sqrt();
        let [a, b] = &self.0;
        let joined = a.iter().zip(b).map(|(a, b)| {
            let (a, b) = (a * root, b / root);
            a * b / (a + b)
        });
        distances(joined.collect::<Array1<f64>>().view(), weights)
    }

    /// Fuses `row` of B with its counterpart `own` of A at levels, by their parts. Equal rows keep their
    /// weights bit for bit.
    pub(super) fn join(
        &self,
        own: ArrayView1<f32>,
        mut row: ArrayViewMut1<f32>,
        levels: [(f64, f64); 2],
    ) {
        let ratios = levels.map(|(level, part)| (level.exp2(), part));
        let [a, b] = &self.0;
        for (((w, own), a), b) in row.iter_mut().zip(own).zip(a).zip(b) {
            let (here, there) = (f64::from(*w), f64::from(*own));
            let step: f64 =
                ratios.iter().map(|(ratio, part)| part * a * ratio / (a * ratio + b)).sum();
            *w = (here + step * (there - here)) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::product::tests::random;
    use crate::mtz::solver::hessian::Hessian;
    use crate::mtz::solver::pair_cost::tests::{sensitivities, single};
    use crate::mtz::solver::pair_cost::{Metric, Problem};
    use ndarray::array;

    fn problem(as_matrix: bool, sensitive: bool) -> Problem {
        let hessian = |counts: Array1<f64>, factor: f64| {
            let diagonal = Diagonal::of_counts(&counts).select(&[0, 1, 2, 3]).times(factor);
            match as_matrix {
                true => Array2::from_diag(&diagonal.entries()).into(),
                false => Hessian::Diagonal(diagonal),
            }
        };
        Problem {
            h_a: hessian(array![3.0, 0.0, 1.0, 2.0], 0.6),
            h_b: hessian(array![1.0, 1.0, 0.0, 5.0], 0.4),
            w_a: single(random(5, 4, 1)),
            w_b: single(random(3, 4, 2)),
            s_a: sensitive.then(|| sensitivities(5, 3)).flatten(),
            s_b: sensitive.then(|| sensitivities(3, 4)).flatten(),
        }
    }

    #[test]
    fn costs_and_common_weights_are_those_of_the_matrix() {
        let pairs = [(0, 2), (4, 0), (2, 1)];
        for sensitive in [false, true] {
            let [diagonal, matrix] = [false, true].map(|m| problem(m, sensitive));
            for metric in [Metric::Hessian, Metric::Weight, Metric::Activation] {
                let costs = [&diagonal, &matrix].map(|p| p.cost(metric, 1e-3).unwrap());
                let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9 * (1.0 + b.abs());
                assert!(costs[0].iter().zip(&costs[1]).all(near), "{costs:?}");
            }
            let fused = [&diagonal, &matrix].map(|p| p.fuse(&pairs, 1e-3).unwrap());
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
            assert!(fused[0].iter().zip(&fused[1]).all(near), "{fused:?}");
        }
    }

    #[test]
    fn equal_rows_stay_bit_for_bit_and_rows_nobody_picked_get_their_mean() {
        let mut p = problem(false, false);
        let equal = p.w_a.row(1).to_owned();
        p.w_b.row_mut(2).assign(&equal);
        assert_eq!(p.fuse(&[(1, 2)], 0.0).unwrap().row(0), equal);
        let none = |factor| {
            Hessian::Diagonal(
                Diagonal::of_counts(&Array1::zeros(4)).select(&[0, 1, 2, 3]).times(factor),
            )
        };
        (p.h_a, p.h_b) = (none(0.5), none(0.5));
        let mean = (&p.w_a.row(0) + &p.w_b.row(0)) / 2.0;
        let fused = p.fuse(&[(0, 0)], 0.0).unwrap();
        assert!(fused.row(0).iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
