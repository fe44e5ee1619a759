//! `strip`: writes a copy of a joint model for a device.

use std::path::PathBuf;

use clap::Args;

use super::Status;
use super::console::Console;
use crate::api::strip;
use crate::error::Result;

/// Write a copy of a joint model without data that a run does not need
///
/// Removes the metadata that `extract`, `split`, `retrain` and `merge` need to recover the task nets.
/// Replaces names of inner values and nodes by numbers. Inputs, outputs, weights and results stay the
/// same. Keep the original: task nets cannot be recovered from a stripped copy.
#[derive(Args)]
#[command(after_long_help = "Example:\n  onnx-zip strip joint.onnx -o device.onnx")]
pub(super) struct StripArgs {
    /// The joint model
    #[arg(value_name = "JOINT")]
    joint: PathBuf,
    /// Where to write the copy
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

impl StripArgs {
    pub(super) fn run(self, console: &Console) -> Result<Status> {
        strip(&self.joint.into(), &self.output, console)?;
        Ok(Status::Done)
    }
}
