//! How much memory a merge takes.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::mtz::joint::JointModel;
use crate::mtz::solver::memory::{beside, resident};
use crate::mtz::statistics::extent;

/// What a merge takes of memory at most, values kept between layers left out: of these there are as
/// many as fit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Peak {
    /// Bytes of weights as they were and as they become, and of the program.
    pub models: u64,
    /// Bytes of what is done at a time beside that: the work at a layer, or a net in a runtime.
    pub work: u64,
    /// The layer at which the work takes most.
    pub layer: Option<String>,
}

impl Peak {
    /// All bytes.
    pub fn bytes(&self) -> u64 {
        self.models.saturating_add(self.work)
    }
}

/// What merging the tasks of `joint`, whose files have `models` bytes, takes where it may take `memory`
/// bytes and as many rows per layer.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a layer's weight is not a matrix.
pub fn peak(joint: &JointModel, models: &[u64], max_rows: usize, memory: u64) -> Result<Peak> {
    let mut peak = Peak { models: resident(models), ..Peak::default() };
    let left = beside(memory, models);
    for net in joint.tasks() {
        for layer in &net.coupling().layers {
            let plan = extent(joint.tasks().len(), net, layer)?
                .and_then(|extent| extent.plan(max_rows, left));
            if let Some(plan) = plan.filter(|plan| plan.bytes > peak.work) {
                (peak.work, peak.layer) = (plan.bytes, Some(layer.name.clone()));
            }
        }
    }
    // Runtimes have copies of a net's weights, in the file's form and in their own.
    let running = 2 * models.iter().copied().max().unwrap_or(0);
    if running > peak.work {
        (peak.work, peak.layer) = (running, None);
    }
    Ok(peak)
}
