//! `import`: takes trained weights back into a joint model.

use std::path::PathBuf;

use clap::Args;

use super::Status;
use super::console::Console;
use crate::api::import_weights;
use crate::error::Result;

/// Import weights trained by ONNX Runtime training into their joint model
///
/// DIR is a folder of `onnx-zip retrain --export` after train.py has run there. The result has the
/// form, inputs and metadata of the exported joint model.
#[derive(Args)]
#[command(after_long_help = "Example:\n  onnx-zip import training/ -o joint2.onnx")]
pub(super) struct ImportArgs {
    /// Folder of `onnx-zip retrain --export`
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Where to write the joint model
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

impl ImportArgs {
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        import_weights(&self.folder, &self.output, console)?;
        Ok(Status::Done)
    }
}
