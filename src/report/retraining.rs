//! The report of a retraining.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::format::{count, error};
use super::table::{Left, Right, Table};
use super::verification;
use crate::naming::{counted, shown};
use crate::retrain::{Ending, LossKind, OptimizerKind, Outcome, RetrainOptions, Retrained};
use crate::verify::Verification;

/// Everything about one retraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RetrainReport {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// Name and version of the program.
    pub tool: String,
    /// The joint model before.
    pub joint: String,
    /// The file that was written.
    pub output: String,
    /// Whether it exists: a rejected file is discarded unless it is kept on request.
    #[serde(default = "super::is_written")]
    pub written: bool,
    /// The settings.
    pub settings: RetrainSettings,
    /// The runtime, with version and device.
    pub runtime: String,
    /// Results.
    pub outcome: Outcome,
    /// Comparison of the written file with the original models; `None` without them.
    pub verification: Option<Verification>,
}

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RetrainSettings {
    /// Steps at most.
    pub iterations: usize,
    /// Samples per batch and task.
    pub batch: usize,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Its largest learning rate.
    pub learning_rate: f64,
    /// Whether the learning rate is in parts of each tensor's root mean square.
    #[serde(default)]
    pub relative: bool,
    /// The loss.
    pub loss: LossKind,
    /// Weight of the merged layers' pre-activations.
    #[serde(default)]
    pub layers: f64,
    /// Weights of the tasks' losses; empty for equal ones.
    pub weights: Vec<f64>,
    /// Fraction of the samples for validation.
    pub validation: f64,
    /// Whether samples were mixed.
    #[serde(default)]
    pub mix: bool,
    /// Seed of all random choices.
    pub seed: u64,
}

impl RetrainSettings {
    /// The settings behind `options`.
    pub fn new(options: &RetrainOptions) -> Self {
        RetrainSettings {
            iterations: options.iterations,
            batch: options.batch,
            optimizer: options.optimizer,
            learning_rate: options.rate.peak(),
            relative: options.rate.is_relative(),
            loss: options.loss,
            layers: options.layers,
            weights: options.weights.clone(),
            validation: options.validation,
            mix: options.mix,
            seed: options.seed,
        }
    }
}

/// The retraining as text.
pub fn retraining(report: &RetrainReport) -> String {
    let mut out = round(&report.outcome);
    let place = if report.written { "written to" } else { "NOT written to" };
    let _ = writeln!(out, "{place} {}", shown(&report.output));
    if let Some(checked) = &report.verification {
        out.push('\n');
        out.push_str(&verification(checked));
    }
    out
}

/// Retraining during a merge as text: the last round, and the time of all rounds.
pub(super) fn rounds(retrained: &Retrained) -> String {
    let mut out = retrained.rounds.last().map(round).unwrap_or_default();
    if let [_, _, ..] = retrained.rounds.as_slice() {
        let taken: Vec<String> =
            retrained.rounds.iter().map(|r| count(r.iterations as u64)).collect();
        let _ = writeln!(out, "iterations after each merged layer: {}", taken.join(" + "));
    }
    if let (Some(ratio), Some(original)) = (retrained.ratio(), retrained.original_iterations) {
        let _ = writeln!(
            out,
            "{ratio:.1} times fewer iterations than the {} of each original model",
            count(original)
        );
    }
    out
}

/// One round as text.
fn round(outcome: &Outcome) -> String {
    let mut out = String::new();
    if outcome.normalisations > 0 {
        let normalisations = counted(outcome.normalisations, "normalisation");
        let _ = writeln!(out, "statistics of {normalisations} taken anew");
    }
    if outcome.iterations > 0 {
        out.push_str(&training(outcome));
    }
    out
}

fn training(outcome: &Outcome) -> String {
    let mut table = Table::new([
        ("task", Left),
        ("validation loss before", Right),
        ("after", Right),
        ("error before", Right),
        ("after", Right),
    ]);
    for task in &outcome.tasks {
        let rate = |rate: Option<f64>| rate.map_or_else(|| "–".to_owned(), error);
        table.row([
            task.name.clone(),
            loss(task.before.loss),
            loss(task.after.loss),
            rate(task.before.error),
            rate(task.after.error),
        ]);
    }
    let mut out = table.render();
    let how = match outcome.ending {
        Ending::Complete => "",
        Ending::Early => ", stopped because validation did not improve any more",
        Ending::Interrupted => ", stopped on request",
    };
    let _ = writeln!(
        out,
        "\nretrained for {} in {:.1} s ({:.0} steps/s){how}; the weights are those after \
         iteration {}",
        counted(outcome.iterations, "iteration"),
        outcome.seconds,
        outcome.speed,
        outcome.best
    );
    out
}

/// A mean loss; a dash without samples for validation.
fn loss(mean: f64) -> String {
    if mean.is_nan() { "–".to_owned() } else { format!("{mean:.4}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrain::{Quality, TaskOutcome};

    #[test]
    fn a_loss_without_samples_is_a_dash() {
        let quality = |loss: f64| Quality { loss, error: None };
        let task =
            TaskOutcome { name: "a".to_owned(), before: quality(f64::NAN), after: quality(0.5) };
        let outcome = Outcome { iterations: 1, tasks: vec![task], ..Outcome::default() };
        let text = training(&outcome);
        let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.first() == Some(&"a"));
        assert_eq!(row.unwrap(), ["a", "–", "0.5000", "–", "–"]);
    }
}
