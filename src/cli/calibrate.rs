//! `calibrate`: statistics of a model's layer inputs, in a file.

use std::path::PathBuf;

use clap::Args;

use super::Status;
use super::console::Console;
use super::inputs::DataArgs;
use crate::api::options::CalibrateOptions;
use crate::api::{add_statistics, calibrate};
use crate::error::Result;

/// Store the statistics of one model's layer inputs, or add up stored ones
///
/// Statistics are second moments of each layer's inputs. Those of several parts of the data, for
/// example from several machines, add up to those of all data.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct CalibrateArgs {
    /// The model, as an .onnx file
    #[arg(value_name = "MODEL", required_unless_present = "merge", requires = "data")]
    model: Option<PathBuf>,
    /// Add up these files of statistics of one model
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["model", "data"])]
    merge: Vec<PathBuf>,
    /// Where to write the statistics
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    options: CalibrateOptions,
}

const EXAMPLES: &str = "\
Examples:
  onnx-zip calibrate a.onnx --data part1.npz -o a1.gram
  onnx-zip calibrate a.onnx --data part2.npz -o a2.gram
  onnx-zip calibrate --merge a1.gram a2.gram -o a.gram";

impl CalibrateArgs {
    pub(super) fn run(self, console: &Console) -> Result<Status> {
        match self.model {
            Some(model) => {
                let data = self.data.inputs();
                calibrate(&model.into(), &data, &self.options, &self.output, console)?;
            }
            None => add_statistics(&self.merge, &self.output, console)?,
        }
        console.finish();
        Ok(Status::Done)
    }
}
