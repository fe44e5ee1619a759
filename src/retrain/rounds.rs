//! Retraining as part of a merge: once at the end, or after each merged layer (Algorithm 1, line 10).

use serde::{Deserialize, Serialize};

use crate::calib::data::Dataset;
use crate::error::Result;
use crate::mtz::joint::JointModel;
use crate::progress::Progress;

use super::exam::{ErrorChange, Exam};
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
    /// Labelled samples of each task that the lesson does not hold, for measuring errors around every round;
    /// may be empty.
    pub tests: &'a [Dataset],
    /// Options; `iterations` counts the steps of all rounds.
    pub options: RetrainOptions,
    /// Steps that each original net was trained for, if known.
    pub original_iterations: Option<u64>,
}

/// One round of retraining.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Round {
    /// Names of the layers that were merged last before it, one per model.
    #[serde(default)]
    pub layers: Vec<String>,
    /// Errors of each task on labelled samples that neither the merge nor its retraining draws; empty without
    /// such samples.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorChange>,
    /// Its results.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Results of retraining during a merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retrained {
    /// When the merge retrained.
    pub when: When,
    /// Errors of the original nets on the samples of [`Round::errors`]; empty without such samples.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub originals: Vec<f64>,
    /// One entry per round; the last one is that of the whole joint model.
    pub rounds: Vec<Round>,
    /// Steps that each original net was trained for, if known.
    pub original_iterations: Option<u64>,
}

impl Retrained {
    /// Steps of all rounds.
    pub fn iterations(&self) -> usize {
        self.rounds.iter().map(|round| round.outcome.iterations).sum()
    }

    /// Seconds of all rounds.
    pub fn seconds(&self) -> f64 {
        self.rounds.iter().map(|round| round.outcome.seconds).sum()
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
    originals: Vec<f64>,
    done: Vec<Round>,
    progress: &'a dyn Progress,
}

impl<'a> Rounds<'a> {
    /// Prepares for a merge of `layers` layers of the original nets in `joint`, and measures their errors.
    ///
    /// # Errors
    /// Those of running the nets.
    pub fn new(
        plan: &'a Retraining<'a>,
        joint: &JointModel,
        layers: usize,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let share = match plan.when {
            When::End => 0,
            When::PerLayer => plan.options.iterations / layers.max(1),
        };
        let mut rounds = Rounds { plan, share, originals: Vec::new(), done: Vec::new(), progress };
        rounds.originals = rounds.errors(joint)?;
        Ok(rounds)
    }

    /// Retrains behind the layers called `merged`, before the next ones are merged; returns whether weights may
    /// have changed.
    ///
    /// # Errors
    /// As [`retrain`].
    pub fn between(&mut self, joint: &mut JointModel, merged: &[String]) -> Result<bool> {
        let iterations = self.share.min(self.left());
        if iterations == 0 {
            return Ok(false);
        }
        self.round(joint, merged, iterations).map(|()| true)
    }

    /// Retrains the whole joint model with the steps that are left, behind the last layers, called `merged`.
    ///
    /// # Errors
    /// As [`retrain`].
    pub fn finish(mut self, joint: &mut JointModel, merged: &[String]) -> Result<Retrained> {
        self.round(joint, merged, self.left())?;
        let Retraining { when, original_iterations, .. } = *self.plan;
        let Rounds { originals, done: rounds, .. } = self;
        Ok(Retrained { when, originals, rounds, original_iterations })
    }

    fn left(&self) -> usize {
        let planned = self.done.len() * self.share;
        self.plan.options.iterations.saturating_sub(planned)
    }

    fn round(
        &mut self,
        joint: &mut JointModel,
        merged: &[String],
        iterations: usize,
    ) -> Result<()> {
        let round = self.done.len() as u64;
        let options = RetrainOptions { iterations, round, ..self.plan.options.clone() };
        let before = self.errors(joint)?;
        let outcome = retrain(joint, &self.plan.lesson, &options, self.progress)?;
        let after = self.errors(joint)?;
        let changes = before.into_iter().zip(after);
        let errors = changes.map(|(before, after)| ErrorChange { before, after }).collect();
        self.done.push(Round { layers: merged.to_vec(), errors, outcome });
        Ok(())
    }

    fn errors(&self, joint: &JointModel) -> Result<Vec<f64>> {
        let Retraining { tests, lesson, options, .. } = self.plan;
        Exam { tests, lesson, options, progress: self.progress }.errors(joint)
    }
}
