//! `verify`: a joint model against its originals.

use std::path::{Path, PathBuf};

use clap::Args;

use super::console::Console;
use super::data::{DataArgs, Tried};
use super::models;
use super::runtime::RuntimeArgs;
use super::{Status, output};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::onnx;
use crate::progress::Progress;
use crate::report;
use crate::runtime::ModelSource;
use crate::verify::{Joint, Limits, Reported, Subject, Wiring, verify};

/// Compare a joint model with its originals, in ONNX Runtime and in tract
///
/// Reports, per task, how far the joint model is from the original, how often both predict the same
/// and, where there are labels, the error of both. That difference is the price of sharing and fails
/// nothing, as long as it is what it was when the file was merged (up to four times as much, since new
/// samples deviate more) and no limit is given. What fails, with exit code 1, is more than that, a
/// missing or misshapen output, NaN, and runtimes that disagree with each other. The first runtime that
/// can run the originals judges; one that cannot is named and fails nothing.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct VerifyArgs {
    /// The joint model
    #[arg(value_name = "JOINT")]
    joint: PathBuf,
    /// Its original models, in the order of its tasks
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    /// Samples to run, drawn at random [default: all, or 256 without data]
    #[arg(long, value_name = "N", help_heading = "Data",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    samples: Option<usize>,
    /// Fail where an output differs from the original by more than this
    #[arg(long, value_name = "X")]
    max_deviation: Option<f64>,
    /// Fail where a task's error rises by more than this many percentage points; needs labels
    #[arg(long, value_name = "PT", requires = "data")]
    max_drop: Option<f64>,
    /// Largest difference between runtimes, relative to an output's largest element
    #[arg(long, value_name = "X", default_value_t = Limits::default().tolerance)]
    tolerance: f64,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Seed of made-up samples and of the choice of samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  onnx-zip verify joint.onnx a.onnx b.onnx
  onnx-zip verify joint.onnx a.onnx b.onnx --data test_a.npz --data test_b.npz --scale 1/255
  onnx-zip verify joint.onnx a.onnx b.onnx --data test.npz --max-drop 0.5 --json";

const NO_LIMIT: &str = "the file does not say how far its tasks were from their originals when it was \
    merged, so no deviation fails; set a limit with --max-deviation or --max-drop";

const OTHER_SAMPLES: &str = "deviations were measured on made-up samples either now or when the file was \
    merged, so no deviation fails; set a limit with --max-deviation or --max-drop";

/// Samples of a verification without data.
pub(super) const SAMPLES: usize = 256;

impl VerifyArgs {
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        let (tasks, reported) = joint_tasks(&self.joint)?;
        if tasks.len() != self.models.len() {
            let names = tasks.join(", ");
            return Err(Error::new(
                ErrorKind::Usage,
                format!("{} models were given for the tasks {names}", self.models.len()),
            )
            .hint("give the original model of each task, in that order"));
        }
        let mut originals = models::load(&self.models, &[])?;
        for (original, task) in originals.iter_mut().zip(&tasks) {
            original.name.clone_from(task);
        }
        let all = if self.data.is_synthetic() { SAMPLES } else { usize::MAX };
        let first = self.runtime.open(console)?;
        // What was measured on made-up samples says nothing about others.
        let like = |file: &&Reported| file.synthetic == self.data.is_synthetic();
        let limits_of = reported.as_ref().filter(like);
        let trial = Tried { backend: first.as_ref(), console };
        let data = self.data.open(&originals, self.samples.unwrap_or(all), self.seed, trial)?;
        let subjects: Vec<Subject<'_>> = tasks
            .iter()
            .zip(originals.iter().zip(&data))
            .map(|(task, (original, data))| Subject {
                task: task.as_str(),
                original: ModelSource::File(&original.path),
                net: None,
                data: &data.dataset,
                reported: limits_of.and_then(|file| file.tasks.get(task)),
            })
            .collect();
        let limits = Limits {
            tolerance: self.tolerance,
            deviation: self.max_deviation,
            drop: self.max_drop.map(|points| points / 100.0),
        };
        let backends = self.runtime.all(&first)?;
        let name = self.joint.display().to_string();
        let joint = Joint { path: &self.joint, name: &name };
        let checked = verify(joint, &subjects, &backends, self.runtime.batch, &limits, console)?;
        console.finish();
        if limits_of.is_none() && self.max_deviation.is_none() && self.max_drop.is_none() {
            console.note(match reported {
                Some(_) => OTHER_SAMPLES,
                None => NO_LIMIT,
            });
        }
        output::print(&match self.json {
            true => output::json(&checked)?,
            false => report::verification(&checked),
        })?;
        Ok(if checked.passed() { Status::Done } else { Status::VerificationFailed })
    }
}

/// Names of a joint model's tasks, and what its file says about them.
fn joint_tasks(path: &Path) -> Result<(Vec<String>, Option<Reported>)> {
    let model = onnx::load(path)?;
    let ports = |ids| models::ports(&model.graph, ids);
    let wiring = Wiring::of(&ports(&model.graph.inputs)?, &ports(&model.graph.outputs)?);
    Ok((wiring.in_model(path.display())?.tasks, Reported::read(&model)))
}
