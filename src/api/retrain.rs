//! Retrains a joint model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::data::{DataInput, Given, TaskData, task_nets, task_ports};
use super::models::{self, Loaded, ModelInput};
use super::options::RetrainOptions;
use super::verdict::{Place, failed};
use super::verify::SAMPLES as VERIFIED_SAMPLES;
use super::{TOOL, inputs, output, rewritten};
use crate::calib::data::Dataset;
use crate::emit::{self, emit_like};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::Model;
use crate::mtz::joint::{JointModel, Task};
use crate::onnx::{self, Draft, SaveOptions};
use crate::progress::Progress;
use crate::report::{RetrainReport, RetrainSettings, SCHEMA};
use crate::retrain::{Ending, Lesson, Outcome, retrain};
use crate::runtime::{Backend, ModelSource};
use crate::verify::{DEVIATION_KEY, Joint, Limits, Subject, Verification, verify};

/// Retrains a joint model towards the outputs of its original models, or towards labels.
///
/// ```no_run
/// use onnx_zip::{RetrainOptions, Retrainer, Silent};
///
/// let (joint, report) = Retrainer::new("joint.onnx", RetrainOptions::default())
///     .teacher("a.onnx")
///     .teacher("b.onnx")
///     .data("images.npz")
///     .retrain(&Silent)?;
/// joint.save("joint2.onnx", &Silent)?;
/// assert!(report.outcome.iterations > 0);
/// # Ok::<(), onnx_zip::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Retrainer {
    pub(super) options: RetrainOptions,
    pub(super) joint: PathBuf,
    pub(super) teachers: Vec<ModelInput>,
    data: Vec<DataInput>,
    rejected: Option<PathBuf>,
}

/// Output files of retraining.
///
/// ```
/// let mut destination = onnx_zip::RetrainDestination::new("joint2.onnx".as_ref());
/// destination.keep_rejected = true;
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RetrainDestination<'a> {
    /// The joint model's file.
    pub output: &'a Path,
    /// A file for the report, as JSON.
    pub report: Option<&'a Path>,
    /// Whether a joint model that fails its verification is kept beside `output`.
    pub keep_rejected: bool,
}

impl<'a> RetrainDestination<'a> {
    /// A file without a report.
    pub fn new(output: &'a Path) -> Self {
        RetrainDestination { output, report: None, keep_rejected: false }
    }
}

/// Original models, samples and runtime of a retraining.
struct Material {
    teachers: Vec<Loaded>,
    data: Vec<TaskData>,
    backend: Arc<dyn Backend>,
}

impl Retrainer {
    /// Retrains the joint model in a file.
    pub fn new(joint: impl Into<PathBuf>, options: RetrainOptions) -> Self {
        let (teachers, data) = (Vec::new(), Vec::new());
        Retrainer { options, joint: joint.into(), teachers, data, rejected: None }
    }

    /// Adds the original model of a task to learn from, once per task in the order of the tasks.
    #[must_use]
    pub fn teacher(mut self, model: impl Into<ModelInput>) -> Self {
        self.teachers.push(model.into());
        self
    }

    /// Adds samples: once for all tasks, or once per task in their order.
    #[must_use]
    pub fn data(mut self, data: impl Into<DataInput>) -> Self {
        self.data.push(data.into());
        self
    }

    /// Keeps a joint model that fails its verification in the file `path`.
    #[must_use]
    pub fn keep_rejected(mut self, path: impl Into<PathBuf>) -> Self {
        self.rejected = Some(path.into());
        self
    }

    /// Trains and verifies the joint model, into a temporary file.
    ///
    /// # Errors
    /// [`ErrorKind::Parity`] where the joint model fails its verification; else as
    /// [`Retrainer::retrain_into`].
    pub fn retrain(&self, progress: &dyn Progress) -> Result<(super::Joint, RetrainReport)> {
        let folder = super::joint::folder()?;
        let output = folder.path().join("joint.onnx");
        let report = self.retrain_into(&RetrainDestination::new(&output), progress)?;
        match &report.verification {
            Some(checked) if !checked.passed() => {
                Err(failed(&checked.failures, self.rejected.as_deref()))
            }
            _ => Ok((super::Joint::in_folder(folder, output, None), report)),
        }
    }

    /// Trains, verifies and writes the joint model, in the form of the given one. After an
    /// interruption, the best weights so far are written.
    ///
    /// # Errors
    /// Those of reading and running the models; [`ErrorKind::Usage`] for options that make no sense.
    pub fn retrain_into(
        &self,
        to: &RetrainDestination<'_>,
        progress: &dyn Progress,
    ) -> Result<RetrainReport> {
        let place = self.check_outputs(to)?;
        let file = onnx::load(&self.joint)?;
        let mut joint = self.restore(&file, progress)?;
        let batch = self.options.runtime.batch;
        let options = self.options.training.options(batch, !self.teachers.is_empty());
        options.validate(joint.tasks().len())?;
        if options.iterations > 0 {
            let hint = "convert the original models to F32, and merge those";
            emit::check_parameters(&joint)
                .map_err(|e| e.hint(hint).in_model(self.joint.display()))?;
        }
        if let Some(idle) = self.options.training.idle() {
            progress.warn(&progress.worded(&idle));
        }
        let (outcome, material) = self.train(&mut joint, &options, progress)?;
        let mut model = emit_like(&joint, &file)?;
        // Measurements of the old weights.
        model.metadata.remove(DEVIATION_KEY);
        let draft = onnx::stage(&model, to.output, &SaveOptions::default(), progress)?;
        // After Ctrl-C the file is written at once, without a check.
        let checked = match outcome.ending {
            Ending::Interrupted => Ok(None),
            _ => self.check(&draft, &joint, &material, progress),
        };
        let checked = match checked {
            Ok(checked) => checked,
            Err(e) => return Err(place.unchecked(draft, e)),
        };
        let report = RetrainReport {
            schema: SCHEMA,
            tool: TOOL.to_owned(),
            joint: self.joint.display().to_string(),
            output: to.output.display().to_string(),
            written: true,
            settings: RetrainSettings::new(&options),
            runtime: material.backend.describe(),
            outcome,
            verification: checked,
        };
        settle(to, &place, draft, report, progress)
    }

    /// The task nets of the joint model in the `file`.
    pub(super) fn restore(&self, file: &Model, progress: &dyn Progress) -> Result<JointModel> {
        rewritten::restore(file, &self.joint, progress)
    }

    /// Trains the joint model, and returns what it was trained with.
    fn train(
        &self,
        joint: &mut JointModel,
        options: &crate::retrain::RetrainOptions,
        progress: &dyn Progress,
    ) -> Result<(Outcome, Material)> {
        let mut teachers = self.load_teachers(joint)?;
        let models: Vec<Model> =
            teachers.iter_mut().map(|m| std::mem::take(&mut m.model)).collect();
        if self.given().is_synthetic() {
            return Err(super::data::no_samples("train"));
        }
        let data = self.open_samples(joint, usize::MAX, options.seed, progress)?;
        let backend = self.options.runtime.open(progress)?;
        // Tasks with common samples run their shared layers once.
        let count = if self.given().is_common() { 1 } else { data.len() };
        let sets: Vec<Dataset> = data.iter().take(count).map(|d| d.dataset.clone()).collect();
        let lesson = Lesson {
            data: &sets,
            teachers: &models,
            backend: backend.as_ref(),
            checkpoint: self.options.checkpoint.as_deref(),
            resume: self.options.resume,
        };
        let outcome = retrain(joint, &lesson, options, progress)?;
        Ok((outcome, Material { teachers, data, backend }))
    }

    fn given(&self) -> Given<'_> {
        Given { inputs: &self.data, options: &self.options.samples }
    }

    fn check_outputs<'a>(&self, to: &RetrainDestination<'a>) -> Result<Place<'a>> {
        let joint = inputs::of_models(&[self.joint.clone().into()]);
        let teachers = inputs::of_models(&self.teachers);
        let inputs = [joint, teachers, inputs::of_samples(self.given())].concat();
        output::check(to.output, &inputs)?;
        if let Some(path) = &self.options.checkpoint {
            output::check_file(path)?;
        }
        let others = || to.report.into_iter().chain(self.options.checkpoint.as_deref());
        others().try_for_each(|other| output::check(other, &inputs))?;
        output::check_distinct(others().chain([to.output]))?;
        let place = Place::new(to.output, to.keep_rejected, &inputs)?;
        place.rejecting_into(self.rejected.as_deref(), &inputs)
    }

    fn load_teachers(&self, joint: &JointModel) -> Result<Vec<Loaded>> {
        if self.teachers.is_empty() {
            return Ok(Vec::new());
        }
        if self.teachers.len() != joint.tasks().len() {
            let names: Vec<&str> = joint.tasks().iter().map(|t| t.name()).collect();
            let message =
                format!("{} original models for {} tasks", self.teachers.len(), names.len());
            let hint = Hint::from("give ").option("teacher");
            return Err(Error::new(ErrorKind::Usage, message)
                .hint(hint.then(format!(" once for each of {}", names.join(", ")))));
        }
        let names: Vec<String> = joint.tasks().iter().map(|t| t.name().to_owned()).collect();
        models::load(&self.teachers, &names)
    }

    /// The samples of all tasks, `most` of each where no other number is asked for.
    pub(super) fn open_samples(
        &self,
        joint: &JointModel,
        most: usize,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<Vec<TaskData>> {
        let ports = task_ports(joint)?;
        let nets = task_nets(joint, &ports);
        let limit = self.options.limit.unwrap_or(most);
        let data = self.given().open_nets(&nets, limit, seed, None)?;
        for (task, data) in joint.tasks().iter().zip(&data) {
            data.record.notes.iter().for_each(|n| {
                progress.note(&format!("{}: {}", task.name(), progress.worded(n)));
            });
        }
        Ok(data)
    }

    /// Verifies the staged file against its nets and the originals.
    fn check(
        &self,
        draft: &Draft<'_>,
        joint: &JointModel,
        material: &Material,
        progress: &dyn Progress,
    ) -> Result<Option<Verification>> {
        let Material { teachers, data, backend } = material;
        if self.options.no_verify || teachers.is_empty() {
            return Ok(None);
        }
        let samples: Vec<Dataset> = data
            .iter()
            .map(|d| d.dataset.subset(VERIFIED_SAMPLES, self.options.training.seed))
            .collect();
        let subjects: Vec<Subject<'_>> = teachers
            .iter()
            .zip(joint.tasks().iter().zip(&samples))
            .map(|(teacher, (net, data))| Subject {
                task: &teacher.name,
                original: teacher.source(),
                reading: teacher.reading,
                net: Some(ModelSource::Graph(net.model())),
                data,
                reported: None,
                is_untouched: false,
            })
            .collect();
        let backends = self.options.runtime.all(backend)?;
        let limits = Limits::of_nets(joint.tasks().iter().map(Task::graph));
        let name = draft.target().display().to_string();
        let joint = Joint { path: draft.path(), name: &name, bytes: draft.bytes()? };
        verify(joint, &subjects, &backends, self.options.runtime.batch, &limits, progress).map(Some)
    }
}

/// Puts the joint model into place with its report, unless its verification failed.
fn settle(
    to: &RetrainDestination<'_>,
    place: &Place<'_>,
    mut draft: Draft<'_>,
    mut report: RetrainReport,
    progress: &dyn Progress,
) -> Result<RetrainReport> {
    let passed = report.verification.as_ref().is_none_or(Verification::passed);
    if passed {
        place.note(&mut draft, report.verification.as_ref(), false)?;
        if let Some(path) = to.report {
            draft.add_text(path, &output::json(&report)?)?;
        }
        draft.commit()?;
    } else {
        let settled = place.reject(draft, progress)?;
        report.output = settled.path.display().to_string();
        report.written = settled.written;
        let json = output::json(&report)?;
        output::write(to.report.iter().map(|path| (*path, json.as_str())), progress)?;
    }
    Ok(report)
}
