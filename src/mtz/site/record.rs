//! What happened at a site.

use serde::{Deserialize, Serialize};

/// What happened at a site that several nets have. Lists follow `tasks`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SiteRecord {
    /// The tasks whose layers these are: those that were zipped, or all where none could be.
    pub tasks: Vec<usize>,
    /// Names of the layers.
    pub layers: Vec<String>,
    /// Neurons.
    pub neurons: Vec<usize>,
    /// Neurons that two tasks or more share (Ñ_l).
    pub shared: usize,
    /// Inputs that two layers or more share (columns of the weight, without the bias).
    pub shared_inputs: usize,
    /// Inputs.
    pub inputs: Vec<usize>,
    /// The predicted increase of Σ α E (eq. 11).
    pub cost: f64,
    /// What each pair costs that was chosen here, in units that are the same for all layers.
    #[serde(skip)]
    pub pair_costs: Vec<f64>,
    /// Predicted mean squared error of the shared neurons' pre-activations, relative to their mean
    /// square.
    pub relative_errors: Vec<f64>,
    /// Calibration rows.
    pub rows: Vec<u64>,
    /// Seconds spent on statistics and on solving.
    pub seconds: (f64, f64),
    /// Why nothing is shared, where nothing is.
    pub reason: Option<String>,
}

impl SiteRecord {
    /// Adds a layer's mean squared error, which counts α times, and the mean square it relates to.
    pub(crate) fn add_error(&mut self, alpha: f64, error: f64, total: f64) {
        self.cost += alpha * error / 2.0;
        self.relative_errors.push(if total > 0.0 { error / total } else { 0.0 });
    }

    /// Whether weights were fused here, not shared before.
    pub(crate) fn is_zipped(&self) -> bool {
        self.shared > 0 && self.rows.iter().any(|rows| *rows > 0)
    }
}
