//! `split`: one file per task over one file of weights.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::console::Console;
use super::extract::restore;
use super::{Status, output};
use crate::emit;
use crate::error::{Error, ErrorKind, Result};
use crate::onnx;
use crate::progress::Progress;

/// Name of the file that holds the weights of all tasks.
const WEIGHTS: &str = "weights.bin";

/// Write one model per task, all of which read their weights from one common file
///
/// Shared weights are stored once, in weights.bin; NAME.onnx holds the graph of task NAME and computes
/// only that task.
#[derive(Args)]
#[command(after_long_help = "Example:\n  onnx-zip split joint.onnx -o tasks/")]
pub(super) struct SplitArgs {
    /// The joint model
    #[arg(value_name = "JOINT")]
    joint: PathBuf,
    /// Folder to write into; it is made where it does not exist
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

impl SplitArgs {
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        let joint = restore(&self.joint)?;
        fs::create_dir_all(&self.output).map_err(|e| {
            let message = format!("cannot make the folder '{}'", self.output.display());
            Error::new(ErrorKind::Io, message).because(e)
        })?;
        let paths: Vec<PathBuf> =
            joint.tasks.iter().map(|t| self.output.join(format!("{}.onnx", t.name))).collect();
        let weights = self.output.join(WEIGHTS);
        for path in paths.iter().chain([&weights]) {
            output::check(path, std::slice::from_ref(&self.joint))?;
        }
        let models = (0..joint.tasks.len())
            .map(|task| emit::emit_task(&joint, task))
            .collect::<Result<Vec<_>>>()?;
        console.check()?;
        let files: Vec<_> = models.iter().zip(paths.iter().map(PathBuf::as_path)).collect();
        onnx::save_split(&files, &weights)?;
        Ok(Status::Done)
    }
}
