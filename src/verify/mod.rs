//! Checks a joint model, as written to its file, against the nets that it was made from.
//!
//! How far a task is from its original net is the price of sharing and no failure by itself. What
//! fails is what must not happen at any price: outputs that are missing, of another shape or not
//! finite, runtimes that disagree, a file that does not reproduce the nets it was written from, or a
//! limit that the user has set.

mod engine;
mod measure;
mod tally;
mod wiring;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::calib::data::Dataset;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::Model;
use crate::progress::Progress;
use crate::runtime::{Backend, ModelSource, feeds, fixed_batch};

use engine::{Engine, JointFeed, Nets};
pub use measure::{Deviation, misclassified};
use tally::{First, Tally};
pub use wiring::Wiring;

/// One task to check.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Name of the task in the joint model.
    pub task: &'a str,
    /// The net that was merged.
    pub original: ModelSource<'a>,
    /// The net that the joint model must compute exactly, where it is at hand.
    pub net: Option<&'a Model>,
    /// Samples for the original net's inputs.
    pub data: &'a Dataset,
}

/// What fails a check.
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

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// The joint model's file.
    pub joint: String,
    /// The runtimes in which it was run, with version and device.
    pub runtimes: Vec<String>,
    /// Runtimes that cannot run the original nets, with the reason.
    pub unable: Vec<String>,
    /// One entry per task.
    pub tasks: Vec<TaskVerification>,
    /// What failed, as sentences; empty where all is well.
    pub failures: Vec<String>,
}

impl Verification {
    /// Whether nothing failed.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// What came of checking one task; numbers without a runtime are those of the first one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskVerification {
    /// Name of the task.
    pub name: String,
    /// Samples that were run.
    pub samples: usize,
    /// Fraction of positions at which joint and original have the same largest score, along the last
    /// axis of the first output.
    pub agreement: Option<f64>,
    /// Fraction of samples that the original classifies wrongly, where there are labels.
    pub error_before: Option<f64>,
    /// Fraction of samples that the joint model classifies wrongly.
    pub error_after: Option<f64>,
    /// One entry per output.
    pub outputs: Vec<OutputVerification>,
}

/// How one output compares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputVerification {
    /// Name of the output in the original net.
    pub name: String,
    /// One entry per runtime.
    pub runtimes: Vec<RuntimeDeviation>,
}

/// How one output compares in one runtime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeDeviation {
    /// Name of the runtime.
    pub runtime: String,
    /// From the original net.
    pub original: Deviation,
    /// From the net that the joint model must compute exactly.
    pub net: Option<Deviation>,
    /// From the joint model in the first runtime.
    pub first_runtime: Option<Deviation>,
}

/// Runs the joint model in the file `joint` and the nets behind it in all `backends`.
///
/// # Errors
/// [`ErrorKind::Usage`] where the subjects are not the joint model's tasks, in order;
/// [`ErrorKind::Backend`] where no backend can run the original nets; [`ErrorKind::Calibration`]
/// where the data cannot be read or is less than one batch.
pub fn verify(
    joint: &Path,
    subjects: &[Subject<'_>],
    backends: &[Arc<dyn Backend>],
    batch: usize,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Verification> {
    let mut run = Run { joint, subjects, batch, progress, tasks: Vec::new(), refusal: None };
    run.tasks.resize_with(subjects.len(), Task::default);
    let mut report = Verification {
        joint: joint.display().to_string(),
        runtimes: Vec::new(),
        unable: Vec::new(),
        tasks: Vec::new(),
        failures: Vec::new(),
    };
    let batches = subjects.iter().map(|s| s.data.len().div_ceil(batch.max(1)) as u64);
    progress.begin("verify", batches.sum::<u64>() * backends.len() as u64);
    for backend in backends {
        run.check(backend.as_ref(), &mut report)?;
    }
    let none = report.runtimes.is_empty() && report.failures.is_empty();
    if let Some(e) = run.refusal.filter(|_| none) {
        return Err(e);
    }
    for (subject, task) in subjects.iter().zip(run.tasks) {
        report.failures.extend(task.tally.failures(subject.task, limits));
        report.tasks.push(task.tally.into_report(subject.task.to_owned()));
    }
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

/// A check of all tasks in one runtime after the other. Of the nets behind the joint model only one
/// task's are in memory at a time.
struct Run<'a> {
    joint: &'a Path,
    subjects: &'a [Subject<'a>],
    batch: usize,
    progress: &'a dyn Progress,
    tasks: Vec<Task>,
    /// Why the first runtime that could not run the original nets could not.
    refusal: Option<Error>,
}

/// What is known of one task so far.
#[derive(Default)]
struct Task {
    tally: Tally,
    /// One entry per batch.
    first: Vec<First>,
    /// Bytes of the outputs that are kept.
    kept: u64,
}

/// Bytes that a task's outputs of the first runtime may take while others are compared with them.
const KEPT: u64 = 64 << 20;

impl Run<'_> {
    /// Runs all tasks in one runtime; one that fails is left out from there on.
    fn check(&mut self, backend: &dyn Backend, report: &mut Verification) -> Result<()> {
        let mut engine = match Engine::new(backend, self.joint) {
            Ok(engine) => engine,
            Err(e) if e.kind() == ErrorKind::Backend => {
                let mut subjects = self.subjects.iter();
                match subjects.try_for_each(|subject| Nets::load(backend, subject).map(drop)) {
                    Ok(()) => {
                        report.failures.push(format!("{} cannot run it: {e}", backend.describe()))
                    }
                    Err(e) => self.refuse(&backend.describe(), e, report),
                }
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        same_tasks(&engine.wiring, self.subjects)?;
        for number in 0..self.subjects.len() {
            let mut nets = match Nets::load(backend, &self.subjects[number]) {
                Ok(nets) => nets,
                Err(e) => {
                    self.refuse(&backend.describe(), e, report);
                    return Ok(());
                }
            };
            if !self.task(number, &mut engine, &mut nets, report)? {
                return Ok(());
            }
        }
        report.runtimes.push(engine.description);
        Ok(())
    }

    /// A runtime that cannot run the original nets says nothing of the joint model.
    fn refuse(&mut self, runtime: &str, why: Error, report: &mut Verification) {
        report.unable.push(format!("{runtime}: {why}"));
        self.refusal.get_or_insert(why);
    }

    /// Runs all batches of a task; whether the runtime could.
    fn task(
        &mut self,
        number: usize,
        engine: &mut Engine,
        nets: &mut Nets,
        report: &mut Verification,
    ) -> Result<bool> {
        let ranges = self.ranges(number, engine, nets)?;
        self.tasks[number].first.resize_with(ranges.len(), First::default);
        for (nth, range) in ranges.into_iter().enumerate() {
            self.progress.check()?;
            if !self.step((number, nth, range), engine, nets, report)? {
                return Ok(false);
            }
            self.progress.step();
        }
        Ok(true)
    }

    /// The samples of each batch; where a model fixes its batch size, samples that do not fill one
    /// are left out.
    fn ranges(&self, number: usize, engine: &Engine, nets: &Nets) -> Result<Vec<Range<usize>>> {
        let data = self.subjects[number].data;
        let fixed = engine.fixed_batch(number).or_else(|| fixed_batch(nets.original.inputs()));
        let size = fixed.unwrap_or(self.batch).max(1);
        let full = |range: &Range<usize>| fixed.is_none() || range.len() == size;
        let ranges: Vec<_> = data.batches(size).filter(full).collect();
        if ranges.is_empty() {
            return Err(Error::new(
                ErrorKind::Calibration,
                format!("{} samples do not fill a batch of {size}", data.len()),
            )
            .in_model(self.subjects[number].task));
        }
        Ok(ranges)
    }

    /// Runs one batch; whether the runtime could.
    fn step(
        &mut self,
        (number, nth, range): (usize, usize, Range<usize>),
        engine: &mut Engine,
        nets: &mut Nets,
        report: &mut Verification,
    ) -> Result<bool> {
        let data = self.subjects[number].data;
        let own = data.batch(range.clone())?;
        let labels = data.labels(range.clone());
        let reference = match nets.original.run(&feeds(&own)) {
            Ok(reference) => reference,
            Err(e) => {
                self.refuse(&engine.description, e, report);
                return Ok(false);
            }
        };
        let exact = nets.exact.as_mut().map(|net| net.run(&feeds(&own))).transpose()?;
        let feed = JointFeed { number, range, subjects: self.subjects };
        let found = match engine.joint(nets, &feed, &own) {
            Ok(found) => found,
            Err(e) => {
                report.failures.push(format!("{}: {e}", engine.description));
                return Ok(false);
            }
        };
        let task = &mut self.tasks[number];
        let batch = tally::Batch { reference, exact, found, labels: labels.as_deref() };
        let Some(first) = task.first.get_mut(nth) else { return Ok(true) };
        let before = first.bytes();
        task.tally.add(engine, nets, batch, first);
        task.kept += first.bytes() - before;
        if task.kept > KEPT {
            task.kept -= first.bytes();
            *first = First::Dropped;
        }
        Ok(true)
    }
}
