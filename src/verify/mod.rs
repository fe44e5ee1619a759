//! Checks a joint model's file against the nets that it was made from.
//!
//! The deviation of a task from its original net is the price of sharing, and no failure by itself. A
//! check fails if outputs are missing, have another shape or are not finite, if runtimes disagree, if
//! the file does not reproduce the nets that it was written from, if the deviation exceeds the one
//! reported in the file, or if it exceeds a limit that the user has set.
//!
//! The first runtime that can run the original nets is the judge. Another runtime is not compared if it
//! cannot run the original nets, computes them differently, or cannot run the joint model. The report
//! names it, but nothing fails.

mod answers;
mod canonical;
mod check;
mod classes;
mod engine;
mod loading;
mod measure;
mod reported;
mod sensitivity;
mod tally;
mod wiring;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::calib::data::Dataset;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{DataType, Graph, Node, NodeId, ValueId};
use crate::progress::Progress;
use crate::runtime::{Backend, ModelSource};

pub use answers::{Reading, misclassified};
pub use canonical::{Finding, Form, Likeness, check_canonical};
use check::{CONFIRMING, Check};
pub(crate) use classes::{answers, differing};
use engine::Engine;
use loading::Loading;
pub use measure::Deviation;
pub use reported::{DEVIATION_KEY, Reported};
pub use wiring::Wiring;

/// The file to check.
#[derive(Debug, Clone, Copy)]
pub struct Joint<'a> {
    /// Its path.
    pub path: &'a Path,
    /// Its name in reports.
    pub name: &'a str,
    /// Its bytes, external data included.
    pub bytes: u64,
}

/// One task to check.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Name of the task in the joint model.
    pub task: &'a str,
    /// The net that was merged.
    pub original: ModelSource<'a>,
    /// The net that the joint model must compute exactly, if it is given.
    pub net: Option<ModelSource<'a>>,
    /// How its answers are read.
    pub reading: Reading,
    /// Samples for the original net's inputs.
    pub data: &'a Dataset,
    /// Deviations of the outputs as reported in the file, if they are; see [`Reported`].
    pub reported: Option<&'a BTreeMap<String, f64>>,
    /// Whether it must compute what the original does, since nothing of it was merged with other weights.
    pub is_untouched: bool,
}

/// The limits of a check.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Largest difference between runtimes, and between the file and the nets it was written from,
    /// relative to the output's largest element.
    pub tolerance: f64,
    /// Largest absolute difference from the original nets; none by default.
    pub deviation: Option<f64>,
    /// Largest loss of accuracy, as a fraction of the samples; none by default.
    pub drop: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { tolerance: 1e-3, deviation: None, drop: None }
    }
}

/// The tolerance for nets that round values to a few bits: sums in another order may round to another step.
const OF_STEPS: f64 = 2e-2;

/// The tolerances for nets that compute in types of 11 and of 8 bits, about twenty times their rounding. A product
/// that is written as a sum of parts, or in another place of the graph, rounds its terms otherwise, and each of many
/// layers adds to the difference.
const OF_HALVES: [(DataType, f64); 2] = [(DataType::F16, 1e-2), (DataType::BF16, 8e-2)];

impl Limits {
    /// The limits for a file that is written from these nets.
    pub fn of_nets<'a>(nets: impl IntoIterator<Item = &'a Graph>) -> Self {
        let limits = Limits::default();
        let tolerance = nets.into_iter().map(rounding).fold(limits.tolerance, f64::max);
        Limits { tolerance, ..limits }
    }
}

/// The tolerance that a net's own rounding asks for; 0 for one that computes in single precision throughout.
fn rounding(net: &Graph) -> f64 {
    let of_value = |value: &ValueId| {
        let dtype = net.type_of(*value).map(|ty| ty.dtype);
        let known = OF_HALVES.iter().find(|(half, _)| Some(*half) == dtype);
        known.map_or(0.0, |(_, tolerance)| *tolerance)
    };
    let of_node = |(_, node): (NodeId, &Node)| {
        let steps = if rounds_to_steps(node) { OF_STEPS } else { 0.0 };
        let values = node.outputs.iter().flatten().map(of_value);
        values.chain(node.subgraphs().map(rounding)).fold(steps, f64::max)
    };
    net.nodes().map(of_node).fold(0.0, f64::max)
}

/// Whether a node rounds values to integers of a few bits.
fn rounds_to_steps(node: &Node) -> bool {
    node.is("QuantizeLinear") || node.is("DynamicQuantizeLinear")
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// The joint model's file.
    pub joint: String,
    /// The runtimes in which it was run, with version and device.
    pub runtimes: Vec<String>,
    /// Runtimes in which it was not compared, with the reason.
    pub unable: Vec<String>,
    /// Differences that are no failures, with the reason, as sentences.
    #[serde(default)]
    pub notes: Vec<String>,
    /// One entry per task.
    pub tasks: Vec<TaskVerification>,
    /// Failures, as sentences; empty if the check passed.
    pub failures: Vec<String>,
}

impl Verification {
    /// Whether nothing failed.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// The result of checking one task. Numbers without a runtime come from the first one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskVerification {
    /// Name of the task.
    pub name: String,
    /// Samples that were run.
    pub samples: usize,
    /// Fraction of positions at which joint and original have the same largest score, along the last
    /// axis of the first output.
    pub agreement: Option<f64>,
    /// Fraction of samples that the original classifies wrongly, if there are labels.
    pub error_before: Option<f64>,
    /// Fraction of samples that the joint model classifies wrongly.
    pub error_after: Option<f64>,
    /// One entry per output.
    pub outputs: Vec<OutputVerification>,
}

/// The deviations of one output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputVerification {
    /// Name of the output in the original net.
    pub name: String,
    /// The relative deviation as reported in the file.
    #[serde(default)]
    pub reported: Option<f64>,
    /// One entry per runtime.
    pub runtimes: Vec<RuntimeDeviation>,
}

/// The deviations of one output in one runtime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeDeviation {
    /// Name of the runtime.
    pub runtime: String,
    /// Samples that were run: all in the first runtime, at least the first 64 in others.
    #[serde(default)]
    pub samples: usize,
    /// From the original net.
    pub original: Deviation,
    /// From the net that the joint model must compute exactly.
    pub net: Option<Deviation>,
    /// From the joint model in the first runtime.
    pub first_runtime: Option<Deviation>,
}

/// Runs the joint model and the original nets in all `backends`, and compares them. The first one that can run
/// the original nets runs all samples; the others run the batches of the first 64, to confirm it.
///
/// # Errors
/// [`ErrorKind::Usage`] where the subjects are not the joint model's tasks, in order;
/// [`ErrorKind::Backend`] where no backend can run the original nets; [`ErrorKind::Calibration`]
/// where the data cannot be read or is less than one batch; [`ErrorKind::Interrupted`] when stopped.
pub fn verify<'a>(
    joint: Joint<'a>,
    subjects: &'a [Subject<'a>],
    backends: &'a [Arc<dyn Backend>],
    batch: usize,
    limits: &'a Limits,
    progress: &'a dyn Progress,
) -> Result<Verification> {
    let mut report = Verification {
        joint: joint.name.to_owned(),
        runtimes: Vec::new(),
        unable: Vec::new(),
        notes: Vec::new(),
        tasks: Vec::new(),
        failures: Vec::new(),
    };
    let mut loading = Loading { joint, subjects, batch, report: &mut report, progress };
    let (mut engines, mut refused) = loading.engines(backends)?;
    if let Some(engine) = engines.first() {
        same_tasks(&engine.wiring, subjects)?;
    }
    let runs = |(number, subject): (usize, &Subject<'_>)| {
        let size = fixed_batch(&engines, number).unwrap_or(batch).max(1);
        let nets = if subject.net.is_some() { 3 } else { 2 };
        let all = subject.data.len();
        let confirmed = all.min(CONFIRMING).div_ceil(size) * engines.len().saturating_sub(1);
        (all.div_ceil(size) + confirmed) * nets
    };
    progress.begin("verify", subjects.iter().enumerate().map(runs).sum::<usize>() as u64);
    for number in 0..subjects.len() {
        let report = &mut report;
        let refused = &mut refused;
        let mut check = Check { subjects, number, batch, limits, report, refused, progress };
        let task = check.run(&mut engines)?;
        report.tasks.push(task);
    }
    report.unable.append(&mut refused);
    report.runtimes = engines.iter().map(|e| e.description.clone()).collect();
    Ok(report)
}

fn same_tasks(wiring: &Wiring, subjects: &[Subject<'_>]) -> Result<()> {
    if wiring.tasks.iter().map(String::as_str).eq(subjects.iter().map(|s| s.task)) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Usage,
        format!("the joint model has the tasks {}", wiring.tasks.join(", ")),
    )
    .hint("give its original models in that order"))
}

/// The batch size that a subject's model fixes.
fn fixed_batch(engines: &[Engine<'_>], number: usize) -> Option<usize> {
    engines.iter().find_map(|engine| engine.fixed_batch(number))
}

#[cfg(test)]
mod tests;
