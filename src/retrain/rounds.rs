//! Retraining as part of a merge: once at the end, or after each merged layer (Algorithm 1, line 10).

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::mtz::joint::JointModel;
use crate::progress::Progress;

use super::lesson::Lesson;
use super::options::RetrainOptions;
use super::outcome::Outcome;
use super::run::retrain;

/// When a merge retrains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Once, when all layers are merged.
    #[default]
    End,
    /// After each layer that is merged, before the next one (Algorithm 1).
    PerLayer,
}

impl When {
    /// All moments with their names and descriptions.
    pub const ALL: [(When, &'static str, &'static str); 2] = [
        (When::PerLayer, "per-layer", "after each merged layer; all steps are split evenly"),
        (When::End, "end", "once, when all layers are merged"),
    ];
}

/// The retraining of a merge: lesson, moment and options.
#[derive(Clone)]
pub struct Retraining<'a> {
    /// When to retrain.
    pub when: When,
    /// The lesson.
    pub lesson: Lesson<'a>,
    /// Options; `iterations` counts the steps of all rounds.
    pub options: RetrainOptions,
    /// Steps that each original net was trained for, if known.
    pub original_iterations: Option<u64>,
}

/// Results of retraining during a merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retrained {
    /// When the merge retrained.
    pub when: When,
    /// One entry per round; the last one is that of the whole joint model.
    pub rounds: Vec<Outcome>,
    /// Steps that each original net was trained for, if known.
    pub original_iterations: Option<u64>,
}

impl Retrained {
    /// Steps of all rounds.
    pub fn iterations(&self) -> usize {
        self.rounds.iter().map(|round| round.iterations).sum()
    }

    /// Seconds of all rounds.
    pub fn seconds(&self) -> f64 {
        self.rounds.iter().map(|round| round.seconds).sum()
    }

    /// Steps of one original net's training relative to those of retraining, if known.
    pub fn ratio(&self) -> Option<f64> {
        let taken = self.iterations().max(1) as f64;
        self.original_iterations.map(|original| original as f64 / taken)
    }
}

/// Retraining of a joint model while it is being merged.
pub struct Rounds<'a> {
    plan: &'a Retraining<'a>,
    /// Steps per round; the last round takes the remainder.
    share: usize,
    done: Vec<Outcome>,
    progress: &'a dyn Progress,
}

impl<'a> Rounds<'a> {
    /// Prepares for a merge of `layers` layers.
    pub fn new(plan: &'a Retraining<'a>, layers: usize, progress: &'a dyn Progress) -> Self {
        let share = match plan.when {
            When::End => 0,
            When::PerLayer => plan.options.iterations / layers.max(1),
        };
        Rounds { plan, share, done: Vec::new(), progress }
    }

    /// Retrains between two layers; returns whether weights may have changed.
    ///
    /// # Errors
    /// As [`retrain`].
    pub fn between(&mut self, joint: &mut JointModel) -> Result<bool> {
        let iterations = self.share.min(self.left());
        if iterations == 0 {
            return Ok(false);
        }
        self.round(joint, iterations).map(|()| true)
    }

    /// Retrains the whole joint model with the steps that are left.
    ///
    /// # Errors
    /// As [`retrain`].
    pub fn finish(mut self, joint: &mut JointModel) -> Result<Retrained> {
        self.round(joint, self.left())?;
        let Retraining { when, original_iterations, .. } = *self.plan;
        Ok(Retrained { when, rounds: self.done, original_iterations })
    }

    fn left(&self) -> usize {
        let planned = self.done.len() * self.share;
        self.plan.options.iterations.saturating_sub(planned)
    }

    fn round(&mut self, joint: &mut JointModel, iterations: usize) -> Result<()> {
        // Each round sees the samples in another order.
        let seed = self.plan.options.seed.wrapping_add(self.done.len() as u64);
        let options = RetrainOptions { iterations, seed, ..self.plan.options.clone() };
        self.done.push(retrain(joint, &self.plan.lesson, &options, self.progress)?);
        Ok(())
    }
}
