//! What happened at a site.

use serde::{Deserialize, Serialize};

use crate::error::Hint;

/// Why nothing is shared where layers keep their weights.
pub const OWN_WEIGHTS: &str = "every task keeps its own weights";

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
    /// What each rank of a correction takes from the cost, by task.
    #[serde(skip)]
    pub gains: Vec<(usize, Vec<f64>)>,
    /// The ranks of corrections, by task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<(usize, usize)>,
    /// What the errors of shared neurons mean for the outputs, in units that are the same for all layers.
    #[serde(skip)]
    pub loss: f64,
    /// Predicted mean squared error of the shared neurons' pre-activations, relative to their mean
    /// square.
    pub relative_errors: Vec<f64>,
    /// Calibration rows.
    pub rows: Vec<u64>,
    /// Seconds spent on statistics and on solving.
    pub seconds: (f64, f64),
    /// Why nothing is shared, where nothing is.
    pub reason: Option<String>,
    /// What can be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
}

impl SiteRecord {
    /// Adds a layer's mean squared error, which counts α times, and the mean square it relates to.
    pub(crate) fn add_error(&mut self, alpha: f64, error: f64, total: f64) {
        self.cost += alpha * error / 2.0;
        self.relative_errors.push(if total > 0.0 { error / total } else { 0.0 });
    }

    /// Notes that the layers keep their weights; what it would have cost to share them stays known.
    pub(crate) fn keep_own_weights(&mut self) {
        let kept = SiteRecord {
            tasks: std::mem::take(&mut self.tasks),
            layers: std::mem::take(&mut self.layers),
            neurons: std::mem::take(&mut self.neurons),
            inputs: std::mem::take(&mut self.inputs),
            loss: self.loss,
            gains: std::mem::take(&mut self.gains),
            reason: Some(OWN_WEIGHTS.to_owned()),
            ..SiteRecord::default()
        };
        *self = kept;
    }

    /// Why nothing is shared and what can be done about it, where nothing is.
    pub fn reason_with_hint(&self) -> Option<String> {
        let reason = self.reason.as_ref()?;
        Some(match &self.hint {
            Some(hint) => format!("{reason}; {}", hint.in_flags()),
            None => reason.clone(),
        })
    }

    /// Whether the layers keep their weights.
    pub fn keeps_weights(&self) -> bool {
        self.reason.as_deref() == Some(OWN_WEIGHTS)
    }

    /// Whether weights were fused here, not shared before.
    pub(crate) fn is_zipped(&self) -> bool {
        self.shared > 0 && self.rows.iter().any(|rows| *rows > 0)
    }
}
