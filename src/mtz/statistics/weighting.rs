//! Weights of errors: sensitivities of neurons, layers and tasks.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView2};

use crate::align::{TaskId, TaskLayer};
use crate::calib::product::times;
use crate::couple::LayerId;
use crate::error::Result;
use crate::grad::Sensitivity;
use crate::mtz::options::Method;
use crate::mtz::solver::hessian::Hessian;
use crate::mtz::solver::layer::LayerStats;

use super::channels::ChannelStats;

/// Energies below this are rounding errors: the neuron never changes.
const DEAD: f64 = 1e-30;

/// Sensitivities of the outputs to a task's layers.
pub type Sensitivities = BTreeMap<LayerId, Sensitivity>;

/// Weights of errors of neurons, layers and tasks.
#[derive(Clone, Copy)]
pub(crate) struct Weighting<'a> {
    pub(crate) method: Method,
    /// Sensitivities per task; empty if they are not known.
    pub(crate) sensitivities: &'a [Sensitivities],
}

impl Weighting<'_> {
    /// The weight of each row's error: its sensitivity, or without one the inverse of its mean
    /// square, so that errors are relative. `None` in `mtz`.
    pub(crate) fn importance(self, own: TaskLayer, stats: &LayerStats) -> Option<Array1<f64>> {
        if self.method == Method::Mtz {
            return None;
        }
        if let Some(s) = self.sensitivity(own) {
            // Relative to the layer's mean, so that the scale of a task's outputs has no effect on the
            // balance between tasks.
            let mean = s.mean().unwrap_or(1.0).max(f64::MIN_POSITIVE);
            return Some(s.mapv(|v| (v / mean).max(1e-3)));
        }
        // The constant's part of the mean square is a shift that the next bias absorbs.
        let hessian = stats.observed.hessian();
        let means = hessian.means(stats.weights.view());
        let variances = hessian.mean_square(stats.weights.view()) - &means * &means;
        Some(inverse(&variances))
    }

    /// How errors of a layer's rows add up, in the unit of [`Weighting::importance`]; `None` where that is
    /// not known.
    pub(crate) fn metric(self, own: TaskLayer) -> Option<Array2<f64>> {
        let known = self.known(own)?;
        let mean = known.channels.mean().unwrap_or(1.0).max(f64::MIN_POSITIVE);
        known.metric.as_ref().filter(|_| self.method == Method::Refit).map(|metric| metric / mean)
    }

    /// The weight of each row's error, in the same unit for all layers of a task.
    pub(crate) fn of_rows(self, own: TaskLayer, stats: &LayerStats) -> Array1<f64> {
        match (self.method, self.importance(own, stats)) {
            (Method::Refit, Some(rows)) => rows * self.of_layer(own),
            _ => Array1::ones(stats.weights.nrows()),
        }
    }

    /// As [`Weighting::of_rows`] for the channels of a depthwise layer.
    pub(crate) fn of_channels(
        self,
        own: TaskLayer,
        channels: &ChannelStats,
    ) -> Result<Array1<f64>> {
        if self.method == Method::Mtz {
            return Ok(Array1::ones(channels.weights.nrows()));
        }
        Ok(match self.sensitivity(own) {
            Some(s) => s.mapv(|v| v.max(0.0)) / self.task_scale(own.task),
            None => inverse(&channels.mean_squares()?),
        })
    }

    /// A layer's mean sensitivity relative to that of its task; 1 where errors are relative anyway.
    pub(crate) fn of_layer(self, own: TaskLayer) -> f64 {
        let mean = self.sensitivity(own).and_then(|s| s.mean());
        mean.map_or(1.0, |mean| mean / self.task_scale(own.task))
    }

    /// The loss of the outputs by errors of shared rows with `weights`; in `mtz`, which has no
    /// sensitivities, the errors relative to the rows' mean squares.
    pub(crate) fn loss(self, errors: &Array1<f64>, weights: &Array1<f64>, total: f64) -> f64 {
        match self.method {
            Method::Refit => errors.dot(weights),
            Method::Mtz if total > 0.0 => errors.sum() / total,
            Method::Mtz => 0.0,
        }
    }

    /// The loss of the outputs by a change of a layer's weights, if it is known how errors of its neurons
    /// add up; in the unit of [`Weighting::loss`].
    pub(crate) fn of_change(
        self,
        own: TaskLayer,
        hessian: &Hessian,
        change: ArrayView2<f64>,
    ) -> Option<f64> {
        let metric = self.metric(own)?;
        let Hessian::Dense(dense) = hessian else { return None };
        let image = times(change, dense.matrix());
        let errors = times(image.view(), change.t()) * dense.factor();
        Some((metric * errors).sum().max(0.0) * self.of_layer(own))
    }

    /// How many times as much the mean of a layer's errors over a sample's positions counts as what differs
    /// from it.
    pub(crate) fn coherence(self, own: TaskLayer) -> f64 {
        self.known(own).map_or(1.0, |known| known.coherence)
    }

    fn sensitivity(&self, own: TaskLayer) -> Option<&Array1<f64>> {
        self.known(own).map(|known| &known.channels)
    }

    fn known(&self, own: TaskLayer) -> Option<&Sensitivity> {
        self.sensitivities.get(own.task.0)?.get(&own.layer)
    }

    /// The mean sensitivity of a task's layers.
    fn task_scale(self, task: TaskId) -> f64 {
        let all = self.sensitivities.get(task.0).into_iter().flat_map(BTreeMap::values);
        let means: Vec<f64> = all.filter_map(|s| s.channels.mean()).collect();
        (means.iter().sum::<f64>() / means.len().max(1) as f64).max(f64::MIN_POSITIVE)
    }
}

/// Weights of errors relative to `mean_squares`. A neuron with a tiny mean square counts at most a
/// thousand times the mean. All neurons count alike if all mean squares are 0.
fn inverse(mean_squares: &Array1<f64>) -> Array1<f64> {
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
