//! Peak memory of a merge.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::mtz::joint::JointModel;
use crate::mtz::solver::memory::{beside, resident};
use crate::mtz::statistics::extent;

/// Copies of a net's weights in a runtime: as read, and in the layouts of its kernels.
const IN_A_RUNTIME: u64 = 3;

/// Runtimes in which the joint model is verified.
const RUNTIMES: u64 = 2;

/// A joint model of so many bytes per task stays in the runtimes between verifications of its tasks.
const KEPT_PER_TASK: u64 = 1 << 20;

/// No joint model of more bytes stays there.
const KEPT: u64 = 64 << 20;

/// Peak memory of a merge, without values that are kept between layers: these use the remaining memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Peak {
    /// Bytes of the original weights, of the merged weights (those of the best merge so far, too, if several
    /// are tried), and of the program.
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
    /// Bytes of the joint model.
    pub joint: u64,
    /// Bytes that the values of a batch take in a runtime.
    pub values: u64,
    /// Rows per layer at most.
    pub rows: usize,
    /// The memory limit in bytes, as given.
    pub memory: u64,
    /// Whether several merges are tried. The best one so far stays in memory.
    pub searches: bool,
}

/// Peak memory of merging the tasks of `joint`.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a layer's weight is not a matrix.
pub fn peak(joint: &JointModel, means: Means<'_>) -> Result<Peak> {
    let Means { models, values, rows, memory, .. } = means;
    let best = if means.searches { models.iter().sum() } else { 0 };
    let mut peak = Peak { models: resident(models).saturating_add(best), ..Peak::default() };
    let left = beside(memory, models);
    let mut leaves_out = false;
    for net in joint.tasks() {
        for layer in &net.coupling().layers {
            let Some(extent) = extent(joint.tasks().len(), net, layer)? else { continue };
            let plan = extent.plan(rows, left);
            leaves_out |= plan.is_none();
            if let Some(plan) = plan.filter(|plan| plan.bytes > peak.work) {
                (peak.work, peak.layer) = (plan.bytes, Some(layer.name.clone()));
            }
        }
    }
    // The layers that do not fit may be all that there is.
    let most = if leaves_out { models.iter().sum() } else { means.joint };
    let means = Means { joint: most, ..means };
    let running = running(means).saturating_add(values);
    if running > peak.work {
        (peak.work, peak.layer) = (running, None);
    }
    Ok(peak)
}

/// Bytes that runtimes take besides original and merged weights, without values.
fn running(means: Means<'_>) -> u64 {
    let Means { models, joint, memory, .. } = means;
    let all: u64 = models.iter().sum();
    let largest = models.iter().copied().max().unwrap_or(0);
    let kept = match stays_loaded(joint, models.len()) {
        true => RUNTIMES * IN_A_RUNTIME * joint,
        false => 0,
    };
    // After the file has been written, the original weights are no longer in memory.
    let verified = (IN_A_RUNTIME * largest.max(joint)).saturating_add(kept);
    let one = verified.saturating_sub(all).max(largest);
    let together = compared(all, joint);
    match together <= allowed(models, memory) {
        true => one.max(together.saturating_sub(all)),
        false => one,
    }
}

/// Whether a joint model of `bytes` bytes stays loaded while its tasks are verified.
pub fn stays_loaded(bytes: u64, tasks: usize) -> bool {
    bytes <= KEPT.min(KEPT_PER_TASK.saturating_mul(tasks as u64))
}

/// Memory below which nothing is refused.
const LITTLE: u64 = 256 << 20;

/// Bytes that a merge with a limit of `memory` bytes may take: the largest model is not counted in the limit.
pub fn allowed(models: &[u64], memory: u64) -> u64 {
    let largest = models.iter().copied().max().unwrap_or(0);
    memory.max(LITTLE).saturating_add(largest)
}

/// Bytes that a comparison takes: weights of the task nets and of the joint model, and all models in a
/// runtime at once.
pub fn compared(originals: u64, joint: u64) -> u64 {
    IN_A_RUNTIME * originals.saturating_add(joint)
}
