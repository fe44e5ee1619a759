//! Streamed second moments of a layer's inputs, for the layer-wise Hessian (eqs. 7–8) and for
//! least-squares fits towards given pre-activations.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis, s};

use super::product::{add_cross, add_upper_gram, complete, symmetric};
use crate::error::{Error, ErrorKind, Result};

/// Σ x yᵀ, inputs × targets, and Σ y².
pub type TargetSums = (Array2<f64>, Array1<f64>);

/// Sums over rows x (D inputs and a constant 1 as last entry, for the bias) and, if there are targets,
/// over their pre-activations y.
///
/// Sums of disjoint sets of rows add up ([`Moments::merge`]), so calibration can be sharded. Products
/// of each pushed chunk are in single precision, and are added in double precision. The last digits of
/// the result depend on the chunks, but not on the number of threads.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Σ x xᵀ, (D+1)²; only the upper triangle is valid.
    upper: Array2<f64>,
    targets: Option<Targets>,
    count: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct Targets {
    /// Σ x yᵀ, (D+1) × outputs; its last row is Σ y.
    cross: Array2<f64>,
    /// Σ y², one per output.
    squares: Array1<f64>,
}

impl Moments {
    /// No rows yet, of `inputs` entries each (without the constant).
    pub fn new(inputs: usize) -> Self {
        Moments { upper: Array2::zeros((inputs + 1, inputs + 1)), targets: None, count: 0 }
    }

    /// No rows yet, of `inputs` entries each, with `outputs` pre-activations per row.
    pub fn with_targets(inputs: usize, outputs: usize) -> Self {
        let targets = Targets {
            cross: Array2::zeros((inputs + 1, outputs)),
            squares: Array1::zeros(outputs),
        };
        Moments { targets: Some(targets), ..Self::new(inputs) }
    }

    /// Moments from their stored parts: Σ x xᵀ (the upper triangle counts), with targets Σ x yᵀ and
    /// Σ y², and the number of rows.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where the shapes do not fit together or a number is not finite.
    pub fn from_parts(
        upper: Array2<f64>,
        targets: Option<(Array2<f64>, Array1<f64>)>,
        count: u64,
    ) -> Result<Self> {
        let n = upper.nrows();
        let fits = |(cross, squares): &(Array2<f64>, Array1<f64>)| {
            cross.dim() == (n, squares.len()) && all_finite(cross) && all_finite(squares)
        };
        let sound = n > 0 && upper.ncols() == n && all_finite(&upper);
        if !sound || !targets.as_ref().is_none_or(fits) {
            return Err(Error::new(ErrorKind::Format, "stored moments are inconsistent")
                .hint("calibrate again"));
        }
        let targets = targets.map(|(cross, squares)| Targets { cross, squares });
        Ok(Moments { upper, targets, count })
    }

    /// Bytes that moments of `inputs` entries with `outputs` targets take.
    pub fn bytes(inputs: usize, outputs: usize) -> u64 {
        let (n, outputs) = (inputs as u64 + 1, outputs as u64);
        n.saturating_mul(n + outputs).saturating_add(outputs).saturating_mul(8)
    }

    /// Entries per row, without the constant.
    pub fn inputs(&self) -> usize {
        self.upper.nrows() - 1
    }

    /// Targets per row.
    pub fn outputs(&self) -> usize {
        self.targets.as_ref().map_or(0, |t| t.squares.len())
    }

    /// Number of rows seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The moments with only these targets, in this order.
    ///
    /// # Panics
    /// Where there is no such target.
    pub fn select_outputs(mut self, outputs: &[usize]) -> Moments {
        if let Some(targets) = &mut self.targets {
            targets.cross = targets.cross.select(Axis(1), outputs);
            targets.squares = targets.squares.select(Axis(0), outputs);
        }
        self
    }

    /// Σ x xᵀ, and with targets Σ x yᵀ and Σ y².
    pub fn into_sums(self) -> (Array2<f64>, Option<TargetSums>) {
        let mut whole = self.upper;
        complete(&mut whole);
        (whole, self.targets.map(|t| (t.cross, t.squares)))
    }

    /// Σ x xᵀ with the constant last; only the upper triangle is meaningful. See
    /// [`Moments::scaled`].
    pub fn upper(&self) -> ArrayView2<'_, f64> {
        self.upper.view()
    }

    /// Σ x yᵀ, (inputs + 1) × outputs, where there are targets.
    pub fn cross(&self) -> Option<ArrayView2<'_, f64>> {
        self.targets.as_ref().map(|t| t.cross.view())
    }

    /// Σ y² per output, where there are targets.
    pub fn target_squares(&self) -> Option<ArrayView1<'_, f64>> {
        self.targets.as_ref().map(|t| t.squares.view())
    }

    /// Σ y per output, where there are targets.
    pub fn target_sums(&self) -> Option<ArrayView1<'_, f64>> {
        self.targets.as_ref().map(|t| t.cross.row(self.inputs()))
    }

    /// Adds rows (n × inputs) without targets.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] for a wrong width, for moments with targets, and for NaN or
    /// infinite entries.
    pub fn push(&mut self, rows: ArrayView2<f32>) -> Result<()> {
        if self.targets.is_some() {
            return Err(Error::new(ErrorKind::Calibration, "rows came without their targets"));
        }
        self.add_rows(rows)
    }

    /// Adds rows (n × inputs) with their target pre-activations (n × outputs).
    ///
    /// # Errors
    /// As [`Moments::push`]; also where `targets` has another shape.
    pub fn push_with(&mut self, rows: ArrayView2<f32>, targets: ArrayView2<f32>) -> Result<()> {
        let inputs = self.inputs();
        if targets.dim() != (rows.nrows(), self.outputs()) {
            let (wanted, found) = ((rows.nrows(), self.outputs()), targets.dim());
            return Err(Error::new(
                ErrorKind::Calibration,
                format!("target pre-activations have shape {found:?}, not {wanted:?}"),
            ));
        }
        self.add_rows(rows)?;
        let Some(kept) = &mut self.targets else { return Ok(()) };
        add_cross(rows, targets, kept.cross.slice_mut(s![..inputs, ..]));
        add_columns(targets, |y| y, kept.cross.row_mut(inputs));
        add_columns(targets, |y| y * y, kept.squares.view_mut());
        if all_finite(&kept.squares) { Ok(()) } else { Err(not_finite()) }
    }

    /// Adds rows, with their targets if there are any, that count as `weight` rows each but are not
    /// counted: [`Moments::balanced`] spreads their weight over all rows.
    ///
    /// # Errors
    /// As [`Moments::push_with`].
    pub(super) fn push_means(
        &mut self,
        rows: ArrayView2<f32>,
        targets: Option<ArrayView2<f32>>,
        weight: f64,
    ) -> Result<()> {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let mut sums = match targets {
            Some(_) => Moments::with_targets(inputs, outputs),
            None => Moments::new(inputs),
        };
        match targets {
            Some(targets) => sums.push_with(rows, targets)?,
            None => sums.push(rows)?,
        }
        sums.scale(weight);
        self.merge(&Moments { count: 0, ..sums })
    }

    /// The sums with a total weight of as many as there are rows.
    pub(super) fn balanced(mut self) -> Moments {
        let last = self.inputs();
        let weight = self.upper[(last, last)];
        if weight > self.count as f64 {
            self.scale(self.count as f64 / weight);
        }
        self
    }

    /// The sums times a factor; the number of rows stays.
    pub(super) fn times(mut self, factor: f64) -> Moments {
        self.scale(factor);
        self
    }

    fn scale(&mut self, factor: f64) {
        self.upper *= factor;
        if let Some(targets) = &mut self.targets {
            targets.cross *= factor;
            targets.squares *= factor;
        }
    }

    fn add_rows(&mut self, rows: ArrayView2<f32>) -> Result<()> {
        let inputs = self.inputs();
        if rows.ncols() != inputs {
            let found = rows.ncols();
            return Err(Error::new(
                ErrorKind::Calibration,
                format!("rows have {found} entries where the layer has {inputs} inputs"),
            ));
        }
        add_upper_gram(rows, self.upper.slice_mut(s![..inputs, ..inputs]));
        add_columns(rows, |x| x, self.upper.slice_mut(s![..inputs, inputs]));
        self.upper[(inputs, inputs)] += rows.nrows() as f64;
        self.count += rows.nrows() as u64;
        if all_finite(self.upper.diag()) { Ok(()) } else { Err(not_finite()) }
    }

    /// Adds the sums of other rows.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where the sizes differ.
    pub fn merge(&mut self, other: &Moments) -> Result<()> {
        match (&mut self.targets, &other.targets) {
            _ if self.upper.dim() != other.upper.dim() => return Err(unlike()),
            (None, None) => {}
            (Some(a), Some(b)) if a.squares.len() == b.squares.len() => {
                a.cross += &b.cross;
                a.squares += &b.squares;
            }
            _ => return Err(unlike()),
        }
        self.upper += &other.upper;
        self.count = self.count.saturating_add(other.count);
        Ok(())
    }

    /// The moments of some of the inputs, in the given order; the constant stays last.
    ///
    /// # Panics
    /// Where an index is not below [`Moments::inputs`].
    pub fn select(&self, inputs: &[usize]) -> Moments {
        let kept: Vec<usize> = inputs.iter().copied().chain([self.inputs()]).collect();
        let upper = Array2::from_shape_fn((kept.len(), kept.len()), |(i, j)| {
            let (a, b) = (kept[i], kept[j]);
            self.upper[(a.min(b), a.max(b))]
        });
        let targets = self
            .targets
            .as_ref()
            .map(|t| Targets { cross: t.cross.select(Axis(0), &kept), squares: t.squares.clone() });
        Moments { upper, targets, count: self.count }
    }

    /// H = (factor / count) Σ x xᵀ, (inputs + 1)² and symmetric: eqs. 7–8 with `factor` = α or 1 − α.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where no rows were seen.
    pub fn scaled(&self, factor: f64) -> Result<Array2<f64>> {
        Ok(symmetric(self.upper.view(), factor / self.rows()?))
    }

    /// Number of rows, for means.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where no rows were seen.
    pub(crate) fn rows(&self) -> Result<f64> {
        if self.count == 0 {
            return Err(no_rows());
        }
        Ok(self.count as f64)
    }
}

fn unlike() -> Error {
    Error::new(ErrorKind::Calibration, "moments of layers of different sizes cannot be added")
        .hint("calibrate every shard with the same model")
}

fn all_finite<'a>(values: impl IntoIterator<Item = &'a f64>) -> bool {
    values.into_iter().all(|v| v.is_finite())
}

/// The error for a layer without a row.
pub(crate) fn no_rows() -> Error {
    Error::new(ErrorKind::Calibration, "a layer saw no calibration samples")
        .hint("give more samples, with tokens that are no padding")
}

pub(super) fn not_finite() -> Error {
    Error::new(ErrorKind::Calibration, "activations contain NaN, infinity or enormous values")
        .hint("look at the range of the calibration data, or at the model itself")
}

/// Adds `term` of each entry to its column's sum: in single precision over a few rows, then in double
/// precision.
fn add_columns(
    rows: ArrayView2<f32>,
    term: impl Fn(f32) -> f32 + Sync,
    mut sums: ArrayViewMut1<f64>,
) {
    const COLUMNS: usize = 128;
    const ROWS: usize = 32;
    let strips = sums.axis_chunks_iter_mut(Axis(0), COLUMNS).into_par_iter().enumerate();
    strips.for_each(|(i, mut sums)| {
        let strip = rows.slice(s![.., i * COLUMNS..i * COLUMNS + sums.len()]);
        let mut few = vec![0.0f32; sums.len()];
        for rows in strip.axis_chunks_iter(Axis(0), ROWS) {
            few.fill(0.0);
            match rows.to_slice() {
                Some(rows) => match few.as_mut_slice() {
                    // A row of one entry is all overhead.
                    [sum] => rows.iter().for_each(|value| *sum += term(*value)),
                    few => rows.chunks(few.len()).for_each(|row| add_terms(few, row, &term)),
                },
                None => rows.rows().into_iter().for_each(|row| match row.as_slice() {
                    Some(row) => add_terms(&mut few, row, &term),
                    None => add_terms(&mut few, &row.to_vec(), &term),
                }),
            }
            sums.iter_mut().zip(&few).for_each(|(sum, few)| *sum += f64::from(*few));
        }
    });
}

fn add_terms(sums: &mut [f32], row: &[f32], term: impl Fn(f32) -> f32) {
    let row = &row[..sums.len()];
    for column in 0..sums.len() {
        sums[column] += term(row[column]);
    }
}

#[cfg(test)]
mod tests;
