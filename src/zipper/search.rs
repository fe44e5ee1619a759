//! Merges for a goal: a size, or a loss of accuracy that is measured.

use std::collections::BTreeSet;

use crate::calib::data::Dataset;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;
use crate::mtz::joint::JointModel;
use crate::mtz::matching::Share;
use crate::mtz::options::{Budget, MergeOptions, Unit};
use crate::mtz::plan::layer_choice::{self, LayerCost};
use crate::mtz::plan::{Trial, allocate, predict};
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
    /// This part, from 0 to 1, of what can be saved at most.
    Part(f64),
    /// All that can be shared but layers whose weights save little and cost much.
    Knee,
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
        Goal::Part(part) => search.for_part(part),
        Goal::Knee => search.for_knee(),
        Goal::Drop(drop) => search.for_drop(drop),
    }
}

/// What is shared in one merge.
struct Choice {
    /// Places of sites whose layers keep their weights.
    own: BTreeSet<usize>,
    budget: Budget,
}

/// A merge with all that can be shared, and what each layer costs there.
struct Full {
    joint: JointModel,
    outcome: Outcome,
    costs: Vec<LayerCost>,
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
    /// Merges as `choice` says.
    fn merge(&self, choice: &Choice) -> Result<(JointModel, Outcome)> {
        self.zipped(choice, self.retraining)
    }

    fn zipped(
        &self,
        choice: &Choice,
        retraining: Option<&Retraining<'_>>,
    ) -> Result<(JointModel, Outcome)> {
        let mut prepared = self.prepared.clone();
        prepared.alignment.keep_weights(&choice.own);
        let options = MergeOptions { budget: choice.budget.clone(), ..self.options.clone() };
        let importance = &self.importance;
        zipped(prepared, self.calibration, importance, &options, retraining, self.progress)
    }

    /// A merge with all that can be shared.
    fn full(&self, retraining: Option<&Retraining<'_>>) -> Result<Full> {
        let choice = self.everything();
        let (joint, outcome) = self.zipped(&choice, retraining)?;
        let Prepared { joint: nets, alignment, .. } = self.prepared;
        let plan = predict(nets, alignment, &choice.budget, false)?;
        let costs = layer_choice::layer_costs(alignment, &plan, &outcome.sites);
        Ok(Full { joint, outcome, costs })
    }

    fn everything(&self) -> Choice {
        Choice { own: BTreeSet::new(), budget: self.options.budget.clone() }
    }

    fn for_size(&self, size: f64) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let full = self.full(None)?;
        let separate = full.outcome.sizes.separate();
        let least = full.outcome.sizes.joint().min(separate);
        let parameters = (size * separate as f64) as u64;
        if least > parameters {
            let message = format!(
                "a joint model of {:.1} % of all models cannot be had: with all that can be shared it has {:.1} %",
                100.0 * size,
                100.0 * ratio(&full.outcome)
            );
            return Err(Error::new(ErrorKind::Usage, message).hint("give a larger --target-size"));
        }
        self.at_size(full, parameters)
    }

    /// Gives up a part of what can be saved.
    fn for_part(&self, part: f64) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let full = self.full(None)?;
        let (separate, least) =
            (full.outcome.sizes.separate() as f64, full.outcome.sizes.joint() as f64);
        let parameters = least + (1.0 - part) * (separate - least).max(0.0);
        self.at_size(full, parameters as u64)
    }

    fn at_size(&self, full: Full, parameters: u64) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let first = Trial { size: ratio(&full.outcome), drops: Vec::new(), kept: false };
        let mut found: Vec<(JointModel, Outcome)> = Vec::new();
        for choice in self.choices(&full, parameters)? {
            found.push(self.merge(&choice)?);
        }
        let mut trials = vec![first];
        trials.extend(
            found
                .iter()
                .map(|(_, outcome)| Trial { size: ratio(outcome), drops: Vec::new(), kept: false }),
        );
        let losses = found.iter().map(|(_, outcome)| loss(outcome)).enumerate();
        let best = losses.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(at, _)| at);
        trials[best + 1].kept = true;
        let (joint, outcome) = found.swap_remove(best);
        Ok((joint, outcome, trials))
    }

    /// Leaves layers to the tasks as long as a small part of the saving buys a large part of the loss.
    fn for_knee(&self) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let full = self.full(None)?;
        let own = layer_choice::at_knee(&full.costs);
        let first = Trial { size: ratio(&full.outcome), drops: Vec::new(), kept: own.is_empty() };
        if own.is_empty() && self.retraining.is_none() {
            return Ok((full.joint, full.outcome, vec![first]));
        }
        let (joint, outcome) = self.merge(&Choice { own, ..self.everything() })?;
        let kept = Trial { size: ratio(&outcome), drops: Vec::new(), kept: true };
        Ok((joint, outcome, vec![Trial { kept: false, ..first }, kept]))
    }

    fn for_drop(&self, limit: f64) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let nets = &self.prepared.joint.tasks;
        let before = self.errors(&nets.iter().map(|t| &t.model).collect::<Vec<_>>())?;
        let full = self.full(self.retraining)?;
        let mut trials = vec![self.trial(&full.joint, &full.outcome, &before)?];
        if within(&trials[0], limit) {
            trials[0].kept = true;
            return Ok((full.joint, full.outcome, trials));
        }
        let separate = full.outcome.sizes.separate() as f64;
        let mut best: Option<(usize, JointModel, Outcome)> = None;
        let (mut too_small, mut enough) = (ratio(&full.outcome), 1.0);
        let mut tried: Vec<Choice> = vec![self.everything()];
        for _ in 0..STEPS {
            let size = (too_small + enough) / 2.0;
            let choices = self.choices(&full, (size * separate) as u64)?;
            let Some(choice) = choices.into_iter().next() else { break };
            // Sizes between those of two sets of whole layers come to the smaller set.
            if tried.iter().any(|other| other.own == choice.own && !choice.own.is_empty()) {
                break;
            }
            let (next, outcome) = self.merge(&choice)?;
            tried.push(choice);
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
                let budget = Budget::uniform(Share::Fraction(0.0));
                let (joint, outcome) = self.merge(&Choice { own: BTreeSet::new(), budget })?;
                trials.push(self.trial(&joint, &outcome, &before)?);
                (trials.len() - 1, joint, outcome)
            }
        };
        trials[kept].kept = true;
        Ok((joint, outcome, trials))
    }

    /// What to share for so many parameters, by the units that are allowed.
    fn choices(&self, full: &Full, parameters: u64) -> Result<Vec<Choice>> {
        let mut choices = Vec::new();
        if self.options.unit != Unit::Neuron {
            let spare = parameters.saturating_sub(full.outcome.sizes.joint());
            let own = layer_choice::for_size(&full.costs, spare);
            choices.push(Choice { own, ..self.everything() });
        }
        if self.options.unit != Unit::Layer {
            choices.extend(self.by_neurons(full, parameters)?);
        }
        Ok(choices)
    }

    /// How many neurons of each group to share. The weights of groups of which none is shared are left
    /// to the tasks, and their channels stay paired for the layers behind them.
    fn by_neurons(&self, full: &Full, parameters: u64) -> Result<Option<Choice>> {
        let Full { joint, outcome, .. } = full;
        let separate = outcome.sizes.separate();
        let multiple = self.options.budget.multiple();
        let numbers = (separate, outcome.sizes.joint().min(separate), parameters);
        let alignment = &self.prepared.alignment;
        let found = allocate(joint, alignment, &outcome.sites, numbers, multiple);
        let Some(allocation) = found else { return Ok(None) };
        let mut budget = self.options.budget.clone();
        let mut own = BTreeSet::new();
        for (layer, count) in allocation {
            match count {
                0 => own.extend(self.prepared.producers_beside(&layer)),
                count => budget.layer(&layer, Share::Count(count))?,
            }
        }
        Ok(Some(Choice { own, budget }))
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

/// What the errors of all shared neurons mean for the outputs.
fn loss(outcome: &Outcome) -> f64 {
    outcome.sites.iter().map(|site| site.loss).sum()
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
