//! `retrain`: a joint model is trained a little more.

mod training;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::console::Console;
use super::data::{DataArgs, Net, TaskData};
use super::handoff::{LossName, Request};
use super::models::{self, Loaded};
use super::runtime::RuntimeArgs;
use super::verdict::Place;
use super::verify::SAMPLES as VERIFIED_SAMPLES;
use super::{Status, TOOL, output};
use crate::calib::data::Dataset;
use crate::emit::{self, EmitOptions, FORM_KEY, Form, InputMode, RECIPE_KEY, emit};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;
use crate::mtz::joint::JointModel;
use crate::onnx::{self, Draft, SaveOptions};
use crate::progress::Progress;
use crate::report::{self, RetrainReport, RetrainSettings, SCHEMA};
use crate::retrain::{Ending, Lesson, LossKind, retrain};
use crate::runtime::{Backend, ModelSource};
use crate::verify::{DEVIATION_KEY, Joint, Limits, Subject, Verification, Wiring, verify};

use training::TrainingArgs;

/// Train a joint model a little more, so that it does what its original models did
///
/// All parameters are trained at once, towards the scores of the original models (--teacher, no
/// labels needed) or towards labels. Shared weights learn from every task. Needs nothing but ONNX
/// Runtime: gradients and optimiser are part of the graph that it runs. The weights that do best on
/// samples kept for validation are written, also after Ctrl-C.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct RetrainArgs {
    /// The joint model, in any form
    #[arg(value_name = "JOINT")]
    joint: PathBuf,
    /// Where to write the retrained joint model, in the form of the given one
    #[arg(short, long, value_name = "FILE", required_unless_present = "export")]
    output: Option<PathBuf>,
    /// Write a folder for ONNX Runtime training instead, with scripts that train there; it must be new
    /// or empty, and `onnx-zip import` takes the trained weights back
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "checkpoint"])]
    export: Option<PathBuf>,
    /// The original model of a task, to learn from; once per task, in the order of the tasks
    #[arg(long, value_name = "MODEL")]
    teacher: Vec<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    /// Samples per task, drawn at random where there are more [default: all]
    #[arg(long, value_name = "N", help_heading = "Data",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    samples: Option<usize>,
    #[command(flatten)]
    training: TrainingArgs,
    /// Save training in this file at every validation
    #[arg(long, value_name = "FILE", help_heading = "Training")]
    checkpoint: Option<PathBuf>,
    /// Go on from the file of --checkpoint; it comes to the same as training in one go
    #[arg(long, requires = "checkpoint", help_heading = "Training")]
    resume: bool,
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// What comes out.
#[derive(Args)]
#[command(next_help_heading = "Result")]
struct ResultArgs {
    /// Write a report, as .json
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the report as JSON instead of text
    #[arg(long)]
    json: bool,
    /// Leave out the check of the joint model against the original models, before it is put into place
    #[arg(long)]
    no_verify: bool,
    /// Keep a joint model that fails that check, as STEM.rejected.onnx beside the output; else nothing
    /// is left of it
    #[arg(long, conflicts_with = "no_verify")]
    keep_rejected: bool,
}

const EXAMPLES: &str = "\
Examples:
  Without labels, towards what the original models compute:
    onnx-zip retrain joint.onnx --teacher a.onnx --teacher b.onnx -o joint2.onnx \\
        --data images.npz --scale 1/255

  Each task with its own samples, towards their labels:
    onnx-zip retrain joint.onnx -o joint2.onnx --loss cross-entropy \\
        --data digits.npz --data fashion.npz --scale 1/255

  With ONNX Runtime training, in a folder of its own (then, as its README.md says: python train.py):
    onnx-zip retrain joint.onnx --teacher a.onnx --teacher b.onnx --data images.npz --scale 1/255 \\
        --export training/
    onnx-zip import training/ -o joint2.onnx";

/// Samples per task in a folder for ONNX Runtime training, where there are more.
const EXPORTED_SAMPLES: usize = 10_000;

impl RetrainArgs {
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        match (&self.export, &self.output) {
            (Some(folder), _) => self.hand_off(folder, console),
            (None, Some(output)) => self.train(output, console),
            (None, None) => Err(Error::new(ErrorKind::Usage, "there is no place for the result")
                .hint("give --output")),
        }
    }

    /// Leaves training to ONNX Runtime training.
    fn hand_off(&self, folder: &Path, console: &Console) -> Result<Status> {
        let options = self.training.options(self.runtime.batch, !self.teacher.is_empty());
        let loss = match options.loss {
            LossKind::CrossEntropy => LossName::CrossEntropy,
            LossKind::Distillation => LossName::Distillation,
            _ => {
                return Err(Error::new(ErrorKind::Usage, "ONNX Runtime training has no such loss")
                    .hint("export with --loss distillation or --loss cross-entropy"));
            }
        };
        if options.mix {
            return Err(Error::new(ErrorKind::Usage, "train.py does not mix samples")
                .hint("leave out --mix, or train here"));
        }
        let request = Request {
            joint: &self.joint,
            teachers: &self.teacher,
            data: &self.data,
            samples: self.samples.unwrap_or(EXPORTED_SAMPLES),
            loss,
            runtime: &self.runtime,
            seed: options.seed,
            folder,
        };
        request.run(console)
    }

    fn train(&self, output: &PathBuf, console: &Console) -> Result<Status> {
        let place = self.check_outputs(output)?;
        let file = onnx::load(&self.joint)?;
        let mut joint = emit::restore(&file).in_model(self.joint.display())?;
        let options = self.training.options(self.runtime.batch, !self.teacher.is_empty());
        options.validate(joint.tasks.len())?;
        let mut teachers = self.load_teachers(&joint)?;
        let models: Vec<Model> =
            teachers.iter_mut().map(|m| std::mem::take(&mut m.model)).collect();
        let data = self.open_data(&joint, options.seed, console)?;
        let backend = self.runtime.open(console)?;
        // Samples that all tasks have in common run through what they share once.
        let count = if self.data.is_common() { 1 } else { data.len() };
        let sets: Vec<Dataset> = data.iter().take(count).map(|d| d.dataset.clone()).collect();
        let lesson = Lesson {
            data: &sets,
            teachers: &models,
            backend: backend.as_ref(),
            checkpoint: self.checkpoint.as_deref(),
            resume: self.resume,
        };
        let outcome = retrain(&mut joint, &lesson, &options, console)?;
        let model = laid_out(&joint, &file)?;
        let draft = onnx::stage(&model, output, &SaveOptions::default(), console)?;
        // Who has asked to stop does not wait for a check.
        let checked = match outcome.ending {
            Ending::Interrupted => Ok(None),
            _ => self.check(&draft, &joint, &teachers, &data, &backend, console),
        };
        let checked = match checked {
            Ok(checked) => checked,
            Err(e) => return Err(place.unchecked(draft, e)),
        };
        console.finish();
        let report = RetrainReport {
            schema: SCHEMA,
            tool: TOOL.to_owned(),
            joint: self.joint.display().to_string(),
            output: output.display().to_string(),
            written: true,
            settings: RetrainSettings::new(&options),
            runtime: backend.describe(),
            outcome,
            verification: checked,
        };
        self.settle(&place, draft, report, console)
    }

    fn check_outputs<'a>(&self, output: &'a PathBuf) -> Result<Place<'a>> {
        let inputs: Vec<PathBuf> = self.teacher.iter().chain([&self.joint]).cloned().collect();
        output::check(output, &inputs)?;
        if let Some(path) = &self.checkpoint {
            output::check_file(path)?;
        }
        let others = || self.result.report.iter().chain(&self.checkpoint);
        others().try_for_each(|other| output::check(other, &inputs))?;
        output::check_distinct(others().chain([output]))?;
        Place::new(output, self.result.keep_rejected, &inputs)
    }

    fn load_teachers(&self, joint: &JointModel) -> Result<Vec<Loaded>> {
        if self.teacher.is_empty() {
            return Ok(Vec::new());
        }
        if self.teacher.len() != joint.tasks.len() {
            let names: Vec<&str> = joint.tasks.iter().map(|t| t.name.as_str()).collect();
            let message =
                format!("{} original models for {} tasks", self.teacher.len(), names.len());
            return Err(Error::new(ErrorKind::Usage, message)
                .hint(format!("give --teacher once for each of {}", names.join(", "))));
        }
        let names: Vec<String> = joint.tasks.iter().map(|t| t.name.clone()).collect();
        models::load(&self.teacher, &names)
    }

    fn open_data(&self, joint: &JointModel, seed: u64, console: &Console) -> Result<Vec<TaskData>> {
        if self.data.is_synthetic() {
            return Err(Error::new(ErrorKind::Usage, "there are no samples to train on")
                .hint("give inputs such as the models see, with or without labels: --data"));
        }
        let mut ports = Vec::new();
        for task in &joint.tasks {
            let graph = &task.model.graph;
            ports.push(models::ports(graph, &graph.inputs).in_model(&task.name)?);
        }
        let tasks = joint.tasks.iter().zip(&ports).enumerate();
        let nets =
            tasks.map(|(file, (task, ports))| Net { name: &task.name, ports, file, source: None });
        let nets: Vec<Net<'_>> = nets.collect();
        let data = self.data.open_nets(&nets, self.samples.unwrap_or(usize::MAX), seed, None)?;
        for (task, data) in joint.tasks.iter().zip(&data) {
            data.record.notes.iter().for_each(|n| {
                console.note(&format!("{}: {n}", task.name));
            });
        }
        Ok(data)
    }

    /// Checks the file before it gets its place, against its nets and the originals.
    fn check(
        &self,
        draft: &Draft<'_>,
        joint: &JointModel,
        teachers: &[Loaded],
        data: &[TaskData],
        backend: &Arc<dyn Backend>,
        console: &Console,
    ) -> Result<Option<Verification>> {
        if self.result.no_verify || teachers.is_empty() {
            return Ok(None);
        }
        let nets: Vec<Vec<u8>> =
            joint.tasks.iter().map(|t| onnx::encode(&t.model)).collect::<Result<_>>()?;
        let samples: Vec<Dataset> =
            data.iter().map(|d| d.dataset.subset(VERIFIED_SAMPLES, self.training.seed)).collect();
        let subjects: Vec<Subject<'_>> = teachers
            .iter()
            .zip(nets.iter().zip(&samples))
            .map(|(teacher, (net, data))| Subject {
                task: &teacher.name,
                original: ModelSource::File(&teacher.path),
                net: Some(ModelSource::Bytes(net)),
                data,
                reported: None,
            })
            .collect();
        let backends = self.runtime.all(backend)?;
        let limits = Limits::default();
        let name = draft.target().display().to_string();
        let joint = Joint { path: draft.path(), name: &name };
        verify(joint, &subjects, &backends, self.runtime.batch, &limits, console).map(Some)
    }

    /// Puts the joint model into its place, with its report, unless its check failed; prints a report.
    fn settle(
        &self,
        place: &Place<'_>,
        mut draft: Draft<'_>,
        mut report: RetrainReport,
        console: &Console,
    ) -> Result<Status> {
        let passed = report.verification.as_ref().is_none_or(Verification::passed);
        if passed {
            place.note(&mut draft, report.verification.as_ref(), false)?;
            if let Some(path) = &self.result.report {
                draft.add_text(path, &output::json(&report)?)?;
            }
            draft.commit()?;
        } else {
            let settled = place.reject(draft, console)?;
            report.output = settled.path.display().to_string();
            report.written = settled.written;
            let json = output::json(&report)?;
            let files = self.result.report.iter().map(|path| (path.as_path(), json.as_str()));
            output::write(files, console)?;
        }
        let text = match self.result.json {
            true => output::json(&report)?,
            false => report::retraining(&report),
        };
        output::print_beside(place.output, &text)?;
        Ok(if passed { Status::Done } else { Status::VerificationFailed })
    }
}

/// A joint model in the form, and with the inputs and other metadata, of the file that it came from.
fn laid_out(joint: &JointModel, file: &Model) -> Result<Model> {
    let form = file.metadata.get(FORM_KEY).and_then(|name| Form::named(name)).unwrap_or_default();
    let ports = |ids| models::ports(&file.graph, ids);
    let wiring = Wiring::of(&ports(&file.graph.inputs)?, &ports(&file.graph.outputs)?)?;
    let inputs = if wiring.separate() { InputMode::Separate } else { InputMode::Auto };
    let mut model = emit(joint, &EmitOptions { form, inputs })?;
    for (key, value) in &file.metadata {
        // What was measured before the weights changed holds no longer.
        if ![RECIPE_KEY, FORM_KEY, DEVIATION_KEY].contains(&key.as_str()) {
            model.metadata.insert(key.clone(), value.clone());
        }
    }
    Ok(model)
}
