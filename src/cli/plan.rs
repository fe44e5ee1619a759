//! `plan`: plans a merge without data.

use clap::Args;

use super::inputs::ModelArgs;
use super::{Status, printing};
use crate::api::options::PlanOptions;
use crate::api::{self, ModelInput, output};
use crate::error::Result;

/// Plan a merge without data
///
/// Shows the layers that correspond, where the models first differ, the parts that cannot be shared
/// and why, the size of the joint model, and the memory that the merge needs.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    models: ModelArgs,
    #[command(flatten)]
    options: PlanOptions,
    /// Print JSON
    #[arg(long, help_heading = None)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  onnx-zip plan a.onnx b.onnx
  onnx-zip plan a.onnx b.onnx --share 0.8 --keep-shared 'head*=0'";

impl PlanArgs {
    pub(super) fn run(self) -> Result<Status> {
        let models: Vec<ModelInput> = self.models.paths.into_iter().map(Into::into).collect();
        let plan = api::plan(&models, &self.models.names, &self.options)?;
        printing::print(&if self.json { output::json(&plan)? } else { plan.text() })?;
        Ok(Status::Done)
    }
}
