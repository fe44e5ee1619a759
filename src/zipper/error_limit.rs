//! Merges with a limit of the measured error.

use crate::calib::data::Dataset;
use crate::calib::stream::Source;
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::ir::Model;
use crate::mtz::joint::JointModel;
use crate::mtz::matching::Share;
use crate::mtz::plan::Trial;

use super::measure::{answers, differing};
use super::search::{Choice, Search, ratio};
use super::{Calibration, Outcome, SiteNames, batch_in_parts};

/// Limit of merges between full sharing and none.
const STEPS: usize = 6;

impl Search<'_> {
    /// Bisects sizes for the smallest joint model within the limit.
    pub(super) fn for_drop(&self, limit: f64) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let nets = self.prepared.joint.tasks();
        let before = self.errors(&nets.iter().map(|t| t.model()).collect::<Vec<_>>())?;
        let full = self.full(self.job.retraining)?;
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
            // Two sizes may lead to the same set of layers.
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
            let Calibration { batch, memory, .. } = self.job.calibration;
            let batch = batch_in_parts(net, *batch, *memory);
            let backend = self.job.calibration.backend.as_ref();
            error_rate(net, &Source { backend, data, batch, memory: *memory }).in_model(&net.name)
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
