//! `extract`: one task of a joint model as a plain model.

use std::path::PathBuf;

use clap::Args;

use super::console::Console;
use super::{Status, output};
use crate::emit;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::mtz::joint::JointModel;
use crate::onnx::{self, SaveOptions};
use crate::progress::Progress;

/// Write one task of a joint model as a plain single-task model
///
/// The model has the inputs and outputs of the task's original and computes what the joint model
/// computes for it.
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
        output::check(&self.output, std::slice::from_ref(&self.joint))?;
        let joint = restore(&self.joint)?;
        let names: Vec<&str> = joint.tasks.iter().map(|t| t.name.as_str()).collect();
        let task = names.iter().position(|name| *name == self.task).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("there is no task '{}'", self.task))
                .hint(format!("choose one of {}", names.join(", ")))
                .in_model(self.joint.display())
        })?;
        let model = emit::plain_task(&joint, task);
        console.check()?;
        onnx::stage(&model, &self.output, &SaveOptions::default(), console)?.commit()?;
        Ok(Status::Done)
    }
}

/// The joint model in a file.
///
/// # Errors
/// As [`onnx::load`] and [`emit::restore`].
pub(super) fn restore(path: &std::path::Path) -> Result<JointModel> {
    emit::restore(&onnx::load(path)?).in_model(path.display())
}
