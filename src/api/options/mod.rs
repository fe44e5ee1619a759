//! Options of every command, with their defaults and their help.
//!
//! The command line parses into these structures, and Python reads its keywords from the command line. So
//! every option is defined here only. The first paragraph of an option's documentation is its short help.

mod calibration;
mod corrections;
mod goal;
mod keep_shared;
mod method;
#[cfg(feature = "cli")]
mod parse;
mod result;
mod retraining;
mod runtime;
mod samples;
mod share;
mod statistics;
mod training;
mod worker;

use std::path::PathBuf;

pub use calibration::CalibrationOptions;
pub use corrections::Corrections;
pub use goal::GoalOptions;
pub use keep_shared::KeepShared;
pub(crate) use keep_shared::Typed;
pub use method::{MethodOptions, TuningOptions};
pub use result::{FormOptions, Requirement, ResultOptions};
pub use retraining::{Moment, RetrainingOptions};
pub use runtime::RuntimeOptions;
pub use samples::SampleOptions;
pub use share::ShareOptions;
pub use statistics::StatisticsOptions;
pub use training::TrainingOptions;
pub use worker::WorkerOptions;

#[cfg(feature = "cli")]
use crate::canon::BATCH_NORMS;
use crate::canon::BatchNorm;
use crate::prune::Saliency;
use crate::verify::Limits;

/// How to treat `BatchNormalization`.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[non_exhaustive]
pub struct ModelOptions {
    /// How to treat BatchNormalization: fold it into the previous layer, or keep it per task
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "HOW", default_value = "fold",
        value_parser = parse::choices(BATCH_NORMS.iter().copied())))]
    pub batchnorm: BatchNorm,
}

/// Options of a merge.
///
/// ```
/// let mut options = onnx_zip::MergeOptions::default();
/// options.goal.target_size = Some(0.6);
/// options.runtime.batch = 32;
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[non_exhaustive]
pub struct MergeOptions {
    /// How models are read.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub models: ModelOptions,
    /// How samples are prepared.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub samples: SampleOptions,
    /// Where statistics come from.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub calibration: CalibrationOptions,
    /// How much to share.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub sharing: ShareOptions,
    /// A goal, which decides how much to share.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub goal: GoalOptions,
    /// How weights are fused.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub method: MethodOptions,
    /// How to choose pairs.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub tuning: TuningOptions,
    /// Whether to retrain.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub retraining: RetrainingOptions,
    /// Which runtime to use.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub runtime: RuntimeOptions,
    /// The form of the result.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub form: FormOptions,
    /// Checks of the result.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub result: ResultOptions,
}

/// Options of a plan.
///
/// ```
/// let mut options = onnx_zip::PlanOptions::default();
/// options.sharing.share = Some(0.5);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[non_exhaustive]
pub struct PlanOptions {
    /// How models are read.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub models: ModelOptions,
    /// How much to share.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub sharing: ShareOptions,
    /// How weights are fused.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub method: MethodOptions,
    /// Limits of statistics.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub statistics: StatisticsOptions,
}

/// Options of the statistics of one model.
///
/// ```
/// let mut options = onnx_zip::CalibrateOptions::default();
/// options.limit = Some(1000);
/// options.statistics.seed = 7;
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[non_exhaustive]
pub struct CalibrateOptions {
    /// How the model is read.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub models: ModelOptions,
    /// How samples are prepared.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub samples: SampleOptions,
    /// Samples to run, drawn at random if there are more [default: all]
    #[cfg_attr(feature = "cli", arg(
        long = "samples", value_name = "N", help_heading = "Data",
        value_parser = parse::at_least_one()))]
    pub limit: Option<usize>,
    /// Limits of statistics.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub statistics: StatisticsOptions,
    /// Which runtime to use.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub runtime: RuntimeOptions,
}

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
    #[cfg_attr(feature = "cli", arg(long, value_name = "S", value_parser = keep_shared::fraction))]
    pub sparsity: f64,
    /// How to choose weights
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "METHOD", default_value = "l-obs",
        value_parser = parse::choices(SALIENCIES)))]
    pub method: Saliency,
    /// How samples are prepared.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub samples: SampleOptions,
    /// Samples for the statistics, drawn at random if there are more
    #[cfg_attr(feature = "cli", arg(
        long = "samples", value_name = "N", default_value_t = 10_000, help_heading = "Data",
        value_parser = parse::at_least_one()))]
    pub limit: usize,
    /// Added to each Hessian's diagonal, relative to its mean
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "D",
        default_value_t = crate::mtz::options::MergeOptions::default().damping))]
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
            damping: crate::mtz::options::MergeOptions::default().damping,
            statistics: StatisticsOptions::default(),
            runtime: RuntimeOptions::default(),
        }
    }
}

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
        value_parser = parse::at_least_one()))]
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

/// Options of retraining a joint model.
///
/// ```
/// let mut options = onnx_zip::RetrainOptions::default();
/// options.training.iterations = 500;
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[non_exhaustive]
pub struct RetrainOptions {
    /// How samples are prepared.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub samples: SampleOptions,
    /// Samples per task, drawn at random if there are more [default: all]
    #[cfg_attr(feature = "cli", arg(
        long = "samples", value_name = "N", help_heading = "Data",
        value_parser = parse::at_least_one()))]
    pub limit: Option<usize>,
    /// How to train.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub training: TrainingOptions,
    /// Save the state of training in this file at every validation
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE", help_heading = "Training"))]
    pub checkpoint: Option<PathBuf>,
    /// Resume from the file of --checkpoint; the result is that of training without a break
    #[cfg_attr(feature = "cli", arg(long, requires = "checkpoint", help_heading = "Training"))]
    pub resume: bool,
    /// Which runtime to use.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub runtime: RuntimeOptions,
    /// Skip verifying the joint model against the original models
    #[cfg_attr(feature = "cli", arg(long, help_heading = "Result"))]
    pub no_verify: bool,
}

/// Options of a curve of size against loss.
///
/// ```
/// let mut options = onnx_zip::FrontierOptions::default();
/// options.sharing.until = Some("block4*".into());
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[non_exhaustive]
pub struct FrontierOptions {
    /// How models are read.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub models: ModelOptions,
    /// How samples are prepared.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub samples: SampleOptions,
    /// Where statistics come from.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub calibration: CalibrationOptions,
    /// What may be shared.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub sharing: ShareOptions,
    /// How weights are fused.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub method: MethodOptions,
    /// How to choose pairs.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub tuning: TuningOptions,
    /// Whether to retrain.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub retraining: RetrainingOptions,
    /// Which runtime to use.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub runtime: RuntimeOptions,
    /// The form of the joint models.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub form: FormOptions,
    /// Number of merges at most; the first shares all that can be shared
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "N", default_value_t = 10, help_heading = "Result",
        value_parser = parse::at_least_one()))]
    pub points: usize,
    /// Also measure the time of a run
    #[cfg_attr(feature = "cli", arg(long, help_heading = "Result"))]
    pub latency: bool,
}

impl Default for FrontierOptions {
    fn default() -> Self {
        FrontierOptions {
            models: ModelOptions::default(),
            samples: SampleOptions::default(),
            calibration: CalibrationOptions::default(),
            sharing: ShareOptions::default(),
            method: MethodOptions::default(),
            tuning: TuningOptions::default(),
            retraining: RetrainingOptions::default(),
            runtime: RuntimeOptions::default(),
            form: FormOptions::default(),
            points: 10,
            latency: false,
        }
    }
}

impl From<FrontierOptions> for MergeOptions {
    fn from(options: FrontierOptions) -> Self {
        let FrontierOptions { models, samples, calibration, sharing, method, .. } = options;
        let FrontierOptions { tuning, retraining, runtime, form, .. } = options;
        MergeOptions {
            models,
            samples,
            calibration,
            sharing,
            method,
            tuning,
            retraining,
            runtime,
            form,
            ..MergeOptions::default()
        }
    }
}
