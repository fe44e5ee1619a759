//! A folder for ONNX Runtime training.

use std::path::Path;

use super::Retrainer;
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::handoff::{self, ExportOptions, Lesson, Loss};
use crate::mtz::joint::JointModel;
use crate::naming::counted;
use crate::onnx;
use crate::progress::Progress;
use crate::retrain::{LossKind, RetrainOptions};
use crate::runtime::Session;

/// Samples per task in the folder at most.
const SAMPLES: usize = 10_000;

impl Retrainer {
    /// Writes a folder with scripts for ONNX Runtime training, in place of training here. The folder must be new or
    /// empty, and appears whole or not at all. [`import_weights`](super::import_weights) takes the trained weights
    /// from it.
    ///
    /// # Errors
    /// As [`handoff::export`]; [`ErrorKind::Usage`] for options that the scripts do not know.
    pub fn export(&self, folder: impl AsRef<Path>, progress: &dyn Progress) -> Result<()> {
        let batch = self.options.runtime.batch;
        let options = self.options.training.options(batch, !self.teachers.is_empty());
        let loss = self.exported_loss(&options)?;
        let joint = onnx::load(&self.joint)?;
        let plan = self.restore(&joint, progress)?;
        let teachers = self.sessions(loss, &plan, progress)?;
        let data = self.open_samples(&plan, SAMPLES, options.seed, progress)?;
        let lessons = teachers.into_iter().zip(&data);
        let lessons = lessons.map(|(teacher, data)| Lesson { teacher, data: &data.dataset });
        let options = ExportOptions { loss, batch };
        handoff::export(&joint, lessons.collect(), options, folder.as_ref(), progress)
            .in_model(self.joint.display())
    }

    /// The loss of the scripts.
    fn exported_loss(&self, options: &RetrainOptions) -> Result<Loss> {
        if self.options.checkpoint.is_some() {
            return Err(Error::new(ErrorKind::Usage, "an export has no checkpoint")
                .hint(Hint::from("leave out ").option("checkpoint")));
        }
        if options.mix {
            return Err(Error::new(ErrorKind::Usage, "train.py does not mix samples")
                .hint(Hint::from("leave out ").option("mix").then(", or train here")));
        }
        match options.loss {
            LossKind::CrossEntropy => Ok(Loss::CrossEntropy),
            LossKind::Distillation => Ok(Loss::Distillation),
            _ => Err(Error::new(ErrorKind::Usage, "ONNX Runtime training has no such loss").hint(
                Hint::from("export with ")
                    .option_as("loss", "distillation")
                    .then(" or ")
                    .option_as("loss", "cross-entropy"),
            )),
        }
    }

    /// The original nets, if the loss needs them.
    fn sessions(
        &self,
        loss: Loss,
        joint: &JointModel,
        progress: &dyn Progress,
    ) -> Result<Vec<Option<Box<dyn Session>>>> {
        if loss == Loss::CrossEntropy {
            return Ok(joint.tasks().iter().map(|_| None).collect());
        }
        if self.teachers.len() != joint.tasks().len() {
            let names: Vec<&str> = joint.tasks().iter().map(|task| task.name()).collect();
            let given = counted(self.teachers.len(), "original model");
            let message = format!("{given} cannot teach the tasks {}", names.join(", "));
            let hint = Hint::from("give ").option("teacher");
            return Err(Error::new(ErrorKind::Usage, message).hint(
                hint.then(" once per task, in that order, or ").option_as("loss", "cross-entropy"),
            ));
        }
        let backend = self.options.runtime.open(progress)?;
        let load = |model: &super::ModelInput| {
            backend.load(model.source()).in_model(model.shown().display()).map(Some)
        };
        self.teachers.iter().map(load).collect()
    }
}
