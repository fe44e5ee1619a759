//! Saving models to files.

mod draft;
mod split;

use std::path::{Path, PathBuf};

use prost::Message;

use super::data_file::{DataFile, refer};
use super::proto::ModelProto;
use super::stream;
use super::write::{PROTOBUF_LIMIT, check_size, to_proto};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;
use crate::progress::{Progress, Silent};
use crate::staging::{Stage, Target, folder_of, resolve};

pub use draft::Draft;
pub use split::save_split;

/// Where large tensors go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum External {
    /// Into the model file as long as it stays below 2 GB, else beside it.
    #[default]
    Auto,
    /// Into `<file name>.<digest>.data` beside the model file; the digest is that of the tensors.
    Always,
    /// Into the model file.
    Never,
}

/// How a model is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveOptions {
    /// Where large tensors go.
    pub external: External,
    /// Tensors of at least this size in bytes count as large.
    pub threshold: usize,
}

impl Default for SaveOptions {
    fn default() -> Self {
        SaveOptions { external: External::Auto, threshold: 1024 }
    }
}

/// Saves a model and returns the number of bytes written, external data included.
///
/// Files are written whole or not at all: if writing fails, nothing is left behind and existing files
/// stay as they were. Initializers that nothing reads are left out. Links are followed; a device or
/// pipe gets the model when it is complete.
///
/// # Errors
/// [`ErrorKind::Io`] if a file cannot be written, [`ErrorKind::Usage`] for external data beside a device
/// or pipe, [`ErrorKind::Unsupported`] if the model file would exceed 2 GB, [`ErrorKind::Format`]
/// if the graph is not well formed.
pub fn save(model: &Model, path: &Path, options: &SaveOptions) -> Result<u64> {
    stage(model, path, options, &Silent)?.commit()
}

/// Writes a model like [`save`], but does not put it into place yet, so that it can be checked first.
/// Dropping the draft leaves everything as it was. `progress` may cancel waiting for the reader of a
/// pipe.
///
/// # Errors
/// As [`save`].
pub fn stage<'p>(
    model: &Model,
    path: &Path,
    options: &SaveOptions,
    progress: &'p dyn Progress,
) -> Result<Draft<'p>> {
    stage_within(model, path, options, PROTOBUF_LIMIT, progress).in_model(&model.name)
}

fn stage_within<'p>(
    model: &Model,
    path: &Path,
    options: &SaveOptions,
    limit: u64,
    progress: &'p dyn Progress,
) -> Result<Draft<'p>> {
    let mut proto = to_proto(model)?;
    let moves_out = match options.external {
        External::Never => false,
        External::Auto => proto.encoded_len() as u64 > limit,
        External::Always => true,
    };
    let mut data = DataFile::default();
    if moves_out {
        data.take(&mut proto, options.threshold);
    }
    let mut stage = Stage::new(progress);
    let mut data_name = None;
    if !data.is_empty() {
        let (folder, name) = beside(path, &data.digest())?;
        name_data(&mut proto, &name);
        stage.write(&folder.join(&name), |out| data.write(out))?;
        data_name = Some(name);
    }
    check_size(&proto, limit)?;
    let at = stage.write(path, |out| stream::write_model(proto, out))?;
    Ok(Draft::new(stage, path, at, data_name))
}

/// The folder and the name of the data file with this digest for a model at `path`.
fn beside(path: &Path, digest: &str) -> Result<(PathBuf, String)> {
    // If this fails, writing the model fails for the same reason, with a better error.
    let target = resolve(path).unwrap_or_else(|_| Target::File(path.to_owned()));
    let Target::File(real) = target else {
        let message = format!(
            "'{}' is not a regular file, so external data cannot lie beside it",
            path.display()
        );
        return Err(Error::new(ErrorKind::Usage, message).hint("name a file"));
    };
    let own = real.file_name().unwrap_or_default().to_string_lossy();
    Ok((folder_of(&real).to_owned(), format!("{own}.{digest}.data")))
}

fn name_data(model: &mut ModelProto, name: &str) {
    if let Some(graph) = &mut model.graph {
        refer(graph, name);
    }
}

#[cfg(test)]
mod tests;
