//! Options of a curve of size against loss.

#[cfg(feature = "cli")]
use super::parse::at_least_one;
use super::{
    CalibrationOptions, FormOptions, MergeOptions, MethodOptions, ModelOptions, RetrainingOptions,
    RuntimeOptions, SampleOptions, ShareOptions, TuningOptions,
};

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
        value_parser = at_least_one()))]
    pub points: usize,
    /// Samples to measure each merge on, at most [default: as many as --samples, and at least 1000]
    ///
    /// They are taken from those that are not calibrated on, if there are enough. Few samples give a rough curve
    /// soon.
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "N", help_heading = "Result", value_parser = at_least_one()))]
    pub measure: Option<usize>,
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
            measure: None,
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
