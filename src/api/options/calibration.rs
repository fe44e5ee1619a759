//! Where statistics come from.

use std::path::PathBuf;

#[cfg(feature = "cli")]
use super::parse;

/// The samples or stored statistics of a merge.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Data"))]
#[non_exhaustive]
pub struct CalibrationOptions {
    /// Samples to calibrate on, drawn at random if there are more [default: 10000, or 2048 without
    /// data]; errors are measured on the others, if there are enough
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", value_parser = parse::at_least_one()))]
    pub samples: Option<usize>,
    /// Statistics from `onnx-zip calibrate`, once per model in their order, in place of samples; implies
    /// --passes one
    ///
    /// Layers are not refitted to the inputs that they get after merging. Samples that are given, too
    /// (--data), only measure what merges do to the outputs; without them, that is predicted.
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub gram: Vec<PathBuf>,
    /// Cut the samples into N shards and add up their statistics; the same N gives the same file, with
    /// any number of workers
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "N", conflicts_with = "gram", value_parser = parse::at_least_one()))]
    pub shards: Option<usize>,
    /// New or empty folder shared with the workers, which run `onnx-zip worker`
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR", requires = "shards"))]
    pub workers: Option<PathBuf>,
}
