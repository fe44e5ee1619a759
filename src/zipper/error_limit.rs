//! Merges with a limit of the measured error.

use crate::calib::data::Dataset;
use crate::calib::stream::Source;
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::ir::Model;
use crate::mtz::joint::JointModel;
use crate::mtz::matching::Share;
use crate::report::Trial;
use crate::verify::{answers, differing};

use super::bisection::Bisection;
use super::search::{Choice, Search, ratio};
use super::{Outcome, SiteNames};

impl Search<'_> {
    /// Bisects sizes for the smallest joint model within the limit.
    pub(super) fn for_drop(&self, limit: f64) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let nets = self.prepared.joint.tasks();
        let before = self.errors(&nets.iter().map(|t| t.model()).collect::<Vec<_>>())?;
        let (joint, full) = self.full(self.job.retraining)?;
        let mut trials = vec![self.trial(&joint, &full.outcome, &before)?];
        if within(&trials[0], limit) {
            trials[0].kept = true;
            return Ok((joint, full.outcome, trials));
        }
        // Only the current merge and the best one stay in memory.
        drop(joint);
        let separate = full.outcome.sizes.separate() as f64;
        let choices = |size: f64| self.choices(&full, (size * separate) as u64);
        let mut best: Option<(usize, JointModel, Outcome)> = None;
        Bisection::above(self.everything(), ratio(&full.outcome)).run(choices, |choice| {
            let (joint, outcome) = self.merge(choice)?;
            let trial = self.trial(&joint, &outcome, &before)?;
            let reached = within(&trial, limit).then_some(trial.size);
            let smallest = best.as_ref().map_or(f64::INFINITY, |(at, ..)| trials[*at].size);
            if reached.is_some_and(|size| size < smallest) {
                best = Some((trials.len(), joint, outcome));
            }
            trials.push(trial);
            Ok(reached)
        })?;
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

    /// Shares nothing.
    fn nothing(&self) -> Choice {
        let none = |site: SiteNames| (site.first().to_owned(), Share::Count(0));
        let shares = self.prepared.sites().into_iter().map(none).collect();
        Choice { shares, ..self.everything() }
    }

    fn trial(&self, joint: &JointModel, outcome: &Outcome, before: &[f64]) -> Result<Trial> {
        let nets: Vec<&Model> = joint.tasks().iter().map(|t| t.model()).collect();
        let drops = self.errors(&nets)?.iter().zip(before).map(|(after, b)| after - b).collect();
        Ok(Trial { size: ratio(outcome), drops, deviation: None, kept: false })
    }

    fn errors(&self, nets: &[&Model]) -> Result<Vec<f64>> {
        self.job.progress.begin("measure errors", nets.len() as u64);
        let one = |(net, data): (&&Model, &Dataset)| {
            self.job.progress.check()?;
            self.job.progress.step();
            error_rate(net, &self.job.calibration.source(net, data)).in_model(&net.name)
        };
        nets.iter().zip(self.tests).map(one).collect()
    }
}

fn within(trial: &Trial, limit: f64) -> bool {
    trial.drops.iter().all(|drop| *drop <= limit + 1e-9)
}

/// The part of samples whose answer is not their label.
fn error_rate(net: &Model, source: &Source<'_>) -> Result<f64> {
    let labels = source.data.labels(0..source.data.len()).ok_or_else(|| {
        Error::new(ErrorKind::Calibration, "there are no labels to measure errors with")
            .hint(Hint::from("give labelled samples: ").option("data"))
    })?;
    let answers = answers(net, source)?.ok_or_else(|| {
        let hint = Hint::from("merge it with ").option("share").then(" in place of ");
        Error::new(ErrorKind::Unsupported, "its first output has no scores of classes")
            .hint(hint.option("max-drop"))
    })?;
    Ok(differing(&answers, &labels))
}
