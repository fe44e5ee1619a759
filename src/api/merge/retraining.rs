//! Retraining as a part of a merge.

use crate::api::data::no_samples;
use crate::api::models::Loaded;
use crate::api::options::RetrainingOptions;
use crate::calib::data::Dataset;
use crate::canon::BatchNorm;
use crate::emit;
use crate::error::{Hint, Result};
use crate::ir::Model;
use crate::mtz::joint::JointModel;
use crate::onnx;
use crate::retrain::{Lesson, RetrainOptions, Retraining, has_statistics, without_statistics};
use crate::runtime::{Backend, ModelSource};

/// The original net.
fn original(loaded: &Loaded) -> Result<Model> {
    match loaded.source() {
        ModelSource::File(path) => onnx::load(path),
        ModelSource::Graph(model) => Ok(model.clone()),
        ModelSource::Bytes(bytes) => onnx::decode(bytes.to_vec().into(), None, &loaded.name),
    }
}

/// Inputs of retraining.
pub(super) struct Classroom<'a> {
    pub(super) teachers: &'a [Model],
    /// Samples of each task.
    pub(super) data: &'a [Dataset],
    /// Labelled samples of each task that are not among them; may be empty.
    pub(super) tests: &'a [Dataset],
    /// Whether all models see the same samples.
    pub(super) common: bool,
    pub(super) backend: &'a dyn Backend,
    pub(super) batch: usize,
    pub(super) seed: u64,
}

impl RetrainingOptions {
    /// Refuses to train without samples.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Usage`] if retraining is requested without data.
    pub(super) fn check(&self, has_data: bool) -> Result<()> {
        if has_data || (self.retrain.is_none() && !self.reset_bn) {
            return Ok(());
        }
        Err(no_samples("retrain"))
    }

    /// Refuses to recompute statistics that the prepared nets do not have.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Usage`], with what to do about it.
    pub(super) fn check_statistics(&self, joint: &JointModel, of: BatchNorm) -> Result<()> {
        if !self.reset_bn || has_statistics(joint)? {
            return Ok(());
        }
        Err(without_statistics(of == BatchNorm::PerTask))
    }

    /// Refuses to retrain prepared nets without a parameter that trains, before they are merged.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Unsupported`], with what to do about it.
    pub(super) fn check_parameters(&self, joint: &JointModel) -> Result<()> {
        let hint = || Hint::from("convert the models to F32, or merge without ").option("retrain");
        match self.retrain {
            Some(_) => emit::check_parameters(joint).map_err(|e| e.hint(hint())),
            None => Ok(()),
        }
    }

    /// The original models, if the merge retrains.
    ///
    /// # Errors
    /// As [`onnx::load`].
    pub(in crate::api) fn teachers(&self, loaded: &[Loaded]) -> Result<Vec<Model>> {
        match self.retrain {
            Some(_) => loaded.iter().map(original).collect(),
            None => Ok(Vec::new()),
        }
    }

    /// The retraining that the options ask for, if any.
    pub(super) fn plan<'a>(&self, classroom: &Classroom<'a>) -> Option<Retraining<'a>> {
        let moment = self.retrain;
        if moment.is_none() && !self.reset_bn {
            return None;
        }
        // Tasks with common samples run their shared layers once.
        let data = if classroom.common { &classroom.data[..1] } else { classroom.data };
        let options = RetrainOptions {
            iterations: if moment.is_some() { self.iterations } else { 0 },
            batch: classroom.batch,
            seed: classroom.seed,
            reset_statistics: self.reset_bn,
            ..RetrainOptions::default()
        };
        Some(Retraining {
            when: moment.unwrap_or_default(),
            lesson: Lesson {
                data,
                teachers: classroom.teachers,
                backend: classroom.backend,
                checkpoint: None,
                resume: false,
            },
            tests: classroom.tests,
            options,
            original_iterations: self.original_iterations,
        })
    }
}
