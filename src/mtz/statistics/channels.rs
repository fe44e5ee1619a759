//! Statistics of a depthwise layer, one set per channel, with the weights that they belong to.

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis};

use crate::calib::gram::Moments;
use crate::error::Result;

/// A depthwise layer of one task: statistics and weights of each channel, the bias last.
pub(crate) struct ChannelStats {
    pub(crate) moments: Vec<Moments>,
    pub(crate) weights: Array2<f64>,
}

impl ChannelStats {
    /// Bytes that they take.
    pub(super) fn bytes(&self) -> u64 {
        let moments = self.moments.iter().map(|own| Moments::bytes(own.inputs(), own.outputs()));
        moments.sum::<u64>() + 8 * self.weights.len() as u64
    }

    /// The channels' Hessians, n × k × k.
    pub(crate) fn hessians(&self, alpha: f64) -> Result<Array3<f64>> {
        let (n, k) = self.weights.dim();
        let mut all = Array3::zeros((n, k, k));
        for (mut hessian, moments) in all.axis_iter_mut(Axis(0)).zip(&self.moments) {
            hessian.assign(&moments.scaled(alpha)?);
        }
        Ok(all)
    }

    /// The channels' mean squared pre-activations.
    pub(crate) fn mean_squares(&self) -> Result<Array1<f64>> {
        let hessians = self.hessians(1.0)?;
        let mean_square = |(h, w): (ArrayView2<'_, f64>, ArrayView1<'_, f64>)| h.dot(&w).dot(&w);
        Ok(hessians.outer_iter().zip(self.weights.outer_iter()).map(mean_square).collect())
    }
}
