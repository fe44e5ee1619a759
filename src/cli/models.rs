//! Models named on the command line.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::canon::check_sizes;
use crate::emit::{self, SOURCE_KEY};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Graph, Model, ValueId};
use crate::mtz::joint::JointModel;
use crate::naming::{shown, task_fault, to_task};
use crate::onnx;
use crate::runtime::{ModelSource, Port};
use crate::zipper::{Input, Part};

/// A model with what reports say about its file.
pub(super) struct Loaded {
    /// Name of the task.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) sha256: String,
    /// Size, external data included.
    pub(super) bytes: u64,
    /// The inputs that data must feed.
    pub(super) ports: Vec<Port>,
    pub(super) model: Model,
    /// Which of the files on the command line it is from.
    file: usize,
    /// The net itself where the file holds other tasks too.
    net: Option<Vec<u8>>,
}

impl Loaded {
    /// The original net, for a runtime.
    pub(super) fn source(&self) -> ModelSource<'_> {
        match &self.net {
            Some(bytes) => ModelSource::Bytes(bytes),
            None => ModelSource::File(&self.path),
        }
    }

    /// Which of the files on the command line it is from.
    pub(super) fn file(&self) -> usize {
        self.file
    }
}

/// Tasks to merge, and the parts that they come from.
pub(super) struct ToMerge {
    /// One per task; their models are in the parts.
    pub(super) tasks: Vec<Loaded>,
    pub(super) parts: Vec<Part>,
}

/// Loads what is to be merged: nets, and joint models with all their tasks. Tasks are called `names`,
/// or where there are none as in their joint model or after their files.
///
/// # Errors
/// As [`onnx::load`] and [`emit::restore`]; [`ErrorKind::Usage`] for unusable names.
pub(super) fn load_parts(paths: &[PathBuf], names: &[String]) -> Result<ToMerge> {
    let mut tasks: Vec<Loaded> = Vec::new();
    let mut joints: Vec<Option<JointModel>> = Vec::new();
    for (file, path) in paths.iter().enumerate() {
        let loaded = Loaded { file, ..load_one(path, String::new())? };
        if !emit::is_joint(&loaded.model) {
            joints.push(None);
            tasks.push(loaded);
            continue;
        }
        let joint = emit::restore(&loaded.model).in_model(path.display())?;
        for task in 0..joint.tasks.len() {
            tasks.push(of_joint(&joint, task, &loaded)?);
        }
        joints.push(Some(joint));
    }
    name_tasks(&mut tasks, paths, names)?;
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
        joint.tasks.iter_mut().zip(names).for_each(|(task, name)| task.name = name);
        parts.push(Part::Joint(joint));
    }
    Ok(ToMerge { tasks, parts })
}

/// One task of a joint model's file.
fn of_joint(joint: &JointModel, task: usize, file: &Loaded) -> Result<Loaded> {
    let model = emit::plain_task(joint, task);
    let ports = ports(&model.graph, &model.graph.inputs).in_model(file.path.display())?;
    let net = onnx::encode(&model)?;
    let sha256 = model.metadata.get(SOURCE_KEY).unwrap_or(&file.sha256).clone();
    Ok(Loaded {
        name: joint.tasks[task].name.clone(),
        path: file.path.clone(),
        sha256,
        bytes: net.len() as u64,
        ports,
        model: Model::default(),
        file: file.file,
        net: Some(net),
    })
}

/// Names tasks as told, or those of plain nets after their files.
fn name_tasks(tasks: &mut [Loaded], paths: &[PathBuf], names: &[String]) -> Result<()> {
    if !names.is_empty() {
        let names = check_names(names, tasks.len())?;
        tasks.iter_mut().zip(names).for_each(|(task, name)| task.name = name);
        return Ok(());
    }
    let mut taken: Vec<String> = tasks.iter().map(|t| t.name.clone()).collect();
    for task in tasks.iter_mut().filter(|t| t.net.is_none()) {
        task.name = stem(&paths[task.file], &taken);
        taken.push(task.name.clone());
    }
    Ok(())
}

/// Loads models, which are called `names`, or after their files where there are none.
///
/// # Errors
/// As [`onnx::load`]; [`ErrorKind::Usage`] for unusable names.
pub(super) fn load(paths: &[PathBuf], names: &[String]) -> Result<Vec<Loaded>> {
    let names = task_names(paths, names)?;
    paths.iter().zip(names).map(|(path, name)| load_one(path, name)).collect()
}

/// Loads one model, called `name`.
///
/// # Errors
/// As [`onnx::load`].
pub(super) fn load_one(path: &Path, name: String) -> Result<Loaded> {
    let model = onnx::load(path)?;
    check_sizes(&model).in_model(path.display())?;
    let ports = ports(&model.graph, &model.graph.inputs).in_model(path.display())?;
    let (sha256, length) = fingerprint(path).in_model(path.display())?;
    let weights = model.graph.values().filter_map(|(id, _)| model.graph.initializer(id));
    let stored: u64 = weights.map(|tensor| tensor.data.len() as u64).sum();
    // More weights than the file is long: they lie in other files.
    let bytes = if stored > length { length + stored } else { length };
    let path = path.to_owned();
    Ok(Loaded { name, path, sha256, bytes, ports, model, file: 0, net: None })
}

/// The inputs or outputs `ids` of a graph.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a value that is not a tensor.
pub(super) fn ports(graph: &Graph, ids: &[ValueId]) -> Result<Vec<Port>> {
    let port = |id: &ValueId| {
        let value = graph.value(*id);
        let ty = value.ty.clone().ok_or_else(|| {
            let message = format!("'{}' is not a tensor of known type", value.name);
            Error::new(ErrorKind::Unsupported, message)
        })?;
        Ok(Port { name: value.name.clone(), dtype: ty.dtype, shape: ty.shape })
    };
    ids.iter().map(port).collect()
}

/// SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// [`ErrorKind::Io`] where it cannot be read.
pub(super) fn sha256(path: &Path) -> Result<String> {
    fingerprint(path).map(|(digits, _)| digits)
}

/// SHA-256 of a file, in hexadecimal digits, and its length.
fn fingerprint(path: &Path) -> Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let length = File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut hasher))
        .map_err(|e| Error::new(ErrorKind::Io, "cannot read the model").because(e))?;
    let digits = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((digits, length))
}

/// One name per model: those given, or the file stems, made unique.
fn task_names(paths: &[PathBuf], names: &[String]) -> Result<Vec<String>> {
    if !names.is_empty() {
        return check_names(names, paths.len());
    }
    let mut stems: Vec<String> = Vec::new();
    paths.iter().for_each(|path| stems.push(stem(path, &stems)));
    Ok(stems)
}

/// Names that tasks can have, one for each of `tasks`.
fn check_names(names: &[String], tasks: usize) -> Result<Vec<String>> {
    let usage = |message: String| Error::new(ErrorKind::Usage, message);
    if names.len() != tasks {
        let message = format!("{} names were given for {tasks} models", names.len());
        return Err(usage(message).hint("give --name once per model, in the models' order"));
    }
    for (i, name) in names.iter().enumerate() {
        if let Some(fault) = task_fault(name) {
            let message = format!("'{}' cannot name a task: {fault}", shown(name));
            return Err(usage(message).hint("names of outputs and of files are made of it"));
        }
        if names.iter().take(i).any(|other| other == name) {
            return Err(usage(format!("two tasks are called '{name}'"))
                .hint("give every model another --name"));
        }
    }
    Ok(names.to_vec())
}

/// The stem of a file's name, with a number where it is taken.
fn stem(path: &Path, taken: &[String]) -> String {
    let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    let stem = to_task(&stem);
    let mut numbered = (2..).map(|n| format!("{stem}_{n}"));
    match taken.contains(&stem) {
        true => numbered.find(|name| !taken.contains(name)).unwrap_or(stem.clone()),
        false => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stems_made_unique() {
        let paths = ["x/net.onnx", "y/net.onnx", "net_2.onnx"].map(PathBuf::from);
        assert_eq!(task_names(&paths, &[]).unwrap(), ["net", "net_2", "net_2_2"]);
        let odd = ["x/...onnx", "a\u{1b}[2J.onnx"].map(PathBuf::from);
        assert_eq!(task_names(&odd, &[]).unwrap(), ["model", "a_[2J"]);
    }

    #[test]
    fn names_that_cannot_be_output_names_are_refused() {
        let paths = ["a.onnx", "b.onnx"].map(PathBuf::from);
        let names = |a: &str, b: &str| task_names(&paths, &[a.to_owned(), b.to_owned()]);
        assert_eq!(names("cats", "dogs").unwrap(), ["cats", "dogs"]);
        for (a, b) in [("a/b", "c"), ("", "c"), ("c", "c"), ("a\n", "c"), ("..", "c")] {
            assert_eq!(names(a, b).unwrap_err().kind(), ErrorKind::Usage);
        }
        assert!(task_names(&paths, &["a".to_owned()]).is_err());
    }
}
