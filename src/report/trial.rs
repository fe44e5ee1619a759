//! Merges that were tried for a goal.

use serde::{Deserialize, Serialize};

/// One merge on the way to a goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Parameters, as a part of all models'.
    pub size: f64,
    /// Rise of each task's error, from 0 to 1; empty if it was not measured.
    pub drops: Vec<f64>,
    /// Mean squared error of the outputs against the originals', relative to their variance; `None` if it
    /// was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    /// Whether this merge was kept.
    pub kept: bool,
}
