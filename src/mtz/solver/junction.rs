//! Combines the Hessians of two layers, for costs of pairs (eqs. 11–12) and common weights (eq. 10).
//!
//! Let A and B be the two Hessians, each damped and multiplied by the weight of its neuron's error. The
//! cost is ½ δᵀ P δ with P = A (A + B)⁻¹ B and δ = w_i − w_j.
//! The common weights are w_j + (A + B)⁻¹ A δ.
//!
//! Matrices: P = H_s − H_s (A + B)⁻¹ H_s for either side s. That form needs one Cholesky factor and half
//! a substitution of the weights, never an inverse, and never P itself. We take the side with the smaller
//! trace, because the subtraction then loses fewer digits.
//!
//! Samples: A = αI + X_Aᵀ X_A and B = βI + X_Bᵀ X_B. With ρ = α + β, Z the rows of both stacked,
//! G = ZZᵀ + ρI, and T = β/ρ on A's rows and −α/ρ on B's,
//!
//!   P = (αβ/ρ) I + ρ Zᵀ T G⁻¹ T Z  and  (A + B)⁻¹ A = (α/ρ) I + Zᵀ G⁻¹ T Z.

use std::sync::OnceLock;

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip, s};

use super::cholesky::{Ridges, Spd};
use super::distances::half_distances;
use super::hessian::{Hessian, Scaled};
use super::samples::Samples;
use crate::calib::product::times;
use crate::calib::wide::{add_half_wide, add_wide, inner_products, widened};
use crate::error::Result;

/// The two Hessians with their damping.
pub(super) struct Junction<'p> {
    form: Form<'p>,
    /// Whether changes are taken from A's side.
    pub(super) is_a: bool,
    ridges: [f64; 2],
    /// The mean diagonal entries of H_A and H_B.
    means: [f64; 2],
}

enum Form<'p> {
    /// H_A and H_B.
    Dense([Scaled; 2]),
    Samples {
        parts: [&'p Samples; 2],
        /// The inner products of all rows of both, computed on first use; the upper triangle counts.
        products: OnceLock<Array2<f64>>,
    },
}

/// Weights of an error of A and of B: √r and 1/√r, r = 2^level.
fn weights(level: f64) -> [f64; 2] {
    let root = level.exp2().sqrt();
    [root, root.recip()]
}

impl<'p> Junction<'p> {
    /// Two Hessians over the same inputs; `damping` counts relative to each one's mean diagonal entry.
    pub(super) fn of([a, b]: [&'p Hessian; 2], damping: f64) -> Self {
        let form = match (a, b) {
            (Hessian::Samples(a), Hessian::Samples(b)) => {
                Form::Samples { parts: [a, b], products: OnceLock::new() }
            }
            _ => Form::Dense([a.dense(), b.dense()]),
        };
        let ridges = [a, b].map(|h| h.ridge(damping));
        let means = [a, b].map(|h| h.trace() / h.size().max(1) as f64);
        Junction { form, is_a: a.trace() <= b.trace(), ridges, means }
    }

    fn side(&self) -> usize {
        if self.is_a { 0 } else { 1 }
    }

    /// The images of weights, which do not depend on the level: one column per row of `weights`.
    pub(super) fn images<T: Copy + Into<f64> + Sync>(&self, weights: ArrayView2<T>) -> Array2<f64> {
        match &self.form {
            Form::Dense(both) => {
                let own = &both[self.side()];
                let mut product = widened(weights.t()) * self.ridges[self.side()];
                add_half_wide(own.factor(), own.matrix(), weights.t(), product.view_mut());
                product
            }
            Form::Samples { parts: [a, b], .. } => {
                let high = a.rows().nrows();
                let mut images = Array2::zeros((high + b.rows().nrows(), weights.nrows()));
                add_wide(1.0, a.rows(), weights.t(), images.slice_mut(s![..high, ..]));
                add_wide(1.0, b.rows(), weights.t(), images.slice_mut(s![high.., ..]));
                images
            }
        }
    }

    /// Half the squared distances of all rows of two weights, in the first metric of [`Pull::parts`].
    /// `images` are those of the weights.
    pub(super) fn distances<T: Copy + Into<f64> + Sync>(
        &self,
        weights: [ArrayView2<T>; 2],
        images: [&Array2<f64>; 2],
    ) -> Array2<f64> {
        match &self.form {
            Form::Dense(_) => half_distances(weights, images.map(|i| i.view())),
            Form::Samples { .. } => half_distances(weights, weights.map(|w| w.reversed_axes())),
        }
    }

    /// The inner products of all rows of weights in the metric of [`Junction::distances`].
    pub(super) fn products(&self, weights: ArrayView2<f64>, images: &Array2<f64>) -> Array2<f64> {
        match &self.form {
            Form::Dense(_) => times(weights, images.view()),
            Form::Samples { .. } => times(weights, weights.t()),
        }
    }

    /// The inner product of each row of one weight with the same row of another in that metric; `images` are
    /// those of the other.
    pub(super) fn row_products(
        &self,
        weights: ArrayView2<f64>,
        other: ArrayView2<f64>,
        images: &Array2<f64>,
    ) -> Array1<f64> {
        match &self.form {
            Form::Dense(_) => (&weights * &images.t()).sum_axis(Axis(1)),
            Form::Samples { .. } => (&weights * &other).sum_axis(Axis(1)),
        }
    }

    /// The factor of √r H_A + H_B/√r, r = 2^`level`, or of the corresponding matrix of samples.
    /// Additional damping of a second attempt counts for the other side, so all formulas stay
    /// consistent.
    pub(super) fn factor(&self, level: f64) -> Result<Spd> {
        let [of_a, of_b] = weights(level);
        let ridge = self.ridges[0] * of_a + self.ridges[1] * of_b;
        let mean = self.means[0] * of_a + self.means[1] * of_b;
        match &self.form {
            Form::Dense([a, b]) => {
                let (of_a, of_b) = (of_a * a.factor(), of_b * b.factor());
                Spd::factor_rows(a.matrix().nrows(), Ridges::of_matrix(ridge, mean), |rows| {
                    let part = s![rows.clone(), rows.start..];
                    let (a, b) = (a.matrix(), b.matrix());
                    Zip::from(a.slice(part))
                        .and(b.slice(part))
                        .map_collect(|a, b| a * of_a + b * of_b)
                })
            }
            Form::Samples { parts: [a, b], products } => {
                let roots = self.roots(level);
                let products = products.get_or_init(|| inner_products(&[a.rows(), b.rows()]));
                let ridges = Ridges::of_few_samples(ridge, mean);
                Spd::factor_rows(products.nrows(), ridges, |rows| {
                    let mut part = products.slice(s![rows.clone(), rows.start..]).to_owned();
                    let right = roots.slice(s![rows.start..]);
                    Zip::from(part.rows_mut()).and(roots.slice(s![rows])).for_each(
                        |mut row, root| row.zip_mut_with(&right, |v, other| *v *= root * other),
                    );
                    part
                })
            }
        }
    }

    /// The factor of each row of both samples at a level.
    fn roots(&self, level: f64) -> Array1<f64> {
        let Form::Samples { parts, .. } = &self.form else { return Array1::default(0) };
        let parts = parts.iter().zip(weights(level));
        let roots = parts.flat_map(|(part, weight)| {
            std::iter::repeat_n((part.scale() * weight).sqrt(), part.rows().nrows())
        });
        roots.collect()
    }

    /// The factors of a pair's weights at a level.
    pub(super) fn pull<'f>(&'f self, level: f64, factor: &'f Spd) -> Pull<'f, 'p> {
        let weight = weights(level)[self.side()];
        // The damping of the side, and the rest of the factor's damping for the other side.
        let own = self.ridges[self.side()] * weight;
        Pull { junction: self, factor, level, weight, own, other: factor.ridge() - own }
    }
}

/// [`Junction`] at one level.
pub(super) struct Pull<'f, 'p> {
    junction: &'f Junction<'p>,
    factor: &'f Spd,
    level: f64,
    weight: f64,
    own: f64,
    other: f64,
}

impl Pull<'_, '_> {
    /// The factors of two half squared distances whose sum is the cost of a pair: that of the weights in
    /// [`Junction::distances`], and that of their [`Pull::features`].
    pub(super) fn parts(&self) -> (f64, f64) {
        match &self.junction.form {
            Form::Dense(_) => (self.weight, -self.weight * self.weight),
            Form::Samples { .. } => {
                (self.own * self.other / self.factor.ridge(), self.factor.ridge())
            }
        }
    }

    /// The inner products of all rows of weights in the metric of the cost: W P Wᵀ.
    pub(super) fn products(&self, weights: ArrayView2<f64>) -> Array2<f64> {
        let (images, features) = self.seen(weights);
        let (of_before, of_after) = self.parts();
        let before = self.junction.products(weights, &images);
        before * of_before + times(features.t(), features.view()) * of_after
    }

    /// The square of each row of weights in the metric of the cost: wᵀ P w.
    pub(super) fn squares(&self, weights: ArrayView2<f64>) -> Array1<f64> {
        let (images, features) = self.seen(weights);
        let (of_before, of_after) = self.parts();
        let before = self.junction.row_products(weights, weights, &images);
        before * of_before + (&features * &features).sum_axis(Axis(0)) * of_after
    }

    /// The images and the features of weights.
    fn seen(&self, weights: ArrayView2<f64>) -> (Array2<f64>, Array2<f64>) {
        let images = self.junction.images(weights);
        let features = self.features(&images);
        (images, features)
    }

    /// The features of weights with these images, one column each.
    pub(super) fn features(&self, images: &Array2<f64>) -> Array2<f64> {
        match &self.junction.form {
            Form::Dense(_) => self.factor.solve_half(images.view()),
            Form::Samples { .. } => self.factor.solve_half(self.turned(images).view()),
        }
    }

    /// T Z w from X w.
    fn turned(&self, images: &Array2<f64>) -> Array2<f64> {
        let mut turned = images.clone();
        let Form::Samples { parts, .. } = &self.junction.form else { return turned };
        let ridge = self.factor.ridge();
        let (own, other) = (self.other / ridge, -self.own / ridge);
        let high = parts[0].rows().nrows();
        let [of_a, of_b] = if self.junction.is_a { [own, other] } else { [other, own] };
        let roots = self.junction.roots(self.level);
        Zip::indexed(turned.rows_mut()).and(&roots).par_for_each(|row, mut values, root| {
            let turn = if row < high { of_a } else { of_b };
            values.mapv_inplace(|v| v * root * turn);
        });
        turned
    }

    /// (A + B)⁻¹ H_s δ for rows δ and their images, one row each.
    pub(super) fn steps(&self, differences: &Array2<f64>, images: &Array2<f64>) -> Array2<f64> {
        match &self.junction.form {
            Form::Dense(_) => {
                let pull = images * self.weight;
                self.factor.solve(pull.view()).reversed_axes()
            }
            Form::Samples { parts: [a, b], .. } => {
                let mut solved = self.factor.solve(self.turned(images).view());
                let roots = self.junction.roots(self.level);
                Zip::from(solved.rows_mut())
                    .and(&roots)
                    .for_each(|mut row, root| row.mapv_inplace(|v| v * root));
                let (above, below) = solved.view().split_at(Axis(0), a.rows().nrows());
                let mut steps = differences * (self.own / self.factor.ridge());
                add_wide(1.0, above.t(), a.rows(), steps.view_mut());
                add_wide(1.0, below.t(), b.rows(), steps.view_mut());
                steps
            }
        }
    }
}
