//! Observed inputs of a layer, and its target pre-activations.

use ndarray::{Array1, Array2};

use super::diagonal::Diagonal;
use super::hessian::{Hessian, Scaled};
use super::samples::Samples;
use crate::calib::gram::Moments;
use crate::calib::kept::Statistics;
use crate::error::Result;

/// A layer's rows x, with the constant for the bias last, and its pre-activations y in the original
/// net, if they are known.
#[derive(Debug, Clone)]
pub enum Observations {
    /// Means over the rows.
    Means {
        /// Mean x xᵀ.
        hessian: Scaled,
        /// Mean x yᵀ and mean y².
        targets: Option<(Array2<f64>, Array1<f64>)>,
        /// Number of rows.
        count: u64,
    },
    /// Counts of picked rows of a table.
    Counts {
        /// Mean x xᵀ.
        hessian: Diagonal,
        /// Number of rows.
        count: u64,
    },
    /// The rows.
    Rows {
        /// All x.
        samples: Samples,
        /// All y.
        targets: Option<Array2<f32>>,
    },
}

impl Observations {
    /// Bytes that they take.
    pub(super) fn bytes(&self) -> u64 {
        let numbers = |n: usize| 8 * n as u64;
        match self {
            Observations::Means { hessian, targets, .. } => {
                let targets =
                    targets.as_ref().map_or(0, |(cross, squares)| cross.len() + squares.len());
                numbers(hessian.matrix().len()) + numbers(targets)
            }
            Observations::Counts { hessian, .. } => numbers(hessian.size()),
            Observations::Rows { samples, targets } => {
                let targets = targets.as_ref().map_or(0, Array2::len);
                4 * (samples.rows().len() + targets) as u64
            }
        }
    }

    /// Number of rows.
    pub fn count(&self) -> u64 {
        match self {
            Observations::Means { count, .. } | Observations::Counts { count, .. } => *count,
            Observations::Rows { samples, .. } => samples.rows().nrows() as u64,
        }
    }

    /// Mean x xᵀ.
    pub fn hessian(&self) -> Hessian {
        match self {
            Observations::Means { hessian, .. } => Hessian::Dense(hessian.clone()),
            Observations::Counts { hessian, .. } => Hessian::Diagonal(hessian.clone()),
            Observations::Rows { samples, .. } => Hessian::Samples(samples.clone()),
        }
    }

    /// Drops the pre-activations.
    pub(crate) fn drop_targets(&mut self) {
        match self {
            Observations::Means { targets, .. } => *targets = None,
            Observations::Rows { targets, .. } => *targets = None,
            Observations::Counts { .. } => {}
        }
    }
}

impl TryFrom<Statistics> for Observations {
    type Error = crate::error::Error;

    /// Converts statistics of at least one row.
    fn try_from(statistics: Statistics) -> Result<Self> {
        Ok(match statistics {
            Statistics::Moments(moments) => moments.try_into()?,
            Statistics::Counts(counts) => Observations::Counts {
                hessian: Diagonal::of_counts(&counts),
                count: counts.sum() as u64,
            },
            Statistics::Rows(rows) => {
                let (inputs, targets) = rows.into_parts();
                let scale = 1.0 / inputs.nrows().max(1) as f64;
                let seen = inputs.nrows() as f64;
                let samples = Samples::new(inputs.into(), scale).of_rows(seen);
                Observations::Rows { samples, targets }
            }
        })
    }
}

impl TryFrom<Moments> for Observations {
    type Error = crate::error::Error;

    fn try_from(moments: Moments) -> Result<Self> {
        let (count, rows) = (moments.count(), moments.rows()?);
        let (matrix, targets) = moments.into_sums();
        let targets = targets.map(|(cross, squares)| (cross / rows, squares / rows));
        let hessian = Scaled::new(matrix, 1.0 / rows).seen(rows);
        Ok(Observations::Means { hessian, targets, count })
    }
}
