//! Retraining as a part of a merge.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::calib::data::Dataset;
use crate::cli::models::Loaded;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::Model;
use crate::onnx;
use crate::retrain::{Lesson, RetrainOptions, Retraining, When};
use crate::runtime::{Backend, ModelSource};

/// Whether, when and how long to retrain.
#[derive(Args)]
#[command(next_help_heading = "Retraining")]
pub(super) struct RetrainingArgs {
    /// When to retrain towards the original models; `onnx-zip retrain` has all options
    #[arg(long, value_name = "WHEN", default_value = NEVER, value_parser = moments())]
    retrain: String,
    /// Steps of retraining, in all
    #[arg(long, value_name = "N", default_value_t = RetrainOptions::default().iterations)]
    iterations: usize,
    /// Steps that each original model was trained for; the report tells how many times fewer
    /// retraining took
    #[arg(long, value_name = "N")]
    original_iterations: Option<u64>,
    /// Take the statistics of BatchNormalization anew, from the samples, before retraining or in its
    /// place; needs --batchnorm per-task
    #[arg(long)]
    reset_bn: bool,
}

/// The value of `--retrain` that is no moment.
const NEVER: &str = "none";

fn moments() -> PossibleValuesParser {
    let never = PossibleValue::new(NEVER).help("never");
    let moments = When::ALL.map(|(_, name, help)| PossibleValue::new(name).help(help));
    std::iter::once(never).chain(moments).collect::<Vec<_>>().into()
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
    pub(super) teachers: &'a [Model],
    /// Samples of each task.
    pub(super) data: &'a [Dataset],
    /// Whether all models see the same samples.
    pub(super) common: bool,
    pub(super) backend: &'a dyn Backend,
    pub(super) batch: usize,
    pub(super) seed: u64,
}

impl RetrainingArgs {
    fn moment(&self) -> Option<When> {
        let row = When::ALL.iter().find(|(_, name, _)| *name == self.retrain);
        row.map(|(when, ..)| *when)
    }

    /// Whether weights change between layers.
    pub(super) fn is_per_layer(&self) -> bool {
        self.moment() == Some(When::PerLayer)
    }

    /// Refuses to train on nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if retraining is wished for without data.
    pub(super) fn check(&self, has_data: bool) -> Result<()> {
        if has_data || (self.moment().is_none() && !self.reset_bn) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Usage, "there are no samples to retrain on")
            .hint("give inputs such as the models see: --data"))
    }

    /// The original models, where they are learnt from.
    ///
    /// # Errors
    /// As [`onnx::load`].
    pub(super) fn teachers(&self, loaded: &[Loaded]) -> Result<Vec<Model>> {
        match self.moment() {
            Some(_) => loaded.iter().map(original).collect(),
            None => Ok(Vec::new()),
        }
    }

    /// What is wished for, if anything.
    pub(super) fn plan<'a>(&self, room: &Classroom<'a>) -> Option<Retraining<'a>> {
        let moment = self.moment();
        if moment.is_none() && !self.reset_bn {
            return None;
        }
        // Samples that all tasks have in common run through what they share once.
        let data = if room.common { &room.data[..1] } else { room.data };
        let options = RetrainOptions {
            iterations: if moment.is_some() { self.iterations } else { 0 },
            batch: room.batch,
            seed: room.seed,
            reset_statistics: self.reset_bn,
            ..RetrainOptions::default()
        };
        Some(Retraining {
            when: moment.unwrap_or_default(),
            lesson: Lesson {
                data,
                teachers: room.teachers,
                backend: room.backend,
                checkpoint: None,
                resume: false,
            },
            options,
            original_iterations: self.original_iterations,
        })
    }
}
