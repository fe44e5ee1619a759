//! `retrain`: a joint model is trained a little more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, RangedU64ValueParser};

use super::console::Console;
use super::data::{DataArgs, Net, TaskData};
use super::handoff::{LossName, Request};
use super::models::{self, Loaded};
use super::runtime::RuntimeArgs;
use super::verify::SAMPLES as VERIFIED_SAMPLES;
use super::{Status, TOOL, output};
use crate::calib::data::Dataset;
use crate::emit::{self, EmitOptions, FORM_KEY, Form, InputMode, RECIPE_KEY, emit};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;
use crate::mtz::joint::JointModel;
use crate::onnx::{self, SaveOptions};
use crate::progress::Progress;
use crate::report::{self, RetrainReport, RetrainSettings, SCHEMA};
use crate::retrain::{Ending, Lesson, LossKind, OptimizerKind, Outcome, RetrainOptions, retrain};
use crate::runtime::{Backend, ModelSource};
use crate::verify::{Limits, Subject, Verification, Wiring, verify};

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

/// How the model is trained.
#[derive(Args)]
#[command(next_help_heading = "Training")]
pub(super) struct TrainingArgs {
    /// Steps of the optimiser; each takes one batch of every task
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(super) iterations: usize,
    /// What the outputs are trained towards [default: distillation with --teacher, else cross-entropy]
    #[arg(long, value_name = "LOSS", value_parser = losses())]
    loss: Option<String>,
    /// Temperature at which probabilities are compared
    #[arg(long, value_name = "T", default_value_t = RetrainOptions::default().temperature)]
    temperature: f64,
    /// Weight of the merged layers' pre-activations, which are to be those of the original models;
    /// the outputs have 1
    #[arg(long, value_name = "W", default_value_t = RetrainOptions::default().layers)]
    layers: f64,
    /// Weight of each task's loss, relative to the others, e.g. 1,2 [default: equal]
    #[arg(long, value_name = "W,…", value_delimiter = ',')]
    weights: Vec<f64>,
    /// How parameters follow their gradients
    #[arg(long, value_name = "NAME", default_value = "adam", value_parser = optimizers())]
    optimizer: String,
    /// The largest learning rate; it rises to it at first and then falls to zero
    #[arg(long, value_name = "R", default_value_t = RetrainOptions::default().learning_rate)]
    learning_rate: f64,
    /// Weight decay of --optimizer adamw
    #[arg(long, value_name = "D", default_value_t = 0.01)]
    weight_decay: f64,
    /// Fraction of the samples that is kept to choose the best weights by
    #[arg(long, value_name = "F", default_value_t = 0.1)]
    validation: f64,
    /// Validations (there are 20 in all) without improvement after which training stops
    #[arg(long, value_name = "N", default_value_t = 10)]
    patience: usize,
    /// Train on mixtures of two samples each instead of samples, which makes more of few samples; with
    /// a larger --batch and --learning-rate. The original models compute their scores anew
    #[arg(long)]
    mix: bool,
    /// Take the statistics of BatchNormalization anew, from the samples, before the first step; with
    /// --iterations 0 without training
    #[arg(long)]
    reset_bn: bool,
    /// Seed of the order of samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
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
    /// Leave out the check of the written file against the original models
    #[arg(long)]
    no_verify: bool,
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

fn losses() -> PossibleValuesParser {
    LossKind::ALL.map(|(_, name, help)| PossibleValue::new(name).help(help)).into()
}

fn optimizers() -> PossibleValuesParser {
    OptimizerKind::ALL.map(|(_, name, help)| PossibleValue::new(name).help(help)).into()
}

/// Samples per task in a folder for ONNX Runtime training, where there are more.
const EXPORTED_SAMPLES: usize = 10_000;

impl TrainingArgs {
    /// The options; `taught` says whether there are original models to learn from.
    pub(super) fn options(&self, batch: usize, taught: bool) -> RetrainOptions {
        let loss = LossKind::ALL.iter().find(|(_, name, _)| Some(*name) == self.loss.as_deref());
        let optimizer = OptimizerKind::ALL.iter().find(|(_, name, _)| *name == self.optimizer);
        let default = if taught { LossKind::Distillation } else { LossKind::CrossEntropy };
        RetrainOptions {
            iterations: self.iterations,
            batch,
            optimizer: optimizer.map(|(kind, ..)| *kind).unwrap_or_default(),
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            loss: loss.map_or(default, |(kind, ..)| *kind),
            temperature: self.temperature,
            layers: self.layers,
            weights: self.weights.clone(),
            validation: self.validation,
            patience: self.patience,
            mix: self.mix,
            seed: self.seed,
            reset_statistics: self.reset_bn,
            ..RetrainOptions::default()
        }
    }
}

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

    fn train(&self, output: &Path, console: &Console) -> Result<Status> {
        self.check_outputs(output)?;
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
        write(&joint, &file, output)?;
        // Who has asked to stop does not wait for a check.
        let checked = match outcome.ending {
            Ending::Interrupted => None,
            _ => self.check(output, &joint, &teachers, &data, &backend, console)?,
        };
        console.finish();
        self.tell(output, &options, outcome, checked, backend.as_ref())
    }

    fn check_outputs(&self, output: &Path) -> Result<()> {
        let inputs: Vec<PathBuf> = self.teacher.iter().chain([&self.joint]).cloned().collect();
        output::check(output, &inputs)?;
        let others = self.result.report.iter().chain(&self.checkpoint);
        others.into_iter().try_for_each(|other| output::check(other, &inputs))
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
        let nets = tasks.map(|(file, (task, ports))| Net { name: &task.name, ports, file });
        let nets: Vec<Net<'_>> = nets.collect();
        let data = self.data.open_nets(&nets, self.samples.unwrap_or(usize::MAX), seed)?;
        for (task, data) in joint.tasks.iter().zip(&data) {
            data.record.notes.iter().for_each(|n| {
                console.note(&format!("{}: {n}", task.name));
            });
        }
        Ok(data)
    }

    /// Checks the written file against its nets and the originals.
    fn check(
        &self,
        output: &Path,
        joint: &JointModel,
        teachers: &[Loaded],
        data: &[TaskData],
        backend: &Arc<dyn Backend>,
        console: &Console,
    ) -> Result<Option<Verification>> {
        if self.result.no_verify || teachers.is_empty() || !output.is_file() {
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
            })
            .collect();
        let backends = self.runtime.all(backend)?;
        let limits = Limits::default();
        verify(output, &subjects, &backends, self.runtime.batch, &limits, console).map(Some)
    }

    fn tell(
        &self,
        output: &Path,
        options: &RetrainOptions,
        outcome: Outcome,
        verification: Option<Verification>,
        backend: &dyn Backend,
    ) -> Result<Status> {
        let passed = verification.as_ref().is_none_or(Verification::passed);
        let report = RetrainReport {
            schema: SCHEMA,
            tool: TOOL.to_owned(),
            joint: self.joint.display().to_string(),
            output: output.display().to_string(),
            settings: RetrainSettings::new(options),
            runtime: backend.describe(),
            outcome,
            verification,
        };
        let json = output::json(&report)?;
        if let Some(path) = &self.result.report {
            output::write(path, &json)?;
        }
        output::print(&if self.result.json { json } else { report::retraining(&report) })?;
        Ok(if passed { Status::Done } else { Status::VerificationFailed })
    }
}

/// Writes a joint model in the form, and with the inputs and other metadata, of the file that it
/// came from.
pub(super) fn write(joint: &JointModel, file: &Model, path: &Path) -> Result<()> {
    let form = file.metadata.get(FORM_KEY).and_then(|name| Form::named(name)).unwrap_or_default();
    let ports = |ids| models::ports(&file.graph, ids);
    let wiring = Wiring::of(&ports(&file.graph.inputs)?, &ports(&file.graph.outputs)?)?;
    let inputs = if wiring.separate() { InputMode::Separate } else { InputMode::Auto };
    let mut model = emit(joint, &EmitOptions { form, inputs })?;
    for (key, value) in &file.metadata {
        if key != RECIPE_KEY && key != FORM_KEY {
            model.metadata.insert(key.clone(), value.clone());
        }
    }
    onnx::save(&model, path, &SaveOptions::default()).map(drop)
}
