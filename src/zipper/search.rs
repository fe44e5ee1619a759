//! Merges for a goal: a size, or a loss of accuracy that is measured.

use crate::calib::data::Dataset;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;
use crate::mtz::joint::JointModel;
use crate::mtz::matching::Share;
use crate::mtz::options::{Budget, MergeOptions};
use crate::mtz::plan::{Trial, allocate};
use crate::onnx;
use crate::progress::Progress;
use crate::retrain::Retraining;
use crate::runtime::{Backend, ModelSource, feeds};
use crate::verify::misclassified;

use super::{Calibration, Importance, Outcome, Prepared, batch_size, zipped};

/// Merges at most between as much sharing as possible and none.
const STEPS: usize = 6;

/// What a merge shall reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// At most this part of all models' parameters, with the least predicted loss.
    Size(f64),
    /// As few parameters as possible while no task's classification error, a number from 0 to 1, rises
    /// by more than this.
    Drop(f64),
}

/// Merges prepared nets for a goal. `tests` are labelled samples, one set per task, for
/// [`Goal::Drop`], whose loss is that after `retraining`.
///
/// # Errors
/// [`ErrorKind::Usage`] for a size that cannot be reached; [`ErrorKind::Unsupported`] where errors cannot
/// be measured; else as [`super::merge`].
pub fn merge_for(
    goal: Goal,
    prepared: &Prepared,
    calibration: &Calibration,
    options: &MergeOptions,
    retraining: Option<&Retraining<'_>>,
    tests: &[Dataset],
    progress: &dyn Progress,
) -> Result<(JointModel, Outcome, Vec<Trial>)> {
    let importance = Importance::measure(prepared, calibration, options, progress)?;
    let search = Search { prepared, calibration, importance, options, retraining, tests, progress };
    match goal {
        Goal::Size(size) => search.for_size(size),
        Goal::Drop(drop) => search.for_drop(drop),
    }
}

struct Search<'a> {
    prepared: &'a Prepared,
    calibration: &'a Calibration,
    importance: Importance,
    options: &'a MergeOptions,
    retraining: Option<&'a Retraining<'a>>,
    tests: &'a [Dataset],
    progress: &'a dyn Progress,
}

impl Search<'_> {
    fn merge(&self, budget: Budget) -> Result<(JointModel, Outcome)> {
        let options = MergeOptions { budget, ..self.options.clone() };
        self.zipped(&options, self.retraining)
    }

    fn zipped(
        &self,
        options: &MergeOptions,
        retraining: Option<&Retraining<'_>>,
    ) -> Result<(JointModel, Outcome)> {
        let (prepared, importance) = (self.prepared.clone(), &self.importance);
        zipped(prepared, self.calibration, importance, options, retraining, self.progress)
    }

    fn for_size(&self, size: f64) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let (joint, full) = self.zipped(self.options, None)?;
        let least = ratio(&full);
        let trial = Trial { size: least, drops: Vec::new(), kept: false };
        let budget = self.budget(&joint, &full, size)?.ok_or_else(|| {
            let message = format!(
                "a joint model of {:.1} % of all models cannot be had: with all that can be shared it has {:.1} %",
                100.0 * size,
                100.0 * least
            );
            Error::new(ErrorKind::Usage, message).hint("give a larger --target-size")
        })?;
        let (joint, outcome) = self.merge(budget)?;
        let kept = Trial { size: ratio(&outcome), drops: Vec::new(), kept: true };
        Ok((joint, outcome, vec![trial, kept]))
    }

    fn for_drop(&self, limit: f64) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let nets = &self.prepared.joint.tasks;
        let before = self.errors(&nets.iter().map(|t| &t.model).collect::<Vec<_>>())?;
        let (joint, full) = self.merge(self.options.budget.clone())?;
        let mut trials = vec![self.trial(&joint, &full, &before)?];
        if within(&trials[0], limit) {
            trials[0].kept = true;
            return Ok((joint, full, trials));
        }
        let mut best: Option<(usize, JointModel, Outcome)> = None;
        let (mut too_small, mut enough) = (ratio(&full), 1.0);
        for _ in 0..STEPS {
            let size = (too_small + enough) / 2.0;
            let Some(budget) = self.budget(&joint, &full, size)? else { break };
            let (next, outcome) = self.merge(budget)?;
            let trial = self.trial(&next, &outcome, &before)?;
            match within(&trial, limit) {
                true => {
                    enough = trial.size;
                    best = Some((trials.len(), next, outcome));
                }
                false => too_small = size,
            }
            trials.push(trial);
        }
        let (kept, joint, outcome) = match best {
            Some(best) => best,
            None => {
                let (joint, outcome) = self.merge(Budget::uniform(Share::Fraction(0.0)))?;
                trials.push(self.trial(&joint, &outcome, &before)?);
                (trials.len() - 1, joint, outcome)
            }
        };
        trials[kept].kept = true;
        Ok((joint, outcome, trials))
    }

    /// What to share for a size, given a merge with all that can be shared; `None` if it is larger.
    fn budget(&self, joint: &JointModel, full: &Outcome, size: f64) -> Result<Option<Budget>> {
        let separate = full.sizes.separate();
        let parameters = (size * separate as f64) as u64;
        let multiple = self.options.budget.multiple();
        let numbers = (separate, full.sizes.joint().min(separate), parameters);
        let found = allocate(joint, &self.prepared.alignment, &full.sites, numbers, multiple);
        let Some(allocation) = found else { return Ok(None) };
        let mut budget = self.options.budget.clone();
        for (layer, count) in allocation {
            budget.layer(&layer, Share::Count(count))?;
        }
        Ok(Some(budget))
    }

    fn trial(&self, joint: &JointModel, outcome: &Outcome, before: &[f64]) -> Result<Trial> {
        let nets: Vec<&Model> = joint.tasks.iter().map(|t| &t.model).collect();
        let drops = self.errors(&nets)?.iter().zip(before).map(|(after, b)| after - b).collect();
        Ok(Trial { size: ratio(outcome), drops, kept: false })
    }

    fn errors(&self, nets: &[&Model]) -> Result<Vec<f64>> {
        self.progress.begin("measure errors", nets.len() as u64);
        let one = |(net, data): (&&Model, &Dataset)| {
            self.progress.check()?;
            self.progress.step();
            let batch = batch_size(net, self.calibration.batch);
            error_rate(net, data, self.calibration.backend.as_ref(), batch).in_model(&net.name)
        };
        nets.iter().zip(self.tests).map(one).collect()
    }
}

fn within(trial: &Trial, limit: f64) -> bool {
    trial.drops.iter().all(|drop| *drop <= limit + 1e-9)
}

fn ratio(outcome: &Outcome) -> f64 {
    outcome.sizes.joint() as f64 / outcome.sizes.separate().max(1) as f64
}

/// The part of samples whose largest output is not at their label.
fn error_rate(net: &Model, data: &Dataset, backend: &dyn Backend, batch: usize) -> Result<f64> {
    let bytes = onnx::encode(net)?;
    let mut session = backend.load(ModelSource::Bytes(&bytes))?;
    let mut wrong = 0;
    for range in data.batches(batch) {
        let labels = data.labels(range.clone()).ok_or_else(|| {
            Error::new(ErrorKind::Calibration, "there are no labels to measure errors with")
                .hint("give labelled samples: --data")
        })?;
        let outputs = session.run(&feeds(&data.batch(range)?))?;
        let first = outputs.first().map(|o| o.as_f32()).transpose()?;
        let scores = first.filter(|s| s.ndim() > 1 && s.shape()[0] == labels.len());
        let scores = scores.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "its first output does not tell classes")
                .hint("merge it with --share in place of --max-drop")
        })?;
        wrong += misclassified(&scores, &labels);
    }
    Ok(wrong as f64 / data.len().max(1) as f64)
}
