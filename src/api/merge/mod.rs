//! Merges several models into one, in the order load → zip → emit → verify → compare → report.

mod checks;
mod comparison;
mod corrections;
mod placing;
mod ready;
mod record;
mod replay;
mod retraining;
mod statistics;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::data::{DataInput, Given, TaskData, unmeasurable, unseen};
use super::joint::Joint;
use super::merged::Merged;
use super::models::ModelInput;
use super::options::{MergeOptions, PlanOptions};
use super::plan;
use super::structure::structure;
use super::verdict::{Place, failed};
use super::{inputs, output};
use crate::calib::data::Dataset;
use crate::emit::{RECIPE_KEY, STRUCTURE_KEY, emit};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::Model;
use crate::mtz::joint::JointModel;
use crate::mtz::statistics::Sharding;
use crate::onnx::{self, SaveOptions};
use crate::progress::Progress;
use crate::report::{Picture, Plan};
use crate::retrain::Retraining;
use crate::verify::Verification;
use crate::zipper::{
    Calibration, Job, Outcome, Prepared, SiteNames, Trial, batch_in_parts, merge_decided, merge_for,
};

pub(super) use comparison::with_originals;
use placing::Findings;
pub(super) use ready::Ready;
use record::{Compared, Facts, Shape};
#[cfg(feature = "cli")]
pub(crate) use replay::PREPROCESS;
use replay::Replay;
pub(super) use replay::{Files, Made};
pub use replay::{read_plan, resolved};
use retraining::Classroom;

/// Default number of samples with data.
pub(super) const SAMPLES: usize = 10_000;

/// The warning of a merge without samples.
fn synthetic() -> Hint {
    let text = "no samples were given, so the models were calibrated on random numbers: expect a loss of \
        accuracy that real samples avoid; a few thousand unlabelled inputs are enough (";
    Hint::from(text).option("data").then(")")
}

/// Merges trained models into one smaller multi-task model.
///
/// ```no_run
/// use onnx_zip::{MergeOptions, Merger, Silent};
///
/// let mut options = MergeOptions::default();
/// options.goal.target_size = Some(0.6);
/// let joint = Merger::new(options)
///     .named_model("cats", "cats.onnx")
///     .named_model("cars", std::fs::read("cars.onnx")?)
///     .data("images.npz")
///     .merge(&Silent)?;
/// joint.save("joint.onnx", &Silent)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Merger {
    pub(super) options: MergeOptions,
    pub(super) models: Vec<ModelInput>,
    pub(super) names: Vec<String>,
    pub(super) data: Vec<DataInput>,
    pub(super) replay: Replay,
    sharding: Option<Sharding>,
    program: Vec<OsString>,
    rejected: Option<PathBuf>,
}

/// Output files of a merge.
///
/// ```no_run
/// use onnx_zip::{Destination, MergeOptions, Merger, Silent};
///
/// let reports = ["joint.html".into(), "joint.json".into()];
/// let mut destination = Destination::new("joint.onnx".as_ref());
/// destination.reports = &reports;
/// let merger = Merger::new(MergeOptions::default()).model("a.onnx").model("b.onnx");
/// let merged = merger.merge_into(&destination, &Silent)?;
/// assert!(merged.passed);
/// # Ok::<(), onnx_zip::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Destination<'a> {
    /// The joint model's file.
    pub output: &'a Path,
    /// Files of reports, `.json` or `.html`.
    pub reports: &'a [PathBuf],
    /// Whether a joint model that fails its verification is kept beside `output`.
    pub keep_rejected: bool,
}

impl<'a> Destination<'a> {
    /// A file without reports.
    pub fn new(output: &'a Path) -> Self {
        Destination { output, reports: &[], keep_rejected: false }
    }
}

/// A joint model that is not written yet.
struct Zipped {
    joint: JointModel,
    outcome: Outcome,
    search: Vec<Trial>,
}

impl Merger {
    /// A merger without models.
    pub fn new(options: MergeOptions) -> Self {
        Merger { options, ..Merger::default() }
    }

    /// Adds a model. Its task is named after the file. A joint model stands for all its tasks.
    #[must_use]
    pub fn model(mut self, model: impl Into<ModelInput>) -> Self {
        self.models.push(model.into());
        self
    }

    /// Adds a model whose task is called `name`. If one model has a name, all need one.
    #[must_use]
    pub fn named_model(mut self, name: impl Into<String>, model: impl Into<ModelInput>) -> Self {
        self.names.push(name.into());
        self.model(model)
    }

    /// Adds samples: once for all models, or once per model in their order.
    #[must_use]
    pub fn data(mut self, data: impl Into<DataInput>) -> Self {
        self.data.push(data.into());
        self
    }

    /// Names the tasks, one name per task.
    #[must_use]
    pub fn names(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.names = names.into_iter().collect();
        self
    }

    /// Takes statistics from these shards of the samples, which replace those of the options.
    #[must_use]
    pub fn sharding(mut self, sharding: Sharding) -> Self {
        self.sharding = Some(sharding);
        self
    }

    /// The command that starts `onnx-zip`, for measuring the memory of models. Without it, memory is
    /// not measured.
    #[must_use]
    pub fn program(mut self, program: impl IntoIterator<Item = OsString>) -> Self {
        self.program = program.into_iter().collect();
        self
    }

    /// Keeps a joint model that fails its verification in the file `path`.
    #[must_use]
    pub fn keep_rejected(mut self, path: impl Into<PathBuf>) -> Self {
        self.rejected = Some(path.into());
        self
    }

    /// Plans the merge without data. Layers are as a plan that is followed says.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a goal, which needs merges; as [`plan()`](super::plan()).
    pub fn plan(&self) -> Result<Plan> {
        if self.options.goal.goal().is_some() && !self.replay.decides() {
            let message = "a plan alone cannot tell how much to share for a goal";
            let hint = Hint::from("merge without ").option("dry-run");
            return Err(Error::new(ErrorKind::Usage, message)
                .hint(hint.then(", or leave out the goal to see the size of full sharing")));
        }
        let MergeOptions { models, sharing, method, tuning, .. } = self.options.clone();
        let options = PlanOptions { models, sharing, method, statistics: tuning.statistics };
        let decisions = |sites: &[SiteNames]| self.decisions(sites);
        plan::plan_decided(&self.models, &self.names, &options, &decisions)
    }

    /// Merges the models into a temporary file.
    ///
    /// # Errors
    /// [`ErrorKind::Parity`] where the joint model fails its verification; else as
    /// [`Merger::merge_into`].
    pub fn merge(&self, progress: &dyn Progress) -> Result<Joint> {
        let folder = super::joint::folder()?;
        let output = folder.path().join("joint.onnx");
        let merged = self.merge_into(&Destination::new(&output), progress)?;
        if !merged.passed {
            let failures = merged.report.verification.map(|v| v.failures).unwrap_or_default();
            return Err(failed(&failures, self.rejected.as_deref()));
        }
        Ok(Joint::in_folder(folder, output, Some(merged)))
    }

    /// Merges the models into the file of `destination`, which appears whole, verified and with its
    /// reports, or not at all.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for options that make no sense; [`ErrorKind::Misaligned`] where there is
    /// nothing to share; [`ErrorKind::Interrupted`] where `progress` says so.
    pub fn merge_into(
        &self,
        destination: &Destination<'_>,
        progress: &dyn Progress,
    ) -> Result<Merged> {
        let place = self.check_outputs(destination)?;
        let ready = self.ready(self.replay.written.is_some(), progress)?;
        let Ready { loaded, data, prepared, sites, statistics, calibration, options, .. } = ready;
        let Ready { files, memory, backend, read, .. } = ready;
        let structure = structure(&prepared);
        let alignment = prepared.alignment.clone();
        let tasks = prepared.joint.tasks().iter();
        let batches =
            tasks.map(|net| batch_in_parts(net.model(), calibration.batch, options.memory));
        let batch = batches.min().unwrap_or(calibration.batch);
        let teachers = self.options.retraining.teachers(&loaded)?;
        let tests = unseen(&data, SAMPLES);
        let retraining = self.retraining(&teachers, &tests, &calibration, options.seed);
        let job = Job {
            calibration: &calibration,
            options: &options,
            retraining: retraining.as_ref(),
            progress,
        };
        let Zipped { joint, outcome, search } = self.zip(prepared, &data, &job)?;
        let picture = Picture::of(&joint, &alignment, &outcome.sites);
        let facts = Facts {
            merger: self,
            files,
            options,
            memory,
            batch,
            loaded,
            data,
            structure,
            sites,
            statistics,
            picture,
            outcome,
            search,
            read,
            backend,
        };
        self.write(destination, &place, &joint, facts, progress)
    }

    /// The retraining of a merge, if any; `tests` are labelled samples that it does not draw.
    pub(super) fn retraining<'a>(
        &self,
        teachers: &'a [Model],
        tests: &'a [Dataset],
        calibration: &'a Calibration,
        seed: u64,
    ) -> Option<Retraining<'a>> {
        self.options.retraining.plan(&Classroom {
            teachers,
            data: &calibration.data,
            tests,
            common: self.given().is_common(),
            backend: calibration.backend.as_ref(),
            batch: calibration.batch,
            seed,
        })
    }

    /// Merges once, or as often as the goal takes.
    fn zip(&self, prepared: Prepared, data: &[TaskData], job: &Job<'_>) -> Result<Zipped> {
        let MergeOptions { goal: wish, sharing, .. } = &self.options;
        let decisions = self.decisions(&prepared.sites())?;
        let goal = wish.goal().or_else(|| sharing.goal(self.counts_neurons()));
        let Some(goal) = goal.filter(|_| decisions.is_none()) else {
            let (joint, outcome) = merge_decided(prepared, decisions, job)?;
            return Ok(Zipped { joint, outcome, search: Vec::new() });
        };
        let tests: Vec<Dataset> = data.iter().map(|d| d.to_measure(SAMPLES)).collect();
        let unlabelled = tests.iter().position(|t| !t.has_labels());
        if let Some(task) = unlabelled.filter(|_| wish.measures()) {
            let name = prepared.joint.tasks()[task].name();
            let hint = Hint::from("add labels to ").option("data").then(", or give ");
            let hint = hint.option("target-size").then(" in place of ").option("max-drop");
            return Err(unmeasurable(tests[task].unusable_labels()).hint(hint).in_model(name));
        }
        let (joint, outcome, search) = merge_for(goal, &prepared, &tests, job)?;
        Ok(Zipped { joint, outcome, search })
    }

    /// Writes, verifies and compares the joint model, and puts it into its place.
    fn write(
        &self,
        destination: &Destination<'_>,
        place: &Place<'_>,
        joint: &JointModel,
        mut facts: Facts<'_>,
        progress: &dyn Progress,
    ) -> Result<Merged> {
        let start = Instant::now();
        let options = self.options.form.emit();
        let model = self.emitted(joint)?;
        let draft = onnx::stage(&model, destination.output, &SaveOptions::default(), progress)?;
        drop(model);
        let shape = Shape { form: options.form, separate: !options.inputs.is_shared(joint)? };
        facts.outcome.seconds.push(("write", start.elapsed().as_secs_f64()));
        let start = Instant::now();
        let checked = match self.check(joint, &draft, &facts, progress) {
            Ok(checked) => checked,
            Err(e) => return Err(place.unchecked(draft, e)),
        };
        facts.outcome.seconds.push(("verify", start.elapsed().as_secs_f64()));
        let start = Instant::now();
        let compared = match checked.as_ref().is_none_or(Verification::passed) {
            true => self.compare(joint, &draft, &facts, progress)?,
            false => Compared::default(),
        };
        facts.outcome.seconds.push(("compare", start.elapsed().as_secs_f64()));
        let findings = Findings { shape, checked, compared };
        self.settle(destination, place, draft, &facts, findings, progress)
    }

    /// The joint model's graph.
    pub(super) fn emitted(&self, joint: &JointModel) -> Result<Model> {
        let mut model = emit(joint, &self.options.form.emit())?;
        if self.options.form.no_recipe {
            model.metadata.retain(|key, _| ![RECIPE_KEY, STRUCTURE_KEY].contains(&key.as_str()));
        }
        Ok(model)
    }

    /// Whether the unit must be neurons, as with the paper's method.
    fn counts_neurons(&self) -> bool {
        self.options.method.is_paper()
    }

    /// Checks before the work starts that all output files can be written.
    fn check_outputs<'a>(&self, to: &Destination<'a>) -> Result<Place<'a>> {
        let plan = self.replay.written.as_ref().map(|(path, _)| path.as_path());
        let mut inputs = self.inputs();
        // A plan may take the place of the one that is followed, and nothing else may.
        plan.into_iter().try_for_each(|path| output::check(path, &inputs))?;
        inputs.extend(self.replay.source.clone());
        let others = || to.reports.iter().map(PathBuf::as_path).chain([to.output]);
        others().try_for_each(|path| output::check(path, &inputs))?;
        output::check_distinct(others().chain(plan))?;
        let place = Place::new(to.output, to.keep_rejected, &inputs)?;
        place.rejecting_into(self.rejected.as_deref(), &inputs)
    }

    /// The files that a merge reads, without the plan that it follows.
    pub(super) fn inputs(&self) -> Vec<PathBuf> {
        let models = inputs::of_models(&self.models);
        let stored = self.options.calibration.gram.clone();
        [models, inputs::of_samples(self.given()), stored].concat()
    }

    pub(super) fn given(&self) -> Given<'_> {
        Given { inputs: &self.data, options: &self.options.samples }
    }

    /// Whether there are neither samples nor stored statistics.
    fn is_made_up(&self) -> bool {
        self.given().is_synthetic() && !self.is_stored()
    }
}
