//! Common weights of channels of several depthwise layers.

use ndarray::{Array1, Array2, Array3, ArrayView1, Axis};

use crate::error::Result;

use super::channelwise::{ChannelNeuron, common_weights};

/// One depthwise layer among those of a site.
pub(crate) struct ChannelLayer {
    /// α/n Σ x xᵀ of each channel, n×k×k.
    pub(crate) hessians: Array3<f64>,
    /// Weights, n×k.
    pub(crate) weights: Array2<f64>,
    /// Weight of each channel's error.
    pub(crate) importance: Array1<f64>,
    /// The mean squared errors of the shared channels, added up.
    pub(crate) error: f64,
    /// Their mean squares.
    pub(crate) total: f64,
    /// Their errors weighted by importance.
    pub(crate) loss: f64,
    /// Whether any channel is shared.
    pub(crate) shares: bool,
}

impl ChannelLayer {
    /// A layer without shared channels.
    pub(crate) fn new(
        hessians: Array3<f64>,
        weights: Array2<f64>,
        importance: Array1<f64>,
    ) -> ChannelLayer {
        let (error, total, loss) = (0.0, 0.0, 0.0);
        ChannelLayer { hessians, weights, importance, error, total, loss, shares: false }
    }

    fn channel(&self, row: usize) -> ChannelNeuron<'_> {
        ChannelNeuron {
            hessian: self.hessians.index_axis(Axis(0), row),
            weights: self.weights.row(row),
            importance: 1.0,
        }
    }

    fn share(&mut self, row: usize, common: &Array1<f64>) {
        let hessian = self.hessians.index_axis(Axis(0), row);
        let form = |w: ArrayView1<'_, f64>| hessian.dot(&w).dot(&w).max(0.0);
        let before = self.weights.row(row).to_owned();
        let error = form((common - &before).view());
        self.error += error;
        self.total += form(before.view());
        self.loss += self.importance[row] * error;
        self.weights.row_mut(row).assign(common);
        self.shares = true;
    }
}

/// Computes the common weights of each neuron's channels, which are (layer, row) pairs.
///
/// # Errors
/// As [`common_weights`].
pub(crate) fn share_channels(
    layers: &mut [ChannelLayer],
    neurons: &[Vec<(usize, usize)>],
    damping: f64,
) -> Result<()> {
    for rows in neurons {
        let channels: Vec<ChannelNeuron<'_>> =
            rows.iter().map(|(at, row)| layers[*at].channel(*row)).collect();
        let common = common_weights(&channels, damping)?;
        for (at, row) in rows {
            layers[*at].share(*row, &common);
        }
    }
    Ok(())
}
