//! `plan`: what a merge would do.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};

use super::merge::MethodArgs;
use super::models::ToMerge;
use super::share::ShareArgs;
use super::statistics::StatisticsArgs;
use super::structure::structure;
use super::{Status, TOOL, models, output};
use crate::canon::{BATCH_NORMS, BatchNorm};
use crate::error::Result;
use crate::mtz::plan::{peak, predict};
use crate::report::Plan;
use crate::zipper::prepare_parts;

/// Show what a merge would do; needs no data
///
/// Tells which layers correspond, where the models first differ, which parts cannot be shared and
/// why, how large the joint model would be, and what the merge would take of memory.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    models: ModelArgs,
    #[command(flatten)]
    share: ShareArgs,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    statistics: StatisticsArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  onnx-zip plan a.onnx b.onnx
  onnx-zip plan a.onnx b.onnx --share 0.8 --keep-shared 'head*=0'";

/// Models to merge.
#[derive(Args)]
pub(super) struct ModelArgs {
    /// The trained models, as .onnx files
    ///
    /// A joint model counts for all its tasks, so that another net can be added to it.
    #[arg(value_name = "MODEL", required = true, num_args = 1..)]
    pub(super) paths: Vec<PathBuf>,
    /// Name of a task, once per model in order; outputs become NAME/OUTPUT [default: file name]
    #[arg(long = "name", value_name = "NAME")]
    pub(super) names: Vec<String>,
    /// What becomes of BatchNormalization behind layers
    #[arg(long, value_name = "HOW", default_value = "fold", value_parser = batch_norms())]
    batchnorm: String,
}

fn batch_norms() -> PossibleValuesParser {
    PossibleValuesParser::new(
        BATCH_NORMS.iter().map(|(name, _, help)| PossibleValue::new(*name).help(*help)),
    )
}

impl ModelArgs {
    /// What becomes of `BatchNormalization`.
    pub(super) fn batchnorm(&self) -> BatchNorm {
        let row = BATCH_NORMS.iter().find(|(name, ..)| *name == self.batchnorm);
        row.map(|(_, choice, _)| *choice).unwrap_or_default()
    }
}

impl PlanArgs {
    pub(super) fn run(&self) -> Result<Status> {
        show(&self.models, &self.share, &self.method, &self.statistics, self.json)
    }
}

/// Prints the plan of a merge.
pub(super) fn show(
    models: &ModelArgs,
    share: &ShareArgs,
    method: &MethodArgs,
    statistics: &StatisticsArgs,
    json: bool,
) -> Result<Status> {
    let budget = share.budget(method.is_paper())?;
    let ToMerge { tasks: loaded, parts } = models::load_parts(&models.paths, &models.names)?;
    let mut prepared = prepare_parts(parts, share.preparation(models))?;
    share.cut(&mut prepared)?;
    let prediction =
        predict(&prepared.joint, &prepared.alignment, &budget, method.stores_targets())?;
    let sizes: Vec<u64> = loaded.iter().map(|model| model.bytes).collect();
    let memory = peak(&prepared.joint, &sizes, statistics.max_rows, statistics.memory())?;
    let tasks = &prepared.joint.tasks;
    let plan = Plan::new(
        TOOL.to_owned(),
        tasks.iter().map(|t| t.name.clone()).collect(),
        tasks.iter().map(|t| t.coupling.layers.len()).collect(),
        prediction,
        memory,
        structure(&prepared),
    );
    output::print(&if json { output::json(&plan)? } else { plan.text() })?;
    Ok(Status::Done)
}
