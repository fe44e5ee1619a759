//! Records of the files that a merge reads, for its plan.

use std::path::Path;

use crate::api::checksum;
use crate::api::data::DataInput;
use crate::api::merge::Merger;
use crate::api::models::ModelInput;
use crate::error::{Context, Result};
use crate::zipper::FileRecord;

/// The files of a merge, with checksums. What was not given as a file has none.
#[derive(Debug, Default)]
pub(in crate::api) struct Files {
    pub(super) models: Vec<Option<FileRecord>>,
    pub(super) data: Vec<Option<FileRecord>>,
    pub(super) gram: Vec<Option<FileRecord>>,
}

impl Files {
    /// Reads all files of a merge for their checksums.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Io`] for what cannot be read.
    pub(in crate::api) fn of(merger: &Merger) -> Result<Files> {
        let gram = merger.options.calibration.gram.iter();
        Ok(Files {
            models: merger.models.iter().map(of_model).collect::<Result<_>>()?,
            data: merger.data.iter().map(of_data).collect::<Result<_>>()?,
            gram: gram.map(|path| record(path, checksum::of_file(path))).collect::<Result<_>>()?,
        })
    }
}

fn of_model(model: &ModelInput) -> Result<Option<FileRecord>> {
    match model {
        ModelInput::Path(path) => record(path, checksum::of_model(path).map(|found| found.sha256)),
        ModelInput::Bytes(_) => Ok(None),
    }
}

fn of_data(data: &DataInput) -> Result<Option<FileRecord>> {
    match data {
        DataInput::Path(path) => record(path, checksum::of_samples(path)),
        DataInput::Arrays(_) => Ok(None),
    }
}

fn record(path: &Path, sha256: Result<String>) -> Result<Option<FileRecord>> {
    let sha256 = sha256.in_model(path.display())?;
    Ok(Some(FileRecord { path: path.to_owned(), sha256: Some(sha256) }))
}
