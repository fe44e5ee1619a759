//! `prune`: prunes the weights of one model.

use std::path::PathBuf;

use clap::Args;

use super::console::Console;
use super::inputs::DataArgs;
use super::{Status, printing};
use crate::api::options::PruneOptions;
use crate::api::{output, prune};
use crate::error::Result;

/// Prune the weights of one model
///
/// Sets a part of each layer's weights to zero, and fits the others to the layer's original outputs,
/// without training. Merging two pruned models keeps their zeros: the joint model has no more
/// connections than both together.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct PruneArgs {
    /// The trained model, as an .onnx file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Where to write the pruned model
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    options: PruneOptions,
    /// Print the report as JSON instead of text
    #[arg(long, help_heading = None)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  onnx-zip prune a.onnx --sparsity 90% --data images.npz --scale 1/255 -o a_sparse.onnx
  onnx-zip prune a.onnx --sparsity 0.5 --method magnitude --data images.npz -o a_sparse.onnx";

impl PruneArgs {
    pub(super) fn run(self, console: &Console) -> Result<Status> {
        let data = self.data.inputs();
        let report = prune(&self.model.into(), &data, &self.options, &self.output, console)?;
        console.finish();
        let text = if self.json { output::json(&report)? } else { report.text() };
        printing::print_beside(&self.output, &text)?;
        Ok(Status::Done)
    }
}
