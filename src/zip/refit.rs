//! Refitting a layer: after the layers below were zipped, least squares from the inputs it gets now
//! to the pre-activations it had in the original net.
//!
//! The paper keeps the original weights here. Refitting absorbs the drift of earlier layers before
//! neurons are paired, and gives task-specific weights the same correction without any labels.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Zip};

use super::solve::{Spd, ridge};
use crate::calib::gram::Moments;
use crate::calib::product::add_times;
use crate::error::{Error, ErrorKind, Result};

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

/// [`refit`] for sparse nets (sec. 3.6): weights that are zero in `current` stay zero. Each output
/// solves for its own connections.
///
/// # Errors
/// As [`refit`].
///
/// # Panics
/// As [`refit`].
pub fn refit_sparse(
    moments: &Moments,
    current: ArrayView2<f64>,
    damping: f64,
) -> Result<Array2<f64>> {
    let (hessian, missing) = normal_equations(moments, current)?;
    let ridge = ridge(hessian.view(), damping);
    let mut weights = current.to_owned();
    let rows = weights.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
    rows.try_for_each(|(output, mut row)| -> Result<()> {
        let kept: Vec<usize> = (0..row.len()).filter(|i| row[*i] != 0.0).collect();
        let own = hessian.select(Axis(0), &kept).select(Axis(1), &kept);
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
