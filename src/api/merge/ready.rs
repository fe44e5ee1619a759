//! Prepares a merge: models, samples and options.

use std::sync::Arc;
use std::time::Instant;

use super::{Files, Merger, SAMPLES, synthetic};
use crate::api::data::{SYNTHETIC_SAMPLES, TaskData, Tried};
use crate::api::models::{self, Loaded, ToMerge};
use crate::api::options::CalibrationOptions;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::mtz::joint::Task;
use crate::mtz::options::{self as mtz, Passes};
use crate::mtz::solver::memory::beside;
use crate::mtz::statistics::{InProcess, Sharding};
use crate::progress::Progress;
use crate::report::StatisticsRecord;
use crate::runtime::{Backend, ModelSource, measuring};
use crate::verify::{Finding, Form, Likeness, check_canonical};
use crate::workers::Folder;
use crate::zipper::{Calibration, Prepared, SiteNames, check_several, prepare_parts};

/// Models and samples, read and prepared.
pub(crate) struct Ready {
    /// Records of the files; empty where no plan needs them.
    pub(in crate::api) files: Files,
    pub(crate) loaded: Vec<Loaded>,
    pub(crate) data: Vec<TaskData>,
    pub(crate) prepared: Prepared,
    /// The layers that models have in common.
    pub(crate) sites: Vec<SiteNames>,
    /// Stored statistics, one per task; empty without any.
    pub(crate) statistics: Vec<StatisticsRecord>,
    pub(crate) calibration: Calibration,
    pub(crate) options: mtz::MergeOptions,
    /// The memory limit in bytes, as given.
    pub(crate) memory: u64,
    pub(crate) backend: Arc<dyn Backend>,
    /// Seconds spent on reading.
    pub(crate) read: f64,
}

impl Merger {
    /// Reads models and samples, and aligns the models. `plans` says whether a plan will be written.
    ///
    /// # Errors
    /// As [`Merger::merge_into`].
    pub(crate) fn ready(&self, plans: bool, progress: &dyn Progress) -> Result<Ready> {
        self.options.retraining.check(!self.given().is_synthetic())?;
        if let Some(idle) = self.options.retraining.idle() {
            progress.warn(&progress.worded(&idle));
        }
        let start = Instant::now();
        let files = match plans || self.replay.followed.is_some() {
            true => Files::of(self)?,
            false => Files::default(),
        };
        self.check_followed(&files, progress)?;
        let ToMerge { tasks: loaded, parts } = models::load_parts(&self.models, &self.names)?;
        check_several(loaded.len())?;
        let stored = self.stored(&loaded)?;
        let statistics = self.records_of(&stored);
        let mut options = self.method_options(self.given().is_common() || stored.are_common())?;
        self.options.tuning.apply(&mut options, loaded.len())?;
        let memory = options.memory;
        let weights: Vec<u64> = loaded.iter().map(|model| model.bytes).collect();
        options.memory = beside(options.memory, &weights);
        let backend = self.options.runtime.open(progress)?;
        self.check_bits(&backend)?;
        self.compare_makers(&backend.describe(), progress);
        let trial = Tried { backend: backend.as_ref(), progress };
        let data = self.open_data(&loaded, options.seed, trial)?;
        let sharing = &self.options.sharing;
        let batchnorm = self.options.models.batchnorm;
        let preparation = sharing.preparation(batchnorm, self.counts_neurons())?;
        let prepared = prepare_parts(parts, preparation)?;
        self.check_plan(&prepared, &options)?;
        self.options.retraining.check_statistics(&prepared.joint, batchnorm)?;
        self.options.retraining.check_parameters(&prepared.joint)?;
        let checked = check_forms(&loaded, &data, &prepared, trial)?;
        let batch = match checked.iter().zip(&loaded).find(|(form, _)| form.runs_alone) {
            Some((_, model)) => {
                let alone = "runs on one sample at a time, so a batch has one";
                progress.note(&format!("{} {alone}", model.name));
                1
            }
            None => self.options.runtime.batch,
        };
        if self.is_made_up() && prepared.fuses(&options.budget)? {
            progress.warn(&progress.worded(&synthetic()));
        }
        let sites = prepared.sites();
        let nets = prepared.joint.tasks().iter().map(Task::graph);
        let calibration = Calibration {
            backend: measuring(Arc::clone(&backend), nets),
            data: data.iter().map(|d| d.dataset.clone()).collect(),
            stored: stored.of_nets(prepared.joint.tasks(), progress)?,
            predicts: self.is_stored() && self.given().is_synthetic(),
            batch,
            memory: options.memory,
            shards: self.shards(&backend)?,
        };
        // The preparation has stages of its own.
        let read = start.elapsed().as_secs_f64() - prepared.seconds();
        Ok(Ready {
            files,
            loaded,
            data,
            prepared,
            sites,
            statistics,
            calibration,
            options,
            memory,
            backend,
            read,
        })
    }

    /// Shards of the samples, where they are asked for.
    fn shards(&self, backend: &Arc<dyn Backend>) -> Result<Option<Sharding>> {
        let CalibrationOptions { shards, workers, gram, .. } = &self.options.calibration;
        let sharding = match (&self.sharding, shards, workers) {
            (Some(sharding), ..) => sharding.clone(),
            (None, Some(count), None) => Sharding::new(*count, InProcess::new(Arc::clone(backend))),
            (None, Some(count), Some(folder)) => Sharding::new(*count, Folder::new(folder)),
            (None, None, None) => return Ok(None),
            (None, None, Some(_)) => {
                return Err(Error::new(
                    ErrorKind::Usage,
                    "workers need samples that are split into shards",
                )
                .hint(Hint::from("say how many: ").option("shards")));
            }
        };
        if !gram.is_empty() {
            let message = "stored statistics cannot be combined with shards";
            return Err(
                Error::new(ErrorKind::Usage, message).hint(Hint::from("leave out ").option("gram"))
            );
        }
        Ok(Some(sharding))
    }

    /// Options of the method, except those that depend on the number of tasks; `one_input` tells whether
    /// all tasks see the same samples.
    fn method_options(&self, one_input: bool) -> Result<mtz::MergeOptions> {
        let (neurons, sharing) = (self.counts_neurons(), &self.options.sharing);
        let mut options = mtz::MergeOptions {
            budget: sharing.budget(neurons, one_input)?,
            unit: sharing.unit(neurons),
            method: self.options.method.method,
            passes: self.options.method.passes,
            common_tables: sharing.goal(neurons).or(self.options.goal.goal()).is_none(),
            ..mtz::MergeOptions::default()
        };
        self.correct(&mut options)?;
        if self.is_stored() {
            options.passes = Passes::One;
        }
        Ok(options)
    }

    fn open_data(&self, loaded: &[Loaded], seed: u64, trial: Tried<'_>) -> Result<Vec<TaskData>> {
        let progress = trial.progress;
        let limit = match self.given().is_synthetic() {
            true => SYNTHETIC_SAMPLES,
            false => SAMPLES,
        };
        let limit = self.options.calibration.samples.unwrap_or(limit);
        let data = self.given().open(loaded, limit, seed, trial)?;
        // A warning speaks of random numbers, or statistics take the place of samples.
        if self.given().is_synthetic() {
            return Ok(data);
        }
        for (model, data) in loaded.iter().zip(&data) {
            let notes = data.record.notes.iter();
            notes.for_each(|n| progress.note(&format!("{}: {}", model.name, progress.worded(n))));
        }
        Ok(data)
    }
}

/// Checks that nets compute the same in canonical form.
fn check_forms(
    loaded: &[Loaded],
    data: &[TaskData],
    prepared: &Prepared,
    trial: Tried<'_>,
) -> Result<Vec<Finding>> {
    trial.progress.begin("check canonical form", loaded.len() as u64);
    let mut all = Vec::new();
    for ((model, data), net) in loaded.iter().zip(data).zip(prepared.joint.tasks()) {
        trial.progress.check()?;
        let form = Form {
            task: &model.name,
            original: model.source(),
            canonical: ModelSource::Graph(net.model()),
            data: &data.dataset,
        };
        let found = check_canonical(&form, trial.backend)?;
        if let Likeness::Unsteady(why) = &found.likeness {
            trial.progress.note(&format!("{}: {why}", model.name));
        }
        all.push(found);
        trial.progress.step();
    }
    Ok(all)
}
