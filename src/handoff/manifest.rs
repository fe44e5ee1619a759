//! The description of the folder for its scripts, as JSON.

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};

/// Version of the description.
const VERSION: u32 = 1;

/// The folder's description.
#[derive(Debug, Serialize)]
pub(super) struct Manifest {
    version: u32,
    /// The net to train.
    model: &'static str,
    /// The path for the trained net.
    trained: &'static str,
    /// Initializers to train.
    trainable: Vec<String>,
    tasks: Vec<Task>,
}

/// One task.
#[derive(Debug, Serialize)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) samples: usize,
    /// Samples per step, if the net fixes it.
    pub(super) batch: Option<usize>,
    /// Inputs of the net, with the file of their samples.
    pub(super) inputs: Vec<Stored>,
    /// The targets of outputs.
    pub(super) targets: Vec<Target>,
    /// A file with the class of each sample, if known.
    pub(super) labels: Option<String>,
}

/// A value of the net with a file of one row per sample.
#[derive(Debug, Serialize)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) file: String,
}

/// A term of the loss.
#[derive(Debug, Serialize)]
pub(super) struct Target {
    /// The output.
    pub(super) output: String,
    /// `mean_squared_error` or `cross_entropy`.
    pub(super) loss: &'static str,
    /// File of the target values, one row per sample.
    pub(super) file: String,
    /// Factor of the term.
    pub(super) weight: f64,
}

impl Manifest {
    pub(super) fn new(trainable: Vec<String>, tasks: Vec<Task>) -> Self {
        Manifest {
            version: VERSION,
            model: super::FORWARD,
            trained: super::TRAINED,
            trainable,
            tasks,
        }
    }

    pub(super) fn json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map_err(|e| Error::new(ErrorKind::Io, "cannot write JSON").because(e))
    }
}
