//! Merges for a goal: a size, or a loss of accuracy that is measured.

use std::collections::BTreeSet;

use crate::calib::data::Dataset;
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::ir::Model;
use crate::mtz::joint::JointModel;
use crate::mtz::matching::Share;
use crate::mtz::options::{MergeOptions, Ranks, Unit};
use crate::mtz::plan::layer_choice::{self, LayerCost};
use crate::mtz::plan::{Prediction, Trial, allocate, predict};
use crate::progress::Progress;
use crate::retrain::Retraining;
use crate::runtime::{Backend, ModelSource, feeds};
use crate::verify::misclassified;

use super::candidates::Candidates;
use super::{
    Calibration, Decisions, Importance, Outcome, Prepared, SiteNames, batch_in_parts, zipped,
};

/// Merges at most between as much sharing as possible and none.
const STEPS: usize = 6;

/// Samples per task on which a trial measures what each layer costs.
pub(super) const PROBE: usize = 256;

/// Merges at most in which layers are chosen again by what they cost.
const REFINEMENTS: usize = 3;

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
    let search = Search::new(prepared, calibration, options, retraining, tests, progress)?;
    match goal {
        Goal::Size(size) => search.for_size(size),
        Goal::Part(part) => search.for_part(part),
        Goal::Knee => search.for_knee(),
        Goal::Drop(drop) => search.for_drop(drop),
    }
}

/// What is shared in one merge.
#[derive(Clone)]
pub(super) struct Choice {
    /// Places of sites whose layers keep their weights.
    pub(super) own: BTreeSet<usize>,
    /// How many neurons layers share, beside what the options say.
    pub(super) shares: Vec<(String, Share)>,
    /// Whether neurons are the unit.
    pub(super) neurons: bool,
    /// Ranks of corrections.
    pub(super) ranks: Ranks,
    /// Samples on which it is measured what each layer costs.
    pub(super) probe: usize,
}

/// A merge with all that can be shared, and what each layer costs there.
pub(super) struct Full {
    pub(super) joint: JointModel,
    pub(super) outcome: Outcome,
    pub(super) costs: Vec<LayerCost>,
}

pub(super) struct Search<'a> {
    pub(super) prepared: &'a Prepared,
    /// A merge with all that can be shared.
    plan: Prediction,
    pub(super) calibration: &'a Calibration,
    importance: Importance,
    pub(super) options: &'a MergeOptions,
    pub(super) retraining: Option<&'a Retraining<'a>>,
    pub(super) tests: &'a [Dataset],
    pub(super) progress: &'a dyn Progress,
}

impl<'a> Search<'a> {
    /// Finds out what all merges of a search have in common.
    ///
    /// # Errors
    /// As [`super::merge`].
    pub(super) fn new(
        prepared: &'a Prepared,
        calibration: &'a Calibration,
        options: &'a MergeOptions,
        retraining: Option<&'a Retraining<'a>>,
        tests: &'a [Dataset],
        progress: &'a dyn Progress,
    ) -> Result<Search<'a>> {
        let importance = Importance::measure(prepared, calibration, options, progress)?;
        let plan = predict(&prepared.joint, &prepared.alignment, &options.budget, false)?;
        Ok(Search { prepared, plan, calibration, importance, options, retraining, tests, progress })
    }

    /// Merges as `choice` says.
    pub(super) fn merge(&self, choice: &Choice) -> Result<(JointModel, Outcome)> {
        self.zipped(choice, self.retraining)
    }

    pub(super) fn zipped(
        &self,
        choice: &Choice,
        retraining: Option<&Retraining<'_>>,
    ) -> Result<(JointModel, Outcome)> {
        let mut prepared = self.prepared.clone();
        let mut options = MergeOptions { probe: choice.probe, ..self.options.clone() };
        let Choice { own, shares, ranks, .. } = choice.clone();
        let decisions = Decisions { own, shares, ranks };
        prepared.decide(&decisions, &mut options)?;
        let importance = &self.importance;
        let (joint, mut outcome) =
            zipped(prepared, self.calibration, importance, &options, retraining, self.progress)?;
        outcome.decisions = decisions;
        Ok((joint, outcome))
    }

    /// A merge with all that can be shared.
    pub(super) fn full(&self, retraining: Option<&Retraining<'_>>) -> Result<Full> {
        let probe = if self.options.unit == Unit::Neuron { 0 } else { PROBE };
        let (joint, outcome) = self.zipped(&Choice { probe, ..self.everything() }, retraining)?;
        let costs = self.costs(&outcome);
        Ok(Full { joint, outcome, costs })
    }

    /// What each layer costs, as a merge has found out.
    pub(super) fn costs(&self, outcome: &Outcome) -> Vec<LayerCost> {
        let Prepared { joint, alignment, .. } = self.prepared;
        layer_choice::layer_costs(joint, alignment, &self.plan, &outcome.sites)
    }

    pub(super) fn everything(&self) -> Choice {
        let (own, ranks) = (BTreeSet::new(), Ranks::new());
        Choice { own, shares: Vec::new(), neurons: false, ranks, probe: 0 }
    }

    /// Nothing that could be shared.
    fn nothing(&self) -> Choice {
        let none = |site: SiteNames| (site.first().to_owned(), Share::Count(0));
        let shares = self.prepared.sites().into_iter().map(none).collect();
        Choice { shares, ..self.everything() }
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
            return Err(Error::new(ErrorKind::Usage, message)
                .hint(Hint::from("give a larger ").option("target-size")));
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
        let spare = parameters.saturating_sub(full.outcome.sizes.joint());
        let mut found = Candidates::new(self)?;
        let neurons = match self.options.unit {
            Unit::Layer => None,
            Unit::Neuron | Unit::Mixed => self.by_neurons(&full, parameters),
        };
        let own = layer_choice::for_size(&full.costs, spare);
        found.add(self.everything(), full.joint, full.outcome)?;
        if let Some(choice) = neurons {
            let (joint, outcome) = self.zipped(&choice, None)?;
            found.add(choice, joint, outcome)?;
        }
        if self.options.unit != Unit::Neuron {
            let first = Choice { own, ..self.everything() };
            self.refine(first, &mut found, |costs| layer_choice::for_size(costs, spare))?;
            self.correct(&full.costs, &mut found, spare)?;
        }
        found.best(|outcome| outcome.sizes.joint() <= parameters)
    }

    /// Leaves layers to the tasks as long as a small part of the saving buys a large part of the loss.
    fn for_knee(&self) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let full = self.full(None)?;
        let first = Choice { own: layer_choice::at_knee(&full.costs), ..self.everything() };
        let spare = layer_choice::given_up(&full.costs, &first.own);
        let largest = full.outcome.sizes.joint() + spare;
        let mut found = Candidates::new(self)?;
        found.add(self.everything(), full.joint, full.outcome)?;
        // What a layer costs depends on those before it. The size of the knee is kept.
        self.refine(first, &mut found, |costs| layer_choice::for_size(costs, spare))?;
        self.correct(&full.costs, &mut found, spare)?;
        found.best(|outcome| outcome.sizes.joint() <= largest)
    }

    /// Merges with the layers of `first` left to the tasks, finds out what layers cost then, and chooses
    /// again, until the choice is one that was tried.
    fn refine(
        &self,
        first: Choice,
        found: &mut Candidates<'_>,
        choose: impl Fn(&[LayerCost]) -> BTreeSet<usize>,
    ) -> Result<()> {
        let mut choice = first;
        for _ in 0..REFINEMENTS {
            if found.has(&choice) {
                break;
            }
            let (joint, outcome) = self.zipped(&Choice { probe: PROBE, ..choice.clone() }, None)?;
            let next = Choice { own: choose(&self.costs(&outcome)), ..choice.clone() };
            found.add(std::mem::replace(&mut choice, next), joint, outcome)?;
        }
        Ok(())
    }

    fn for_drop(&self, limit: f64) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let nets = self.prepared.joint.tasks();
        let before = self.errors(&nets.iter().map(|t| t.model()).collect::<Vec<_>>())?;
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
            let choices = self.choices(&full, (size * separate) as u64);
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
                let (joint, outcome) = self.merge(&self.nothing())?;
                trials.push(self.trial(&joint, &outcome, &before)?);
                (trials.len() - 1, joint, outcome)
            }
        };
        trials[kept].kept = true;
        Ok((joint, outcome, trials))
    }

    /// What to share for so many parameters, by the units that are allowed.
    pub(super) fn choices(&self, full: &Full, parameters: u64) -> Vec<Choice> {
        let mut choices = Vec::new();
        if self.options.unit != Unit::Neuron {
            let spare = parameters.saturating_sub(full.outcome.sizes.joint());
            let own = layer_choice::for_size(&full.costs, spare);
            choices.push(Choice { own, ..self.everything() });
        }
        if self.options.unit != Unit::Layer {
            choices.extend(self.by_neurons(full, parameters));
        }
        choices
    }

    /// How many neurons of each group to share. The weights of groups of which none is shared are left
    /// to the tasks, and their channels stay paired for the layers behind them.
    fn by_neurons(&self, full: &Full, parameters: u64) -> Option<Choice> {
        let Full { joint, outcome, .. } = full;
        let separate = outcome.sizes.separate();
        let multiple = self.options.budget.multiple();
        let numbers = (separate, outcome.sizes.joint().min(separate), parameters);
        let alignment = &self.prepared.alignment;
        let allocation = allocate(joint, alignment, &outcome.sites, numbers, multiple)?;
        let (mut own, mut shares) = (BTreeSet::new(), Vec::new());
        for (layer, count) in allocation {
            match count {
                0 => own.extend(self.prepared.producers_beside(&layer)),
                count => shares.push((layer, Share::Count(count))),
            }
        }
        Some(Choice { own, shares, neurons: true, ranks: Ranks::new(), probe: 0 })
    }

    fn trial(&self, joint: &JointModel, outcome: &Outcome, before: &[f64]) -> Result<Trial> {
        let nets: Vec<&Model> = joint.tasks().iter().map(|t| t.model()).collect();
        let drops = self.errors(&nets)?.iter().zip(before).map(|(after, b)| after - b).collect();
        Ok(Trial { size: ratio(outcome), drops, deviation: None, kept: false })
    }

    fn errors(&self, nets: &[&Model]) -> Result<Vec<f64>> {
        self.progress.begin("measure errors", nets.len() as u64);
        let one = |(net, data): (&&Model, &Dataset)| {
            self.progress.check()?;
            self.progress.step();
            let Calibration { batch, memory, .. } = self.calibration;
            let batch = batch_in_parts(net, *batch, *memory);
            error_rate(net, data, self.calibration.backend.as_ref(), batch).in_model(&net.name)
        };
        nets.iter().zip(self.tests).map(one).collect()
    }
}

fn within(trial: &Trial, limit: f64) -> bool {
    trial.drops.iter().all(|drop| *drop <= limit + 1e-9)
}

pub(super) fn ratio(outcome: &Outcome) -> f64 {
    outcome.sizes.joint() as f64 / outcome.sizes.separate().max(1) as f64
}

/// The part of samples whose largest output is not at their label.
fn error_rate(net: &Model, data: &Dataset, backend: &dyn Backend, batch: usize) -> Result<f64> {
    let mut session = backend.load(ModelSource::Graph(net))?;
    let mut wrong = 0;
    for range in data.batches(batch) {
        let labels = data.labels(range.clone()).ok_or_else(|| {
            Error::new(ErrorKind::Calibration, "there are no labels to measure errors with")
                .hint(Hint::from("give labelled samples: ").option("data"))
        })?;
        let outputs = session.run(&feeds(&data.batch(range)?))?;
        let first = outputs.first().map(|o| o.as_f32()).transpose()?;
        let scores = first.filter(|s| s.ndim() > 1 && s.shape()[0] == labels.len());
        let scores = scores.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "its first output does not tell classes").hint(
                Hint::from("merge it with ")
                    .option("share")
                    .then(" in place of ")
                    .option("max-drop"),
            )
        })?;
        wrong += misclassified(&scores, &labels);
    }
    Ok(wrong as f64 / data.len().max(1) as f64)
}
