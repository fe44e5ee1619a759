//! Corrections that a task adds to common weights: diag(s) (W + C).

use ndarray::{Array2, Axis};

use super::bits::Bits;
use crate::calib::product::times;
use crate::calib::wide::widened;

/// What a layer is to add to common weights when it joins others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A product of this rank; of rank 0, only what each rank would remove is computed.
    LowRank(usize),
    /// A difference in few bits; what it removes is computed also if it is not `kept`.
    Difference {
        /// Bits of each number.
        bits: Bits,
        /// Whether the layer has it.
        kept: bool,
    },
}

/// C.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// U V.
    LowRank {
        /// U: rows × rank.
        left: Array2<f32>,
        /// V: rank × inputs.
        right: Array2<f32>,
    },
    /// Whole numbers, each times its row's step.
    Difference {
        /// Bits of each number.
        bits: Bits,
        /// Rows × inputs.
        numbers: Array2<i8>,
        /// One for each row.
        steps: Vec<f32>,
    },
}

impl Default for Change {
    fn default() -> Self {
        Change::LowRank { left: Array2::default((0, 0)), right: Array2::default((0, 0)) }
    }
}

impl Change {
    /// Whether it is nothing.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Change::LowRank { right, .. } if right.nrows() == 0)
    }

    /// Some rows, over some inputs.
    fn select(&self, rows: &[usize], inputs: &[usize]) -> Change {
        match self {
            Change::LowRank { left, right } => Change::LowRank {
                left: left.select(Axis(0), rows),
                right: right.select(Axis(1), inputs),
            },
            Change::Difference { bits, numbers, steps } => Change::Difference {
                bits: *bits,
                numbers: numbers.select(Axis(0), rows).select(Axis(1), inputs),
                steps: rows.iter().map(|row| steps[*row]).collect(),
            },
        }
    }

    /// Its numbers: rows × inputs.
    pub(crate) fn sum(&self) -> Array2<f32> {
        match self {
            Change::LowRank { left, right } => product(left, right).mapv(|v| v as f32),
            Change::Difference { numbers, steps, .. } => {
                let mut sum = numbers.mapv(f32::from);
                sum.rows_mut().into_iter().zip(steps).for_each(|(mut row, step)| row *= *step);
                sum
            }
        }
    }

    /// Adds it to weights, before they are scaled.
    fn add_to(&self, weights: &mut Array2<f32>, scale: impl Fn(usize) -> f64) {
        match self {
            Change::LowRank { left, right } => {
                let sum = product(left, right);
                for (at, mut weights) in weights.rows_mut().into_iter().enumerate() {
                    let scale = scale(at);
                    weights.zip_mut_with(&sum.row(at), |w, change| {
                        *w = (scale * (f64::from(*w) + change)) as f32;
                    });
                }
            }
            // As runtimes add: product and sum are rounded one after the other.
            Change::Difference { .. } => *weights += &self.sum(),
        }
    }
}

/// U V in double precision.
fn product(left: &Array2<f32>, right: &Array2<f32>) -> Array2<f64> {
    let [left, right] = [left, right].map(|factor| widened(factor.view()));
    times(left.view(), right.view())
}

/// The correction of one layer's weights.
#[derive(Debug, Clone, Default)]
pub(crate) struct Correction {
    /// The member of the site whose weights are corrected.
    pub(crate) member: usize,
    /// Its rows, one for each row of the change.
    pub(crate) rows: Vec<usize>,
    /// s, one for each row; empty where the layer is not scaled.
    pub(crate) scale: Vec<f32>,
    /// C: rows × common inputs.
    pub(crate) change: Change,
    /// The part of the cost that each rank removes, used or not; descending. For a difference, the part that
    /// it removes and the part that is left.
    pub(crate) gains: Vec<f64>,
}

/// The correction of some rows of a layer's matrix, with the weights that it corrects.
#[derive(Debug, Clone)]
pub(crate) struct CorrectedRows {
    /// Rows of the layer.
    pub(crate) rows: Vec<usize>,
    /// Columns of its matrix.
    pub(crate) columns: Vec<usize>,
    /// W: rows × columns.
    pub(crate) common: Array2<f32>,
    /// s, one for each row; empty where nothing is scaled.
    pub(crate) scale: Vec<f32>,
    /// C: rows × columns.
    pub(crate) change: Change,
}

impl Correction {
    /// The correction of `common` weights of these rows of the member, over the common inputs at `places`,
    /// which stand in these `columns` of its matrix.
    pub(crate) fn of_rows(
        &self,
        common: Array2<f32>,
        rows: &[usize],
        places: &[usize],
        columns: &[usize],
    ) -> CorrectedRows {
        let order = self.places(rows);
        CorrectedRows {
            rows: rows.to_vec(),
            columns: columns.to_vec(),
            common,
            scale: order.iter().filter_map(|row| self.scale.get(*row).copied()).collect(),
            change: self.change.select(&order, places),
        }
    }

    /// Whether it changes anything.
    pub(crate) fn is_some(&self) -> bool {
        !self.change.is_none() || !self.scale.is_empty()
    }

    /// The weights with the correction: rows of the member that stand at `rows`, over the common inputs at
    /// `places`.
    pub(crate) fn added_to(
        &self,
        weights: &Array2<f32>,
        rows: &[usize],
        places: &[usize],
    ) -> Array2<f32> {
        let order = self.places(rows);
        let mut corrected = weights.clone();
        let scale = |row: usize| self.scale.get(order[row]).map_or(1.0, |scale| f64::from(*scale));
        self.change.select(&order, places).add_to(&mut corrected, scale);
        corrected
    }

    /// Where the member's rows stand in the change.
    fn places(&self, rows: &[usize]) -> Vec<usize> {
        let at = |row: &usize| self.rows.iter().position(|own| own == row);
        rows.iter().filter_map(at).collect()
    }
}
