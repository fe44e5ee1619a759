//! Retraining as the last step of a merge.

use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};

use super::TaskData;
use crate::calib::data::Dataset;
use crate::cli::console::Console;
use crate::cli::models::Loaded;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::Model;
use crate::onnx;
use crate::retrain::{Lesson, Outcome, RetrainOptions, retrain};
use crate::runtime::{Backend, ModelSource};
use crate::zip::joint::JointModel;

/// Whether and how long to retrain.
#[derive(Args)]
#[command(next_help_heading = "Retraining")]
pub(super) struct RetrainingArgs {
    /// When to retrain towards the original models; `onnx-zip retrain` has all options
    #[arg(long, value_name = "WHEN", default_value = "none", value_parser = moments())]
    retrain: String,
    /// Steps of retraining
    #[arg(long, value_name = "N", default_value_t = RetrainOptions::default().iterations)]
    iterations: usize,
}

fn moments() -> PossibleValuesParser {
    PossibleValuesParser::new([
        PossibleValue::new("none").help("never"),
        PossibleValue::new("end").help("once, when all layers are merged"),
    ])
}

/// The net as it was before the merge.
fn original(loaded: &Loaded) -> Result<Model> {
    match loaded.source() {
        ModelSource::File(path) => onnx::load(path),
        ModelSource::Bytes(bytes) => onnx::decode(bytes.to_vec().into(), None, &loaded.name),
    }
}

/// What is learnt, and with what.
pub(super) struct Classroom<'a> {
    pub(super) loaded: &'a [Loaded],
    pub(super) data: &'a [TaskData],
    /// Whether all models see the same samples.
    pub(super) common: bool,
    pub(super) backend: &'a Arc<dyn Backend>,
    pub(super) batch: usize,
    pub(super) seed: u64,
}

impl RetrainingArgs {
    /// Refuses to train on nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if retraining is wished for without data.
    pub(super) fn check(&self, has_data: bool) -> Result<()> {
        if self.retrain == "none" || has_data {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Usage, "there are no samples to retrain on")
            .hint("give inputs such as the models see: --data"))
    }

    /// Retrains, if that is wished for.
    ///
    /// # Errors
    /// As [`retrain`].
    pub(super) fn run(
        &self,
        joint: &mut JointModel,
        room: &Classroom<'_>,
        console: &Console,
    ) -> Result<Option<Outcome>> {
        if self.retrain == "none" {
            return Ok(None);
        }
        let teachers: Vec<Model> = room.loaded.iter().map(original).collect::<Result<_>>()?;
        let count = if room.common { 1 } else { room.data.len() };
        let data: Vec<Dataset> = room.data.iter().take(count).map(|d| d.dataset.clone()).collect();
        let lesson = Lesson {
            data: &data,
            teachers: &teachers,
            backend: room.backend.as_ref(),
            checkpoint: None,
            resume: false,
        };
        let options = RetrainOptions {
            iterations: self.iterations,
            batch: room.batch,
            seed: room.seed,
            ..RetrainOptions::default()
        };
        retrain(joint, &lesson, &options, console).map(Some)
    }
}
