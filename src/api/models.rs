//! Loads models, with the facts that reports need.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::defaults;
use crate::canon::check_sizes;
use crate::compare::{nodes, ports};
use crate::emit::{self, SOURCE_KEY};
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::ir::{Graph, Model};
use crate::mtz::joint::JointModel;
use crate::naming::{digits, shown, task_fault, to_task};
use crate::onnx;
use crate::runtime::{ModelSource, Port};
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
    /// The paths among some inputs.
    pub(crate) fn paths(inputs: &[ModelInput]) -> Vec<PathBuf> {
        let path = |input: &ModelInput| match input {
            ModelInput::Path(path) => Some(path.clone()),
            ModelInput::Bytes(_) => None,
        };
        inputs.iter().filter_map(path).collect()
    }

    /// Its name in messages.
    pub(crate) fn shown(&self) -> &Path {
        match self {
            ModelInput::Path(path) => path,
            ModelInput::Bytes(_) => Path::new("model"),
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
    /// A note about inputs whose default values are constants, if there are any.
    pub(crate) defaults: Option<String>,
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

    /// [`Loaded::defaults`] of several models, each with its task.
    pub(crate) fn defaults_of(models: &[Loaded]) -> impl Iterator<Item = String> {
        let note = |model: &Loaded| Some(format!("{}: {}", model.name, model.defaults.as_ref()?));
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
/// As [`onnx::load`] and [`emit::restore`]; [`ErrorKind::Usage`] for unusable names.
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
        for task in 0..joint.tasks().len() {
            tasks.push(of_joint(&joint, task, &loaded)?);
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
        defaults: None,
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
/// As [`onnx::load`]; [`ErrorKind::Usage`] for unusable names.
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
            let (sha256, length) = fingerprint(path).in_model(path.display())?;
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
    let defaults = defaults::note(&model);
    Ok(Loaded {
        name,
        path,
        sha256,
        bytes,
        nodes,
        ports,
        reading,
        defaults,
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

/// SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// [`ErrorKind::Io`] where it cannot be read.
pub(crate) fn file_sha256(path: &Path) -> Result<String> {
    digest(path).map(|(digest, _)| digits(&digest))
}

/// Checksum of a model's file, in hexadecimal digits: its SHA-256, or that of it and of its external data,
/// since fine-tunes of one net may differ in their data only.
///
/// # Errors
/// [`ErrorKind::Io`] where a file cannot be read; as [`onnx::load`].
pub(crate) fn sha256(path: &Path) -> Result<String> {
    fingerprint(path).map(|(digits, _)| digits)
}

/// The checksum of a model's file, and the file's length.
fn fingerprint(path: &Path) -> Result<(String, u64)> {
    // First, since it refuses what is no file and may not end.
    let external = onnx::data_files(path)?;
    let (model, length) = digest(path)?;
    if external.is_empty() {
        return Ok((digits(&model), length));
    }
    let mut all = Sha256::new();
    all.update(model);
    for (name, file) in &external {
        all.update(name);
        all.update([0]);
        all.update(digest(file)?.0);
    }
    Ok((digits(&all.finalize()), length))
}

/// SHA-256 of a file, and its length.
fn digest(path: &Path) -> Result<([u8; 32], u64)> {
    let mut hasher = Sha256::new();
    let length = File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut hasher))
        .map_err(|e| Error::new(ErrorKind::Io, "cannot read the model").because(e))?;
    Ok((hasher.finalize().into(), length))
}

/// One name per model: the given names, or file stems made unique.
fn task_names(paths: &[&Path], names: &[String]) -> Result<Vec<String>> {
    if !names.is_empty() {
        return check_names(names, paths.len());
    }
    let mut stems: Vec<String> = Vec::new();
    paths.iter().for_each(|path| stems.push(stem(path, &stems)));
    Ok(stems)
}

/// Checks the given names: one valid name per task.
fn check_names(names: &[String], tasks: usize) -> Result<Vec<String>> {
    let usage = |message: String| Error::new(ErrorKind::Usage, message);
    if names.len() != tasks {
        let message = format!("{tasks} tasks need as many names, but {} were given", names.len());
        let hint = Hint::from("give ").option("name").then(" once per model, in the models' order");
        return Err(usage(message).hint(hint.then("; a joint model counts as its tasks")));
    }
    for (i, name) in names.iter().enumerate() {
        if let Some(fault) = task_fault(name) {
            let message = format!("'{}' cannot name a task: {fault}", shown(name));
            return Err(usage(message).hint("names of outputs and of files are made of it"));
        }
        if names.iter().take(i).any(|other| other == name) {
            return Err(usage(format!("two tasks are called '{name}'"))
                .hint(Hint::from("give every model another ").option("name")));
        }
    }
    Ok(names.to_vec())
}

/// The stem of a file's name, with a number if it is taken.
fn stem(path: &Path, taken: &[String]) -> String {
    let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    numbered(to_task(&stem), taken)
}

/// The name, with a number if it is taken.
fn numbered(name: String, taken: &[String]) -> String {
    let mut others = (2..).map(|n| format!("{name}_{n}"));
    match taken.contains(&name) {
        true => others.find(|other| !taken.contains(other)).unwrap_or(name.clone()),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::onnx::{External, SaveOptions};

    fn fixture() -> ModelInput {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        root.join("fixtures/models/lenet300_mnist_a.onnx").into()
    }

    #[test]
    fn names_are_stems_made_unique() {
        let paths = ["x/net.onnx", "y/net.onnx", "net_2.onnx"].map(Path::new);
        assert_eq!(task_names(&paths, &[]).unwrap(), ["net", "net_2", "net_2_2"]);
        let odd = ["x/...onnx", "a\u{1b}[2J.onnx"].map(Path::new);
        assert_eq!(task_names(&odd, &[]).unwrap(), ["model", "a_[2J"]);
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

    #[test]
    fn external_data_counts_in_the_checksum_of_a_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        let saved = |external: External| {
            let net = fixture().read().unwrap();
            onnx::save(&net, &path, &SaveOptions { external, ..SaveOptions::default() }).unwrap();
        };
        saved(External::Never);
        assert_eq!(sha256(&path).unwrap(), file_sha256(&path).unwrap());
        saved(External::Always);
        let (model, before) = (fs::read(&path).unwrap(), sha256(&path).unwrap());
        assert_ne!(before, file_sha256(&path).unwrap());
        // Other exporters do not name the data after its contents.
        let (_, data) = onnx::data_files(&path).unwrap().pop_first().unwrap();
        let mut weights = fs::read(&data).unwrap();
        weights[0] ^= 1;
        fs::write(&data, &weights).unwrap();
        assert_eq!(fs::read(&path).unwrap(), model);
        assert_ne!(sha256(&path).unwrap(), before);
        let loaded = load_one(&path.clone().into(), "net".to_owned()).unwrap();
        assert_eq!(loaded.sha256, sha256(&path).unwrap());
        fs::remove_file(&data).unwrap();
        assert_eq!(sha256(&path).unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn names_that_cannot_be_output_names_are_refused() {
        let paths = ["a.onnx", "b.onnx"].map(Path::new);
        let names = |a: &str, b: &str| task_names(&paths, &[a.to_owned(), b.to_owned()]);
        assert_eq!(names("cats", "dogs").unwrap(), ["cats", "dogs"]);
        for (a, b) in [("a/b", "c"), ("", "c"), ("c", "c"), ("a\n", "c"), ("..", "c")] {
            assert_eq!(names(a, b).unwrap_err().kind(), ErrorKind::Usage);
        }
        assert!(task_names(&paths, &["a".to_owned()]).is_err());
    }
}
