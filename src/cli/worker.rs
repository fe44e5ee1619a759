//! `worker`: computes statistics for a merge on another machine.

use std::path::PathBuf;

use clap::{Args, Command};

use super::Status;
use super::console::Console;
use crate::api::options::WorkerOptions;
use crate::api::worker;
use crate::error::Result;

/// Compute statistics of samples for a merge on another machine
///
/// The merge (`onnx-zip merge --shards N --workers DIR`) and its workers share one folder. Workers may
/// start before the merge, join later or stop early; they end with the merge. Other workers take over
/// the shards of a stopped one.
#[derive(Args)]
#[command(after_long_help = EXAMPLES, mut_arg("batch", |arg| arg.hide(true)))]
pub(super) struct WorkerArgs {
    /// The folder that the merge names with --workers
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    options: WorkerOptions,
}

const EXAMPLES: &str = "\
Examples:
  Eight workers of a Slurm array, on eight shards:
    sbatch --array=0-7 --wrap 'onnx-zip worker --folder /shared/merge'
    onnx-zip merge a.onnx b.onnx -o joint.onnx --data /shared/images.npz \\
        --shards 8 --workers /shared/merge";

/// The options of a worker without that of the batch, which the merge decides about.
pub(super) fn without_batch(command: Command) -> Command {
    command.mut_arg("batch", |arg| arg.hide(true))
}

impl WorkerArgs {
    pub(super) fn run(self, console: &Console) -> Result<Status> {
        worker(&self.folder, &self.options, console)?;
        console.finish();
        Ok(Status::Done)
    }
}
