//! Errors of the tasks on labelled samples that neither a merge nor its retraining draws.

use serde::{Deserialize, Serialize};

use crate::calib::data::Dataset;
use crate::calib::stream::Source;
use crate::error::{Context, Result};
use crate::mtz::joint::JointModel;
use crate::progress::Progress;
use crate::verify::{answers, differing};

use super::lesson::Lesson;
use super::options::RetrainOptions;

/// The part of one task's samples that are misclassified, before and after a round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ErrorChange {
    /// Before.
    pub before: f64,
    /// After.
    pub after: f64,
}

/// Labelled samples of every task, and what runs its net on them.
pub(super) struct Exam<'a> {
    pub(super) tests: &'a [Dataset],
    pub(super) lesson: &'a Lesson<'a>,
    pub(super) options: &'a RetrainOptions,
    pub(super) progress: &'a dyn Progress,
}

impl Exam<'_> {
    /// The part of misclassified samples of each task; none unless all tasks have labels, and classes as
    /// answers.
    ///
    /// # Errors
    /// As [`answers`].
    pub(super) fn errors(&self, joint: &JointModel) -> Result<Vec<f64>> {
        if self.tests.is_empty() {
            return Ok(Vec::new());
        }
        self.progress.begin("measure errors", self.tests.len() as u64);
        let mut errors = Vec::new();
        for (task, data) in joint.tasks().iter().zip(self.tests) {
            self.progress.check()?;
            let source = Source {
                backend: self.lesson.backend,
                data,
                batch: self.options.batch,
                memory: self.options.memory,
            };
            let Some(labels) = data.labels(0..data.len()) else { return Ok(Vec::new()) };
            let Some(found) = answers(task.model(), &source).in_model(task.name())? else {
                return Ok(Vec::new());
            };
            errors.push(differing(&found, &labels));
            self.progress.step();
        }
        Ok(errors)
    }
}
