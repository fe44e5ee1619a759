//! The commands, as functions of the module.

use std::ffi::OsString;
use std::path::PathBuf;

use onnx_zip::cli::{Beside as Typed, options, options_and_plan, repeated};
use onnx_zip::mtz::statistics::Sharding;
use onnx_zip::{
    CalibrateOptions, DataInput, FrontierDestination, FrontierOptions, MergeOptions, Merger,
    ModelInput, PlanOptions, PruneOptions, RetrainOptions, Retrainer, VerifyOptions, WorkerOptions,
    report,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrays::Data;
use crate::errors::exception;
use crate::joint::NativeJoint;
use crate::listener::{Listener, quietly};
use crate::shards::Crew;

/// A model: the path of a file, or bytes.
pub(crate) struct Model(ModelInput);

impl<'a, 'py> FromPyObject<'a, 'py> for Model {
    type Error = PyErr;

    fn extract(model: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Model(match model.cast::<PyBytes>() {
            Ok(bytes) => bytes.as_bytes().to_vec().into(),
            Err(_) => model.extract::<PathBuf>()?.into(),
        }))
    }
}

fn inputs(data: Vec<PyRef<'_, Data>>) -> Vec<DataInput> {
    data.iter().map(|data| data.input.clone()).collect()
}

/// A report: its JSON and its text.
type Told = (String, String);

fn told(report: &impl serde::Serialize, text: String) -> PyResult<Told> {
    let json = serde_json::to_string(report);
    let json = json.map_err(|e| pyo3::exceptions::PyValueError::new_err(e.to_string()))?;
    Ok((json, text))
}

/// Options from arguments of the command line.
pub(crate) fn read<T: Arguments>(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<T> {
    T::read(arguments).map_err(|error| exception(py, &error))
}

/// Options that can be parsed from arguments of the command line.
pub(crate) trait Arguments: Sized {
    fn read(arguments: Vec<OsString>) -> onnx_zip::Result<Self>;
}

macro_rules! arguments {
    ($($options:ty),* $(,)?) => {$(
        impl Arguments for $options {
            fn read(arguments: Vec<OsString>) -> onnx_zip::Result<Self> {
                options(arguments)
            }
        }
    )*};
}
arguments!(
    PlanOptions,
    CalibrateOptions,
    PruneOptions,
    VerifyOptions,
    RetrainOptions,
    WorkerOptions,
    onnx_zip::api::options::RuntimeOptions,
);

/// The number of shards, and the Python object that computes their statistics.
type Shards = (usize, Py<PyAny>);

/// The command that starts a worker, and shards.
type Workers = (Vec<OsString>, Option<Shards>);

/// Shards, and the folders for plans and joint models.
type Beside = (Option<Shards>, Option<PathBuf>, Option<PathBuf>);

/// A merger with statistics from Python.
fn sharded(merger: Merger, crew: Option<Shards>) -> Merger {
    let sharding = crew.map(|(count, target)| Sharding::new(count, Crew::new(target)));
    sharding.into_iter().fold(merger, Merger::sharding)
}

/// The plan to follow, whether files may differ from its own, and the file of the plan to write.
type Plans = (Option<PathBuf>, bool, Option<PathBuf>);

/// Models, the names of their tasks, and samples.
type Given<'py> = (Vec<Model>, Vec<String>, Vec<PyRef<'py, Data>>);

/// A merger with the options of `arguments`, and with all that its plans say.
fn planned(
    arguments: Vec<OsString>,
    given: Typed,
    (followed, allow_changed, written): Plans,
) -> onnx_zip::Result<Merger> {
    let (merger, typed) = match followed {
        None => {
            let (options, typed) = options_and_plan::<MergeOptions>(arguments)?;
            (Merger::new(options), typed)
        }
        Some(path) => {
            let found = repeated(&path, arguments, given)?;
            let merger = Merger::new(found.options).follow(found.plan, allow_changed);
            let merger = found.models.into_iter().fold(merger.names(found.names), Merger::model);
            (found.data.into_iter().fold(merger, Merger::data), found.typed)
        }
    };
    let merger = merger.typed(&typed);
    Ok(match written {
        Some(path) => merger.write_plan(path, typed),
        None => merger,
    })
}

/// A merger of these models and samples, with the options of `arguments` and all that plans say.
fn merger(
    (models, names, data): Given<'_>,
    arguments: Vec<OsString>,
    plans: Plans,
) -> onnx_zip::Result<Merger> {
    let typed =
        Typed { models: !models.is_empty(), names: !names.is_empty(), data: !data.is_empty() };
    let merger = planned(arguments, typed, plans)?;
    let merger = if typed.models { merger.names(names) } else { merger };
    let merger = models.into_iter().fold(merger, |merger, model| merger.model(model.0));
    Ok(inputs(data).into_iter().fold(merger, Merger::data))
}

/// Merges models. A joint model that fails its verification goes into the file `rejected`, if there is one.
#[pyfunction]
pub(crate) fn merge(
    py: Python<'_>,
    given: Given<'_>,
    arguments: Vec<OsString>,
    plans: Plans,
    workers: Workers,
    rejected: Option<PathBuf>,
    listener: Py<PyAny>,
) -> PyResult<NativeJoint> {
    let (program, crew) = workers;
    let merger = merger(given, arguments, plans).map_err(|error| exception(py, &error))?;
    let merger = rejected.into_iter().fold(merger.program(program), Merger::keep_rejected);
    let merger = sharded(merger, crew);
    let joint = Listener::new(listener).run(py, |progress| merger.merge(progress))?;
    Ok(NativeJoint::new(joint))
}

/// Plans a merge that may follow a plan.
#[pyfunction]
pub(crate) fn dry_run(
    py: Python<'_>,
    given: Given<'_>,
    arguments: Vec<OsString>,
    plans: Plans,
) -> PyResult<Told> {
    let merger = merger(given, arguments, plans).map_err(|e| exception(py, &e))?;
    let plan = quietly(py, || merger.plan())?;
    told(&plan, plan.text())
}

/// Plans a merge.
#[pyfunction]
pub(crate) fn plan(
    py: Python<'_>,
    models: Vec<Model>,
    names: Vec<String>,
    arguments: Vec<OsString>,
) -> PyResult<Told> {
    let options: PlanOptions = read(py, arguments)?;
    let models: Vec<ModelInput> = models.into_iter().map(|model| model.0).collect();
    let plan = quietly(py, || onnx_zip::plan(&models, &names, &options))?;
    told(&plan, plan.text())
}

/// Measures the curve of size against loss; returns it as JSON, text, HTML, CSV and Markdown.
#[pyfunction]
pub(crate) fn frontier(
    py: Python<'_>,
    models: Vec<Model>,
    names: Vec<String>,
    data: Vec<PyRef<'_, Data>>,
    arguments: Vec<OsString>,
    beside: Beside,
    listener: Py<PyAny>,
) -> PyResult<(Told, String, String, String)> {
    let given = options_and_plan::<FrontierOptions>(arguments);
    let (options, plan) = given.map_err(|error| exception(py, &error))?;
    let (points, measure, latency) = (options.points, options.measure, options.latency);
    let merger = models.into_iter().fold(Merger::new(options.into()), |m, model| m.model(model.0));
    let merger = inputs(data).into_iter().fold(merger.names(names), Merger::data);
    let (crew, plans, keep) = beside;
    let merger = sharded(merger, crew);
    let curve = Listener::new(listener).run(py, |progress| {
        let to = FrontierDestination {
            points,
            measure,
            latency,
            reports: &[],
            plans: plans.as_deref(),
            keep: keep.as_deref(),
        };
        merger.frontier(&to, &plan, progress)
    })?;
    Ok((told(&curve, curve.text())?, curve.html(), curve.csv(), curve.markdown()))
}

/// Describes one model and its shareable channels.
#[pyfunction]
pub(crate) fn inspect(py: Python<'_>, model: Model) -> PyResult<Told> {
    let found = quietly(py, || onnx_zip::inspect(&model.0))?;
    told(&found, found.text())
}

/// Sets inputs of a model to constants.
#[pyfunction]
pub(crate) fn fix(
    py: Python<'_>,
    model: Model,
    inputs: Vec<(String, String)>,
    output: PathBuf,
    listener: Py<PyAny>,
) -> PyResult<()> {
    Listener::new(listener).run(py, |progress| onnx_zip::fix(&model.0, &inputs, &output, progress))
}

/// Writes a copy of a joint model without data that a run does not need.
#[pyfunction]
pub(crate) fn strip(
    py: Python<'_>,
    joint: Model,
    output: PathBuf,
    listener: Py<PyAny>,
) -> PyResult<()> {
    Listener::new(listener)
        .run(py, |progress| onnx_zip::strip(&joint.0, &output, progress).map(drop))
}

/// Imports weights that were trained elsewhere.
#[pyfunction]
pub(crate) fn import_weights(
    py: Python<'_>,
    folder: PathBuf,
    output: PathBuf,
    listener: Py<PyAny>,
) -> PyResult<()> {
    Listener::new(listener)
        .run(py, |progress| onnx_zip::import_weights(&folder, &output, progress).map(drop))
}

/// Computes statistics for a merge in another process.
#[pyfunction]
pub(crate) fn worker(
    py: Python<'_>,
    folder: PathBuf,
    arguments: Vec<OsString>,
    listener: Py<PyAny>,
) -> PyResult<()> {
    let options: WorkerOptions = read(py, arguments)?;
    Listener::new(listener).run(py, |progress| onnx_zip::worker(&folder, &options, progress))
}

/// Compares a joint model with its originals.
#[pyfunction]
pub(crate) fn verify(
    py: Python<'_>,
    joint: PathBuf,
    models: Vec<Model>,
    data: Vec<PyRef<'_, Data>>,
    arguments: Vec<OsString>,
    listener: Py<PyAny>,
) -> PyResult<Told> {
    let options: VerifyOptions = read(py, arguments)?;
    let (models, data) = (models.into_iter().map(|m| m.0).collect::<Vec<_>>(), inputs(data));
    let checked = Listener::new(listener)
        .run(py, |progress| onnx_zip::verify(&joint, &models, &data, &options, progress))?;
    told(&checked, report::verification(&checked))
}

/// Prunes one model.
#[pyfunction]
pub(crate) fn prune(
    py: Python<'_>,
    model: Model,
    data: Vec<PyRef<'_, Data>>,
    arguments: Vec<OsString>,
    output: PathBuf,
    listener: Py<PyAny>,
) -> PyResult<Told> {
    let options: PruneOptions = read(py, arguments)?;
    let data = inputs(data);
    let pruned = Listener::new(listener)
        .run(py, |progress| onnx_zip::prune(&model.0, &data, &options, &output, progress))?;
    told(&pruned, pruned.text())
}

/// Stores the statistics of one model.
#[pyfunction]
pub(crate) fn calibrate(
    py: Python<'_>,
    model: Model,
    data: Vec<PyRef<'_, Data>>,
    arguments: Vec<OsString>,
    output: PathBuf,
    listener: Py<PyAny>,
) -> PyResult<()> {
    let options: CalibrateOptions = read(py, arguments)?;
    let data = inputs(data);
    Listener::new(listener)
        .run(py, |progress| onnx_zip::calibrate(&model.0, &data, &options, &output, progress))
}

/// Adds up stored statistics.
#[pyfunction]
pub(crate) fn add_statistics(
    py: Python<'_>,
    shards: Vec<PathBuf>,
    output: PathBuf,
    listener: Py<PyAny>,
) -> PyResult<()> {
    Listener::new(listener).run(py, |progress| onnx_zip::add_statistics(&shards, &output, progress))
}

/// A retrainer of a joint model.
fn retrainer(
    py: Python<'_>,
    joint: PathBuf,
    teachers: Vec<Model>,
    data: Vec<PyRef<'_, Data>>,
    arguments: Vec<OsString>,
) -> PyResult<Retrainer> {
    let retrainer = Retrainer::new(joint, read::<RetrainOptions>(py, arguments)?);
    let retrainer = teachers.into_iter().fold(retrainer, |r, model| r.teacher(model.0));
    Ok(inputs(data).into_iter().fold(retrainer, Retrainer::data))
}

/// Retrains a joint model. One that fails its verification goes into the file `rejected`, if there is one.
#[pyfunction]
pub(crate) fn retrain(
    py: Python<'_>,
    joint: PathBuf,
    teachers: Vec<Model>,
    data: Vec<PyRef<'_, Data>>,
    arguments: Vec<OsString>,
    rejected: Option<PathBuf>,
    listener: Py<PyAny>,
) -> PyResult<(NativeJoint, String, String)> {
    let retrainer = retrainer(py, joint, teachers, data, arguments)?;
    let retrainer = rejected.into_iter().fold(retrainer, Retrainer::keep_rejected);
    let (joint, outcome) =
        Listener::new(listener).run(py, |progress| retrainer.retrain(progress))?;
    let (json, text) = told(&outcome, report::retraining(&outcome))?;
    Ok((NativeJoint::new(joint), json, text))
}

/// Writes a folder for training a joint model elsewhere.
#[pyfunction]
pub(crate) fn export(
    py: Python<'_>,
    joint: PathBuf,
    teachers: Vec<Model>,
    data: Vec<PyRef<'_, Data>>,
    arguments: Vec<OsString>,
    folder: PathBuf,
    listener: Py<PyAny>,
) -> PyResult<()> {
    let retrainer = retrainer(py, joint, teachers, data, arguments)?;
    Listener::new(listener).run(py, |progress| retrainer.export(&folder, progress))
}
