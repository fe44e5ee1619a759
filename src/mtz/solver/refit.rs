//! Refitting a layer: after the layers below were zipped, least squares from the inputs it gets now
//! to the pre-activations it had in the original net.
//!
//! The paper keeps the original weights here. Refitting absorbs the drift of earlier layers before
//! neurons are paired, and gives task-specific weights the same correction without any labels.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Zip, s};

use crate::calib::gram::Moments;
use crate::calib::product::{add_times, submatrix};
use crate::error::{Error, ErrorKind, Result};

use super::cholesky::{Spd, ridge};

/// W = argmin Σ ‖W x − y‖² + λ ‖W − W₀‖² over the rows of `moments`, that is
/// (Σ x xᵀ + λ I) Wᵀ = Σ x yᵀ + λ W₀ᵀ, with λ = `damping` times the mean diagonal entry.
///
/// `current` is W₀, outputs × (inputs + 1) with the bias as last column, and so is the result. The
/// ridge pulls towards the current weights, so inputs that never vary keep them.
///
/// # Errors
/// [`ErrorKind::Calibration`] where `moments` have no targets or saw no rows,
/// [`ErrorKind::Numeric`] where the system cannot be solved.
///
/// # Panics
/// Where the shape of `current` does not fit.
pub fn refit(moments: &Moments, current: ArrayView2<f64>, damping: f64) -> Result<Array2<f64>> {
    let (hessian, missing) = normal_equations(moments, current)?;
    let step = Spd::factor(hessian.view(), ridge(hessian.view(), damping))?.solve(missing.view());
    finite(&current + &step.t())
}

/// Part of a layer's weights that are zero in a net that was pruned, at least.
const SPARSE: f64 = 0.05;

/// The weights of a pruned layer that are not zero, outputs × inputs; `None` for a dense layer. Biases,
/// the last column of `weights`, do not count.
pub fn connections(weights: &Array2<f64>) -> Option<Array2<bool>> {
    let inputs = weights.slice(s![.., ..weights.ncols().saturating_sub(1)]);
    let zeros = inputs.iter().filter(|w| **w == 0.0).count();
    (zeros as f64 > SPARSE * inputs.len() as f64).then(|| inputs.mapv(|w| w != 0.0))
}

/// [`refit`] for sparse nets (sec. 3.6): of the weights only those that `kept` (outputs × inputs) names
/// stay, the others become zero; the bias stays if there is one (`bias`). Each output solves for its own
/// connections.
///
/// # Errors
/// As [`refit`].
///
/// # Panics
/// As [`refit`].
pub fn refit_sparse(
    moments: &Moments,
    current: ArrayView2<f64>,
    kept: &Array2<bool>,
    bias: bool,
    damping: f64,
) -> Result<Array2<f64>> {
    let mut weights = current.to_owned();
    Zip::from(weights.slice_mut(s![.., ..kept.ncols()])).and(kept).for_each(|w, kept| {
        if !kept {
            *w = 0.0;
        }
    });
    let (hessian, missing) = normal_equations(moments, weights.view())?;
    let ridge = ridge(hessian.view(), damping);
    let rows = weights.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
    rows.try_for_each(|(output, mut row)| -> Result<()> {
        let constant = bias.then_some(kept.ncols());
        let kept: Vec<usize> =
            (0..kept.ncols()).filter(|i| kept[(output, *i)]).chain(constant).collect();
        let own = submatrix(hessian.view(), &kept, &kept);
        let wanted = missing.column(output).select(Axis(0), &kept).insert_axis(Axis(1));
        let step = Spd::factor(own.view(), ridge)?.solve(wanted.view());
        kept.iter().zip(&step).for_each(|(i, change)| row[*i] += change);
        Ok(())
    })?;
    finite(weights)
}

/// Per output the mean squared error of `weights` on the rows of `moments`.
///
/// # Errors
/// [`ErrorKind::Calibration`] where `moments` have no targets or saw no rows.
///
/// # Panics
/// Where the shape of `weights` does not fit.
pub fn residual(moments: &Moments, weights: ArrayView2<f64>) -> Result<Array1<f64>> {
    let (_, missing) = normal_equations(moments, weights)?;
    let (cross, squares) = targets(moments)?;
    let n = moments.rows()?;
    // yᵀy − 2 wᵀX y + wᵀ X Xᵀ w = yᵀy − wᵀ X y − wᵀ (X y − X Xᵀ w)
    let per_output = Zip::from(weights.rows()).and(cross.columns()).and(missing.columns());
    let fitted = per_output.map_collect(|w, xy, left| w.dot(&xy) / n + w.dot(&left));
    Ok(Zip::from(&fitted).and(squares).map_collect(|fit, yy| (yy / n - fit).max(0.0)))
}

/// Mean x xᵀ, and what `weights` leave of mean x yᵀ: mean x yᵀ − (mean x xᵀ) Wᵀ.
fn normal_equations(
    moments: &Moments,
    weights: ArrayView2<f64>,
) -> Result<(Array2<f64>, Array2<f64>)> {
    let (cross, _) = targets(moments)?;
    let hessian = moments.scaled(1.0)?;
    let mut missing = &cross / moments.rows()?;
    add_times(-1.0, hessian.view(), weights.t(), missing.view_mut());
    Ok((hessian, missing))
}

fn targets(moments: &Moments) -> Result<(ArrayView2<'_, f64>, ArrayView1<'_, f64>)> {
    moments.cross().zip(moments.target_squares()).ok_or_else(|| {
        Error::new(ErrorKind::Calibration, "a layer was calibrated without its pre-activations")
    })
}

fn finite(weights: Array2<f64>) -> Result<Array2<f64>> {
    if weights.iter().all(|w| w.is_finite()) {
        return Ok(weights);
    }
    Err(Error::new(ErrorKind::Numeric, "a layer's refitted weights are not finite"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::product::tests::random;
    use crate::mtz::solver::cholesky::DAMPING;
    use ndarray::s;

    /// Moments of random rows whose targets are `weights` · [x, 1] plus `noise`.
    fn calibrated(weights: &Array2<f64>, rows: usize, noise: &Array2<f64>) -> Moments {
        let inputs = weights.ncols() - 1;
        let x = random(rows, inputs, 1).mapv(|v| v as f32);
        let wide = x.mapv(f64::from);
        let y = wide.dot(&weights.slice(s![.., ..inputs]).t()) + weights.column(inputs) + noise;
        let mut moments = Moments::with_targets(inputs, weights.nrows());
        moments.push_with(x.view(), y.mapv(|v| v as f32).view()).unwrap();
        moments
    }

    fn worst(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
        (a - b).iter().fold(0.0, |worst, d| worst.max(d.abs()))
    }

    #[test]
    fn known_weights_are_found_again() {
        let truth = random(5, 13, 2);
        let moments = calibrated(&truth, 400, &Array2::zeros((400, 5)));
        let found = refit(&moments, Array2::zeros((5, 13)).view(), 1e-9).unwrap();
        assert!(worst(&found, &truth) < 1e-5);
        assert!(residual(&moments, found.view()).unwrap().iter().all(|e| *e < 1e-6));
    }

    #[test]
    fn the_solution_is_the_least_ridge_objective() {
        let (truth, current) = (random(3, 7, 3), random(3, 7, 4));
        let moments = calibrated(&truth, 50, &random(50, 3, 5));
        let lambda = ridge(moments.scaled(1.0).unwrap().view(), 0.5);
        let objective = |w: &Array2<f64>| {
            let pull = (w - &current).mapv(|d| d * d).sum_axis(Axis(1)) * lambda;
            residual(&moments, w.view()).unwrap() + pull
        };
        let found = refit(&moments, current.view(), 0.5).unwrap();
        let least = objective(&found);
        for seed in 0..20 {
            let other = &found + &random(3, 7, seed) * 0.05;
            assert!(objective(&other).iter().zip(&least).all(|(o, l)| o > l));
        }
    }

    #[test]
    fn the_residual_is_the_mean_squared_error() {
        let (truth, noise) = (random(3, 7, 3), random(50, 3, 5));
        let moments = calibrated(&truth, 50, &noise);
        let wanted = (&noise * &noise).mean_axis(Axis(0)).unwrap();
        let found = residual(&moments, truth.view()).unwrap();
        assert!((found - wanted).iter().all(|d| d.abs() < 1e-5));
    }

    #[test]
    fn weights_that_fit_already_and_dead_inputs_stay() {
        let truth = random(4, 9, 6);
        let mut rows = random(60, 8, 1).mapv(|v| v as f32);
        rows.column_mut(2).fill(0.0);
        let y = rows.mapv(f64::from).dot(&truth.slice(s![.., ..8]).t()) + truth.column(8);
        let mut moments = Moments::with_targets(8, 4);
        moments.push_with(rows.view(), y.mapv(|v| v as f32).view()).unwrap();
        let kept = refit(&moments, truth.view(), DAMPING).unwrap();
        assert!(worst(&kept, &truth) < 1e-5);
        assert_eq!(kept.column(2), truth.column(2));
    }

    #[test]
    fn sparse_refits_keep_zeros_and_use_only_their_connections() {
        let mut current = random(6, 9, 7);
        current.mapv_inplace(|w| if w < 0.2 { 0.0 } else { w });
        current.row_mut(5).fill(0.0);
        let noise = random(80, 6, 8);
        let moments = calibrated(&random(6, 9, 9), 80, &noise);
        let kept = current.slice(s![.., ..8]).mapv(|w| w != 0.0);
        let found = refit_sparse(&moments, current.view(), &kept, true, DAMPING).unwrap();
        for (row, (new, old)) in found.outer_iter().zip(current.outer_iter()).enumerate() {
            assert!(new.iter().zip(old).take(8).all(|(n, o)| *o != 0.0 || *n == 0.0));
            // Nothing is left to gain along the connections there are: the gradient is the ridge's.
            let (hessian, missing) = normal_equations(&moments, found.view()).unwrap();
            let lambda = ridge(hessian.view(), DAMPING);
            for i in (0..9).filter(|i| *i == 8 || old[*i] != 0.0) {
                let gradient = missing[(i, row)] - lambda * (new[i] - old[i]);
                assert!(gradient.abs() < 1e-9, "gradient {gradient}");
            }
        }
    }

    #[test]
    fn a_full_mask_is_no_mask() {
        let current = random(4, 9, 7);
        let moments = calibrated(&random(4, 9, 9), 80, &random(80, 4, 8));
        let dense = refit(&moments, current.view(), DAMPING).unwrap();
        let all = Array2::from_elem((4, 8), true);
        let sparse = refit_sparse(&moments, current.view(), &all, true, DAMPING).unwrap();
        assert!(worst(&dense, &sparse) < 1e-10);
    }

    #[test]
    fn targets_and_samples_are_needed() {
        let kind = |m: &Moments| refit(m, Array2::zeros((2, 4)).view(), 0.1).unwrap_err().kind();
        assert_eq!(kind(&Moments::new(3)), ErrorKind::Calibration);
        assert_eq!(kind(&Moments::with_targets(3, 2)), ErrorKind::Calibration);
    }
}
