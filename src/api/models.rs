//! Loads models, with the facts that reports need.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::checksum::{self, Fingerprint};
use super::task_names::{check_names, numbered, stem, task_names};
use super::{defaults, rewritten};
use crate::canon::check_sizes;
use crate::compare::nodes;
use crate::emit::{self, SOURCE_KEY};
use crate::error::{Context, Result};
use crate::ir::{Graph, Model};
use crate::mtz::joint::JointModel;
use crate::naming::digits;
use crate::onnx;
use crate::runtime::{ModelSource, Port, ports};
use crate::verify::Reading;
use crate::zipper::{Input, Part};

/// A model, as given by the user.
///
/// ```
/// use onnx_zip::ModelInput;
/// let file: ModelInput = "cats.onnx".into();
/// let bytes: ModelInput = std::fs::read("fixtures/models/lenet300_mnist_a.onnx")?.into();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ModelInput {
    /// A file. External data lies beside it.
    Path(PathBuf),
    /// A serialised `ModelProto` that holds all its weights.
    Bytes(Bytes),
}

impl ModelInput {
    /// Its name in messages.
    pub(crate) fn shown(&self) -> &Path {
        match self {
            ModelInput::Path(path) => path,
            ModelInput::Bytes(_) => Path::new("model"),
        }
    }

    /// The model, for a runtime.
    pub(crate) fn source(&self) -> ModelSource<'_> {
        match self {
            ModelInput::Path(path) => ModelSource::File(path),
            ModelInput::Bytes(bytes) => ModelSource::Bytes(bytes),
        }
    }

    /// The graph.
    ///
    /// # Errors
    /// As [`onnx::load`].
    pub(crate) fn read(&self) -> Result<Model> {
        match self {
            ModelInput::Path(path) => onnx::load(path),
            ModelInput::Bytes(bytes) => onnx::decode(bytes.clone(), None, "model"),
        }
    }
}

impl From<PathBuf> for ModelInput {
    fn from(path: PathBuf) -> Self {
        ModelInput::Path(path)
    }
}

impl From<&Path> for ModelInput {
    fn from(path: &Path) -> Self {
        ModelInput::Path(path.to_owned())
    }
}

impl From<&str> for ModelInput {
    fn from(path: &str) -> Self {
        ModelInput::Path(path.into())
    }
}

impl From<Vec<u8>> for ModelInput {
    fn from(bytes: Vec<u8>) -> Self {
        ModelInput::Bytes(bytes.into())
    }
}

/// A net without a file of its own.
enum Net {
    /// As it was given.
    Bytes(Bytes),
    /// Taken out of a joint model.
    Graph(Box<Model>),
}

/// A loaded model, with facts about its file.
pub(crate) struct Loaded {
    /// Name of the task.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
    /// Size, external data included.
    pub(crate) bytes: u64,
    /// Nodes of its graph.
    pub(crate) nodes: u64,
    /// The inputs that data must feed.
    pub(crate) ports: Vec<Port>,
    pub(crate) reading: Reading,
    /// A note about inputs whose default values are constants, or about changes of a joint model, if there are any.
    pub(crate) note: Option<String>,
    pub(crate) model: Model,
    /// The index of its file among the given models.
    file: usize,
    /// The net, if it has no file of its own.
    net: Option<Net>,
    /// Whether the name comes from a joint model.
    named: bool,
}

impl Loaded {
    /// The original net, for a runtime.
    pub(crate) fn source(&self) -> ModelSource<'_> {
        match &self.net {
            Some(Net::Bytes(bytes)) => ModelSource::Bytes(bytes),
            Some(Net::Graph(model)) => ModelSource::Graph(model),
            None => ModelSource::File(&self.path),
        }
    }

    /// The notes about several models, each with its task.
    pub(crate) fn notes_of(models: &[Loaded]) -> impl Iterator<Item = String> {
        let note = |model: &Loaded| Some(format!("{}: {}", model.name, model.note.as_ref()?));
        models.iter().filter_map(note)
    }

    /// The index of its file among the given models.
    pub(crate) fn file(&self) -> usize {
        self.file
    }
}

/// Tasks to merge, and the models that they come from.
pub(crate) struct ToMerge {
    /// One entry per task. The models themselves are in `parts`.
    pub(crate) tasks: Vec<Loaded>,
    pub(crate) parts: Vec<Part>,
}

/// Loads the models to merge: nets, and joint models with all their tasks. Tasks get `names`, or
/// without these the names in their joint model or of their files.
///
/// # Errors
/// As [`onnx::load`] and [`emit::restore`]; [`crate::error::ErrorKind::Usage`] for unusable names.
pub(crate) fn load_parts(inputs: &[ModelInput], names: &[String]) -> Result<ToMerge> {
    let mut tasks: Vec<Loaded> = Vec::new();
    let mut joints: Vec<Option<JointModel>> = Vec::new();
    for (file, input) in inputs.iter().enumerate() {
        let loaded = Loaded { file, ..load_one(input, String::new())? };
        if !emit::is_joint(&loaded.model) {
            joints.push(None);
            tasks.push(loaded);
            continue;
        }
        let joint = emit::restore(&loaded.model).in_model(loaded.path.display())?;
        let mut note = rewritten::remark(&loaded.model).map(str::to_owned);
        for task in 0..joint.tasks().len() {
            tasks.push(Loaded { note: note.take(), ..of_joint(&joint, task, &loaded)? });
        }
        joints.push(Some(joint));
    }
    name_tasks(&mut tasks, names)?;
    let mut named = tasks.iter_mut();
    let mut parts = Vec::new();
    for joint in joints {
        let Some(mut joint) = joint else {
            parts.extend(named.next().map(|task| {
                let mut model = std::mem::take(&mut task.model);
                model.metadata.insert(SOURCE_KEY.to_owned(), task.sha256.clone());
                Part::Net(Box::new(Input { name: task.name.clone(), model }))
            }));
            continue;
        };
        let names = named.by_ref().map(|task| task.name.clone());
        joint.task_ids().zip(names).for_each(|(task, name)| joint.rename(task, name));
        parts.push(Part::Joint(joint));
    }
    Ok(ToMerge { tasks, parts })
}

/// One task of a joint model's file.
fn of_joint(joint: &JointModel, task: usize, file: &Loaded) -> Result<Loaded> {
    let model = emit::plain_task(joint, task);
    let ports = ports(&model.graph, &model.graph.inputs).in_model(file.path.display())?;
    let sha256 = model.metadata.get(SOURCE_KEY).unwrap_or(&file.sha256).clone();
    Ok(Loaded {
        name: joint.tasks()[task].name().to_owned(),
        path: file.path.clone(),
        sha256,
        bytes: stored(&model.graph),
        nodes: nodes(&model.graph),
        ports,
        reading: Reading::of(&model.graph),
        note: None,
        model: Model::default(),
        file: file.file,
        net: Some(Net::Graph(Box::new(model))),
        named: true,
    })
}

/// Names tasks by `names`. Without these, tasks of joint models keep their names, and plain nets are named after
/// their files; a name that is taken gets a number.
fn name_tasks(tasks: &mut [Loaded], names: &[String]) -> Result<()> {
    if !names.is_empty() {
        let names = check_names(names, tasks.len())?;
        tasks.iter_mut().zip(names).for_each(|(task, name)| task.name = name);
        return Ok(());
    }
    let given: Vec<String> = tasks.iter().filter(|t| t.named).map(|t| t.name.clone()).collect();
    let mut taken: Vec<String> = Vec::new();
    for task in tasks.iter_mut().filter(|t| t.named) {
        if taken.contains(&task.name) {
            let all: Vec<String> = given.iter().chain(&taken).cloned().collect();
            task.name = numbered(task.name.clone(), &all);
        }
        taken.push(task.name.clone());
    }
    for task in tasks.iter_mut().filter(|t| !t.named) {
        task.name = stem(&task.path, &taken);
        taken.push(task.name.clone());
    }
    Ok(())
}

/// Loads models. They get `names`, or without these the names of their files.
///
/// # Errors
/// As [`onnx::load`]; [`crate::error::ErrorKind::Usage`] for unusable names.
pub(crate) fn load(inputs: &[ModelInput], names: &[String]) -> Result<Vec<Loaded>> {
    let paths: Vec<&Path> = inputs.iter().map(ModelInput::shown).collect();
    let names = task_names(&paths, names)?;
    inputs.iter().zip(names).map(|(input, name)| load_one(input, name)).collect()
}

/// Loads one model, called `name`.
///
/// # Errors
/// As [`onnx::load`].
pub(crate) fn load_one(input: &ModelInput, name: String) -> Result<Loaded> {
    let path = input.shown().to_owned();
    let model = input.read()?;
    check_sizes(&model).in_model(path.display())?;
    let ports = ports(&model.graph, &model.graph.inputs).in_model(path.display())?;
    let (sha256, length, net) = match input {
        ModelInput::Path(path) => {
            let Fingerprint { sha256, length } =
                checksum::of_model(path).in_model(path.display())?;
            (sha256, length, None)
        }
        ModelInput::Bytes(bytes) => {
            let net = Net::Bytes(bytes.clone());
            (digits(&Sha256::digest(bytes)), bytes.len() as u64, Some(net))
        }
    };
    let stored = stored(&model.graph);
    // The file is shorter than the weights, which lie in external files.
    let bytes = if stored > length { length + stored } else { length };
    let nodes = nodes(&model.graph);
    let reading = Reading::of(&model.graph);
    let note = defaults::note(&model);
    Ok(Loaded {
        name,
        path,
        sha256,
        bytes,
        nodes,
        ports,
        reading,
        note,
        model,
        file: 0,
        net,
        named: false,
    })
}

/// Bytes of a graph's constants.
pub(crate) fn stored(graph: &Graph) -> u64 {
    let constants = graph.values().filter_map(|(id, _)| graph.initializer(id));
    constants.map(|tensor| tensor.data.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> ModelInput {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        root.join("fixtures/models/lenet300_mnist_a.onnx").into()
    }

    #[test]
    fn tasks_of_several_joint_models_get_names_of_their_own() {
        let named = |name: &str, named: bool| {
            let net = load_one(&fixture(), name.to_owned()).unwrap();
            Loaded { named, ..net }
        };
        let mut tasks: Vec<Loaded> =
            ["a", "b", "a", "a_2", "b"].map(|name| named(name, true)).into_iter().collect();
        tasks.push(named("", false));
        name_tasks(&mut tasks, &[]).unwrap();
        let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "a_3", "a_2", "b_2", "lenet300_mnist_a"]);
    }
}
