//! Models named on the command line.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Graph, Model, ValueId};
use crate::onnx;
use crate::runtime::Port;

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
    let ports = ports(&model.graph, &model.graph.inputs).in_model(path.display())?;
    let (sha256, length) = fingerprint(path).in_model(path.display())?;
    let weights = model.graph.values().filter_map(|(id, _)| model.graph.initializer(id));
    let stored: u64 = weights.map(|tensor| tensor.data.len() as u64).sum();
    // More weights than the file is long: they lie in other files.
    let bytes = if stored > length { length + stored } else { length };
    Ok(Loaded { name, path: path.to_owned(), sha256, bytes, ports, model })
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
    if names.is_empty() {
        return Ok(stems(paths));
    }
    let usage = |message: String| Error::new(ErrorKind::Usage, message);
    if names.len() != paths.len() {
        let message = format!("{} names were given for {} models", names.len(), paths.len());
        return Err(usage(message).hint("give --name once per model, in the models' order"));
    }
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() || name.contains('/') || name.chars().any(char::is_control) {
            let message = format!("'{name}' cannot name a task");
            return Err(usage(message).hint("output names are made of it; leave out '/'"));
        }
        if names.iter().take(i).any(|other| other == name) {
            return Err(usage(format!("two tasks are called '{name}'"))
                .hint("give every model another --name"));
        }
    }
    Ok(names.to_vec())
}

fn stems(paths: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for path in paths {
        let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
        let stem = stem.replace(['/', '\\'], "_");
        let taken = |name: &String| names.contains(name);
        let numbered = (2..).map(|n| format!("{stem}_{n}"));
        names.extend(std::iter::once(stem.clone()).chain(numbered).find(|name| !taken(name)));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stems_made_unique() {
        let paths = ["x/net.onnx", "y/net.onnx", "net_2.onnx"].map(PathBuf::from);
        assert_eq!(task_names(&paths, &[]).unwrap(), ["net", "net_2", "net_2_2"]);
    }

    #[test]
    fn names_that_cannot_be_output_names_are_refused() {
        let paths = ["a.onnx", "b.onnx"].map(PathBuf::from);
        let names = |a: &str, b: &str| task_names(&paths, &[a.to_owned(), b.to_owned()]);
        assert_eq!(names("cats", "dogs").unwrap(), ["cats", "dogs"]);
        for (a, b) in [("a/b", "c"), ("", "c"), ("c", "c"), ("a\n", "c")] {
            assert_eq!(names(a, b).unwrap_err().kind(), ErrorKind::Usage);
        }
        assert!(task_names(&paths, &["a".to_owned()]).is_err());
    }
}
