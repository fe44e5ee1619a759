//! The order of stages: load → canonicalise → couple → align → (calibrate → pair → fuse → retrain) per
//! site → emit. Nobody else knows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::align::Alignment;
use crate::calib::data::Dataset;
use crate::calib::store::LayerMoments;
use crate::calib::stream::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::grad;
use crate::mtz::driver::{Driver, DriverInputs};
use crate::mtz::joint::JointModel;
use crate::mtz::matching::Share;
use crate::mtz::options::{Budget, MergeOptions, Method};
use crate::mtz::plan::{Prediction, predict};
use crate::mtz::plan::{Sizes, sizes};
use crate::mtz::site::SiteRecord;
use crate::mtz::statistics::Sensitivities;
use crate::progress::Progress;
use crate::retrain::{Retrained, Retraining, Rounds};
use crate::runtime::Backend;

mod batches;
mod candidates;
mod corrections;
mod decisions;
mod equal;
mod frontier;
mod measure;
mod plan_file;
mod prepare;
mod search;

use batches::batch_with_gradients;
pub use batches::{batch_in_parts, values_of_batch};
pub use decisions::{Decisions, SiteNames};
pub use frontier::{FrontierPoint, frontier, knee};
pub use plan_file::{FileRecord, LayerRecord, PlanFile, Weights};
#[cfg(test)]
pub(crate) use prepare::fixtures;
pub use prepare::{Input, Part, PrepareOptions, Prepared, prepare, prepare_parts};
pub use search::{Goal, merge_for};

pub use crate::align::Matching;
pub use crate::mtz::plan::Trial;

/// Samples that sensitivities are estimated from.
const SENSITIVITY_SAMPLES: usize = 2048;

/// How calibration runs.
#[derive(Clone)]
pub struct Calibration {
    /// Runs the nets.
    pub backend: Arc<dyn Backend>,
    /// One data set per task.
    pub data: Vec<Dataset>,
    /// Statistics of the original nets from earlier calibrations, per task, or empty. They count
    /// where statistics are taken in one pass ([`crate::mtz::options::Passes::One`]).
    pub stored: Vec<LayerMoments>,
    /// Samples per batch; smaller where a model fixes its batch size.
    pub batch: usize,
    /// Bytes that kept activations may take, per task.
    pub memory: u64,
}

/// What happened during a merge.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What happened at each site that several nets have.
    pub sites: Vec<SiteRecord>,
    /// Parameters before and after.
    pub sizes: Sizes,
    /// Seconds per stage, in order.
    pub seconds: Vec<(&'static str, f64)>,
    /// Tasks whose pairs were weighted without gradients, with the reason.
    pub without_sensitivity: Vec<(String, String)>,
    /// Samples used, per task.
    pub samples: Vec<usize>,
    /// What a search has decided about layers; nothing where there was none.
    pub decisions: Decisions,
    /// What came of retraining; `None` where there was none.
    pub retrained: Option<Retrained>,
}

/// Merges prepared nets: shares neurons and fuses their weights.
///
/// # Errors
/// [`ErrorKind::Misaligned`] if there is nothing that could be shared; else as the stages it runs.
pub fn merge(
    prepared: Prepared,
    calibration: &Calibration,
    options: &MergeOptions,
    progress: &dyn Progress,
) -> Result<(JointModel, Outcome)> {
    merge_and_retrain(prepared, calibration, options, None, progress)
}

/// [`merge`] with retraining after it or after each layer, where that is asked for (Algorithm 1).
///
/// # Errors
/// As [`merge`] and [`crate::retrain::retrain`].
pub fn merge_and_retrain(
    prepared: Prepared,
    calibration: &Calibration,
    options: &MergeOptions,
    retraining: Option<&Retraining<'_>>,
    progress: &dyn Progress,
) -> Result<(JointModel, Outcome)> {
    let importance = Importance::measure(&prepared, calibration, options, progress)?;
    zipped(prepared, calibration, &importance, options, retraining, progress)
}

/// [`merge_and_retrain`] where it is decided about layers already, as an earlier merge has.
///
/// # Errors
/// As [`merge_and_retrain`] and [`Prepared::decide`].
pub fn merge_decided(
    mut prepared: Prepared,
    decisions: Decisions,
    calibration: &Calibration,
    options: &MergeOptions,
    retraining: Option<&Retraining<'_>>,
    progress: &dyn Progress,
) -> Result<(JointModel, Outcome)> {
    // As in a search, where nets have something in common even if nothing of it is shared in the end.
    let importance = Importance::measure(&prepared, calibration, options, progress)?;
    let mut options = options.clone();
    prepared.decide(&decisions, &mut options)?;
    let (joint, outcome) =
        zipped(prepared, calibration, &importance, &options, retraining, progress)?;
    Ok((joint, Outcome { decisions, ..outcome }))
}

/// [`merge_and_retrain`] with what is known of the neurons' importance.
fn zipped(
    prepared: Prepared,
    calibration: &Calibration,
    importance: &Importance,
    options: &MergeOptions,
    retraining: Option<&Retraining<'_>>,
    progress: &dyn Progress,
) -> Result<(JointModel, Outcome)> {
    let Prepared { mut joint, alignment, mut seconds } = prepared;
    seconds.push(("sensitivities", importance.seconds));
    let start = Instant::now();
    let originals = sizes(&joint)?.originals;
    let sources: Vec<Source<'_>> = joint
        .tasks()
        .iter()
        .zip(&calibration.data)
        .map(|(task, data)| Source {
            backend: calibration.backend.as_ref(),
            data,
            batch: batch_in_parts(task.model(), calibration.batch, calibration.memory),
            memory: calibration.memory,
        })
        .collect();
    let samples = calibration.data.iter().map(Dataset::len).collect();
    let stored = &calibration.stored;
    let sensitivities = &importance.sensitivities;
    let rounds = |plan| {
        let layers = predict(&joint, &alignment, &options.budget, false)?.zipped();
        Ok(Rounds::new(plan, layers, progress))
    };
    let mut rounds = retraining.map(rounds).transpose()?;
    let alignment = &alignment;
    let inputs = DriverInputs { alignment, sources, sensitivities, stored, options, progress };
    let driver = Driver::new(&mut joint, inputs)?;
    let sites = driver.run(&mut |joint| rounds.as_mut().map_or(Ok(false), |r| r.between(joint)))?;
    let retrained = rounds.map(|r| r.finish(&mut joint)).transpose()?;
    let training = retrained.as_ref().map(Retrained::seconds);
    seconds.push(("zip", start.elapsed().as_secs_f64() - training.unwrap_or(0.0)));
    seconds.extend(training.map(|seconds| ("retrain", seconds)));
    // Corrections are no part of the originals.
    let sizes = Sizes { originals, ..sizes(&joint)? };
    let without_sensitivity = importance.without.clone();
    let decisions = Decisions::default();
    let outcome =
        Outcome { sites, sizes, seconds, without_sensitivity, samples, decisions, retrained };
    Ok((joint, outcome))
}

/// How much the neurons of the original nets matter.
struct Importance {
    /// Per task; empty where pairs are not weighted.
    sensitivities: Vec<Sensitivities>,
    /// Tasks that have no gradients, with the reason.
    without: Vec<(String, String)>,
    seconds: f64,
}

impl Importance {
    /// What a merge with `options` needs to know.
    fn measure(
        prepared: &Prepared,
        calibration: &Calibration,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<Importance> {
        let Prepared { joint, alignment, .. } = prepared;
        let plan = predict(joint, alignment, &options.budget, false)?;
        let shares_nothing = |plan: &Prediction| plan.sites.iter().all(|s| s.reason.is_some());
        if shares_nothing(&plan) {
            // It may be that nothing is to be shared, where something could be.
            let all = Budget::uniform(Share::Fraction(1.0));
            let plan = predict(joint, alignment, &all, false)?;
            if shares_nothing(&plan) && !equal::have_equal_weights(joint) {
                return Err(misaligned(joint, alignment, &plan));
            }
        }
        let start = Instant::now();
        let mut importance =
            Importance { sensitivities: Vec::new(), without: Vec::new(), seconds: 0.0 };
        // Stored statistics stand for data that is not at hand: pairs are weighted by their mean square.
        let weighted = options.method == Method::Refit && calibration.stored.is_empty();
        if weighted && alignment.common().any(|site| !alignment.is_duplicate(site)) {
            importance.add_sensitivities(joint, calibration, options, progress)?;
        }
        importance.seconds = start.elapsed().as_secs_f64();
        Ok(importance)
    }

    fn add_sensitivities(
        &mut self,
        joint: &JointModel,
        calibration: &Calibration,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<()> {
        progress.begin("sensitivities", joint.tasks().len() as u64);
        for (task, data) in joint.tasks().iter().zip(&calibration.data) {
            progress.check()?;
            let batch = batch_with_gradients(task.model(), calibration.batch, calibration.memory);
            let measured = grad::sensitivities(
                task.model(),
                task.coupling(),
                calibration.backend.as_ref(),
                data,
                SENSITIVITY_SAMPLES,
                batch,
                options.seed,
            );
            self.sensitivities.push(match measured {
                Ok(sensitivities) => sensitivities,
                Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Backend) => {
                    self.without.push((task.name().to_owned(), e.to_string()));
                    BTreeMap::new()
                }
                Err(e) => return Err(e),
            });
            progress.step();
        }
        // Weights of all tasks are compared with each other: either all have them or none.
        if !self.without.is_empty() {
            self.sensitivities.iter_mut().for_each(BTreeMap::clear);
        }
        Ok(())
    }
}

fn misaligned(joint: &JointModel, alignment: &Alignment, plan: &Prediction) -> Error {
    let names: Vec<&str> = joint.tasks().iter().map(|t| t.name()).collect();
    let names = names.join(" and ");
    let first = plan.sites.first().and_then(|s| Some((s.layers.first()?, s.reason.as_ref()?)));
    let what = match (alignment.divergences.iter().flatten().next(), first) {
        (Some(d), _) => format!(
            "{names} have no layers in common that could be shared: they first differ at '{}' against '{}' ({})",
            d.a.as_deref().unwrap_or("the end"),
            d.b.as_deref().unwrap_or("the end"),
            d.difference
        ),
        (None, Some((layer, reason))) => format!(
            "{names} have no layers that could be shared, from the first one on ('{layer}': {reason})"
        ),
        (None, None) => format!("{names} have no layers with weights"),
    };
    Error::new(ErrorKind::Misaligned, what).hint("`onnx-zip plan` shows the whole alignment")
}
