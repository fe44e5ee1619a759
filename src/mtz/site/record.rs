//! The record of a site's merge.

use serde::{Deserialize, Serialize};

use crate::error::Hint;

/// The reason of a site whose layers keep their weights.
pub const OWN_WEIGHTS: &str = "every task keeps its own weights";

/// The record of a site of several nets. Lists follow `tasks`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SiteRecord {
    /// The tasks of the layers that were zipped, or all tasks if none could be.
    pub tasks: Vec<usize>,
    /// Names of the layers.
    pub layers: Vec<String>,
    /// Neurons.
    pub neurons: Vec<usize>,
    /// Neurons that at least two tasks share (Ñ_l).
    pub shared: usize,
    /// Inputs that at least two layers share (columns of the weight, without the bias).
    pub shared_inputs: usize,
    /// Inputs.
    pub inputs: Vec<usize>,
    /// The predicted increase of Σ α E (eq. 11).
    pub cost: f64,
    /// The cost of each chosen pair, in the same unit for all layers.
    #[serde(skip)]
    pub pair_costs: Vec<f64>,
    /// The part of the cost that each rank of a correction removes, by task; for a difference, the parts that
    /// it removes and leaves.
    #[serde(skip)]
    pub gains: Vec<(usize, Vec<f64>)>,
    /// Bits of differences from common weights, by task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bits: Vec<(usize, usize)>,
    /// The ranks of corrections, by task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<(usize, usize)>,
    /// The loss of the outputs by the errors of shared neurons, in the same unit for all layers.
    #[serde(skip)]
    pub loss: f64,
    /// Predicted mean squared error of the shared neurons' pre-activations, relative to their mean
    /// square.
    pub relative_errors: Vec<f64>,
    /// Calibration rows.
    pub rows: Vec<u64>,
    /// Seconds spent on statistics and on solving.
    pub seconds: (f64, f64),
    /// The reason why nothing is shared, if so.
    pub reason: Option<String>,
    /// What can be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
}

impl SiteRecord {
    /// Adds a layer's mean squared error, weighted by α, and the mean square that it is relative to.
    pub(crate) fn add_error(&mut self, alpha: f64, error: f64, total: f64) {
        self.cost += alpha * error / 2.0;
        self.relative_errors.push(if total > 0.0 { error / total } else { 0.0 });
    }

    /// Marks the layers as keeping their weights. The cost of sharing them stays in the record.
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

    /// The reason why nothing is shared, if so, and the next step for the user.
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

    /// Whether weights were fused at this site. Duplicate layers are shared without fusing.
    pub(crate) fn is_zipped(&self) -> bool {
        self.shared > 0 && self.rows.iter().any(|rows| *rows > 0)
    }

    /// Whether layers with different weights were fused.
    pub(crate) fn loses(&self) -> bool {
        self.is_zipped() && self.relative_errors.iter().any(|error| *error > 0.0)
    }
}
