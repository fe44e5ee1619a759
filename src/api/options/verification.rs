//! Options of a verification.

#[cfg(feature = "cli")]
use super::parse::at_least_one;
use super::{RuntimeOptions, SampleOptions};
use crate::verify::Limits;

/// Options of a verification.
///
/// ```
/// let mut options = onnx_zip::VerifyOptions::default();
/// options.max_drop = Some(0.5);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[non_exhaustive]
pub struct VerifyOptions {
    /// How samples are prepared.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub samples: SampleOptions,
    /// Samples to run, drawn at random [default: all, or 256 without data]
    #[cfg_attr(feature = "cli", arg(
        long = "samples", value_name = "N", help_heading = "Data",
        value_parser = at_least_one()))]
    pub limit: Option<usize>,
    /// Fail if an output differs from the original by more than this
    #[cfg_attr(feature = "cli", arg(long, value_name = "X", help_heading = None))]
    pub max_deviation: Option<f64>,
    /// Fail if a task's error rises by more than this many percentage points; needs labels
    #[cfg_attr(feature = "cli", arg(long, value_name = "PT", help_heading = None))]
    pub max_drop: Option<f64>,
    /// Largest difference between runtimes, relative to an output's largest element
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "X", default_value_t = Limits::default().tolerance,
        help_heading = None))]
    pub tolerance: f64,
    /// Which runtime to use.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub runtime: RuntimeOptions,
    /// Seed of made-up samples and of the choice of samples
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "N", default_value_t = 0, help_heading = None))]
    pub seed: u64,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        VerifyOptions {
            samples: SampleOptions::default(),
            limit: None,
            max_deviation: None,
            max_drop: None,
            tolerance: Limits::default().tolerance,
            runtime: RuntimeOptions::default(),
            seed: 0,
        }
    }
}
