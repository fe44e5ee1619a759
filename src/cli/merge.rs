//! `merge`: merges models into one.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::console::Console;
use super::inputs::{DataArgs, ModelArgs};
use super::reports::report_path;
use super::{Status, idle, printing};
use crate::api::options::MergeOptions;
use crate::api::{Destination, Merged, Merger, output};
use crate::error::Result;
use crate::progress::Progress;
use crate::report;
use crate::zipper::PlanFile;

/// Merge trained models into one smaller multi-task model
///
/// Aligns the models layer by layer. Stores similar neurons once, with weights that serve all tasks,
/// and adapts later layers to the change. Samples of the models' inputs (--data, no labels needed)
/// decide which neurons are similar. Outputs of the joint model are called NAME/OUTPUT.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct MergeArgs {
    #[command(flatten)]
    models: ModelArgs,
    /// Where to write the joint model; replaces an existing file when the new one is complete
    #[arg(short, long, value_name = "FILE", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    options: MergeOptions,
    #[command(flatten)]
    result: MergeResultArgs,
}

/// Output files.
#[derive(Args)]
#[command(next_help_heading = "Result")]
struct MergeResultArgs {
    /// Write a report: .html, .json, or .md for a model card; repeatable
    #[arg(long, value_name = "FILE", value_parser = report_path(&["html", "json", "md"]))]
    report: Vec<PathBuf>,
    /// Repeat the merge of a plan; models and options given here replace those of the plan
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Write a plan of the merge: a TOML file for editing and repeating it
    #[arg(long, value_name = "FILE")]
    save_plan: Option<PathBuf>,
    /// Follow the plan even if models or samples differ from those it was made with
    #[arg(long, requires = "plan")]
    allow_changed: bool,
    /// Print the report as JSON instead of text
    #[arg(long)]
    json: bool,
    /// Show the plan and stop, like `onnx-zip plan`
    #[arg(long)]
    dry_run: bool,
    /// Keep a joint model that fails its verification, as STEM.rejected.onnx beside the output
    #[arg(long, conflicts_with = "no_verify")]
    keep_rejected: bool,
}

const EXAMPLES: &str = "\
Examples:
  Two models of one kind of input, calibrated on up to 10000 of your samples:
    onnx-zip merge a.onnx b.onnx -o joint.onnx --data images.npz --scale 1/255

  Each model with its own data, task names, and a report to read in a browser:
    onnx-zip merge a.onnx b.onnx -o joint.onnx --name digits --name fashion \\
        --data digits.npz --data fashion.npz --scale 1/255 --report joint.html

  Share less where it costs most: 80 % everywhere, 20 neurons in fc2, nothing in the last layers:
    onnx-zip merge a.onnx b.onnx -o joint.onnx --data images.npz \\
        --share 0.8 --keep-shared fc2=20 --keep-shared 'head*=0'

  Two embeddings in one list of dimensions, or two classifiers of one list of classes:
    onnx-zip merge a.onnx b.onnx -o joint.onnx --data images.npz --share-outputs

  As small as possible while no task's error rises by more than half a point (needs labels):
    onnx-zip merge a.onnx b.onnx -o joint.onnx --data labelled.npz --max-drop 0.5

  The paper's method, unchanged:
    onnx-zip merge a.onnx b.onnx -o joint.onnx --data images.npz --method mtz

  Write the merge down, change the plan, and repeat it:
    onnx-zip merge a.onnx b.onnx -o joint.onnx --data images.npz --save-plan joint.toml
    onnx-zip merge --plan joint.toml -o joint2.onnx

  Try it without data; good for frozen backbones that both models have in common:
    onnx-zip merge a.onnx b.onnx -o joint.onnx";

impl MergeArgs {
    /// Merges. `typed` holds the options as they were typed, those of `plan` among them.
    pub(super) fn run(
        self,
        program: Vec<OsString>,
        plan: Option<PlanFile>,
        typed: PlanFile,
        console: &Console,
    ) -> Result<Status> {
        let MergeArgs { models, output, data, options, result } = self;
        idle::warn_of_passes(&typed, !options.calibration.gram.is_empty(), console);
        let unused = [
            // A plan brings samples along.
            ("data", plan.is_none() && !data.data.is_empty()),
            ("report", !result.report.is_empty()),
            ("save-plan", result.save_plan.is_some()),
        ];
        let merger = models.paths.into_iter().fold(Merger::new(options), Merger::model);
        let merger = data.data.into_iter().fold(merger, Merger::data);
        let mut merger = merger.names(models.names).program(program).typed(&typed);
        if let Some(plan) = plan {
            merger = merger.follow(plan, result.allow_changed).followed_at(result.plan);
        }
        if let Some(path) = &result.save_plan {
            merger = merger.write_plan(path, typed);
        }
        let Some(output) = output.filter(|_| !result.dry_run) else {
            let plan = merger.plan()?;
            idle::note_dry_run(&unused, console);
            printing::print(&if result.json { output::json(&plan)? } else { plan.text() })?;
            return Ok(Status::Done);
        };
        let destination = Destination {
            output: &output,
            reports: &result.report,
            keep_rejected: result.keep_rejected,
        };
        let merged = merger.merge_into(&destination, console)?;
        console.finish();
        if result.json {
            printing::print_beside(&output, &output::json(&merged.report)?)?;
        } else if !console.quiet {
            printing::print_beside(&output, &report::text(&merged.report, console.verbose))?;
        }
        Ok(status(&merged, console))
    }
}

/// The status of the command. Reports requirements that are not met, and respects in which the joint
/// model is worse than its originals.
fn status(merged: &Merged, console: &Console) -> Status {
    if !merged.passed {
        return Status::VerificationFailed;
    }
    match (&merged.unmet, &merged.worse) {
        (Some(unmet), Some(worse)) => {
            console.fail(&format!("{}: {}", unmet.in_flags(), worse.in_flags()));
        }
        (Some(unmet), None) => console.fail(&unmet.in_flags()),
        (None, Some(worse)) => console.warn(&worse.in_flags()),
        (None, None) => {}
    }
    if merged.unmet.is_none() { Status::Done } else { Status::RequirementUnmet }
}
