//! A layer's Hessian in the form of its rows, for layers with more inputs than rows.
//!
//! H = c XᵀX of N rows has rank N, so all formulas need only X and N × N matrices. The identities are
//! "push-through", (XᵀX + λI)⁻¹Xᵀ = Xᵀ(XXᵀ + λI)⁻¹, and Woodbury's. Their forms here subtract no large
//! numbers from each other, so results equal those of the direct formulas up to rounding.

use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip, s};

use super::cholesky::{Ridges, Spd, relative_ridge};
use super::damping::damping_of;
use crate::calib::product::{add_upper_gram, symmetric};
use crate::calib::wide::{add_wide, inner_products, squares, times_wide, widened};
use crate::error::Result;

/// Columns or rows per step in double precision.
const BLOCK: usize = 1024;

/// H = `scale` Σ x xᵀ over rows x.
#[derive(Debug, Clone)]
pub struct Samples {
    rows: Arc<Array2<f32>>,
    scale: f64,
    /// The trace of H.
    trace: f64,
    /// The number of rows of the data that these represent.
    seen: f64,
}

impl Samples {
    /// H = `scale` Σ x xᵀ over the rows of a matrix.
    pub fn new(rows: Arc<Array2<f32>>, scale: f64) -> Samples {
        let trace = scale * squares(rows.view());
        Samples { rows, scale, trace, seen: f64::INFINITY }
    }

    /// The same, representing `seen` rows of the data.
    pub fn of_rows(self, seen: f64) -> Samples {
        Samples { seen, ..self }
    }

    pub(super) fn seen(&self) -> f64 {
        self.seen
    }

    /// The ridge for the diagonal.
    pub(super) fn ridge(&self, damping: f64) -> f64 {
        relative_ridge(self.trace, self.size(), damping_of(damping, self.size(), self.seen))
    }

    /// The rows.
    pub fn rows(&self) -> ArrayView2<'_, f32> {
        self.rows.view()
    }

    /// The factor of Σ x xᵀ.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Number of inputs.
    pub fn size(&self) -> usize {
        self.rows.ncols()
    }

    /// The sum of H's diagonal.
    pub fn trace(&self) -> f64 {
        self.trace
    }

    /// H times a factor.
    pub fn times(self, factor: f64) -> Samples {
        Samples { scale: self.scale * factor, trace: self.trace * factor, ..self }
    }

    /// H itself.
    pub fn dense(&self) -> Array2<f64> {
        let mut upper = Array2::zeros((self.size(), self.size()));
        add_upper_gram(self.rows(), upper.view_mut());
        symmetric(upper.view(), self.scale)
    }

    /// The Hessian of some of the inputs, in the given order.
    pub fn select(&self, inputs: &[usize]) -> Samples {
        if inputs.iter().copied().eq(0..self.size()) {
            return self.clone();
        }
        Samples::new(Arc::new(columns(self.rows(), inputs)), self.scale).of_rows(self.seen)
    }

    /// X wᵀ for each row w of `weights`, rows × weights' rows.
    pub fn images<T: Copy + Into<f64> + Sync>(&self, weights: ArrayView2<T>) -> Array2<f64> {
        times_wide(self.rows(), weights.t())
    }

    /// wᵀ H w for each row w of `weights`.
    pub fn mean_square<T: Copy + Into<f64> + Sync>(&self, weights: ArrayView2<T>) -> Array1<f64> {
        let images = self.images(weights);
        images.columns().into_iter().map(|z| self.scale * z.dot(&z)).collect()
    }

    /// c Σ wᵀx for each row w of `weights`: the mean, if H is a mean.
    pub fn means(&self, weights: ArrayView2<f32>) -> Array1<f64> {
        let blocks = weights.axis_chunks_iter(Axis(0), BLOCK);
        let means = |weights| self.images(weights).sum_axis(Axis(0)) * self.scale;
        blocks.flat_map(means).collect()
    }

    /// The factor of c XXᵀ + λI. If that is not positive definite, λ grows as for H + λI.
    ///
    /// # Errors
    /// As [`Spd::factor`].
    pub fn factor(&self, ridge: f64) -> Result<Spd> {
        let products = inner_products(&[self.rows()]);
        let ridges = Ridges::of_few_samples(ridge, self.trace / self.size().max(1) as f64);
        Spd::factor_rows(products.nrows(), ridges, |rows| {
            &products.slice(s![rows.clone(), rows.start..]) * self.scale
        })
    }

    /// The diagonal of (H + λI)⁻¹.
    ///
    /// # Errors
    /// As [`Spd::factor`].
    pub fn inverse_diagonal(&self, ridge: f64) -> Result<Array1<f64>> {
        let factor = self.factor(ridge)?;
        let mut diagonal = Array1::zeros(self.size());
        let blocks = diagonal.axis_chunks_iter_mut(Axis(0), BLOCK);
        for (mut diagonal, x) in blocks.zip(self.rows.axis_chunks_iter(Axis(1), BLOCK)) {
            let half = factor.solve_half(widened(x).view());
            Zip::from(&mut diagonal).and(half.columns()).for_each(|d, half| {
                *d = (1.0 - self.scale * half.dot(&half)).max(0.0) / factor.ridge();
            });
        }
        Ok(diagonal)
    }

    /// H of the `shared` inputs after the `private` ones adjust, and the gain of the private ones.
    ///
    /// With K = c X_p X_pᵀ it is H_ss − H_sp (H_pp + λI)⁻¹ H_ps = c λ X_sᵀ (K + λI)⁻¹ X_s: samples
    /// again, one per row.
    ///
    /// # Errors
    /// As [`Spd::factor`].
    pub fn reduced(
        &self,
        shared: &[usize],
        private: &[usize],
        damping: f64,
    ) -> Result<(Samples, SampleGain)> {
        let (own, theirs) = (self.select(shared), self.select(private));
        let factor = theirs.factor(theirs.ridge(damping))?;
        let root = factor.ridge().sqrt();
        let mut left = Array2::<f32>::zeros(own.rows.dim());
        let blocks = left.axis_chunks_iter_mut(Axis(1), BLOCK);
        for (mut left, x) in blocks.zip(own.rows.axis_chunks_iter(Axis(1), BLOCK)) {
            let half = factor.solve_half(widened(x).view());
            left.zip_mut_with(&half, |to, from| *to = (root * from) as f32);
        }
        let left = Samples::new(Arc::new(left), self.scale).of_rows(self.seen);
        Ok((left, SampleGain { shared: own, private: theirs, factor: Arc::new(factor) }))
    }

    /// The sum of Hessians, each over inputs that stand at some places among `size`.
    pub fn sum(parts: [(&Samples, &[usize]); 2], size: usize) -> Samples {
        let count = parts.iter().map(|(part, _)| part.rows.nrows()).sum::<usize>();
        let mut rows = Array2::<f32>::zeros((count, size));
        let mut start = 0;
        for (part, places) in parts {
            let end = start + part.rows.nrows();
            let (root, identity) = (part.scale.sqrt() as f32, places.iter().copied().eq(0..size));
            Zip::from(rows.slice_mut(s![start..end, ..]).rows_mut())
                .and(part.rows.rows())
                .for_each(|mut to, from| match identity {
                    true => to.zip_mut_with(&from, |to, from| *to = root * from),
                    false => places.iter().zip(from).for_each(|(at, from)| to[*at] = root * from),
                });
            start = end;
        }
        let seen = parts.iter().map(|(part, _)| part.seen).sum();
        Samples::new(Arc::new(rows), 1.0).of_rows(seen)
    }
}

/// The gain of private inputs for a change of the shared ones: K = H_pp⁻¹ H_ps, from samples.
#[derive(Clone)]
pub struct SampleGain {
    shared: Samples,
    private: Samples,
    factor: Arc<Spd>,
}

impl SampleGain {
    /// Adds `change` · Kᵀ, rows × private inputs, for changes of shared weights, rows × shared inputs.
    pub fn add(&self, change: ArrayView2<f64>, mut sum: Array2<f64>) -> Array2<f64> {
        let images = self.factor.solve(self.shared.images(change).view());
        add_wide(self.shared.scale, images.t(), self.private.rows(), sum.view_mut());
        sum
    }
}

/// Some columns of a matrix, in the given order.
fn columns(matrix: ArrayView2<f32>, columns: &[usize]) -> Array2<f32> {
    let mut part = Array2::zeros((matrix.nrows(), columns.len()));
    Zip::from(part.rows_mut()).and(matrix.rows()).par_for_each(|mut to, from| {
        to.iter_mut().zip(columns).for_each(|(to, column)| *to = from[*column]);
    });
    part
}
