//! Retraining as a part of a merge.

#[cfg(feature = "cli")]
use super::parse::choices;
use crate::error::Hint;
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

impl RetrainingOptions {
    /// A remark on an option that does nothing beside the others, if there is one.
    pub(crate) fn idle(&self) -> Option<Hint> {
        let counts = self.iterations != RetrainingOptions::default().iterations;
        let vain = |name| {
            Some(Hint::from("").option(name).then(" does nothing without ").option("retrain"))
        };
        match self.retrain {
            None if counts => vain("iterations"),
            None if self.original_iterations.is_some() => vain("original-iterations"),
            Some(_) if self.iterations == 0 => Some(
                Hint::from("")
                    .option("retrain")
                    .then(" does nothing with ")
                    .option_as("iterations", "0"),
            ),
            _ => None,
        }
    }
}

#[cfg(feature = "cli")]
fn moments() -> impl Iterator<Item = (&'static str, Moment, &'static str)> {
    let moments = When::ALL.map(|(when, name, help)| (name, Some(when), help));
    std::iter::once(("none", None, "never")).chain(moments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_without_retraining_are_told() {
        let default = RetrainingOptions::default();
        let original = RetrainingOptions { original_iterations: Some(7), ..default.clone() };
        let none = RetrainingOptions { iterations: 0, retrain: Some(When::End), ..default.clone() };
        let trains = RetrainingOptions { iterations: 5, ..none.clone() };
        let steps = RetrainingOptions { retrain: None, ..trains.clone() };
        assert_eq!([default, trains].map(|options| options.idle()), [None, None]);
        for (options, said) in [
            (steps, "--iterations does nothing without --retrain"),
            (original, "--original-iterations does nothing without --retrain"),
            (none, "--retrain does nothing with --iterations 0"),
        ] {
            assert_eq!(options.idle().map(|hint| hint.in_flags()).as_deref(), Some(said));
        }
    }
}
