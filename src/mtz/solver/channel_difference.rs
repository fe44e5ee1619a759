//! Differences in few bits of channels of depthwise layers, whose tasks keep their own biases.
//!
//! As in [`super::difference`], with a metric P = A (A + B)⁻¹ B of each channel's own.

use ndarray::{Array1, Array2, ArrayView1};

use super::bits::Bits;
use super::channelwise::{ChannelNeuron, LEAST_DAMPING};
use super::cholesky::{DAMPING, Spd, ridge};
use super::correction::{Change, CorrectedRows};
use super::difference::rounded;
use crate::error::Result;

/// The differences of a layer's channels.
#[derive(Default)]
pub(super) struct ChannelDifferences {
    rows: Vec<usize>,
    numbers: Vec<i8>,
    steps: Vec<f32>,
    common: Vec<f32>,
    removed: f64,
    left: f64,
}

impl ChannelDifferences {
    /// Adds the difference with which channel `row` joins others that have `common` weights and the sum of
    /// these Hessians. Returns it.
    ///
    /// # Errors
    /// As [`Spd::factor`].
    pub(super) fn add(
        &mut self,
        (row, own): (usize, ChannelNeuron<'_>),
        (common, hessian): (ArrayView1<'_, f64>, &Array2<f64>),
        bits: Bits,
        damping: f64,
    ) -> Result<Array1<f32>> {
        let wanted = &own.weights - &common;
        let metric = metric([hessian, &own.hessian.to_owned()], damping)?;
        let upper = Spd::factor(metric.view(), ridge(metric.view(), DAMPING))?.upper();
        let (numbers, step) = rounded(wanted.view(), Some(&upper), bits.most());
        let change: Array1<f32> = numbers.iter().map(|number| f32::from(*number) * step).collect();
        let cost = |off: &Array1<f64>| own.importance * metric.dot(off).dot(off).max(0.0);
        let (before, after) = (cost(&wanted), cost(&(&wanted - &change.mapv(f64::from))));
        self.removed += (before - after).max(0.0);
        self.left += after.min(before);
        self.rows.push(row);
        self.numbers.extend(numbers);
        self.steps.push(step);
        Ok(change)
    }

    /// Takes note of the common weights of the channel that was added last.
    pub(super) fn settle(&mut self, common: &Array1<f64>) {
        self.common.extend(common.iter().map(|weight| *weight as f32));
    }

    /// The part of the cost that they remove, and the part that they leave.
    pub(super) fn gains(&self) -> Vec<f64> {
        vec![self.removed, self.left]
    }

    /// The layer's rows with their differences.
    pub(super) fn corrected(self, bits: Bits) -> CorrectedRows {
        let (rows, taps) = (self.rows.len(), self.numbers.len() / self.rows.len().max(1));
        let numbers = Array2::from_shape_vec((rows, taps), self.numbers).unwrap_or_default();
        let common = Array2::from_shape_vec((rows, taps), self.common).unwrap_or_default();
        let change = Change::Difference { bits, numbers, steps: self.steps };
        let (columns, scale) = ((0..taps).collect(), Vec::new());
        CorrectedRows { rows: self.rows, columns, common, scale, change }
    }
}

/// A (A + B)⁻¹ B, with ridges.
fn metric(hessians: [&Array2<f64>; 2], damping: f64) -> Result<Array2<f64>> {
    let [a, b] = hessians.map(|hessian| {
        let ridge = ridge(hessian.view(), damping.max(LEAST_DAMPING));
        let mut damped = hessian.clone();
        damped.diag_mut().mapv_inplace(|entry| entry + ridge);
        damped
    });
    let metric = a.dot(&Spd::factor((&a + &b).view(), 0.0)?.solve(b.view()));
    Ok((&metric + &metric.t()) / 2.0)
}
