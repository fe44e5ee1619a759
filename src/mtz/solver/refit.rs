//! Refits a layer after earlier layers were zipped: least squares from its inputs in the merged net to
//! its pre-activations in the original net.
//!
//! The paper keeps the original weights here. Refitting absorbs the drift of earlier layers before
//! neurons are paired, and gives task-specific weights the same correction without any labels.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, Zip, s};

use super::cholesky::Spd;
use super::hessian::{Scaled, block};
use super::observations::Observations;
use super::samples::Samples;
use crate::calib::wide::{add_half_wide, add_wide, times_wide, widened};
use crate::error::{Error, ErrorKind, Result};

/// W = argmin Σ ‖W x − y‖² + λ ‖W − W₀‖² over the observed rows, that is
/// (Σ x xᵀ + λ I) Wᵀ = Σ x yᵀ + λ W₀ᵀ, with λ = `damping` times the mean diagonal entry.
///
/// `weights` are W₀ before, outputs × (inputs + 1) with the bias as last column, and W afterwards. The
/// ridge pulls towards W₀, so inputs that never vary keep their weights.
///
/// # Errors
/// [`ErrorKind::Calibration`] where the pre-activations are not known,
/// [`ErrorKind::Numeric`] where the system cannot be solved.
///
/// # Panics
/// Where the shape of `weights` does not fit.
pub fn refit(observed: &Observations, mut weights: ArrayViewMut2<f32>, damping: f64) -> Result<()> {
    let fit = Fit::of(observed)?;
    let factor = fit.factor(damping)?;
    let block = block(weights.ncols());
    for (i, mut weights) in weights.axis_chunks_iter_mut(Axis(0), block).enumerate() {
        let outputs = i * block..i * block + weights.nrows();
        let step = fit.step(&factor, fit.missing(outputs, weights.view()).view());
        let change = |w: &mut f32, step: &f64| *w = (f64::from(*w) + step) as f32;
        Zip::from(&mut weights).and(&step).par_for_each(change);
    }
    finite(weights.view())
}

/// Per output the mean squared error of `weights` on the observed rows.
///
/// # Errors
/// [`ErrorKind::Calibration`] where the pre-activations are not known.
///
/// # Panics
/// Where the shape of `weights` does not fit.
pub fn residual(observed: &Observations, weights: ArrayView2<f32>) -> Result<Array1<f64>> {
    let fit = Fit::of(observed)?;
    let block = block(weights.ncols());
    let blocks = weights.axis_chunks_iter(Axis(0), block).enumerate().flat_map(|(i, weights)| {
        let outputs = i * block..i * block + weights.nrows();
        fit.errors(outputs.clone(), weights, fit.missing(outputs, weights).view()).to_vec()
    });
    Ok(blocks.collect())
}

/// A least squares fit of weights to pre-activations.
pub(super) enum Fit<'s> {
    /// To mean x xᵀ, mean x yᵀ and mean y².
    Means { hessian: &'s Scaled, cross: &'s Array2<f64>, squares: &'s Array1<f64> },
    /// To all x and y.
    Rows { samples: &'s Samples, targets: &'s Array2<f32> },
}

impl<'s> Fit<'s> {
    pub(super) fn of(observed: &'s Observations) -> Result<Self> {
        match observed {
            Observations::Means { hessian, targets: Some((cross, squares)), .. } => {
                Ok(Fit::Means { hessian, cross, squares })
            }
            Observations::Rows { samples, targets: Some(targets) } => {
                Ok(Fit::Rows { samples, targets })
            }
            _ => Err(Error::new(
                ErrorKind::Calibration,
                "a layer was calibrated without its pre-activations",
            )),
        }
    }

    fn ridge(&self, damping: f64) -> f64 {
        match self {
            Fit::Means { hessian, .. } => hessian.factor() * hessian.ridge(damping),
            Fit::Rows { samples, .. } => samples.ridge(damping),
        }
    }

    fn factor(&self, damping: f64) -> Result<Spd> {
        match self {
            Fit::Means { hessian, .. } => Spd::factor(hessian.matrix(), hessian.ridge(damping)),
            Fit::Rows { samples, .. } => samples.factor(self.ridge(damping)),
        }
    }

    /// The residuals of some outputs' weights, one column per output: mean x yᵀ − (mean x xᵀ) Wᵀ, or
    /// the residual of every row's target.
    fn missing(&self, outputs: Range<usize>, weights: ArrayView2<f32>) -> Array2<f64> {
        match self {
            Fit::Means { hessian, cross, .. } => {
                let mut missing = cross.slice(s![.., outputs]).to_owned();
                add_half_wide(-hessian.factor(), hessian.matrix(), weights.t(), missing.view_mut());
                missing
            }
            Fit::Rows { samples, targets } => {
                let mut missing = widened(targets.slice(s![.., outputs]));
                add_wide(-1.0, samples.rows(), weights.t(), missing.view_mut());
                missing
            }
        }
    }

    /// The step of weights for their residuals, one row per output.
    fn step(&self, factor: &Spd, missing: ArrayView2<f64>) -> Array2<f64> {
        let solved = factor.solve(missing);
        match self {
            Fit::Means { hessian, .. } => solved.reversed_axes() / hessian.factor(),
            // (XᵀX/n + λI)⁻¹ Xᵀr/n = Xᵀ (XXᵀ/n + λI)⁻¹ r/n
            Fit::Rows { samples, .. } => times_wide(solved.t(), samples.rows()) * samples.scale(),
        }
    }

    /// The mean squared errors of some outputs' weights, from their residuals.
    fn errors(
        &self,
        outputs: Range<usize>,
        weights: ArrayView2<f32>,
        missing: ArrayView2<f64>,
    ) -> Array1<f64> {
        match self {
            Fit::Rows { samples, .. } => {
                missing.columns().into_iter().map(|r| r.dot(&r) * samples.scale()).collect()
            }
            // yᵀy − 2 wᵀX y + wᵀ X Xᵀ w = yᵀy − wᵀ X y − wᵀ (X y − X Xᵀ w)
            Fit::Means { cross, squares, .. } => {
                let of = |(at, output): (usize, usize)| {
                    let w = weights.row(at).mapv(f64::from);
                    let fit = w.dot(&cross.column(output)) + w.dot(&missing.column(at));
                    (squares[output] - fit).max(0.0)
                };
                outputs.enumerate().map(of).collect()
            }
        }
    }
}

pub(super) fn finite(weights: ArrayView2<f32>) -> Result<()> {
    if weights.iter().all(|w| w.is_finite()) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Numeric, "a layer's refitted weights are not finite"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::calib::gram::Moments;
    use crate::calib::product::tests::random;
    use crate::mtz::solver::cholesky::DAMPING;
    use std::sync::Arc;

    pub(in crate::mtz::solver) fn single(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        random(rows, columns, seed).mapv(|w| w as f32)
    }

    /// Both forms of observations of random rows x with targets `weights` · [x, 1] plus `noise`.
    pub(in crate::mtz::solver) fn calibrated(
        weights: &Array2<f32>,
        rows: usize,
        noise: &Array2<f64>,
    ) -> [Observations; 2] {
        observed(single(rows, weights.ncols() - 1, 1), weights, noise)
    }

    fn observed(x: Array2<f32>, weights: &Array2<f32>, noise: &Array2<f64>) -> [Observations; 2] {
        let inputs = x.ncols();
        let mut rows = Array2::<f32>::ones((x.nrows(), inputs + 1));
        rows.slice_mut(s![.., ..inputs]).assign(&x);
        let y = rows.mapv(f64::from).dot(&weights.mapv(f64::from).t()) + noise;
        let y = y.mapv(|v| v as f32);
        let mut moments = Moments::with_targets(inputs, weights.nrows());
        moments.push_with(x.view(), y.view()).unwrap();
        let seen = x.nrows() as f64;
        let samples = Samples::new(Arc::new(rows), 1.0 / seen).of_rows(seen);
        [moments.try_into().unwrap(), Observations::Rows { samples, targets: Some(y) }]
    }

    pub(in crate::mtz::solver) fn worst(a: &Array2<f32>, b: &Array2<f32>) -> f32 {
        assert_eq!(a.dim(), b.dim());
        (a - b).iter().fold(0.0, |worst, d| worst.max(d.abs()))
    }

    fn refitted(observed: &Observations, current: &Array2<f32>, damping: f64) -> Array2<f32> {
        let mut weights = current.clone();
        refit(observed, weights.view_mut(), damping).unwrap();
        weights
    }

    #[test]
    fn known_weights_are_found_again() {
        let truth = single(5, 13, 2);
        for observed in calibrated(&truth, 400, &Array2::zeros((400, 5))) {
            let found = refitted(&observed, &Array2::zeros((5, 13)), 1e-9);
            assert!(worst(&found, &truth) < 1e-5);
            assert!(residual(&observed, found.view()).unwrap().iter().all(|e| *e < 1e-6));
        }
    }

    #[test]
    fn the_solution_is_the_least_ridge_objective() {
        let (truth, current) = (single(3, 7, 3), single(3, 7, 4));
        for observed in calibrated(&truth, 50, &random(50, 3, 5)) {
            let lambda = observed.hessian().ridge(0.5);
            let objective = |w: &Array2<f32>| {
                let pull = (w - &current).mapv(|d| f64::from(d * d)).sum_axis(Axis(1)) * lambda;
                residual(&observed, w.view()).unwrap() + pull
            };
            let found = refitted(&observed, &current, 0.5);
            let least = objective(&found);
            for seed in 0..20 {
                let other = &found + &single(3, 7, seed) * 0.05;
                assert!(objective(&other).iter().zip(&least).all(|(o, l)| o > l));
            }
        }
    }

    #[test]
    fn few_rows_and_their_sums_lead_to_the_same_weights() {
        for rows in [1, 3, 12, 40] {
            let current = single(4, 25, 4);
            let [sums, few] = calibrated(&single(4, 25, 3), rows, &random(rows, 4, 5));
            for damping in [1e-2, 0.1] {
                let (a, b) =
                    (refitted(&sums, &current, damping), refitted(&few, &current, damping));
                assert!(worst(&a, &b) < 5e-4, "{rows} rows");
            }
            let errors = [&sums, &few].map(|o| residual(o, current.view()).unwrap());
            assert!(
                errors[0].iter().zip(&errors[1]).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + b))
            );
        }
    }

    #[test]
    fn the_residual_is_the_mean_squared_error() {
        let (truth, noise) = (single(3, 7, 3), random(50, 3, 5));
        let wanted = (&noise * &noise).mean_axis(Axis(0)).unwrap();
        for observed in calibrated(&truth, 50, &noise) {
            let found = residual(&observed, truth.view()).unwrap();
            assert!((found - &wanted).iter().all(|d| d.abs() < 1e-5));
        }
    }

    #[test]
    fn weights_that_fit_already_and_dead_inputs_stay() {
        let truth = single(4, 9, 6);
        let mut rows = single(60, 8, 1);
        rows.column_mut(2).fill(0.0);
        for observed in observed(rows, &truth, &Array2::zeros((60, 4))) {
            let kept = refitted(&observed, &truth, DAMPING);
            assert!(worst(&kept, &truth) < 1e-5);
            assert_eq!(kept.column(2), truth.column(2));
        }
    }

    #[test]
    fn targets_and_samples_are_needed() {
        let untargeted = |m: Moments| -> Result<()> {
            refit(&m.try_into()?, Array2::zeros((2, 4)).view_mut(), 0.1)
        };
        let mut seen = Moments::new(3);
        seen.push(Array2::zeros((1, 3)).view()).unwrap();
        for moments in [seen, Moments::new(3), Moments::with_targets(3, 2)] {
            assert_eq!(untargeted(moments).unwrap_err().kind(), ErrorKind::Calibration);
        }
    }
}
