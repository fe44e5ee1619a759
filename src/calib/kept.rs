//! Statistics of a layer's inputs: second moments, or the rows themselves if they take less memory.

use ndarray::{Array1, Array2, Axis, concatenate, s};

use super::gram::{Moments, not_finite};
use super::im2col::chunk_rows;
use super::wide::squares;
use crate::error::{Error, ErrorKind, Result};

/// Statistics of a layer's inputs and, if there are targets, of their pre-activations.
#[derive(Debug, Clone)]
pub enum Statistics {
    /// Sums over all rows.
    Moments(Moments),
    /// All rows.
    Rows(KeptRows),
    /// How often each row of a table is picked.
    Counts(Array1<f64>),
}

/// Rows x (with a constant 1 as last entry, for the bias) and, if there are targets, their
/// pre-activations y.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptRows {
    inputs: Array2<f32>,
    targets: Option<Array2<f32>>,
}

impl Statistics {
    /// The statistics with only these targets, in this order.
    ///
    /// # Panics
    /// Where there is no such target.
    pub fn select_outputs(self, outputs: &[usize]) -> Statistics {
        match self {
            Statistics::Moments(moments) => Statistics::Moments(moments.select_outputs(outputs)),
            Statistics::Rows(rows) => Statistics::Rows(KeptRows {
                targets: rows.targets.map(|y| y.select(Axis(1), outputs)),
                inputs: rows.inputs,
            }),
            Statistics::Counts(counts) => Statistics::Counts(counts),
        }
    }

    /// The statistics of these rows, followed by those of `next`. Up to `kept` rows stay rows.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] for statistics of different layers.
    pub fn and(self, next: Statistics, kept: usize) -> Result<Statistics> {
        match (self, next) {
            (Statistics::Counts(a), Statistics::Counts(b)) if a.len() == b.len() => {
                Ok(Statistics::Counts(a + b))
            }
            (Statistics::Rows(a), Statistics::Rows(b)) if a.len() + b.len() <= kept => {
                a.and(&b).map(Statistics::Rows)
            }
            (first, next) => {
                let mut sum = first.into_moments()?;
                sum.merge(&next.into_moments()?)?;
                Ok(Statistics::Moments(sum))
            }
        }
    }

    /// The sums over all rows.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] for NaN or infinite entries, [`ErrorKind::Unsupported`] for a table.
    pub fn into_moments(self) -> Result<Moments> {
        match self {
            Statistics::Moments(moments) => Ok(moments),
            Statistics::Rows(rows) => rows.moments(),
            Statistics::Counts(_) => Err(Error::new(
                ErrorKind::Unsupported,
                "the rows of a table have no second moments",
            )),
        }
    }
}

impl KeptRows {
    /// Rows with their constant, and targets of as many rows.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Calibration`] for NaN or infinite entries.
    pub(crate) fn new(inputs: Array2<f32>, targets: Option<Array2<f32>>) -> Result<KeptRows> {
        let sound = |m: &Array2<f32>| squares(m.view()).is_finite();
        match sound(&inputs) && targets.as_ref().is_none_or(sound) {
            true => Ok(KeptRows { inputs, targets }),
            false => Err(not_finite()),
        }
    }

    /// These rows, followed by those of `next`.
    fn and(&self, next: &KeptRows) -> Result<KeptRows> {
        let behind = |a: &Array2<f32>, b: &Array2<f32>| {
            concatenate(Axis(0), &[a.view(), b.view()]).map_err(|e| unlike().because(e))
        };
        let targets = match (&self.targets, &next.targets) {
            (Some(a), Some(b)) => Some(behind(a, b)?),
            (None, None) => None,
            _ => return Err(unlike()),
        };
        Ok(KeptRows { inputs: behind(&self.inputs, &next.inputs)?, targets })
    }

    /// Number of rows.
    fn len(&self) -> usize {
        self.inputs.nrows()
    }

    /// The rows and their targets.
    pub fn parts(&self) -> (&Array2<f32>, Option<&Array2<f32>>) {
        (&self.inputs, self.targets.as_ref())
    }

    /// The rows and their targets.
    pub fn into_parts(self) -> (Array2<f32>, Option<Array2<f32>>) {
        (self.inputs, self.targets)
    }

    /// The sums over all rows.
    pub(super) fn moments(&self) -> Result<Moments> {
        let width = self.inputs.ncols() - 1;
        let outputs = self.targets.as_ref().map_or(0, |y| y.ncols());
        let mut moments = match self.targets {
            Some(_) => Moments::with_targets(width, outputs),
            None => Moments::new(width),
        };
        let chunk = chunk_rows(width + outputs);
        for (i, rows) in self.inputs.axis_chunks_iter(Axis(0), chunk).enumerate() {
            let inputs = rows.slice(s![.., ..width]);
            match &self.targets {
                Some(y) => {
                    let targets = y.slice(s![i * chunk..i * chunk + rows.nrows(), ..]);
                    moments.push_with(inputs, targets)?;
                }
                None => moments.push(inputs)?,
            }
        }
        Ok(moments)
    }
}

fn unlike() -> Error {
    Error::new(ErrorKind::Calibration, "statistics of layers of different sizes cannot be added")
}

impl From<Moments> for Statistics {
    fn from(moments: Moments) -> Self {
        Statistics::Moments(moments)
    }
}
