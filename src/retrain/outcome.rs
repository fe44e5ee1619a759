//! Results of retraining.

use serde::{Deserialize, Serialize};

use super::validate::Quality;

/// One validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps so far.
    pub iteration: usize,
    /// Mean loss of the steps since the last one, per task; empty before the first step.
    pub training: Vec<f64>,
    /// Quality on held-out samples, per task.
    pub validation: Vec<Quality>,
}

/// Why training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// All steps were taken.
    #[default]
    Complete,
    /// Validation had not improved for long.
    Early,
    /// The user asked to stop.
    Interrupted,
}

/// Results of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskOutcome {
    /// Name of the task.
    pub name: String,
    /// Quality before, on the samples for validation.
    pub before: Quality,
    /// Quality of the kept weights.
    pub after: Quality,
}

/// Results of retraining.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Number of steps.
    pub iterations: usize,
    /// Step of the kept weights.
    pub best: usize,
    /// Why it ended.
    pub ending: Ending,
    /// One entry per task.
    pub tasks: Vec<TaskOutcome>,
    /// All validations.
    pub history: Vec<Point>,
    /// Steps per second, without validation.
    pub speed: f64,
    /// Seconds in all.
    pub seconds: f64,
    /// Number of normalisations with new statistics.
    #[serde(default)]
    pub normalisations: usize,
}
