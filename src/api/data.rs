//! Calibration and test data for each model.

mod checks;
mod open_sizes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::models::Loaded;
use super::options::SampleOptions;
use crate::calib::data::{Arrays, DataOptions, Dataset, Extents, tables};
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::mtz::joint::{JointModel, Task};
use crate::progress::Progress;
use crate::report::DataRecord;
use crate::runtime::{Backend, ModelSource, Port, ports};
use crate::verify::Reading;

use open_sizes::{settled, taken};

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
    /// The number of classes that it tells apart, if known.
    pub(crate) classes: Option<usize>,
}

/// The inputs of each task of a joint model.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for an input that is not a tensor.
pub(crate) fn task_ports(joint: &JointModel) -> Result<Vec<Vec<Port>>> {
    let ports = |task: &Task| {
        let graph = task.graph();
        ports(graph, &graph.inputs).in_model(task.name())
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
        classes: Reading::of(task.graph()).classes(),
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

/// At most `limit` labelled samples of each task that calibration did not draw; none unless all tasks have
/// enough of them.
pub(crate) fn unseen(data: &[TaskData], limit: usize) -> Vec<Dataset> {
    let is_telling = |task: &TaskData| task.rest.len() >= TELLING && task.rest.has_labels();
    match data.iter().all(is_telling) {
        true => data.iter().map(|task| task.rest.take(limit)).collect(),
        false => Vec::new(),
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
                classes: m.reading.classes(),
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
        self.check_columns(nets)?;
        let (found, sizes) = match trial.filter(|_| self.is_synthetic()) {
            Some(trial) => self.try_sizes(nets, seed, trial)?,
            None => (Extents::new(), None),
        };
        let open = |(i, net): (usize, &Net<'_>)| {
            let input = self.inputs.get(place(i, net)).or(self.inputs.first());
            let mut options = self.options.reading(net.file)?;
            options.dims.extend(found.clone());
            options.tables = net.tables.clone();
            let opened = opened(input, net, &options, limit, seed).in_model(net.name)?;
            let opened = match net.classes {
                Some(classes) => opened.of_classes(classes),
                None => opened,
            };
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

    /// Sizes that nets leave open, found by trial, and the note about them.
    fn try_sizes(
        &self,
        nets: &[Net<'_>],
        seed: u64,
        trial: Tried<'_>,
    ) -> Result<(Extents, Option<Hint>)> {
        let found = settled(nets, &self.options.reading(0)?, seed, trial)?;
        let note = (!found.is_empty()).then(|| taken(&found));
        if let Some(note) = &note {
            trial.progress.note(&trial.progress.worded(note));
        }
        Ok((found, note))
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

/// The error about missing samples; `verb` says what they are needed for.
pub(crate) fn no_samples(verb: &str) -> Error {
    let hint = Hint::from("give inputs such as the models see, with or without labels: ");
    Error::new(ErrorKind::Usage, format!("there are no samples to {verb} on"))
        .hint(hint.option("data"))
}

/// The error for a limit of task errors where samples have no labels, or none that can be used, with the reason.
pub(super) fn unmeasurable(unusable: Option<&str>) -> Error {
    let message = "a limit of the error needs labelled samples";
    match unusable {
        Some(why) => Error::new(ErrorKind::Usage, format!("{message}, but {why}"))
            .hint(Hint::from("name the right ones: ").option_as("column", "labels=NAME")),
        None => Error::new(ErrorKind::Usage, message),
    }
}
