//! Merges that were tried for a goal; the best one is kept.
//!
//! Of all others only the choice and two numbers stay, since a joint model is as large as all nets.

use crate::calib::data::Dataset;
use crate::error::Result;
use crate::mtz::joint::{JointModel, Task};
use crate::mtz::statistics::Probe;
use crate::report::Trial;

use super::Outcome;
use super::search::{Choice, Search, ratio};

/// Samples per task for comparing merges.
const JUDGED: usize = 1024;

/// The merges tried so far.
pub(super) struct Candidates<'a> {
    search: &'a Search<'a>,
    probes: Vec<Probe<'a>>,
    /// Parameters at most.
    parameters: u64,
    all: Vec<(Choice, Tried)>,
    /// The place of the best one.
    best: usize,
    /// The best one, unless it is merged anew for retraining.
    merged: Option<(JointModel, Outcome)>,
}

/// The size and the loss of a merge.
#[derive(Clone, Copy)]
struct Tried {
    size: f64,
    fits: bool,
    deviation: f64,
}

impl Tried {
    /// Whether it takes the place of the best merge before it.
    fn beats(&self, other: &Tried) -> bool {
        self.fits && (!other.fits || self.deviation.total_cmp(&other.deviation).is_lt())
    }
}

impl<'a> Candidates<'a> {
    /// None yet. Merges of more `parameters` do not fit.
    pub(super) fn new(search: &'a Search<'a>, parameters: u64) -> Result<Self> {
        let calibration = search.job.calibration;
        let measured = if calibration.predicts { &[][..] } else { &calibration.data };
        let probe = |(task, data): (&'a Task, &'a Dataset)| {
            let source = calibration.source(task.model(), data);
            Probe::new(task.model(), &source, JUDGED, search.job.options.seed)
        };
        let tasks = search.prepared.joint.tasks().iter().zip(measured);
        let probes = tasks.map(probe).collect::<Result<_>>()?;
        Ok(Candidates { search, probes, parameters, all: Vec::new(), best: 0, merged: None })
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
        let fits = outcome.sizes.joint() <= self.parameters;
        let tried = Tried { size: ratio(&outcome), fits, deviation };
        if self.all.get(self.best).is_none_or(|(_, best)| tried.beats(best)) {
            self.best = self.all.len();
            self.merged = self.search.job.retraining.is_none().then_some((joint, outcome));
        }
        self.all.push((choice, tried));
        Ok(())
    }

    pub(super) fn has(&self, choice: &Choice) -> bool {
        self.all.iter().any(|(other, _)| other.merges_as(choice))
    }

    /// The best merge that fits, retrained if the job retrains, and the list of all tried merges. If none
    /// fits, the first one counts as the best.
    ///
    /// # Errors
    /// As [`super::merge`].
    pub(super) fn best(self) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let trial = |(at, (_, tried)): (usize, &(Choice, Tried))| Trial {
            size: tried.size,
            drops: Vec::new(),
            deviation: (!self.probes.is_empty()).then_some(tried.deviation),
            kept: at == self.best,
        };
        let trials: Vec<Trial> = self.all.iter().enumerate().map(trial).collect();
        let kept = self.all.get(self.best).map(|(choice, _)| choice.clone());
        let (joint, outcome) = match self.merged {
            Some(merged) => merged,
            None => self.search.merge(&kept.unwrap_or_else(|| self.search.everything()))?,
        };
        Ok((joint, outcome, trials))
    }
}

/// The predicted loss of a merge.
fn predicted(outcome: &Outcome) -> f64 {
    let shared = outcome.sites.iter().filter(|site| !site.keeps_weights());
    shared.map(|site| site.loss).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place of the best of some merges, each with whether it fits and its deviation.
    fn best(merges: &[(bool, f64)]) -> usize {
        let tried = |(fits, deviation): (bool, f64)| Tried { size: 0.5, fits, deviation };
        let better = |best, at| match tried(merges[at]).beats(&tried(merges[best])) {
            true => at,
            false => best,
        };
        (1..merges.len()).fold(0, better)
    }

    #[test]
    fn the_first_merge_of_least_deviation_that_fits_is_kept() {
        assert_eq!(best(&[(true, 0.5), (true, 0.2), (false, 0.1), (true, 0.2), (true, 0.3)]), 1);
        assert_eq!(best(&[(false, 0.1), (false, 0.0), (true, 0.9), (true, f64::NAN)]), 2);
        assert_eq!(best(&[(false, 0.1), (false, 0.0)]), 0);
    }
}
