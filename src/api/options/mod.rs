//! Options of every command, with their defaults and their help.
//!
//! The command line parses into these structures, and Python reads its keywords from the command line. So
//! every option is defined here only. The first paragraph of an option's documentation is its short help.

mod calibration;
mod corrections;
mod frontier;
mod goal;
mod keep_shared;
mod method;
#[cfg(feature = "cli")]
mod parse;
mod pruning;
mod result;
mod retraining;
mod runtime;
mod samples;
mod share;
mod statistics;
mod training;
mod verification;
mod worker;

use std::path::PathBuf;

pub use calibration::CalibrationOptions;
pub use corrections::Corrections;
pub use frontier::FrontierOptions;
pub use goal::GoalOptions;
pub use keep_shared::KeepShared;
pub(crate) use keep_shared::Typed;
pub use method::{MethodOptions, TuningOptions};
pub use pruning::PruneOptions;
pub use result::{FormOptions, Requirement, ResultOptions};
pub use retraining::{Moment, RetrainingOptions};
pub use runtime::RuntimeOptions;
pub use samples::SampleOptions;
pub use share::ShareOptions;
pub use statistics::StatisticsOptions;
pub use training::TrainingOptions;
pub use verification::VerifyOptions;
pub use worker::WorkerOptions;

#[cfg(feature = "cli")]
use crate::canon::BATCH_NORMS;
use crate::canon::BatchNorm;

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
