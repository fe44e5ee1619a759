//! Peak memory of a merge.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::mtz::joint::JointModel;
use crate::mtz::solver::memory::{beside, resident};
use crate::mtz::statistics::extent;

/// Peak memory of a merge, without values kept between layers: they use what memory is left.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Peak {
    /// Bytes of the original weights, of the merged weights, and of the program.
    pub models: u64,
    /// Bytes of one step beside that: the work at a layer, or a net in a runtime.
    pub work: u64,
    /// The layer that needs most memory.
    pub layer: Option<String>,
}

impl Peak {
    /// The sum of all bytes.
    pub fn bytes(&self) -> u64 {
        self.models.saturating_add(self.work)
    }
}

/// Peak memory of merging the tasks of `joint`, whose files have `models` bytes, with a limit of
/// `memory` bytes and of rows per layer.
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
