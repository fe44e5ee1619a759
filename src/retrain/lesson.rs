//! The samples and teachers of a retraining.

use std::path::Path;

use crate::calib::data::Dataset;
use crate::ir::Model;
use crate::runtime::Backend;

/// Samples, original nets and runtime of a retraining.
#[derive(Clone, Copy)]
pub struct Lesson<'a> {
    /// Samples of each task, or one set for all tasks.
    pub data: &'a [Dataset],
    /// The original net of each task; may be empty if the targets are labels.
    pub teachers: &'a [Model],
    /// Runs everything.
    pub backend: &'a dyn Backend,
    /// The checkpoint, which is written at every validation.
    pub checkpoint: Option<&'a Path>,
    /// Whether training resumes from that file.
    pub resume: bool,
}

impl<'a> Lesson<'a> {
    /// The samples of a task.
    pub(super) fn of_task(&self, task: usize) -> &'a Dataset {
        self.data.get(task).unwrap_or(&self.data[0])
    }
}
