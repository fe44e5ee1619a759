//! Models with a common backbone.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::naming::{counted, sentence};

/// A model with the backbone of an earlier model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LineageRecord {
    /// Name of the task.
    pub task: String,
    /// Name of the task with the same backbone.
    pub parent: String,
    /// Mean distance of the backbone's weights, relative to the same weights in any other order: 0 for equal
    /// weights, about 1 for unrelated ones.
    pub distance: f64,
    /// Layers of the backbone.
    pub layers: usize,
    /// Groups of channels that correspond by index.
    pub groups: usize,
}

impl LineageRecord {
    /// The record as a sentence without its full stop.
    pub fn sentence(&self) -> String {
        let text = format!(
            "{} is a fine-tune of {}'s backbone: {}, mean relative distance {:.3}, channels correspond by index",
            self.task,
            self.parent,
            counted(self.layers, "layer"),
            self.distance
        );
        sentence(&text).into_owned()
    }
}

/// The records as lines.
pub(super) fn lineages(records: &[LineageRecord]) -> String {
    let mut out = String::new();
    for record in records {
        let _ = writeln!(out, "{}", record.sentence());
    }
    out
}
