//! `extract`: one task of a joint model as a plain model.

use std::path::PathBuf;

use clap::Args;

use super::Status;
use super::console::Console;
use crate::api::Joint;
use crate::error::Result;

/// Write one task of a joint model as a plain single-task model
///
/// The model has the inputs and outputs of the task's original, and computes the same outputs as the
/// joint model.
#[derive(Args)]
#[command(after_long_help = "Example:\n  onnx-zip extract joint.onnx --task mnist -o mnist.onnx")]
pub(super) struct ExtractArgs {
    /// The joint model
    #[arg(value_name = "JOINT")]
    joint: PathBuf,
    /// Name of the task; `onnx-zip inspect JOINT` shows it before the / of each output
    #[arg(short, long, value_name = "NAME")]
    task: String,
    /// Where to write the model
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

impl ExtractArgs {
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        Joint::at(&self.joint).extract(&self.task, &self.output, console)?;
        Ok(Status::Done)
    }
}
