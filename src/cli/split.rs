//! `split`: one file per task over one file of weights.

use std::path::PathBuf;

use clap::Args;

use super::console::Console;
use super::extract::restore;
use super::{Status, output};
use crate::emit;
use crate::error::Result;
use crate::onnx;
use crate::progress::Progress;

/// Write one model per task, all of which read their weights from one common file
///
/// Shared weights are stored once, in weights-DIGEST.bin, which is called after its contents; NAME.onnx
/// holds the graph of task NAME and computes only that task. Models of the same names in the folder are
/// replaced all at once.
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
        for task in &joint.tasks {
            let path = self.output.join(format!("{}.onnx", task.name));
            output::check_input(&path, std::slice::from_ref(&self.joint))?;
        }
        let models = (0..joint.tasks.len())
            .map(|task| emit::emit_task(&joint, task))
            .collect::<Result<Vec<_>>>()?;
        console.check()?;
        let names = joint.tasks.iter().map(|task| task.name.as_str());
        let named: Vec<_> = models.iter().zip(names).collect();
        onnx::save_split(&named, &self.output)?;
        Ok(Status::Done)
    }
}
