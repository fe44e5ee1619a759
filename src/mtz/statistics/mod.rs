//! Statistics that the method takes of layers: moments with the weights they belong to, and how much
//! errors of each neuron matter.

mod probe;

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis};

use crate::calib::gram::Moments;
use crate::couple::{CoupledLayer, LayerId};
use crate::error::Result;
use crate::mtz::joint::JointModel;
use crate::mtz::solver::memory::Extent;
use crate::mtz::solver::observations::Observations;
use crate::mtz::solver::pair_cost::Weights;

pub use probe::Probe;

/// Sensitivities of a task's layers: E[(∂outputs/∂z)²] per row.
pub type Sensitivities = BTreeMap<LayerId, Array1<f64>>;

/// A layer of one task at a site: its statistics and its weights with the bias as last column.
pub(crate) struct LayerStats {
    pub(crate) observed: Observations,
    pub(crate) weights: Weights,
}

/// A depthwise layer of one task: statistics and weights of each channel, the bias last.
pub(crate) struct ChannelStats {
    pub(crate) moments: Vec<Moments>,
    pub(crate) weights: Array2<f64>,
}

impl ChannelStats {
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

/// Bytes that the statistics of one layer take; `targets` tells whether they hold pre-activations.
pub(crate) fn statistics_bytes(
    joint: &JointModel,
    task: usize,
    layer: &CoupledLayer,
    targets: bool,
) -> u64 {
    let Ok((out, inputs, taps)) = layer.layer.sizes(&joint.tasks[task].model.graph) else {
        return u64::MAX;
    };
    match layer.per_channel {
        _ if layer.layer.is_table() => 8 * inputs as u64,
        true => Moments::bytes(taps, usize::from(targets)).saturating_mul(out as u64),
        false => Moments::bytes(inputs.saturating_mul(taps), if targets { out } else { 0 }),
    }
}

/// What the work at a layer takes of memory; `None` for depthwise layers and tables, which take
/// hardly any.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the layer's weight is not a matrix.
pub(crate) fn extent(
    joint: &JointModel,
    task: usize,
    layer: &CoupledLayer,
) -> Result<Option<Extent>> {
    let (outputs, inputs, taps) = layer.layer.sizes(&joint.tasks[task].model.graph)?;
    let inputs = inputs.saturating_mul(taps).saturating_add(1);
    let tasks = joint.tasks.len();
    let is_matrix = !layer.per_channel && !layer.layer.is_table();
    Ok(is_matrix.then_some(Extent { outputs, inputs, tasks }))
}

/// Energies below this are rounding errors: the neuron never changes.
const DEAD: f64 = 1e-30;

/// How much errors matter that count relative to `mean_squares`. A neuron with hardly any mean square counts
/// no more than a thousand times the mean, and those of a layer without any count alike.
pub(crate) fn inverse(mean_squares: &Array1<f64>) -> Array1<f64> {
    match mean_squares.mean() {
        Some(mean) if mean > DEAD => mean_squares.mapv(|e| 1.0 / e.max(1e-3 * mean)),
        _ => Array1::ones(mean_squares.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn errors_are_relative_and_dead_neurons_harmless() {
        assert_eq!(inverse(&array![2.0, 0.5]), array![0.5, 2.0]);
        assert_eq!(inverse(&array![1.0, 0.0]), array![1.0, 2000.0]);
        for dead in [0.0, -1e-20, 1e-310] {
            assert_eq!(inverse(&array![dead, dead]), array![1.0, 1.0]);
        }
        assert!(inverse(&array![]).is_empty());
    }
}
