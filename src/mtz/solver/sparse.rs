//! Refits of pruned layers, whose zeros are no connections (sec. 3.6).
//!
//! Rows with the same connections are solved together, with one factor. A pruned neuron, a row of zeros, has
//! none, so only its bias is fitted.

use std::collections::BTreeMap;

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, Zip, s};

use super::cholesky::Spd;
use super::hessian::{Scaled, block};
use super::observations::Observations;
use super::refit::{Fit, finite};
use super::samples::Samples;
use crate::calib::product::submatrix;
use crate::calib::wide::{add_half_wide, add_wide, times_wide, widened};
use crate::error::Result;

/// A layer counts as pruned if at least this part of its weights is zero.
const SPARSE: f64 = 0.05;

/// The weights without the biases, the last column.
fn inputs(weights: ArrayView2<'_, f32>) -> ArrayView2<'_, f32> {
    let count = weights.ncols().saturating_sub(1);
    weights.slice_move(s![.., ..count])
}

/// Whether zeros of a layer's weights, outputs × (inputs + 1), mean "no connection". Pruned neurons, rows of
/// zeros, do not count unless there are no others, and biases, the last column, never do.
pub fn is_sparse(weights: ArrayView2<f32>) -> bool {
    let inputs = inputs(weights);
    let (mut zeros, mut all) = (0, 0);
    for row in inputs.rows() {
        let none = row.iter().filter(|w| **w == 0.0).count();
        if none < row.len() {
            (zeros, all) = (zeros + none, all + row.len());
        }
    }
    zeros as f64 > SPARSE * all as f64 || (all == 0 && !inputs.is_empty())
}

/// The connections of a layer, outputs × inputs: the weights of a sparse layer that are not zero, or all
/// weights of the rows that are not pruned as a whole. `None` where those are all weights.
pub fn connections(weights: ArrayView2<f32>) -> Option<Array2<bool>> {
    let inputs = inputs(weights);
    if is_sparse(weights) {
        return Some(inputs.mapv(|w| w != 0.0));
    }
    let is_alive = |row: ArrayView1<f32>| row.iter().any(|w| *w != 0.0);
    let alive: Vec<bool> = inputs.rows().into_iter().map(is_alive).collect();
    alive.contains(&false).then(|| Array2::from_shape_fn(inputs.dim(), |(row, _)| alive[row]))
}

/// [`super::refit::refit`] of sparse layers. Only the weights in `kept` (outputs × inputs) are fitted, and
/// the others become zero. The bias is fitted if there is one (`bias`); without one the last column is zero.
///
/// # Errors
/// As [`super::refit::refit`].
///
/// # Panics
/// As [`super::refit::refit`].
pub fn refit_sparse(
    observed: &Observations,
    mut weights: ArrayViewMut2<f32>,
    kept: &Array2<bool>,
    bias: bool,
    damping: f64,
) -> Result<()> {
    Zip::from(weights.slice_mut(s![.., ..kept.ncols()])).and(kept).for_each(|w, kept| {
        if !kept {
            *w = 0.0;
        }
    });
    let fit = Fit::of(observed)?;
    let mut groups: BTreeMap<Vec<bool>, Vec<Row<'_>>> = BTreeMap::new();
    for (output, weights) in weights.axis_iter_mut(Axis(0)).enumerate() {
        let mask = kept.row(output).iter().copied().chain([bias]).collect();
        groups.entry(mask).or_default().push(Row { output, weights });
    }
    let groups: Vec<(Vec<bool>, Vec<Row<'_>>)> = groups.into_iter().collect();
    groups.into_par_iter().try_for_each(|(mask, mut rows)| {
        let kept: Vec<usize> = (0..mask.len()).filter(|input| mask[*input]).collect();
        match &fit {
            _ if kept.is_empty() => Ok(()),
            Fit::Means { hessian, cross, .. } => {
                fit_to_means(hessian, cross, &kept, &mut rows, damping)
            }
            Fit::Rows { samples, targets } => {
                fit_to_rows(samples, targets, &kept, &mut rows, damping)
            }
        }
    })?;
    finite(weights.view())
}

/// One output's weights.
struct Row<'w> {
    output: usize,
    weights: ArrayViewMut1<'w, f32>,
}

/// Moves the weights of rows for the inputs in `kept`, block by block. `step` computes the step of a block,
/// inputs × rows, from the rows' outputs and these weights, rows × inputs.
fn move_rows(
    rows: &mut [Row<'_>],
    kept: &[usize],
    step: impl Fn(&[usize], ArrayView2<f32>) -> Array2<f64>,
) {
    for rows in rows.chunks_mut(block(kept.len())) {
        let outputs: Vec<usize> = rows.iter().map(|row| row.output).collect();
        let weight = |(row, input): (usize, usize)| rows[row].weights[kept[input]];
        let weights = Array2::from_shape_fn((rows.len(), kept.len()), weight);
        let step = step(&outputs, weights.view());
        for (row, step) in rows.iter_mut().zip(step.columns()) {
            for (input, step) in kept.iter().zip(step) {
                row.weights[*input] = (f64::from(row.weights[*input]) + step) as f32;
            }
        }
    }
}

/// Fits rows with the same connections to mean x xᵀ and mean x yᵀ.
fn fit_to_means(
    hessian: &Scaled,
    cross: &Array2<f64>,
    kept: &[usize],
    rows: &mut [Row<'_>],
    damping: f64,
) -> Result<()> {
    let some = (kept.len() < cross.nrows()).then(|| submatrix(hessian.matrix(), kept, kept));
    let own = some.as_ref().map_or(hessian.matrix(), |own| own.view());
    let factor = Spd::factor(own, hessian.ridge(damping))?;
    move_rows(rows, kept, |outputs, weights| {
        let mut missing = submatrix(cross.view(), kept, outputs);
        add_half_wide(-hessian.factor(), own, weights.t(), missing.view_mut());
        factor.solve(missing.view()) / hessian.factor()
    });
    Ok(())
}

/// Fits rows with the same connections to all x and y.
fn fit_to_rows(
    samples: &Samples,
    targets: &Array2<f32>,
    kept: &[usize],
    rows: &mut [Row<'_>],
    damping: f64,
) -> Result<()> {
    let ridge = samples.ridge(damping);
    let samples = samples.select(kept);
    // With more connections than samples, the matrix of samples × samples is the smaller one.
    let wide = (kept.len() <= samples.rows().nrows()).then(|| widened(samples.rows()));
    let factor = match &wide {
        Some(x) => Spd::factor((x.t().dot(x) * samples.scale()).view(), ridge)?,
        None => samples.factor(ridge)?,
    };
    move_rows(rows, kept, |outputs, weights| {
        let mut missing = widened(targets.select(Axis(1), outputs).view());
        add_wide(-1.0, samples.rows(), weights.t(), missing.view_mut());
        match &wide {
            Some(x) => factor.solve((x.t().dot(&missing) * samples.scale()).view()),
            // (XᵀX/n + λI)⁻¹ Xᵀr/n = Xᵀ (XXᵀ/n + λI)⁻¹ r/n
            None => {
                let solved = factor.solve(missing.view());
                times_wide(samples.rows().t(), solved.view()) * samples.scale()
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::product::tests::random;
    use crate::mtz::solver::cholesky::DAMPING;
    use crate::mtz::solver::refit::tests::{calibrated, single, worst};
    use crate::mtz::solver::refit::{refit, residual};

    #[test]
    fn sparse_refits_keep_zeros_and_use_only_their_connections() {
        let mut current = single(6, 9, 7);
        current.mapv_inplace(|w| if w < 0.2 { 0.0 } else { w });
        current.row_mut(5).fill(0.0);
        let kept = current.slice(s![.., ..8]).mapv(|w| w != 0.0);
        for observed in calibrated(&single(6, 9, 9), 80, &random(80, 6, 8)) {
            let mut found = current.clone();
            refit_sparse(&observed, found.view_mut(), &kept, true, DAMPING).unwrap();
            let lambda = observed.hessian().ridge(DAMPING);
            let before = residual(&observed, found.view()).unwrap();
            for (row, (new, old)) in found.outer_iter().zip(current.outer_iter()).enumerate() {
                assert!(new.iter().zip(old).take(8).all(|(n, o)| *o != 0.0 || *n == 0.0));
                // At the optimum, the gradient along existing connections is that of the ridge.
                for i in (0..9).filter(|i| *i == 8 || old[*i] != 0.0) {
                    let mut moved = found.clone();
                    moved[(row, i)] += 1e-2;
                    let rise = residual(&observed, moved.view()).unwrap()[row] - before[row];
                    let curvature = observed.hessian().mean_square((&moved - &found).view())[row];
                    let slope = (rise - curvature) / 2e-2 + lambda * f64::from(new[i] - old[i]);
                    assert!(slope.abs() < 1e-4, "slope {slope}");
                }
            }
        }
    }

    #[test]
    fn a_full_mask_is_no_mask() {
        let current = single(4, 9, 7);
        let all = Array2::from_elem((4, 8), true);
        for observed in calibrated(&single(4, 9, 9), 80, &random(80, 4, 8)) {
            let (mut dense, mut sparse) = (current.clone(), current.clone());
            refit(&observed, dense.view_mut(), DAMPING).unwrap();
            refit_sparse(&observed, sparse.view_mut(), &all, true, DAMPING).unwrap();
            assert!(worst(&dense, &sparse) < 1e-6);
        }
    }

    /// The result for each row by itself.
    fn one_by_one(
        observed: &Observations,
        current: &Array2<f32>,
        kept: &Array2<bool>,
    ) -> Array2<f32> {
        let mut found = current.clone();
        for row in 0..current.nrows() {
            let mut all = current.clone();
            let own = |(at, input): (usize, usize)| at == row && kept[(row, input)];
            let mask = Array2::from_shape_fn(kept.dim(), own);
            refit_sparse(observed, all.view_mut(), &mask, true, DAMPING).unwrap();
            found.row_mut(row).assign(&all.row(row));
        }
        found
    }

    #[test]
    fn rows_with_the_same_mask_get_what_they_get_alone() {
        let current = single(6, 9, 7);
        let mut kept = single(6, 8, 5).mapv(|w| w > -0.5);
        for (row, like) in [(2, 0), (5, 0), (4, 3)] {
            let mask = kept.row(like).to_owned();
            kept.row_mut(row).assign(&mask);
        }
        kept.row_mut(1).fill(false);
        for samples in [4, 80] {
            for observed in calibrated(&single(6, 9, 9), samples, &random(samples, 6, 8)) {
                let mut found = current.clone();
                refit_sparse(&observed, found.view_mut(), &kept, true, DAMPING).unwrap();
                assert!(worst(&found, &one_by_one(&observed, &current, &kept)) < 1e-4);
                assert!(found.row(1).iter().take(8).all(|w| *w == 0.0));
            }
        }
    }

    #[test]
    fn few_rows_and_their_sums_lead_to_the_same_weights() {
        for rows in [1, 3, 12, 40] {
            let current = single(4, 25, 4);
            let observed = calibrated(&single(4, 25, 3), rows, &random(rows, 4, 5));
            let kept = single(4, 24, 6).mapv(|w| w > 0.3);
            let [sums, few] = observed.map(|observed| {
                let mut weights = current.clone();
                refit_sparse(&observed, weights.view_mut(), &kept, true, 1e-2).unwrap();
                weights
            });
            assert!(worst(&sums, &few) < 5e-4, "{rows} rows");
        }
    }

    #[test]
    fn pruned_neurons_make_no_layer_sparse_and_stay_pruned() {
        let mut weights = single(10, 9, 3);
        assert!(connections(weights.view()).is_none() && !is_sparse(weights.view()));
        for row in [2, 3, 7] {
            weights.slice_mut(s![row, ..8]).fill(0.0);
        }
        assert!(!is_sparse(weights.view()));
        let kept = connections(weights.view()).unwrap();
        for (row, kept) in kept.outer_iter().enumerate() {
            assert!(kept.iter().all(|kept| *kept != [2, 3, 7].contains(&row)));
        }
        weights.slice_mut(s![..2, ..4]).fill(0.0);
        assert!(is_sparse(weights.view()));
        assert!(!connections(weights.view()).unwrap()[(0, 0)]);
        assert!(is_sparse(Array2::zeros((3, 4)).view()));
        assert!(!is_sparse(Array2::zeros((3, 1)).view()));
    }
}
