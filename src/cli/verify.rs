//! `verify`: compares a joint model with its originals.

use std::path::PathBuf;

use clap::Args;

use super::console::Console;
use super::inputs::DataArgs;
use super::{Status, printing};
use crate::api::options::VerifyOptions;
use crate::api::{ModelInput, output, verify};
use crate::error::Result;
use crate::report;

/// Compare a joint model with its originals, in ONNX Runtime and in tract
///
/// Reports, per task, the deviation from the original, how often both predict the same class and,
/// with labels, both errors. The deviation is the price of sharing. It fails the verification, with
/// exit code 1, if it exceeds a given limit, or without a limit four times the deviation that the
/// file reports from its merge. Missing outputs, wrong shapes, NaN, and runtimes that disagree fail,
/// too. The first runtime that can run the originals judges; one that cannot is named and fails
/// nothing.
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
    #[command(flatten)]
    options: VerifyOptions,
    /// Print JSON
    #[arg(long, help_heading = None)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  onnx-zip verify joint.onnx a.onnx b.onnx
  onnx-zip verify joint.onnx a.onnx b.onnx --data test_a.npz --data test_b.npz --scale 1/255
  onnx-zip verify joint.onnx a.onnx b.onnx --data test.npz --max-drop 0.5 --json";

impl VerifyArgs {
    pub(super) fn run(self, console: &Console) -> Result<Status> {
        let models: Vec<ModelInput> = self.models.into_iter().map(Into::into).collect();
        let data = self.data.inputs();
        let checked = verify(&self.joint, &models, &data, &self.options, console)?;
        console.finish();
        printing::print(&match self.json {
            true => output::json(&checked)?,
            false => report::verification(&checked),
        })?;
        Ok(if checked.passed() { Status::Done } else { Status::VerificationFailed })
    }
}
