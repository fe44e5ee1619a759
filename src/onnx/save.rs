//! Saving models to files.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use prost::Message;

use super::data_file::DataFile;
use super::proto::ModelProto;
use super::stream;
use super::write::{PROTOBUF_LIMIT, check_size, to_proto};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;
use crate::staging::{Stage, folder_of, is_device};

/// Where large tensors go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum External {
    /// Into the model file as long as it stays below 2 GB, else into `<file name>.data` beside it.
    #[default]
    Auto,
    /// Into the file of this name beside the model.
    Always(String),
    /// Into the model file.
    Never,
}

/// How a model is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveOptions {
    /// Where large tensors go.
    pub external: External,
    /// The size in bytes from which a tensor counts as large.
    pub threshold: usize,
}

impl Default for SaveOptions {
    fn default() -> Self {
        SaveOptions { external: External::Auto, threshold: 1024 }
    }
}

/// Tensors below this size in bytes stay in each file of [`save_split`].
const SPLIT_THRESHOLD: usize = 64;

/// Saves a model and returns the number of bytes written, external data included.
///
/// Files are written whole or not at all: if writing fails, nothing is left behind and existing files
/// stay as they were. Initializers that nothing reads are left out. A device or pipe is written
/// directly.
///
/// # Errors
/// [`ErrorKind::Io`] if a file cannot be written, [`ErrorKind::Usage`] for an external file name
/// that is no plain name, [`ErrorKind::Unsupported`] if the model file would exceed 2 GB,
/// [`ErrorKind::Format`] if the graph is not well formed.
pub fn save(model: &Model, path: &Path, options: &SaveOptions) -> Result<u64> {
    save_within(model, path, options, PROTOBUF_LIMIT)
}

/// Saves several models whose initializers all lie in one external data file, `shared`, in which
/// equal tensors are stored once. `shared` must lie in the models' folder or below it. Returns the
/// number of bytes written.
///
/// # Errors
/// As [`save`]; [`ErrorKind::Usage`] if `shared` is not below a model's folder.
pub fn save_split(models: &[(&Model, &Path)], shared: &Path) -> Result<u64> {
    let mut data = DataFile::default();
    let mut protos = Vec::new();
    for (model, path) in models {
        let mut proto = to_proto(model)?;
        data.take(&mut proto, &location(path, shared)?, SPLIT_THRESHOLD);
        protos.push((proto, *path));
    }
    write_files(protos, &data, shared, PROTOBUF_LIMIT)
}

fn save_within(model: &Model, path: &Path, options: &SaveOptions, limit: u64) -> Result<u64> {
    let mut proto = to_proto(model)?;
    let name = match &options.external {
        External::Never => None,
        External::Auto if proto.encoded_len() as u64 <= limit => None,
        External::Auto => Some(default_data_name(path)),
        External::Always(name) => Some(name.clone()),
    };
    let mut data = DataFile::default();
    let mut data_path = PathBuf::new();
    if let Some(name) = name {
        check_name(&name, path)?;
        data.take(&mut proto, &name, options.threshold);
        data_path = path.with_file_name(name);
    }
    write_files(vec![(proto, path)], &data, &data_path, limit).in_model(&model.name)
}

fn write_files(
    models: Vec<(ModelProto, &Path)>,
    data: &DataFile,
    data_path: &Path,
    limit: u64,
) -> Result<u64> {
    let mut stage = Stage::default();
    if !data.is_empty() {
        if let Some((_, path)) = models.iter().find(|(_, path)| is_device(path)) {
            let message = format!("'{}' is no file that could have external data", path.display());
            return Err(Error::new(ErrorKind::Usage, message));
        }
        stage.write(data_path, |out| data.write(out))?;
    }
    for (proto, path) in models {
        check_size(&proto, limit)?;
        stage.write(path, |out| stream::write_model(proto, out))?;
    }
    stage.commit()
}

fn default_data_name(path: &Path) -> String {
    format!("{}.data", path.file_name().unwrap_or_default().to_string_lossy())
}

/// The data file must be a sibling of the model.
fn check_name(name: &str, path: &Path) -> Result<()> {
    let plain = matches!(
        Path::new(name).components().collect::<Vec<_>>().as_slice(),
        [Component::Normal(only)] if *only == name
    );
    if plain && path.file_name().is_some_and(|own| own != name) {
        return Ok(());
    }
    let message = format!("'{name}' cannot be the name of an external data file");
    Err(Error::new(ErrorKind::Usage, message)
        .hint("give a file name without folders that differs from the model's"))
}

/// How the model in `path` refers to the file `shared`: with forward slashes, never upwards.
fn location(path: &Path, shared: &Path) -> Result<String> {
    let folder = |file: &Path| {
        folder_of(file).canonicalize().map_err(|e| {
            let message = format!("cannot write '{}'", file.display());
            Error::new(ErrorKind::Io, message).because(e)
        })
    };
    let (from, to) = (folder(path)?, folder(shared)?);
    let parts = to.strip_prefix(&from).ok().zip(shared.file_name()).and_then(|(below, name)| {
        below.iter().chain([name]).map(OsStr::to_str).collect::<Option<Vec<_>>>()
    });
    match parts {
        Some(parts) if from != to || path.file_name() != shared.file_name() => Ok(parts.join("/")),
        _ => Err(Error::new(
            ErrorKind::Usage,
            format!("'{}' cannot hold the tensors of '{}'", shared.display(), path.display()),
        )
        .hint("put the shared data file into the models' folder or below it")),
    }
}

#[cfg(test)]
mod tests;
