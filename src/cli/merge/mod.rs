//! `merge`: the main job.

mod comparison;
mod method;
mod placing;
mod record;
mod result;
mod retraining;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::console::Console;
use super::data::{DataArgs, SYNTHETIC_SAMPLES, TaskData, Tried};
use super::models::{self, Loaded, ToMerge};
use super::plan::{self, ModelArgs};
use super::runtime::RuntimeArgs;
use super::share::{GoalArgs, ShareArgs};
use super::structure::structure;
use super::verdict::Place;
use super::verify::SAMPLES as VERIFIED_SAMPLES;
use super::{Status, output};
use crate::calib::data::Dataset;
use crate::calib::store::{self, LayerMoments};
use crate::emit::{RECIPE_KEY, emit};
use crate::error::{Error, ErrorKind, Result};
use crate::mtz::joint::JointModel;
use crate::mtz::options::{MergeOptions, Passes};
use crate::mtz::plan::predict;
use crate::mtz::solver::memory::beside;
use crate::onnx::{self, Draft, SaveOptions};
use crate::progress::Progress;
use crate::retrain::Retraining;
use crate::runtime::{Backend, ModelSource};
use crate::verify::{Joint, Limits, Subject, Verification, verify};
use crate::zipper::{
    Calibration, Goal, Outcome, Prepared, Trial, merge_and_retrain, merge_for, prepare_parts,
};

use comparison::ComparisonArgs;
pub(super) use method::MethodArgs;
use method::TuningArgs;
use record::{Facts, Shape};
use result::ResultArgs;
use retraining::{Classroom, RetrainingArgs};

/// Merge trained models into one smaller multi-task model
///
/// The models are aligned layer by layer; neurons that do nearly the same are stored once, with
/// weights that serve all tasks, and layers behind them make up for the change. Inputs that show what
/// the models see (--data, no labels needed) decide what "nearly the same" means. Outputs of the joint
/// model are called NAME/OUTPUT.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct MergeArgs {
    #[command(flatten)]
    models: ModelArgs,
    /// Where to write the joint model; an existing file is replaced when the new one is complete
    #[arg(short, long, value_name = "FILE", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    /// Samples to calibrate on, drawn at random where there are more [default: 10000, or 2048 without
    /// data]
    #[arg(long, value_name = "N", help_heading = "Data",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    samples: Option<usize>,
    /// Statistics that `onnx-zip calibrate` stored, once per model in their order; takes the place of
    /// data and implies --passes one
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    gram: Vec<PathBuf>,
    #[command(flatten)]
    share: ShareArgs,
    #[command(flatten)]
    goal: GoalArgs,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    tuning: TuningArgs,
    #[command(flatten)]
    retraining: RetrainingArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    result: ResultArgs,
    #[command(flatten)]
    comparison: ComparisonArgs,
}

/// What is merged, and how.
struct Request<'a> {
    prepared: &'a Prepared,
    calibration: &'a Calibration,
    options: &'a MergeOptions,
    retraining: Option<Retraining<'a>>,
}

const EXAMPLES: &str = "\
Examples:
  Two models of one kind of input, calibrated on up to 10000 of your samples:
    onnx-zip merge a.onnx b.onnx -o joint.onnx --data images.npz --scale 1/255

  Each model with its own data, task names, and a report to read in a browser:
    onnx-zip merge a.onnx b.onnx -o joint.onnx --name digits --name fashion \\
        --data digits.npz --data fashion.npz --scale 1/255 --report joint.html

  Share less where it costs most: 80 % everywhere, 20 neurons in fc2, nothing in the last layers:
    onnx-zip merge a.onnx b.onnx -o joint.onnx --data images.npz \\
        --share 0.8 --keep-shared fc2=20 --keep-shared 'head*=0'

  Two embeddings in one list of dimensions, or two classifiers of one list of classes:
    onnx-zip merge a.onnx b.onnx -o joint.onnx --data images.npz --share-outputs

  As small as possible while no task's error rises by more than half a point (needs labels):
    onnx-zip merge a.onnx b.onnx -o joint.onnx --data labelled.npz --max-drop 0.5

  The paper's method, unchanged:
    onnx-zip merge a.onnx b.onnx -o joint.onnx --data images.npz --method mtz

  Try it without data; good for frozen backbones that both models have in common:
    onnx-zip merge a.onnx b.onnx -o joint.onnx";

/// Samples of a merge with data.
const SAMPLES: usize = 10_000;

const SYNTHETIC: &str = "no --data was given, so the models were calibrated on random numbers: expect \
    a loss of accuracy that real samples avoid; a few thousand unlabelled inputs are enough (--data)";

impl MergeArgs {
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        let mut options = self.options()?;
        let Some(output) = self.output.as_ref().filter(|_| !self.result.dry_run) else {
            return self.show_plan();
        };
        let place = self.check_outputs(output)?;
        self.retraining.check(!self.data.is_synthetic())?;
        let start = Instant::now();
        let ToMerge { tasks: loaded, parts } =
            models::load_parts(&self.models.paths, &self.models.names)?;
        self.tuning.apply(&mut options, loaded.len())?;
        let weights: Vec<u64> = loaded.iter().map(|model| model.bytes).collect();
        options.memory = beside(options.memory, &weights);
        let backend = self.runtime.open(console)?;
        let trial = Tried { backend: backend.as_ref(), console };
        let data = self.open_data(&loaded, options.seed, trial)?;
        let mut prepared =
            prepare_parts(parts, self.share.preparation(&self.models, self.counts_neurons())?)?;
        self.share.cut(&mut prepared)?;
        self.check_plan(&prepared, &options)?;
        let structure = structure(&prepared);
        let calibration = Calibration {
            backend: Arc::clone(&backend),
            data: data.iter().map(|d| d.dataset.clone()).collect(),
            stored: self.stored(&loaded)?,
            batch: self.runtime.batch,
            memory: options.memory,
        };
        let read = start.elapsed().as_secs_f64();
        let teachers = self.retraining.teachers(&loaded)?;
        let room = Classroom {
            teachers: &teachers,
            data: &calibration.data,
            common: self.data.is_common(),
            backend: backend.as_ref(),
            batch: self.runtime.batch,
            seed: options.seed,
        };
        let request = Request {
            prepared: &prepared,
            calibration: &calibration,
            options: &options,
            retraining: self.retraining.plan(&room),
        };
        let (joint, outcome, search) = self.zip(&request, &data, console)?;
        // The original weights are not needed any more.
        drop((prepared, teachers, calibration));
        let mut facts =
            Facts { args: self, options, loaded, data, structure, outcome, search, read, backend };
        let start = Instant::now();
        let options = self.result.emit_options();
        let mut model = emit(&joint, &options)?;
        if self.result.no_recipe {
            model.metadata.remove(RECIPE_KEY);
        }
        let draft = onnx::stage(&model, output, &SaveOptions::default(), console)?;
        drop(model);
        let shape = Shape { form: options.form, separate: !options.inputs.is_shared(&joint)? };
        facts.outcome.seconds.push(("write", start.elapsed().as_secs_f64()));
        let start = Instant::now();
        let checked = match self.check(&joint, &draft, &facts, console) {
            Ok(checked) => checked,
            Err(e) => return Err(place.unchecked(draft, e)),
        };
        facts.outcome.seconds.push(("verify", start.elapsed().as_secs_f64()));
        let start = Instant::now();
        let compared = match checked.as_ref().is_none_or(Verification::passed) {
            true => self.comparison.measure(&joint, &draft, &facts, console)?,
            false => None,
        };
        facts.outcome.seconds.push(("compare", start.elapsed().as_secs_f64()));
        console.finish();
        self.settle(&place, draft, &facts, shape, (checked, compared), console)
    }

    fn show_plan(&self) -> Result<Status> {
        if self.goal.goal().is_some() {
            let message = "how much to share for a goal is found out by merging";
            return Err(Error::new(ErrorKind::Usage, message)
                .hint("leave out --dry-run, or give --share in place of the goal"));
        }
        let statistics = self.tuning.statistics();
        plan::show(&self.models, &self.share, &self.method, statistics, self.result.json)
    }

    /// Merges, as often as the goal takes.
    fn zip(
        &self,
        request: &Request<'_>,
        data: &[TaskData],
        console: &Console,
    ) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let Request { prepared, calibration, options, retraining } = request;
        let retraining = retraining.as_ref();
        let Some(goal) = self.goal.goal().or_else(|| self.share.goal(self.counts_neurons())) else {
            let prepared = (*prepared).clone();
            let (joint, outcome) =
                merge_and_retrain(prepared, calibration, options, retraining, console)?;
            return Ok((joint, outcome, Vec::new()));
        };
        let tests: Vec<Dataset> = data.iter().map(|d| d.to_measure(SAMPLES)).collect();
        if let Some(task) =
            tests.iter().position(|t| !t.has_labels()).filter(|_| self.goal.measures())
        {
            let name = &prepared.joint.tasks[task].name;
            return Err(Error::new(ErrorKind::Usage, "--max-drop needs labelled samples")
                .in_model(name)
                .hint("give labels with --data, or --target-size in place of --max-drop"));
        }
        merge_for(goal, prepared, calibration, options, retraining, &tests, console)
    }

    /// Validated options of the zip.
    fn options(&self) -> Result<MergeOptions> {
        let neurons = self.counts_neurons();
        let mut options = MergeOptions {
            budget: self.share.budget(neurons, self.data.is_common())?,
            unit: self.share.unit(neurons),
            ..MergeOptions::default()
        };
        let goal = self.goal.goal().or_else(|| self.share.goal(neurons));
        let goal = goal.filter(|goal| !matches!(goal, Goal::Drop(_)));
        let chooses = goal.is_some() && !self.retraining.is_per_layer();
        options.corrections = self.share.corrections(neurons, chooses)?;
        self.method.apply(&mut options);
        if !self.gram.is_empty() {
            options.passes = Passes::One;
        }
        Ok(options)
    }

    /// Whether only neurons can be the unit: in the paper's method, and where there are no sensitivities
    /// since statistics stand for the data.
    fn counts_neurons(&self) -> bool {
        self.method.is_paper() || !self.gram.is_empty()
    }

    /// Everything that is to be written can be; found out before the work starts.
    fn check_outputs<'a>(&self, output: &'a PathBuf) -> Result<Place<'a>> {
        let (inputs, reports) = (&self.models.paths, &self.result.report);
        output::check(output, inputs)?;
        reports.iter().try_for_each(|report| output::check(report, inputs))?;
        output::check_distinct(reports.iter().chain([output]))?;
        Place::new(output, self.result.keep_rejected, inputs)
    }

    /// Whether nothing is known of the models' real inputs.
    fn is_made_up(&self) -> bool {
        self.data.is_synthetic() && self.gram.is_empty()
    }

    /// Statistics from earlier calibrations, in the order of the models.
    fn stored(&self, loaded: &[Loaded]) -> Result<Vec<LayerMoments>> {
        if !self.gram.is_empty() && self.gram.len() != loaded.len() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("{} statistics were given for {} models", self.gram.len(), loaded.len()),
            )
            .hint("give --gram once per model, in their order"));
        }
        let of_model = |(path, model): (&PathBuf, &Loaded)| {
            let (moments, meta) = store::load(path)?;
            if meta.model_sha256 == model.sha256 {
                return Ok(moments);
            }
            Err(Error::new(
                ErrorKind::Calibration,
                format!("the statistics are not those of {}", model.path.display()),
            )
            .in_model(path.display())
            .hint("calibrate the model again"))
        };
        self.gram.iter().zip(loaded).map(of_model).collect()
    }

    fn open_data(&self, loaded: &[Loaded], seed: u64, trial: Tried<'_>) -> Result<Vec<TaskData>> {
        let console = trial.console;
        let limit = match self.data.is_synthetic() {
            true => SYNTHETIC_SAMPLES,
            false => SAMPLES,
        };
        let data = self.data.open(loaded, self.samples.unwrap_or(limit), seed, trial)?;
        if self.is_made_up() {
            console.warn(SYNTHETIC);
        } else {
            for (model, data) in loaded.iter().zip(&data) {
                data.record
                    .notes
                    .iter()
                    .for_each(|n| console.note(&format!("{}: {n}", model.name)));
            }
        }
        Ok(data)
    }

    /// What can be told before the data is touched: whether every rule and wish makes sense.
    fn check_plan(&self, prepared: &Prepared, options: &MergeOptions) -> Result<()> {
        let usage = |message: &str| Error::new(ErrorKind::Usage, message);
        self.result.emit_options().check(&prepared.joint)?;
        if let Some(first) = prepared.joint.tasks.first() {
            let layers: Vec<String> =
                first.coupling.layers.iter().map(|layer| layer.name.clone()).collect();
            if let Some(glob) = options.budget.unused(&layers).first() {
                let message = format!("--keep-shared '{glob}' matches no layer of {}", first.name);
                return Err(usage(&message).hint(format!("its layers are {}", layers.join(", "))));
            }
        }
        predict(&prepared.joint, &prepared.alignment, &options.budget, false).map(drop)
    }

    /// Checks the file before it gets its place, against the nets it was written from and the originals.
    fn check(
        &self,
        joint: &JointModel,
        draft: &Draft<'_>,
        facts: &Facts<'_>,
        console: &Console,
    ) -> Result<Option<Verification>> {
        if self.result.no_verify || facts.was_stopped() {
            return Ok(None);
        }
        let nets: Vec<Vec<u8>> =
            joint.tasks.iter().map(|t| onnx::encode(&t.model)).collect::<Result<_>>()?;
        let samples: Vec<Dataset> = facts
            .data
            .iter()
            .map(|d| d.dataset.subset(VERIFIED_SAMPLES, facts.options.seed))
            .collect();
        let mut subjects = Vec::new();
        for ((model, net), data) in facts.loaded.iter().zip(&nets).zip(&samples) {
            subjects.push(Subject {
                task: &model.name,
                original: model.source(),
                net: Some(ModelSource::Bytes(net)),
                data,
                reported: None,
            });
        }
        let backends: Vec<Arc<dyn Backend>> = self.runtime.all(&facts.backend)?;
        let (batch, limits) = (self.runtime.batch, Limits::default());
        let name = draft.target().display().to_string();
        let joint = Joint { path: draft.path(), name: &name };
        verify(joint, &subjects, &backends, batch, &limits, console).map(Some)
    }
}
