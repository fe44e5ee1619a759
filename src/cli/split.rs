//! `split`: writes one file per task over one file of weights.

use std::path::PathBuf;

use clap::Args;

use super::Status;
use super::console::Console;
use crate::api::Joint;
use crate::error::Result;

/// Write one model per task; all models read their weights from one common file
///
/// Shared weights are stored once, in weights-DIGEST.bin, which is named after its contents.
/// NAME.onnx holds the graph of task NAME and computes only that task. Models of the same names in
/// the folder are replaced all at once.
#[derive(Args)]
#[command(after_long_help = "Example:\n  onnx-zip split joint.onnx -o tasks/")]
pub(super) struct SplitArgs {
    /// The joint model
    #[arg(value_name = "JOINT")]
    joint: PathBuf,
    /// Folder to write into; created if it does not exist
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

impl SplitArgs {
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        Joint::at(&self.joint).split(&self.output, console)?;
        Ok(Status::Done)
    }
}
