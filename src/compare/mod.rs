//! Compares a joint model with its originals in size and speed.
//!
//! Bytes and counts are exact. Latency is measured on one thread, one sample at a time, in
//! alternating runs of the joint model and its originals, so that other load on the machine slows
//! both alike.

mod count;
mod feeds;
mod latency;
mod memory;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::calib::data::Dataset;
use crate::error::{Context, ErrorKind, Result};
use crate::ir::Model;
use crate::progress::Progress;
use crate::runtime::{Backend, ModelSource};

pub use count::{multiply_adds, nodes};
use feeds::Feeds;
pub use latency::{Latency, TOLERANCE};
pub use memory::growth;

/// A number of the joint model beside that of all its originals together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Against<T> {
    /// Of the joint model.
    pub joint: T,
    /// Of all originals together.
    pub originals: T,
    /// The first over the second.
    pub ratio: f64,
}

impl Against<u64> {
    /// Two counts and their ratio, which is 1 if the originals' count is 0.
    pub fn new(joint: u64, originals: u64) -> Self {
        let ratio = if originals > 0 { joint as f64 / originals as f64 } else { 1.0 };
        Against { joint, originals, ratio }
    }
}

/// Size and speed of a joint model against its originals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Sizes of the files, external data included.
    pub bytes: Against<u64>,
    /// Weights and biases of layers.
    pub parameters: Against<u64>,
    /// Nodes in the files, `Constant` left out.
    pub nodes: Against<u64>,
    /// Multiply-adds of all layers in one run of all tasks; `None` if sizes are not known.
    pub multiply_adds: Option<Against<u64>>,
    /// Seconds of one run of all tasks; `None` if it could not be measured.
    pub latency: Option<Latency>,
    /// Growth in bytes of a process's peak memory by loading; `None` if the platform does not report
    /// it.
    pub memory: Option<Against<u64>>,
    /// Measurements that failed, with the reason.
    pub unmeasured: Vec<String>,
}

/// One model that was merged.
pub struct Original<'a> {
    /// The original model.
    pub source: ModelSource<'a>,
    /// Size of its file.
    pub bytes: u64,
    /// Weights and biases of its layers.
    pub parameters: u64,
    /// Nodes of its graph.
    pub nodes: u64,
    /// A net in canonical form with the same layers, for counting multiply-adds.
    pub net: &'a Model,
    /// Samples for its inputs.
    pub data: &'a Dataset,
}

/// The joint model.
pub struct Candidate<'a> {
    /// Its file.
    pub path: &'a Path,
    /// The model in the file.
    pub model: &'a Model,
    /// Size of the file.
    pub bytes: u64,
    /// Weights and biases of its layers.
    pub parameters: u64,
}

/// Compares a joint model with its originals. Latency is measured in `backend`, which should compute
/// on one thread. Measurements that fail are left out, with the reason.
///
/// # Errors
/// [`ErrorKind::Interrupted`].
pub fn compare(
    joint: &Candidate<'_>,
    originals: &[Original<'_>],
    backend: Result<&dyn Backend>,
    progress: &dyn Progress,
) -> Result<Comparison> {
    let sum = |of: fn(&Original<'_>) -> u64| originals.iter().map(of).sum();
    let mut unmeasured = Vec::new();
    let feeds = Feeds::new(joint.model, originals).in_model(joint.path.display());
    let feeds = left_out(feeds, "latency and multiply-adds", &mut unmeasured)?;
    let latency = feeds.as_ref().map(|feeds| {
        let measured =
            backend.and_then(|b| latency::measure(joint.path, originals, feeds, b, progress));
        left_out(measured, "latency", &mut unmeasured)
    });
    Ok(Comparison {
        bytes: Against::new(joint.bytes, sum(|o| o.bytes)),
        parameters: Against::new(joint.parameters, sum(|o| o.parameters)),
        nodes: Against::new(nodes(&joint.model.graph), sum(|o| o.nodes)),
        multiply_adds: feeds.and_then(|feeds| all_multiply_adds(joint, originals, &feeds)),
        latency: latency.transpose()?.flatten(),
        memory: None,
        unmeasured,
    })
}

/// The value of a measurement; `None` if it failed, with the reason added to `unmeasured`.
///
/// # Errors
/// [`ErrorKind::Interrupted`].
pub fn left_out<T>(
    measured: Result<T>,
    what: &str,
    unmeasured: &mut Vec<String>,
) -> Result<Option<T>> {
    match measured {
        Ok(measured) => Ok(Some(measured)),
        Err(e) if e.kind() == ErrorKind::Interrupted => Err(e),
        Err(e) => {
            unmeasured.push(format!("{what}: {}", e.fault()));
            Ok(None)
        }
    }
}

fn all_multiply_adds(
    joint: &Candidate<'_>,
    originals: &[Original<'_>],
    feeds: &Feeds,
) -> Option<Against<u64>> {
    let runs = feeds.joint.len() as u64;
    let of_joint = multiply_adds(&joint.model.graph, feeds.joint.first()?, runs)?;
    let each = originals.iter().zip(&feeds.originals);
    let of_each = each.map(|(original, fed)| multiply_adds(&original.net.graph, fed, 1));
    Some(Against::new(of_joint, of_each.sum::<Option<u64>>()?))
}

impl Comparison {
    /// Whether the joint model's file is smaller than those of its originals together.
    pub fn is_smaller(&self) -> bool {
        self.bytes.joint < self.bytes.originals
    }

    /// Whether the joint model takes at most [`TOLERANCE`] longer than its originals; `None` if that
    /// was not measured.
    pub fn is_fast(&self) -> Option<bool> {
        self.latency.as_ref().map(|latency| !latency.slower)
    }
}

#[cfg(test)]
mod tests;
