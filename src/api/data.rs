//! Calibration and test data for each model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::models::Loaded;
use super::options::SampleOptions;
use crate::calib::data::{Arrays, DataOptions, Dataset, Extents, tables, trials, unknown};
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::mtz::joint::{JointModel, Task};
use crate::naming::{counted, shown};
use crate::progress::Progress;
use crate::report::DataRecord;
use crate::runtime::{Backend, ModelSource, Port, Session, feeds, fixed_batch};

/// Number of random samples without data.
pub(crate) const SYNTHETIC_SAMPLES: usize = 2048;

/// The source of samples without a file, in reports.
const IN_MEMORY: &str = "arrays in memory";

/// Samples, as given by the user.
///
/// ```
/// use onnx_zip::{Arrays, DataInput};
/// let file: DataInput = "images.npz".into();
/// let images = ndarray::ArrayD::<f32>::zeros(vec![100, 784]);
/// let arrays: DataInput = Arrays::in_order([images.into()]).into();
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DataInput {
    /// A file or folder of any known format.
    Path(PathBuf),
    /// Arrays in memory, or batches that were read from an iterator.
    Arrays(Arrays),
}

impl From<PathBuf> for DataInput {
    fn from(path: PathBuf) -> Self {
        DataInput::Path(path)
    }
}

impl From<&Path> for DataInput {
    fn from(path: &Path) -> Self {
        DataInput::Path(path.to_owned())
    }
}

impl From<&str> for DataInput {
    fn from(path: &str) -> Self {
        DataInput::Path(path.into())
    }
}

impl From<Arrays> for DataInput {
    fn from(arrays: Arrays) -> Self {
        DataInput::Arrays(arrays)
    }
}

/// The given samples, and how to prepare them.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) inputs: &'a [DataInput],
    pub(crate) options: &'a SampleOptions,
}

/// A net that needs samples.
pub(crate) struct Net<'a> {
    pub(crate) name: &'a str,
    pub(crate) ports: &'a [Port],
    /// The index of its model among the given ones.
    pub(crate) file: usize,
    /// The net itself, for finding sizes of open dimensions.
    pub(crate) source: Option<ModelSource<'a>>,
    /// The number of rows of the table that each input indexes.
    pub(crate) tables: BTreeMap<String, usize>,
}

/// The inputs of each task of a joint model.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for an input that is not a tensor.
pub(crate) fn task_ports(joint: &JointModel) -> Result<Vec<Vec<Port>>> {
    let ports = |task: &Task| {
        let graph = task.graph();
        crate::compare::ports(graph, &graph.inputs).in_model(task.name())
    };
    joint.tasks().iter().map(ports).collect()
}

/// The tasks of a joint model, with their [`task_ports`], as if each had a file of its own.
pub(crate) fn task_nets<'a>(joint: &'a JointModel, ports: &'a [Vec<Port>]) -> Vec<Net<'a>> {
    let tasks = joint.tasks().iter().zip(ports).enumerate();
    let net = |(file, (task, ports)): (usize, (&'a Task, &'a Vec<Port>))| Net {
        name: task.name(),
        ports,
        file,
        source: None,
        tables: tables(task.graph()),
    };
    tasks.map(net).collect()
}

/// Runtime and progress for trying open sizes.
#[derive(Clone, Copy)]
pub(crate) struct Tried<'a> {
    pub(crate) backend: &'a dyn Backend,
    pub(crate) progress: &'a dyn Progress,
}

/// Samples for one model.
pub(crate) struct TaskData {
    pub(crate) dataset: Dataset,
    /// The samples of the same source that calibration did not draw.
    pub(crate) rest: Dataset,
    pub(crate) record: DataRecord,
}

/// Number of samples that suffice to measure an error.
const TELLING: usize = 200;

impl TaskData {
    /// Samples for measuring errors: those that calibration did not draw, unless they are too few.
    pub(crate) fn to_measure(&self, limit: usize) -> Dataset {
        match self.rest.len() < TELLING {
            true => self.dataset.take(limit),
            false => self.rest.take(limit),
        }
    }
}

impl Given<'_> {
    /// Whether there are no data, so that samples are random numbers.
    pub(crate) fn is_synthetic(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Whether all models see the same samples.
    pub(crate) fn is_common(&self) -> bool {
        self.inputs.len() == 1
    }

    /// Opens samples for each model: at most `limit`, drawn with `seed` where there are more.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a number of files that fits neither once nor per model; as
    /// [`Dataset::open`], naming the model.
    pub(crate) fn open(
        &self,
        models: &[Loaded],
        limit: usize,
        seed: u64,
        trial: Tried<'_>,
    ) -> Result<Vec<TaskData>> {
        let nets: Vec<Net<'_>> = models
            .iter()
            .map(|m| Net {
                name: &m.name,
                ports: &m.ports,
                file: m.file(),
                source: Some(m.source()),
                tables: tables(&m.model.graph),
            })
            .collect();
        self.open_nets(&nets, limit, seed, Some(trial))
    }

    /// [`Self::open`] for nets that are not loaded from files.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_nets(
        &self,
        nets: &[Net<'_>],
        limit: usize,
        seed: u64,
        trial: Option<Tried<'_>>,
    ) -> Result<Vec<TaskData>> {
        self.check_count(nets)?;
        // A joint model's data serves all its tasks.
        let per_net = self.inputs.len() == nets.len();
        let place = |i: usize, net: &Net<'_>| if per_net { i } else { net.file };
        let files = nets.iter().map(|net| net.file).max().map_or(0, |last| last + 1);
        self.options.check_count(files)?;
        self.check_sizes(nets)?;
        let mut sizes = None;
        let mut found = Extents::new();
        if let Some(trial) = trial.filter(|_| self.is_synthetic()) {
            found = settled(nets, &self.options.reading(0)?, seed, trial)?;
            sizes = (!found.is_empty()).then(|| taken(&found));
        }
        if let (Some(trial), Some(sizes)) = (trial, &sizes) {
            trial.progress.note(&trial.progress.worded(sizes));
        }
        let open = |(i, net): (usize, &Net<'_>)| {
            let input = self.inputs.get(place(i, net)).or(self.inputs.first());
            let mut options = self.options.reading(net.file)?;
            options.dims.extend(found.clone());
            options.tables = net.tables.clone();
            let opened = opened(input, net, &options, limit, seed).in_model(net.name)?;
            let available = opened.len();
            let (dataset, rest) = opened.split(limit, seed);
            let record = DataRecord {
                source: input.map(DataInput::name),
                samples: dataset.len(),
                available,
                labels: dataset.has_labels(),
                notes: dataset.notes().iter().chain(&sizes).cloned().collect(),
            };
            Ok(TaskData { dataset, rest, record })
        };
        nets.iter().enumerate().map(open).collect()
    }

    /// Checks that sizes are given for extents that the nets leave open.
    fn check_sizes(&self, nets: &[Net<'_>]) -> Result<()> {
        let given: Extents = self.options.dim.iter().cloned().collect();
        let ports: Vec<&[Port]> = nets.iter().map(|net| net.ports).collect();
        let Some((name, open)) = unknown(&ports, &given) else { return Ok(()) };
        let message = format!("'{}' is no size that the models' inputs leave open", shown(&name));
        let hint = match open.is_empty() {
            true => Hint::from("they leave none open: leave out ").option("dim"),
            false => {
                let open: Vec<String> = open.iter().map(|name| shown(name).into_owned()).collect();
                let first = open.first().map(|name| format!("{name}=224")).unwrap_or_default();
                let hint = format!("they leave open {}: give ", open.join(", "));
                Hint::from(hint).option_as("dim", first)
            }
        };
        Err(Error::new(ErrorKind::Usage, message).hint(hint))
    }

    /// Checks that samples are given once, once per net, or once per file of a model.
    fn check_count(&self, nets: &[Net<'_>]) -> Result<()> {
        let given = self.inputs.len();
        let files = nets.iter().map(|net| net.file).max().map_or(0, |last| last + 1);
        if given <= 1 || given == nets.len() || given == files {
            return Ok(());
        }
        let (times, models) = (counted(given, "time"), counted(nets.len(), "model"));
        let message = format!("samples were given {times} for {models}");
        let hint = Hint::from("give ").option("data");
        Err(Error::new(ErrorKind::Usage, message)
            .hint(hint.then(" once, or once per model in the models' order")))
    }
}

/// Opens the samples of one net, or draws random ones.
fn opened(
    input: Option<&DataInput>,
    net: &Net<'_>,
    options: &DataOptions,
    limit: usize,
    seed: u64,
) -> Result<Dataset> {
    match input {
        Some(DataInput::Path(path)) => Dataset::open(path, net.ports, options),
        Some(DataInput::Arrays(arrays)) => Dataset::from_arrays(arrays, net.ports, options),
        None => Dataset::synthetic(net.ports, SYNTHETIC_SAMPLES.min(limit), seed, options),
    }
}

impl DataInput {
    /// The entry of a report.
    fn name(&self) -> String {
        match self {
            DataInput::Path(path) => path.display().to_string(),
            DataInput::Arrays(_) => IN_MEMORY.to_owned(),
        }
    }
}

/// Sizes for open dimensions: the first with which all nets run and return one result per sample. Otherwise
/// sizes with which they run although a reshape makes several samples of one. Empty if nothing is open, or if
/// no size works; a later error then names the open dimension.
///
/// # Errors
/// As [`Backend::load`]; [`ErrorKind::Interrupted`] where the user stops it.
fn settled(
    nets: &[Net<'_>],
    options: &DataOptions,
    seed: u64,
    trial: Tried<'_>,
) -> Result<Extents> {
    let ports: Vec<&[Port]> = nets.iter().map(|net| net.ports).collect();
    let candidates = trials(&ports, &options.dims);
    if candidates.is_empty() {
        return Ok(Extents::new());
    }
    let mut sessions = Vec::new();
    for net in nets {
        let Some(source) = net.source else { return Ok(Extents::new()) };
        sessions.push(trial.backend.load(source).in_model(net.name)?);
    }
    let volume =
        |extents: &Extents| extents.values().fold(1usize, |n, size| n.saturating_mul(*size));
    let mut runs: Option<Extents> = None;
    for extents in candidates {
        trial.progress.check()?;
        // The size that a reshape expects is smaller than sizes that it cuts into several samples.
        if runs.as_ref().is_some_and(|found| volume(&extents) >= volume(found)) {
            continue;
        }
        let mut tried = options.clone();
        tried.dims.extend(extents.clone());
        let mut nets = nets.iter().zip(&mut sessions);
        let answers = nets.try_fold(true, |all, (net, session)| {
            Some(all & answers_by_sample(net, session.as_mut(), seed, &tried)?)
        });
        match answers {
            Some(true) => return Ok(extents),
            Some(false) => runs = runs.or(Some(extents)),
            None => {}
        }
    }
    Ok(runs.unwrap_or_default())
}

/// Whether a net returns one result per sample; `None` if it does not run.
fn answers_by_sample(
    net: &Net<'_>,
    session: &mut dyn Session,
    seed: u64,
    options: &DataOptions,
) -> Option<bool> {
    let samples = fixed_batch(net.ports).unwrap_or(1);
    let data = Dataset::synthetic(net.ports, samples, seed, options).ok()?;
    let outputs = session.run(&feeds(&data.batch(0..samples).ok()?)).ok()?;
    let is_open = |port: &Port| {
        let first = port.shape.as_ref().and_then(|shape| shape.first());
        first.is_some_and(|dim| dim.known().is_none())
    };
    let mut open = session.outputs().iter().zip(&outputs).filter(|(port, _)| is_open(port));
    Some(open.all(|(_, array)| array.shape().first() == Some(&samples)))
}

/// The error about missing samples; `verb` says what they are needed for.
pub(crate) fn no_samples(verb: &str) -> Error {
    let hint = Hint::from("give inputs such as the models see, with or without labels: ");
    Error::new(ErrorKind::Usage, format!("there are no samples to {verb} on"))
        .hint(hint.option("data"))
}

/// A note about sizes that were found by trial.
fn taken(extents: &Extents) -> Hint {
    let sizes: Vec<String> = extents.iter().map(|(key, n)| format!("{key} = {n}")).collect();
    let sizes = sizes.join(", ");
    Hint::from(format!("the models leave sizes open, and these were taken: {sizes}; "))
        .option("dim")
        .then(" takes others")
}
