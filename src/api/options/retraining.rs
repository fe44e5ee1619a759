//! Retraining as a part of a merge.

#[cfg(feature = "cli")]
use super::parse::choices;
use crate::retrain::{RetrainOptions, When};

/// Whether, when and how long to retrain.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Retraining"))]
#[non_exhaustive]
pub struct RetrainingOptions {
    /// When to retrain towards the original models; `onnx-zip retrain` has all options
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "WHEN", default_value = "none", value_parser = choices(moments())))]
    pub retrain: Moment,
    /// Steps of retraining, in all
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "N", default_value_t = RetrainOptions::default().iterations))]
    pub iterations: usize,
    /// Steps that each original model was trained for; the report compares retraining with them
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub original_iterations: Option<u64>,
    /// Recompute the statistics of BatchNormalization from the samples, before or without retraining;
    /// needs --batchnorm per-task
    #[cfg_attr(feature = "cli", arg(long))]
    pub reset_bn: bool,
}

/// When a merge retrains; `None` for never.
pub type Moment = Option<When>;

impl Default for RetrainingOptions {
    fn default() -> Self {
        let iterations = RetrainOptions::default().iterations;
        RetrainingOptions { retrain: None, iterations, original_iterations: None, reset_bn: false }
    }
}

#[cfg(feature = "cli")]
fn moments() -> impl Iterator<Item = (&'static str, Moment, &'static str)> {
    let moments = When::ALL.map(|(when, name, help)| (name, Some(when), help));
    std::iter::once(("none", None, "never")).chain(moments)
}
