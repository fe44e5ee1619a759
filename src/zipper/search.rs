//! The common part of a search's merges, and the choices in which they differ.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Instant;

use crate::calib::data::Dataset;
use crate::error::Result;
use crate::mtz::joint::JointModel;
use crate::mtz::matching::Share;
use crate::mtz::options::{MergeOptions, Ranks, Unit};
use crate::mtz::plan::layer_choice::{self, LayerCost};
use crate::mtz::plan::{PairCosts, Prediction, predict};
use crate::mtz::statistics::Originals;
use crate::progress::PartProgress;
use crate::retrain::Retraining;

use super::{Decisions, Importance, Job, Outcome, Prepared, zipped};

/// Samples per task for measuring the cost of each layer.
const PROBE: usize = 64;

/// The choice of shared layers and neurons for one merge.
#[derive(Clone)]
pub(super) struct Choice {
    /// Places of sites whose layers keep their weights.
    pub(super) own: BTreeSet<usize>,
    /// Shares of layers, in addition to the options.
    pub(super) shares: Vec<(String, Share)>,
    /// Ranks of corrections.
    pub(super) ranks: Ranks,
    /// Samples for measuring the cost of each layer; 0 measures nothing.
    pub(super) probe: usize,
}

impl Choice {
    /// Whether both lead to the same joint model.
    pub(super) fn merges_as(&self, other: &Choice) -> bool {
        self.own == other.own && self.shares == other.shares && self.ranks == other.ranks
    }
}

/// What a merge with full sharing tells.
pub(super) struct Full {
    pub(super) outcome: Outcome,
    /// The cost of each layer.
    pub(super) costs: Vec<LayerCost>,
    /// The costs of all pairs, where some neurons may be shared.
    pairs: Option<PairCosts>,
}

/// A search: merges of the same nets with different choices.
pub(super) struct Search<'a> {
    pub(super) prepared: &'a Prepared,
    /// The plan of a merge with all that can be shared.
    plan: Prediction,
    importance: Importance,
    pub(super) tests: &'a [Dataset],
    pub(super) job: Job<'a>,
    start: Instant,
    /// Merges so far, and the seconds that they took.
    merges: Cell<(usize, f64)>,
}

impl<'a> Search<'a> {
    /// Prepares a search: checks that the nets have something in common, measures sensitivities and plans full
    /// sharing, for all its merges.
    ///
    /// # Errors
    /// As [`super::merge`].
    pub(super) fn new(
        prepared: &'a Prepared,
        tests: &'a [Dataset],
        job: &Job<'a>,
    ) -> Result<Search<'a>> {
        let start = Instant::now();
        prepared.check_common(&job.options.budget)?;
        let originals = Some(Originals::default());
        let importance = Importance { originals, ..Importance::measure(prepared, job)? };
        let plan = predict(&prepared.joint, &prepared.alignment, &job.options.budget, false)?;
        let merges = Cell::new((0, 0.0));
        Ok(Search { prepared, plan, importance, tests, job: *job, start, merges })
    }

    /// Merges by `choice`, and retrains if the job retrains.
    pub(super) fn merge(&self, choice: &Choice) -> Result<(JointModel, Outcome)> {
        self.zipped(choice, self.job.retraining)
    }

    /// Merges by `choice`.
    pub(super) fn zipped(
        &self,
        choice: &Choice,
        retraining: Option<&Retraining<'_>>,
    ) -> Result<(JointModel, Outcome)> {
        // Decisions about layers know neither what tables save nor what they cost.
        let options =
            MergeOptions { probe: choice.probe, common_tables: false, ..self.job.options.clone() };
        let (number, seconds) = self.merges.get();
        let (number, start) = (number + 1, Instant::now());
        let progress = &PartProgress::merge(self.job.progress, number);
        let job = Job { options: &options, retraining, progress, ..self.job };
        let Choice { own, shares, ranks, .. } = choice.clone();
        let decisions = Some(Decisions { own, shares, ranks });
        let merged = zipped(self.prepared.clone(), decisions, &self.importance, &job);
        self.merges.set((number, seconds + start.elapsed().as_secs_f64()));
        merged
    }

    /// Adds the time of the search to that of the merge it kept: other merges, and measuring them all.
    pub(super) fn add_time(&self, kept: &mut Outcome) {
        let all = self.start.elapsed().as_secs_f64() - self.importance.seconds;
        let (_, merges) = self.merges.get();
        let own = kept.seconds.iter().map(|(_, s)| s).sum::<f64>()
            - self.prepared.seconds()
            - self.importance.seconds;
        kept.seconds.push(("other merges", (merges - own).max(0.0)));
        kept.seconds.push(("measure", (all - merges).max(0.0)));
    }

    /// Samples per task for measuring the cost of each layer; 0 if costs are predicted.
    pub(super) fn probe(&self) -> usize {
        if self.job.calibration.predicts { 0 } else { PROBE }
    }

    /// Merges with full sharing.
    pub(super) fn full(&self, retraining: Option<&Retraining<'_>>) -> Result<(JointModel, Full)> {
        let probe = if self.job.options.unit == Unit::Neuron { 0 } else { self.probe() };
        let (joint, outcome) = self.zipped(&Choice { probe, ..self.everything() }, retraining)?;
        let costs = self.costs(&outcome);
        let pairs = (self.job.options.unit != Unit::Layer)
            .then(|| PairCosts::of(&joint, &self.prepared.alignment, &outcome.sites));
        Ok((joint, Full { outcome, costs, pairs }))
    }

    /// The cost of each layer, as measured by a merge.
    pub(super) fn costs(&self, outcome: &Outcome) -> Vec<LayerCost> {
        let Prepared { joint, alignment, .. } = self.prepared;
        layer_choice::layer_costs(
            joint,
            alignment,
            &self.plan,
            &outcome.sites,
            self.job.options.delta,
        )
    }

    /// Shares all that can be shared.
    pub(super) fn everything(&self) -> Choice {
        let (own, ranks) = (BTreeSet::new(), Ranks::new());
        Choice { own, shares: Vec::new(), ranks, probe: 0 }
    }

    /// Choices that reach a number of parameters; one per allowed unit, layers first.
    pub(super) fn choices(&self, full: &Full, parameters: u64) -> Vec<Choice> {
        let mut choices = Vec::new();
        if self.job.options.unit != Unit::Neuron {
            let spare = parameters.saturating_sub(full.outcome.sizes.joint());
            let own = layer_choice::for_size(&full.costs, spare);
            choices.push(Choice { own, ..self.everything() });
        }
        if self.job.options.unit != Unit::Layer {
            choices.extend(self.by_neurons(full, parameters));
        }
        choices
    }

    /// Chooses the number of shared neurons of each group. A group without shared neurons keeps its
    /// weights, and its channels stay paired for later layers.
    pub(super) fn by_neurons(&self, full: &Full, parameters: u64) -> Option<Choice> {
        let Full { outcome, pairs, .. } = full;
        let separate = outcome.sizes.separate();
        let multiple = self.job.options.budget.multiple();
        let numbers = (separate, outcome.sizes.joint().min(separate), parameters);
        let allocation = pairs.as_ref()?.allocate(numbers, multiple)?;
        let (mut own, mut shares) = (BTreeSet::new(), Vec::new());
        for (layer, count) in allocation {
            match count {
                0 => own.extend(self.prepared.producers_beside(&layer)),
                count => shares.push((layer, Share::Count(count))),
            }
        }
        Some(Choice { own, shares, ranks: Ranks::new(), probe: 0 })
    }
}

/// The parameters of a joint model as a part of those of all originals.
pub(super) fn ratio(outcome: &Outcome) -> f64 {
    outcome.sizes.joint() as f64 / outcome.sizes.separate().max(1) as f64
}
