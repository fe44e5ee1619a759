//! Exports a joint model for ONNX Runtime training, and imports the trained weights.
//!
//! [`export`] writes a folder for ONNX Runtime's on-device training: the joint net with an input per
//! task ([`forward`]), samples with the outputs of the original nets, and scripts that make the
//! training artifacts and train. This room runs no Python. [`trained`] imports weights that were
//! trained there, or by any tool that keeps names and shapes of initializers.
//!
//! ONNX Runtime training silently computes wrong gradients for some nodes, and aborts at others
//! (`operators`). Such nodes are rewritten (`rewrite`), or the model is refused before anything is
//! written.

mod folder;
mod forward;
mod import;
mod manifest;
mod npy;
mod operators;
mod rewrite;
mod samples;

use std::path::Path;

use crate::calib::data::Dataset;
use crate::emit;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;
use crate::naming::counted;
use crate::onnx::{self, External, SaveOptions};
use crate::progress::Progress;
use crate::runtime::Session;

use folder::Draft;
use manifest::Manifest;

pub use forward::{Forward, forward};
pub use import::trained;
pub use operators::TRAINABLE_OPS;
pub use samples::Loss;
use samples::Net;

/// The unchanged joint model in the folder.
pub const JOINT: &str = "joint.onnx";

/// The net that is trained.
pub const FORWARD: &str = "forward.onnx";

/// The trained net, from which weights are imported.
pub const TRAINED: &str = "trained.onnx";

/// Name of the manifest.
const MANIFEST: &str = "handoff.json";

/// Other files of the folder.
const SCRIPTS: &[(&str, &str)] = &[
    ("README.md", include_str!("python/README.md")),
    ("requirements.txt", include_str!("python/requirements.txt")),
    ("ort_training.py", include_str!("python/ort_training.py")),
    ("make_artifacts.py", include_str!("python/make_artifacts.py")),
    ("train.py", include_str!("python/train.py")),
];

/// The teacher and the samples of one task.
pub struct Lesson<'a> {
    /// The net to learn from, if the loss needs one.
    pub teacher: Option<Box<dyn Session>>,
    /// Samples for the inputs of the task's net.
    pub data: &'a Dataset,
}

/// How samples and targets are written.
#[derive(Debug, Clone, Copy)]
pub struct ExportOptions {
    /// The targets.
    pub loss: Loss,
    /// Samples per run of a teacher, unless a model fixes it.
    pub batch: usize,
}

/// Writes the folder `target`, whole or not at all. `lessons` has one entry per task of the joint
/// model, in order.
///
/// # Errors
/// [`ErrorKind::Format`] for what is not a joint model, [`ErrorKind::Unsupported`] naming a node that
/// ONNX Runtime training cannot differentiate, [`ErrorKind::Usage`] where a teacher or labels are
/// missing or the folder holds something already, [`ErrorKind::Calibration`] for samples that do not
/// fit, [`ErrorKind::Io`] where files cannot be written.
pub fn export(
    joint: &Model,
    lessons: Vec<Lesson<'_>>,
    options: ExportOptions,
    target: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    let plan = emit::restore(joint)?;
    if plan.tasks().len() != lessons.len() {
        let names: Vec<&str> = plan.tasks().iter().map(|t| t.name()).collect();
        let given = counted(lessons.len(), "task");
        let message = format!("there are samples of {given}, not of those of the joint model");
        return Err(Error::new(ErrorKind::Usage, message)
            .hint(format!("give data for {}", names.join(", "))));
    }
    let Forward { model, trainable } = forward(&plan)?;
    let draft = Draft::beside(target)?;
    let folder = &draft.path();
    let steps = lessons.iter().map(|l| l.data.len().div_ceil(options.batch.max(1)) as u64).sum();
    progress.begin("export", steps);
    let mut tasks = Vec::new();
    for (number, (task, lesson)) in plan.tasks().iter().zip(lessons).enumerate() {
        let net = Net { graph: task.graph(), name: task.name(), number, folder };
        let written = net.write(lesson, options, progress);
        tasks.push(written.in_model(task.name())?);
    }
    onnx::save(joint, &folder.join(JOINT), &SaveOptions::default())?;
    // The tools for making artifacts take one file of up to 2 GB only.
    let one_file = SaveOptions { external: External::Never, ..SaveOptions::default() };
    onnx::save(&model, &folder.join(FORWARD), &one_file)?;
    folder::write(folder, MANIFEST, &Manifest::new(trainable, tasks).json()?)?;
    for (name, text) in SCRIPTS {
        folder::write(folder, name, text)?;
    }
    progress.check()?;
    draft.publish()
}

#[cfg(test)]
mod tests;
