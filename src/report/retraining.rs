//! The report of a retraining.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::format::{count, error};
use super::table::{Left, Right, Table};
use super::verification;
use crate::naming::{counted, shown};
use crate::retrain::{
    Ending, LossKind, OptimizerKind, Outcome, RetrainOptions, Retrained, Round, TaskOutcome,
};
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

/// Retraining during a merge as text: the last round, and what all rounds did.
pub(super) fn rounds(retrained: &Retrained) -> String {
    let mut out = retrained.rounds.last().map(|last| round(&last.outcome)).unwrap_or_default();
    let is_measured = !retrained.originals.is_empty();
    if retrained.iterations() > 0 && (is_measured || retrained.rounds.len() > 1) {
        let what = match is_measured {
            true => "errors on labelled samples that were not drawn",
            false => "validation losses",
        };
        let _ = write!(out, "\n{what}, before and after each round:\n\n{}", course(retrained));
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

/// What each round did to the tasks: their errors where these were measured, else their losses.
fn course(retrained: &Retrained) -> String {
    let tasks = retrained.rounds.first().map_or(&[][..], |first| first.outcome.tasks.as_slice());
    let columns = tasks.iter().flat_map(|task| [(task.name.as_str(), Right), ("after", Right)]);
    let mut table =
        Table::new([("behind", Left), ("iterations", Right)].into_iter().chain(columns));
    if !retrained.originals.is_empty() {
        let before = retrained.originals.iter().flat_map(|e| [error(*e), String::new()]);
        table.row(
            ["originals".to_owned(), String::new()].into_iter().chain(before).collect::<Vec<_>>(),
        );
    }
    for round in &retrained.rounds {
        let layer = round.layers.first().cloned().unwrap_or_default();
        let cells =
            [layer, count(round.outcome.iterations as u64)].into_iter().chain(changes(round));
        table.row(cells.collect::<Vec<_>>());
    }
    table.render()
}

/// Each task's numbers before and after a round.
fn changes(round: &Round) -> Vec<String> {
    if !round.errors.is_empty() {
        return round.errors.iter().flat_map(|e| [error(e.before), error(e.after)]).collect();
    }
    let losses = |task: &TaskOutcome| [loss(task.before.loss), loss(task.after.loss)];
    round.outcome.tasks.iter().flat_map(losses).collect()
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
    use crate::retrain::{ErrorChange, Quality, When};

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

    #[test]
    fn rounds_show_errors_where_these_were_measured_and_losses_elsewhere() {
        let quality = |loss: f64| Quality { loss, error: None };
        let tasks =
            vec![TaskOutcome { name: "a".into(), before: quality(0.5), after: quality(0.25) }];
        let outcome = Outcome { iterations: 7, tasks, ..Outcome::default() };
        let round = |layer: &str| Round {
            layers: vec![layer.into()],
            outcome: outcome.clone(),
            ..Round::default()
        };
        let mut retrained = Retrained {
            when: When::PerLayer,
            originals: Vec::new(),
            rounds: vec![round("conv1"), round("fc2")],
            original_iterations: None,
        };
        let row = |retrained: &Retrained, first: &str| -> Vec<String> {
            let text = rounds(retrained);
            let line = text.lines().find(|line| line.trim_start().starts_with(first));
            line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(row(&retrained, "fc2"), ["fc2", "7", "0.5000", "0.2500"]);
        assert!(row(&retrained, "originals").is_empty());
        retrained.originals = vec![0.01];
        for round in &mut retrained.rounds {
            round.errors = vec![ErrorChange { before: 0.125, after: 0.0625 }];
        }
        assert_eq!(row(&retrained, "originals"), ["originals", "1.00", "%"]);
        assert_eq!(row(&retrained, "conv1"), ["conv1", "7", "12.50", "%", "6.25", "%"]);
    }
}
