//! The order of stages up to the joint model: canonicalise → couple → align → (calibrate → pair → fuse →
//! retrain) per site. No other room knows it; `api/merge` loads models before them, and emits, verifies,
//! compares and reports behind them.

use std::sync::Arc;
use std::time::Instant;

use crate::calib::data::Dataset;
use crate::error::Result;
use crate::mtz::driver::{Driver, DriverInputs};
use crate::mtz::joint::JointModel;
use crate::mtz::options::MergeOptions;
use crate::mtz::plan::{Sizes, predict, sizes};
use crate::mtz::site::SiteRecord;
use crate::mtz::statistics::{Sharding, StoredNet};
use crate::progress::Progress;
use crate::retrain::{Retrained, Retraining, Rounds};
use crate::runtime::Backend;

mod batches;
mod bisection;
mod candidates;
mod corrections;
mod curve;
mod decisions;
mod equal;
mod error_limit;
mod extents;
mod frontier;
mod goal;
mod importance;
mod measure;
mod nothing;
mod parts;
mod plan_file;
mod prepare;
mod search;

pub use batches::{batch_in_parts, values_of_batch};
pub use decisions::{Decisions, SiteNames};
pub use frontier::{FrontierPoint, frontier, knee};
pub use goal::{Goal, merge_for};
use importance::Importance;
pub(crate) use importance::{SENSITIVITY_SAMPLES, sensitivities};
pub use parts::{Input, Part};
pub use plan_file::{FileRecord, LayerRecord, PlanFile, Weights};
pub(crate) use prepare::check_several;
#[cfg(test)]
pub(crate) use prepare::fixtures;
pub use prepare::{PrepareOptions, Prepared, prepare, prepare_parts};

pub use crate::align::Matching;
pub use crate::report::Trial;

/// Samples and runtime of a calibration.
#[derive(Clone)]
pub struct Calibration {
    /// Runs the nets.
    pub backend: Arc<dyn Backend>,
    /// One data set per task.
    pub data: Vec<Dataset>,
    /// Stored statistics of the original nets, per task, or empty. Used with
    /// [`crate::mtz::options::Passes::One`].
    pub stored: Vec<StoredNet>,
    /// Whether the effect of a merge on the outputs is predicted from statistics, because there are no
    /// samples to measure it on.
    pub predicts: bool,
    /// Samples per batch, unless a model fixes its batch size.
    pub batch: usize,
    /// Memory limit for kept activations, in bytes per task.
    pub memory: u64,
    /// Shards of the samples with their workers; `None` to compute statistics in this process.
    pub shards: Option<Sharding>,
}

/// The outcome of a merge.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The record of each site of several nets.
    pub sites: Vec<SiteRecord>,
    /// Parameters before and after.
    pub sizes: Sizes,
    /// Seconds per stage, in order. Behind those of this merge are those of a search's other merges, and of
    /// measuring.
    pub seconds: Vec<(&'static str, f64)>,
    /// Tasks whose pairs were weighted without gradients, with the reason.
    pub without_sensitivity: Vec<(String, String)>,
    /// Samples used, per task.
    pub samples: Vec<usize>,
    /// Decisions of a search about layers; empty without a search.
    pub decisions: Decisions,
    /// Results of retraining; `None` without retraining.
    pub retrained: Option<Retrained>,
}

/// One merge or search: the data, the options and the retraining that its merges have in common.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Samples, runtime and memory.
    pub calibration: &'a Calibration,
    /// Method and budget.
    pub options: &'a MergeOptions,
    /// Retraining during or after a merge (Algorithm 1), if any.
    pub retraining: Option<&'a Retraining<'a>>,
    /// Reports progress and says when to stop.
    pub progress: &'a dyn Progress,
}

impl<'a> Job<'a> {
    /// A job without retraining.
    pub fn new(
        calibration: &'a Calibration,
        options: &'a MergeOptions,
        progress: &'a dyn Progress,
    ) -> Self {
        Job { calibration, options, retraining: None, progress }
    }
}

/// Merges prepared nets: shares neurons and fuses their weights.
///
/// # Errors
/// [`crate::error::ErrorKind::Misaligned`] if there is nothing that could be shared; else as the stages it runs.
pub fn merge(
    prepared: Prepared,
    calibration: &Calibration,
    options: &MergeOptions,
    progress: &dyn Progress,
) -> Result<(JointModel, Outcome)> {
    merge_decided(prepared, None, &Job::new(calibration, options, progress))
}

/// Merges prepared nets, with retraining if the job retrains. `decisions` of an earlier merge replace
/// new ones.
///
/// # Errors
/// As [`merge`], [`crate::retrain::retrain`] and [`Prepared::decide`].
pub fn merge_decided(
    prepared: Prepared,
    decisions: Option<Decisions>,
    job: &Job<'_>,
) -> Result<(JointModel, Outcome)> {
    let calibration = job.calibration.fitting(&prepared.joint);
    let job = &Job { calibration: &calibration, ..*job };
    // Decisions may share nothing. The check for layers in common comes before them.
    prepared.check_common(&job.options.budget)?;
    let is_idle = decisions.is_none() && prepared.shares_nothing(&job.options.budget)?;
    let importance = match is_idle {
        true => Importance::default(),
        false => Importance::measure(&prepared, job)?,
    };
    zipped(prepared, decisions, &importance, job)
}

/// Applies the decisions, merges, retrains, and returns the decisions with the outcome.
fn zipped(
    mut prepared: Prepared,
    decisions: Option<Decisions>,
    importance: &Importance,
    job: &Job<'_>,
) -> Result<(JointModel, Outcome)> {
    let Job { calibration, retraining, progress, .. } = *job;
    let mut options = job.options.clone();
    if let Some(decisions) = &decisions {
        prepared.decide(decisions, &mut options)?;
    }
    let options = &options;
    let Prepared { mut joint, alignment, mut seconds } = prepared;
    seconds.push(("sensitivities", importance.seconds));
    let start = Instant::now();
    let originals = sizes(&joint)?.originals;
    let rounds = |plan| {
        let layers = predict(&joint, &alignment, &options.budget, false)?.zipped();
        Rounds::new(plan, &joint, layers, progress)
    };
    let mut rounds = retraining.map(rounds).transpose()?;
    let nets = joint.tasks().iter().zip(&calibration.data);
    let sources = nets.map(|(net, data)| calibration.source(net.model(), data)).collect();
    let inputs = DriverInputs {
        alignment: &alignment,
        sources,
        sensitivities: &importance.sensitivities,
        stored: &calibration.stored,
        shards: calibration.shards.as_ref(),
        originals: importance.originals.as_ref(),
        options,
        progress,
    };
    let driver = Driver::new(&mut joint, inputs)?;
    let sites = driver.run(&mut |joint, last| match &mut rounds {
        Some(rounds) => rounds.between(joint, &last.layers),
        None => Ok(false),
    })?;
    let last =
        sites.iter().rfind(|site| site.is_zipped()).map_or(&[][..], |site| site.layers.as_slice());
    let retrained = rounds.map(|r| r.finish(&mut joint, last)).transpose()?;
    let training = retrained.as_ref().map(Retrained::seconds);
    seconds.push(("zip", start.elapsed().as_secs_f64() - training.unwrap_or(0.0)));
    seconds.extend(training.map(|seconds| ("retrain", seconds)));
    let outcome = Outcome {
        sites,
        // The originals have no corrections.
        sizes: Sizes { originals, ..sizes(&joint)? },
        seconds,
        without_sensitivity: importance.without.clone(),
        samples: calibration.data.iter().map(Dataset::len).collect(),
        decisions: decisions.unwrap_or_default(),
        retrained,
    };
    Ok((joint, outcome))
}
