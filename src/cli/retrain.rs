//! `retrain`: retrains a joint model.

use std::path::{Path, PathBuf};

use clap::Args;

use super::console::Console;
use super::inputs::DataArgs;
use super::reports::report_path;
use super::{Status, printing};
use crate::api::options::RetrainOptions;
use crate::api::{RetrainDestination, Retrainer, output};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::report;
use crate::verify::Verification;

/// Retrain a joint model towards its original models or labels
///
/// Trains all parameters at once, towards the scores of the original models (--teacher, no labels
/// needed) or towards labels. Shared weights learn from every task. Needs only ONNX Runtime:
/// gradients and optimiser are part of the graph. Writes the weights with the best validation, also
/// after Ctrl-C.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct RetrainArgs {
    /// The joint model, in any form
    #[arg(value_name = "JOINT")]
    joint: PathBuf,
    /// Where to write the retrained joint model, in the form of the given one
    #[arg(short, long, value_name = "FILE", required_unless_present = "export")]
    output: Option<PathBuf>,
    /// Instead write a folder with scripts for ONNX Runtime training; it must be new or empty, and
    /// `onnx-zip import` reads the trained weights
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "checkpoint"])]
    export: Option<PathBuf>,
    /// The original model of a task; once per task, in the order of the tasks
    #[arg(long, value_name = "MODEL")]
    teacher: Vec<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    options: RetrainOptions,
    #[command(flatten)]
    result: RetrainResultArgs,
}

/// Output files.
#[derive(Args)]
#[command(next_help_heading = "Result")]
struct RetrainResultArgs {
    /// Write a report, as .json
    #[arg(long, value_name = "FILE", value_parser = report_path(&["json"]))]
    report: Option<PathBuf>,
    /// Print the report as JSON instead of text
    #[arg(long)]
    json: bool,
    /// Keep a joint model that fails its verification, as STEM.rejected.onnx beside the output
    #[arg(long, conflicts_with = "no_verify")]
    keep_rejected: bool,
}

const EXAMPLES: &str = "\
Examples:
  Without labels, towards what the original models compute:
    onnx-zip retrain joint.onnx --teacher a.onnx --teacher b.onnx -o joint2.onnx \\
        --data images.npz --scale 1/255

  Each task with its own samples, towards their labels:
    onnx-zip retrain joint.onnx -o joint2.onnx --loss cross-entropy \\
        --data digits.npz --data fashion.npz --scale 1/255

  With ONNX Runtime training, in a folder of its own (then, as its README.md says: python train.py):
    onnx-zip retrain joint.onnx --teacher a.onnx --teacher b.onnx --data images.npz --scale 1/255 \\
        --export training/
    onnx-zip import training/ -o joint2.onnx";

impl RetrainArgs {
    pub(super) fn run(self, console: &Console) -> Result<Status> {
        match (&self.export, &self.output) {
            (Some(folder), _) => self.hand_off(folder, console),
            (None, Some(output)) => self.train(output, console),
            (None, None) => Err(Error::new(ErrorKind::Usage, "there is no place for the result")
                .hint("give --output")),
        }
    }

    fn retrainer(&self) -> Retrainer {
        let retrainer = Retrainer::new(&self.joint, self.options.clone());
        let retrainer = self.teacher.iter().fold(retrainer, |r, path| r.teacher(path.as_path()));
        self.data.inputs().into_iter().fold(retrainer, Retrainer::data)
    }

    fn train(&self, output: &Path, console: &Console) -> Result<Status> {
        let to = RetrainDestination {
            output,
            report: self.result.report.as_deref(),
            keep_rejected: self.result.keep_rejected,
        };
        let report = self.retrainer().retrain_into(&to, console)?;
        console.finish();
        let text = match self.result.json {
            true => output::json(&report)?,
            false => report::retraining(&report),
        };
        printing::print_beside(output, &text)?;
        let passed = report.verification.as_ref().is_none_or(Verification::passed);
        Ok(if passed { Status::Done } else { Status::VerificationFailed })
    }

    /// Exports a folder for ONNX Runtime training.
    fn hand_off(&self, folder: &Path, console: &Console) -> Result<Status> {
        self.retrainer().export(folder, console)?;
        console.finish();
        let folder = folder.display();
        console.note(&format!(
            "{folder} is complete: train with its train.py, as its README.md says, then run \
             `onnx-zip import {folder} -o JOINT`"
        ));
        Ok(Status::Done)
    }
}
