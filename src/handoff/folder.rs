//! A folder that appears whole or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::staging::{StagedFolder, unwritable};

/// A folder under construction; dropping it removes it.
pub(super) struct Draft(StagedFolder);

impl Draft {
    /// Creates an empty folder that will be renamed to `target`, which must be new or empty.
    pub(super) fn beside(target: &Path) -> Result<Self> {
        match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Ok(false) => {
                let message = format!("the folder '{}' is not empty", target.display());
                return Err(Error::new(ErrorKind::Usage, message)
                    .hint("name a new folder, or remove this one first"));
            }
            Err(e) => return Err(unwritable(target, e).hint("name a new folder")),
        }
        StagedFolder::new(target).map(Draft)
    }

    /// Where to write.
    pub(super) fn path(&self) -> PathBuf {
        self.0.path()
    }

    /// Gives the folder its name.
    pub(super) fn publish(self) -> Result<()> {
        self.0.commit(&BTreeSet::new())
    }
}

/// Writes a text file into the folder.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(|e| unwritable(&path, e))
}
