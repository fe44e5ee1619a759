//! `frontier`: the curve of size against loss.

use std::path::PathBuf;

use clap::Args;

use super::console::Console;
use super::inputs::{DataArgs, ModelArgs};
use super::reports::report_path;
use super::{Status, idle, printing};
use crate::api::options::FrontierOptions;
use crate::api::{FrontierDestination, Merger, output};
use crate::error::Result;
use crate::zipper::PlanFile;

/// Measure what joint models of several sizes cost each task
///
/// Merges for several sizes, beginning with full sharing. Measures each task's error if samples have
/// labels, else the samples whose class differs from the original's, or the deviation of outputs.
/// Marks the knee of the curve. Every point is a plan for `onnx-zip merge --plan`.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct FrontierArgs {
    #[command(flatten)]
    models: ModelArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    options: FrontierOptions,
    /// Write a report: .html, .json, .csv or .md; repeatable
    #[arg(long, value_name = "FILE", help_heading = "Result", value_parser = report_path(&["html", "json", "csv", "md"]))]
    report: Vec<PathBuf>,
    /// Write the plans of all points into this folder
    #[arg(long, value_name = "FOLDER", help_heading = "Result")]
    plans: Option<PathBuf>,
    /// Write the joint models of all points, and their plans, into this folder
    #[arg(long, value_name = "FOLDER", help_heading = "Result")]
    keep: Option<PathBuf>,
    /// Print the report as JSON instead of a table
    #[arg(long, help_heading = "Result")]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  Ten points, drawn:
    onnx-zip frontier a.onnx b.onnx --data a.npz --data b.npz --scale 1/255 --report curve.html

  Their plans, and later one of them as a joint model:
    onnx-zip frontier a.onnx b.onnx --data images.npz --plans points/
    onnx-zip merge --plan points/joint-57.12.toml -o joint.onnx";

impl FrontierArgs {
    /// Merges and measures. `typed` holds the options as they were typed.
    pub(super) fn run(self, typed: &PlanFile, console: &Console) -> Result<Status> {
        let FrontierArgs { models, data, options, report, plans, keep, json } = self;
        idle::warn_of_passes(typed, !options.calibration.gram.is_empty(), console);
        let to = FrontierDestination {
            points: options.points,
            measure: options.measure,
            latency: options.latency,
            reports: &report,
            plans: plans.as_deref(),
            keep: keep.as_deref(),
        };
        let merger = models.paths.into_iter().fold(Merger::new(options.into()), Merger::model);
        let merger = data.data.into_iter().fold(merger, Merger::data).names(models.names);
        let curve = merger.frontier(&to, typed, console)?;
        console.finish();
        printing::print(&if json { output::json(&curve)? } else { curve.text() })?;
        Ok(Status::Done)
    }
}
