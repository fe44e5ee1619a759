//! `retrain`: a joint model is trained a little more.

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::Status;
use super::console::Console;
use super::data::DataArgs;
use super::handoff::{LossName, Request};
use super::runtime::RuntimeArgs;
use crate::error::Result;

/// Prepare a joint model for light retraining with ONNX Runtime training
///
/// Writes a folder with the joint net, samples, what the original models make of them, and scripts that
/// make the training artifacts of ONNX Runtime and train. `onnx-zip import` takes the trained weights
/// back. Nothing here needs Python, and no labels are needed.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct RetrainArgs {
    /// The joint model
    #[arg(value_name = "JOINT")]
    joint: PathBuf,
    /// Folder to write for ONNX Runtime training; it must be new or empty
    #[arg(long, value_name = "DIR")]
    export: PathBuf,
    /// The original model of a task, to learn from; once per task, in the order of the tasks
    #[arg(long, value_name = "MODEL")]
    teacher: Vec<PathBuf>,
    /// What outputs are trained towards
    #[arg(long, value_name = "LOSS", default_value = "distillation")]
    loss: LossName,
    #[command(flatten)]
    data: DataArgs,
    /// Samples per task, drawn at random where there are more
    #[arg(long, value_name = "N", default_value_t = 10_000, help_heading = "Data",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    samples: usize,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Seed of made-up samples and of the choice of samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

const EXAMPLES: &str = "\
Example:
  onnx-zip retrain joint.onnx --teacher a.onnx --teacher b.onnx --data images.npz --scale 1/255 \\
      --export training/
  (in training/, as its README.md says: python train.py)
  onnx-zip import training/ -o joint2.onnx";

impl RetrainArgs {
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        let request = Request {
            joint: &self.joint,
            teachers: &self.teacher,
            data: &self.data,
            samples: self.samples,
            loss: self.loss,
            runtime: &self.runtime,
            seed: self.seed,
            folder: &self.export,
        };
        request.run(console)
    }
}
