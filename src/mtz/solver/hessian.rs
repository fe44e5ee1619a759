//! A layer's Hessian over some of its inputs, in one of two forms with the same results: the matrix,
//! or its samples if these are fewer than the inputs.

use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::cholesky::{Spd, relative_ridge, ridge};
use super::damping::damping_of;
use super::diagonal::Diagonal;
use super::distances::{half_distances, quadratic_forms};
use super::samples::{SampleGain, Samples};
use crate::calib::product::{add_times, submatrix};
use crate::calib::wide::{times_wide, widened};
use crate::error::Result;

/// Rows of weights per step in double precision: 32 MiB, or with few inputs, enough rows for an efficient
/// product.
pub(crate) fn block(inputs: usize) -> usize {
    ((4 << 20) / inputs.max(1)).clamp(16, 512)
}

/// A symmetric positive semidefinite matrix over a layer's inputs.
#[derive(Debug, Clone)]
pub enum Hessian {
    /// A matrix, times a factor.
    Dense(Scaled),
    /// The rows whose scaled sum of squares it is.
    Samples(Samples),
    /// The diagonal matrix of a table, whose inputs are one-hot.
    Diagonal(Diagonal),
}

/// A matrix times a factor, so that the matrix can be shared.
#[derive(Debug, Clone)]
pub struct Scaled {
    matrix: Arc<Array2<f64>>,
    factor: f64,
    seen: f64,
}

impl Scaled {
    /// `matrix` times `factor`, without damping for few rows.
    pub fn new(matrix: Array2<f64>, factor: f64) -> Scaled {
        Scaled { matrix: Arc::new(matrix), factor, seen: f64::INFINITY }
    }

    /// The same with a number of rows; few rows get more damping.
    pub fn seen(self, rows: f64) -> Scaled {
        Scaled { seen: rows, ..self }
    }

    /// The ridge for the diagonal of the matrix without the factor.
    pub(super) fn ridge(&self, damping: f64) -> f64 {
        ridge(self.matrix(), damping_of(damping, self.matrix.nrows(), self.seen))
    }

    /// The matrix without the factor.
    pub fn matrix(&self) -> ArrayView2<'_, f64> {
        self.matrix.view()
    }

    /// The factor.
    pub fn factor(&self) -> f64 {
        self.factor
    }
}

impl From<Array2<f64>> for Hessian {
    fn from(matrix: Array2<f64>) -> Self {
        Hessian::Dense(Scaled::new(matrix, 1.0))
    }
}

impl Hessian {
    /// An empty Hessian, to replace one that is no longer needed.
    pub fn empty() -> Hessian {
        Array2::default((0, 0)).into()
    }

    /// Whether it is over no inputs.
    pub fn is_empty(&self) -> bool {
        self.size() == 0
    }

    /// Number of inputs.
    pub fn size(&self) -> usize {
        match self {
            Hessian::Dense(dense) => dense.matrix.nrows(),
            Hessian::Samples(samples) => samples.size(),
            Hessian::Diagonal(diagonal) => diagonal.size(),
        }
    }

    /// The sum of the diagonal.
    pub fn trace(&self) -> f64 {
        match self {
            Hessian::Dense(dense) => dense.factor * dense.matrix.diag().sum(),
            Hessian::Samples(samples) => samples.trace(),
            Hessian::Diagonal(diagonal) => diagonal.trace(),
        }
    }

    /// The ridge for the diagonal: `damping` times its mean entry, more with few rows.
    pub fn ridge(&self, damping: f64) -> f64 {
        match self {
            Hessian::Dense(dense) => dense.factor * dense.ridge(damping),
            Hessian::Samples(samples) => samples.ridge(damping),
            // Rows of a table are independent, and rows that were never picked have weight 0 already.
            Hessian::Diagonal(_) => relative_ridge(self.trace(), self.size(), damping),
        }
    }

    /// The Hessian times a factor.
    pub fn times(self, factor: f64) -> Hessian {
        match self {
            Hessian::Dense(own) => Hessian::Dense(Scaled { factor: own.factor * factor, ..own }),
            Hessian::Samples(samples) => Hessian::Samples(samples.times(factor)),
            Hessian::Diagonal(diagonal) => Hessian::Diagonal(diagonal.times(factor)),
        }
    }

    /// The matrix, times [`Scaled::factor`].
    pub fn dense(&self) -> Scaled {
        match self {
            Hessian::Dense(dense) => dense.clone(),
            Hessian::Samples(own) => Scaled::new(own.dense(), 1.0).seen(own.seen()),
            Hessian::Diagonal(own) => Scaled::new(Array2::from_diag(&own.entries()), 1.0),
        }
    }

    /// wᵀ H w for each row w of `weights`: the second moment of the neuron's pre-activation, or of an
    /// error if `weights` is a difference.
    ///
    /// # Panics
    /// Where `weights` has not one column per input.
    pub fn mean_square<T: Copy + Into<f64> + Sync>(&self, weights: ArrayView2<T>) -> Array1<f64> {
        let mean_square = |weights: ArrayView2<T>| match self {
            Hessian::Samples(samples) => samples.mean_square(weights),
            Hessian::Diagonal(diagonal) => diagonal.mean_square(weights),
            Hessian::Dense(dense) => {
                let squares = quadratic_forms(dense.matrix(), widened(weights).view());
                squares.mapv_into(|sum| (dense.factor * sum).max(0.0))
            }
        };
        let blocks = weights.axis_chunks_iter(Axis(0), block(self.size()));
        blocks.flat_map(|weights| mean_square(weights).to_vec()).collect()
    }

    /// The mean of each row of `weights` times the inputs, where the last input is constant and H is a
    /// mean.
    pub fn means(&self, weights: ArrayView2<f32>) -> Array1<f64> {
        match self {
            Hessian::Samples(samples) => samples.means(weights),
            Hessian::Diagonal(diagonal) => diagonal.means(weights),
            Hessian::Dense(dense) => {
                let constant = dense.matrix.row(dense.matrix.nrows().saturating_sub(1));
                let means = times_wide(weights, constant.insert_axis(Axis(1)));
                means.column(0).to_owned() * dense.factor
            }
        }
    }

    /// ½ (w_i − w_j)ᵀ H (w_i − w_j) for all rows i of one weight and j of another.
    pub(super) fn distances(&self, weights: [ArrayView2<f32>; 2]) -> Array2<f64> {
        match self {
            Hessian::Dense(dense) => {
                let images = weights.map(|w| times_wide(dense.matrix(), w.t()));
                half_distances(weights, [images[0].view(), images[1].view()]) * dense.factor
            }
            Hessian::Samples(samples) => {
                let images = weights.map(|w| samples.images(w));
                let (a, b) = (images[0].view(), images[1].view());
                half_distances([a.t(), b.t()], [a, b]) * samples.scale()
            }
            Hessian::Diagonal(diagonal) => diagonal.distances(weights),
        }
    }

    /// The Hessian of some of the inputs, in the given order.
    ///
    /// # Panics
    /// Where there is no such input.
    pub fn select(&self, inputs: &[usize]) -> Hessian {
        if inputs.iter().copied().eq(0..self.size()) {
            return self.clone();
        }
        match self {
            Hessian::Dense(own) => {
                let matrix = Arc::new(submatrix(own.matrix(), inputs, inputs));
                Hessian::Dense(Scaled { matrix, ..own.clone() })
            }
            Hessian::Samples(samples) => Hessian::Samples(samples.select(inputs)),
            Hessian::Diagonal(diagonal) => Hessian::Diagonal(diagonal.select(inputs)),
        }
    }

    /// The sum of Hessians, each over inputs that stand at some places among `size`.
    pub fn sum(parts: [(&Hessian, &[usize]); 2], size: usize) -> Hessian {
        if let [(Hessian::Samples(a), here), (Hessian::Samples(b), there)] = parts
            && a.rows().nrows() + b.rows().nrows() < size
        {
            return Hessian::Samples(Samples::sum([(a, here), (b, there)], size));
        }
        if let [(Hessian::Diagonal(a), here), (Hessian::Diagonal(b), there)] = parts {
            return Hessian::Diagonal(Diagonal::sum([(a, here), (b, there)], size));
        }
        let mut sum = Array2::zeros((size, size));
        for (part, places) in parts {
            let part = part.dense();
            for (row, from) in places.iter().zip(part.matrix.rows()) {
                let mut to = sum.row_mut(*row);
                let values = places.iter().zip(from);
                values.for_each(|(column, value)| to[*column] += part.factor * value);
            }
        }
        let seen = parts.iter().map(|(part, _)| part.seen()).sum();
        Hessian::Dense(Scaled::new(sum, 1.0).seen(seen))
    }

    fn seen(&self) -> f64 {
        match self {
            Hessian::Dense(dense) => dense.seen,
            Hessian::Samples(samples) => samples.seen(),
            Hessian::Diagonal(_) => f64::INFINITY,
        }
    }

    /// The diagonal of (H + λI)⁻¹, λ as damping adds it.
    ///
    /// # Errors
    /// As [`Spd::factor`].
    pub fn inverse_diagonal(&self, damping: f64) -> Result<Array1<f64>> {
        match self {
            Hessian::Samples(samples) => samples.inverse_diagonal(self.ridge(damping)),
            Hessian::Diagonal(own) => Ok(own.inverse(self.ridge(damping))),
            Hessian::Dense(own) => {
                let factor = Spd::factor(own.matrix(), own.ridge(damping))?;
                let unit = Array2::eye(self.size());
                Ok(factor.solve(unit.view()).diag().to_owned() / own.factor)
            }
        }
    }

    /// Eliminates the private inputs; `shared` and `private` are disjoint lists of inputs. H_pp is
    /// damped by `damping` times its mean diagonal entry.
    ///
    /// # Errors
    /// As [`Spd::factor`].
    ///
    /// # Panics
    /// Where there is no such input.
    pub fn reduced(&self, shared: &[usize], private: &[usize], damping: f64) -> Result<Reduced> {
        if private.is_empty() {
            return Ok(Reduced { hessian: self.select(shared), gain: None });
        }
        Ok(match self {
            Hessian::Dense(own) => {
                let damping = damping_of(damping, private.len(), own.seen);
                let (matrix, gain) = schur(own.matrix(), shared, private, damping)?;
                let hessian = Scaled { matrix: Arc::new(matrix), ..own.clone() };
                Reduced { hessian: Hessian::Dense(hessian), gain: Some(Gain::Dense(gain)) }
            }
            Hessian::Samples(samples) => {
                let (left, gain) = samples.reduced(shared, private, damping)?;
                Reduced { hessian: Hessian::Samples(left), gain: Some(Gain::Samples(gain)) }
            }
            // Inputs of a table never occur together, so they cannot compensate.
            Hessian::Diagonal(_) => Reduced { hessian: self.select(shared), gain: None },
        })
    }
}

/// A layer's Hessian after its private inputs adjust to any change of the shared inputs.
pub struct Reduced {
    /// H_ss − H_sp H_pp⁻¹ H_ps: the Hessian of the shared inputs alone.
    pub hessian: Hessian,
    /// The gain of the private inputs, if there are any.
    pub gain: Option<Gain>,
}

/// The gain K = H_pp⁻¹ H_ps, by which private weights compensate for a change of the shared ones.
#[derive(Clone)]
pub enum Gain {
    /// The matrix, private × shared.
    Dense(Array2<f64>),
    /// The samples that it follows from.
    Samples(SampleGain),
}

impl Gain {
    /// The best private weights after a change of the shared ones: w_P + K (w_S,old − w_S,new).
    ///
    /// `private` is n×P, `old` and `new` are the shared weights n×S before and after.
    ///
    /// # Panics
    /// Where the shapes do not fit.
    pub fn readjust<T: Copy + Into<f64> + Sync>(
        &self,
        private: ArrayView2<T>,
        old: ArrayView2<T>,
        new: ArrayView2<T>,
    ) -> Array2<f64> {
        let mut change = widened(old);
        change.zip_mut_with(&new, |old, new| *old -= (*new).into());
        let mut adjusted = widened(private);
        match self {
            Gain::Samples(gain) => gain.add(change.view(), adjusted),
            Gain::Dense(gain) => {
                add_times(1.0, change.view(), gain.t(), adjusted.view_mut());
                adjusted
            }
        }
    }
}

/// [`Hessian::reduced`] of a matrix: the Schur complement and the gain.
fn schur(
    h: ArrayView2<f64>,
    shared: &[usize],
    private: &[usize],
    damping: f64,
) -> Result<(Array2<f64>, Array2<f64>)> {
    let mut left = submatrix(h, shared, shared);
    let coupling = submatrix(h, shared, private);
    let own = submatrix(h, private, private);
    let gain = Spd::factor(own.view(), ridge(own.view(), damping))?.solve(coupling.t());
    add_times(-1.0, coupling.view(), gain.view(), left.view_mut());
    let symmetric = (&left + &left.t()) / 2.0;
    Ok((symmetric, gain))
}

#[cfg(test)]
mod tests;
