//! Options of pruning.

#[cfg(feature = "cli")]
use super::keep_shared::fraction;
#[cfg(feature = "cli")]
use super::parse::{at_least_one, choices};
use super::{RuntimeOptions, SampleOptions, StatisticsOptions};
use crate::mtz::options::MergeOptions;
use crate::prune::Saliency;

/// Options of pruning.
///
/// ```
/// let mut options = onnx_zip::PruneOptions::sparsity(0.9);
/// options.limit = 2000;
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[non_exhaustive]
pub struct PruneOptions {
    /// Part of each layer's weights to set to zero: 0.9 or 90%; biases stay
    #[cfg_attr(feature = "cli", arg(long, value_name = "S", value_parser = fraction))]
    pub sparsity: f64,
    /// How to choose weights
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "METHOD", default_value = "l-obs",
        value_parser = choices(SALIENCIES)))]
    pub method: Saliency,
    /// How samples are prepared.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub samples: SampleOptions,
    /// Samples for the statistics, drawn at random if there are more
    #[cfg_attr(feature = "cli", arg(
        long = "samples", value_name = "N", default_value_t = 10_000, help_heading = "Data",
        value_parser = at_least_one()))]
    pub limit: usize,
    /// Added to each Hessian's diagonal, relative to its mean
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "D",
        default_value_t = MergeOptions::default().damping))]
    pub damping: f64,
    /// Limits of statistics.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub statistics: StatisticsOptions,
    /// Which runtime to use.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub runtime: RuntimeOptions,
}

#[cfg(feature = "cli")]
const SALIENCIES: [(&str, Saliency, &str); 2] = [
    (
        "l-obs",
        Saliency::LObs,
        "by least cost after refitting the other weights (optimal brain surgeon)",
    ),
    ("magnitude", Saliency::Magnitude, "by least magnitude"),
];

impl PruneOptions {
    /// Options for this sparsity.
    pub fn sparsity(sparsity: f64) -> Self {
        PruneOptions {
            sparsity,
            method: Saliency::LObs,
            samples: SampleOptions::default(),
            limit: 10_000,
            damping: MergeOptions::default().damping,
            statistics: StatisticsOptions::default(),
            runtime: RuntimeOptions::default(),
        }
    }
}
