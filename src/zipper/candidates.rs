//! Merges that were tried for a goal; the best one is kept.

use crate::calib::data::Dataset;
use crate::calib::stream::Source;
use crate::error::Result;
use crate::mtz::joint::{JointModel, Task};
use crate::mtz::plan::Trial;
use crate::mtz::statistics::Probe;

use super::search::{Choice, Search, ratio};
use super::{Calibration, Outcome, batch_in_parts};

/// Samples per task for comparing merges.
const JUDGED: usize = 1024;

/// The merges tried so far.
pub(super) struct Candidates<'a> {
    search: &'a Search<'a>,
    probes: Vec<Probe<'a>>,
    all: Vec<(Choice, JointModel, Outcome, f64)>,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(search: &'a Search<'a>) -> Result<Self> {
        let Calibration { backend, data, batch, memory, .. } = search.job.calibration;
        let measured = if search.job.calibration.predicts { &[][..] } else { data };
        let probe = |(task, data): (&'a Task, &'a Dataset)| {
            let batch = batch_in_parts(task.model(), *batch, *memory);
            let source = Source { backend: backend.as_ref(), data, batch, memory: *memory };
            Probe::new(task.model(), &source, JUDGED, search.job.options.seed)
        };
        let tasks = search.prepared.joint.tasks().iter().zip(measured);
        let probes = tasks.map(probe).collect::<Result<_>>()?;
        Ok(Candidates { search, probes, all: Vec::new() })
    }

    /// Adds a merge, and measures its deviation from the original nets, or adds up the losses of its
    /// layers where these are predicted.
    pub(super) fn add(
        &mut self,
        choice: Choice,
        joint: JointModel,
        outcome: Outcome,
    ) -> Result<()> {
        let alpha = self.search.job.options.task_weights(joint.tasks().len());
        let mut deviation = match self.probes.is_empty() {
            true => predicted(&outcome),
            false => 0.0,
        };
        for ((task, probe), alpha) in joint.tasks().iter().zip(&self.probes).zip(alpha) {
            deviation += alpha * probe.deviation(task.model())?;
        }
        self.all.push((choice, joint, outcome, deviation));
        Ok(())
    }

    pub(super) fn has(&self, choice: &Choice) -> bool {
        self.all.iter().any(|(other, ..)| other.merges_as(choice))
    }

    /// The best merge that fits, retrained if the job retrains, and the list of all tried merges.
    pub(super) fn best(
        self,
        fits: impl Fn(&Outcome) -> bool,
    ) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let numbered = self.all.iter().enumerate();
        let fitting = numbered.filter(|(_, (_, _, outcome, _))| fits(outcome));
        let best = fitting.min_by(|a, b| a.1.3.total_cmp(&b.1.3)).map_or(0, |(at, _)| at);
        let trial = |(at, (_, _, outcome, deviation)): (usize, &(_, _, Outcome, f64))| Trial {
            size: ratio(outcome),
            drops: Vec::new(),
            deviation: (!self.probes.is_empty()).then_some(*deviation),
            kept: at == best,
        };
        let trials: Vec<Trial> = self.all.iter().enumerate().map(trial).collect();
        let (search, mut all) = (self.search, self.all);
        let (choice, joint, outcome, _) = all.swap_remove(best);
        if search.job.retraining.is_none() {
            return Ok((joint, outcome, trials));
        }
        let (joint, outcome) = search.merge(&choice)?;
        Ok((joint, outcome, trials))
    }
}

/// The predicted loss of a merge.
fn predicted(outcome: &Outcome) -> f64 {
    let shared = outcome.sites.iter().filter(|site| !site.keeps_weights());
    shared.map(|site| site.loss).sum()
}
