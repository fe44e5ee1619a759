//! Peak memory of a merge.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::mtz::joint::JointModel;
use crate::mtz::solver::memory::{beside, resident};
use crate::mtz::statistics::extent;

/// Copies of a net's weights in a runtime: as read, and in the layouts of its kernels.
const IN_A_RUNTIME: u64 = 3;

/// Peak memory of a merge, without values that are kept between layers: these use the remaining memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Peak {
    /// Bytes of the original weights, of the merged weights, and of the program.
    pub models: u64,
    /// Additional bytes of one step: the work at a layer, or a net in a runtime.
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

/// The sizes and limits of a merge.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    /// Bytes of each model's file.
    pub models: &'a [u64],
    /// Bytes that the values of a batch take in a runtime.
    pub values: u64,
    /// Rows per layer at most.
    pub rows: usize,
    /// The memory limit in bytes, as given.
    pub memory: u64,
}

/// Peak memory of merging the tasks of `joint`.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a layer's weight is not a matrix.
pub fn peak(joint: &JointModel, means: Means<'_>) -> Result<Peak> {
    let Means { models, values, rows, memory } = means;
    let mut peak = Peak { models: resident(models), ..Peak::default() };
    let left = beside(memory, models);
    for net in joint.tasks() {
        for layer in &net.coupling().layers {
            let plan =
                extent(joint.tasks().len(), net, layer)?.and_then(|extent| extent.plan(rows, left));
            if let Some(plan) = plan.filter(|plan| plan.bytes > peak.work) {
                (peak.work, peak.layer) = (plan.bytes, Some(layer.name.clone()));
            }
        }
    }
    let running = running(models, memory).saturating_add(values);
    if running > peak.work {
        (peak.work, peak.layer) = (running, None);
    }
    Ok(peak)
}

/// Bytes that runtimes take besides original and merged weights, without values.
fn running(models: &[u64], memory: u64) -> u64 {
    let all: u64 = models.iter().sum();
    let largest = models.iter().copied().max().unwrap_or(0);
    // After the file has been written, the original weights are no longer in memory.
    let one = (IN_A_RUNTIME * largest).saturating_sub(all).max(largest);
    let together = compared(all, all);
    match together <= allowed(models, memory) {
        true => one.max(together.saturating_sub(2 * all)),
        false => one,
    }
}

/// Memory that is worth no refusal.
const LITTLE: u64 = 256 << 20;

/// Bytes that a merge with a limit of `memory` bytes may take: the largest model comes on top.
pub fn allowed(models: &[u64], memory: u64) -> u64 {
    let largest = models.iter().copied().max().unwrap_or(0);
    memory.max(LITTLE).saturating_add(largest)
}

/// Bytes that a comparison takes: weights of the task nets and of the joint model, and all models in a
/// runtime at once.
pub fn compared(originals: u64, joint: u64) -> u64 {
    IN_A_RUNTIME * originals.saturating_add(joint)
}
