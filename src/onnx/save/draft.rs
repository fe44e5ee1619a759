//! A complete model that is not in place yet.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use prost::Message;

use super::{beside, name_data};
use crate::error::Result;
use crate::onnx::data_file::is_digest;
use crate::onnx::proto::ModelProto;
use crate::onnx::write::entry;
use crate::staging::{Stage, Target, folder_of, resolve, unwritable};

/// A model that is written and can be read, but is not in place yet. Dropping it removes it.
pub struct Draft<'p> {
    stage: Stage<'p>,
    target: PathBuf,
    at: PathBuf,
    data: Option<String>,
}

impl<'p> Draft<'p> {
    pub(super) fn new(
        stage: Stage<'p>,
        target: &Path,
        at: PathBuf,
        data: Option<String>,
    ) -> Draft<'p> {
        Draft { stage, target: target.to_owned(), at, data }
    }

    /// The model's temporary path.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Its target, as the user named it.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The number of bytes so far, external data and further files included.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Io`] where the files are gone.
    pub fn bytes(&self) -> Result<u64> {
        self.stage.bytes()
    }

    /// Adds an entry to the model's metadata without changing verified bytes: fields of a message may
    /// have any order, so the entry is appended to the file.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Io`] where the file cannot be written.
    pub fn add_metadata(&mut self, key: &str, value: &str) -> Result<()> {
        let field = ModelProto { metadata_props: vec![entry(key, value)], ..Default::default() };
        let file = OpenOptions::new().append(true).open(&self.at);
        let added = file.and_then(|mut file| {
            file.write_all(&field.encode_to_vec())?;
            file.sync_all()
        });
        added.map_err(|e| unwritable(&self.target, e))
    }

    /// Adds a text file that belongs to the model and is put into place with it.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Io`] where it cannot be written.
    pub fn add_text(&mut self, path: &Path, text: &str) -> Result<()> {
        self.stage.write(path, |out| out.write_all(text.as_bytes())).map(drop)
    }

    /// Puts the model into place under another name in the same folder. External data gets the new name,
    /// too: under the old one, the next model of that name would remove it.
    ///
    /// # Errors
    /// As [`Draft::commit`].
    pub fn commit_as(mut self, path: &Path) -> Result<u64> {
        if let Some(name) = self.data.take() {
            self.data = Some(self.rename_data(&name, path)?);
        }
        self.stage.divert(&self.target, path)?;
        path.clone_into(&mut self.target);
        self.commit()
    }

    /// Renames the data file as that of a model at `path`; returns the new name.
    fn rename_data(&mut self, name: &str, path: &Path) -> Result<String> {
        let failed = |e| unwritable(path, e);
        let (old, _) = beside(&self.target, "")?;
        let digest = name.rsplit('.').nth(1).unwrap_or_default();
        let (folder, new) = beside(path, digest)?;
        let bytes = fs::read(&self.at).map_err(failed)?;
        let mut model = ModelProto::decode(bytes.as_slice()).map_err(|e| failed(e.into()))?;
        name_data(&mut model, &new);
        let mut file = File::create(&self.at).map_err(failed)?;
        file.write_all(&model.encode_to_vec()).and_then(|()| file.sync_all()).map_err(failed)?;
        self.stage.divert(&old.join(name), &folder.join(&new))?;
        Ok(new)
    }

    /// Puts everything into place and returns the number of bytes.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Io`] if a file cannot be put into place, [`crate::error::ErrorKind::Interrupted`] if waiting for
    /// the reader of a pipe was cancelled; then all files are as they were.
    pub fn commit(self) -> Result<u64> {
        let bytes = self.stage.commit()?;
        if let Ok(Target::File(real)) = resolve(&self.target) {
            remove_old_data(&real, self.data.as_deref());
        }
        Ok(bytes)
    }
}

/// Removes data files of earlier versions of `model`, and those of killed runs.
fn remove_old_data(model: &Path, current: Option<&str>) {
    let (Some(name), Ok(entries)) = (model.file_name(), fs::read_dir(folder_of(model))) else {
        return;
    };
    for entry in entries.flatten() {
        let file = entry.file_name();
        if is_data_of(&file, name) && file.to_str() != current {
            // An old data file that cannot be removed does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether `file` has the name of a data file of `model`.
fn is_data_of(file: &OsStr, model: &OsStr) -> bool {
    let digits = file.to_str().zip(model.to_str()).and_then(|(file, model)| {
        file.strip_prefix(model)?.strip_prefix('.')?.strip_suffix(".data")
    });
    digits.is_some_and(is_digest)
}
