//! A folder that appears whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, ErrorKind, Result};

/// A folder that is being filled; dropping it removes it.
pub(super) struct Draft {
    temporary: TempDir,
    target: PathBuf,
}

impl Draft {
    /// An empty folder that is to become `target`.
    pub(super) fn beside(target: &Path) -> Result<Self> {
        match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Ok(false) => {
                let message = format!("the folder '{}' is not empty", target.display());
                return Err(Error::new(ErrorKind::Usage, message)
                    .hint("name a new folder, or remove this one first"));
            }
            Err(e) => return Err(failed(target, e).hint("name a new folder")),
        }
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary = tempfile::Builder::new()
            .prefix(".onnx-zip-")
            .tempdir_in(parent)
            .map_err(|e| failed(target, e).hint("choose a place that you may write to"))?;
        Ok(Draft { temporary, target: target.to_owned() })
    }

    /// Where to write.
    pub(super) fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the folder its name.
    pub(super) fn publish(self) -> Result<()> {
        let Draft { temporary, target } = self;
        // Temporary folders are private by default; a result is an ordinary folder.
        #[cfg(unix)]
        fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(|e| failed(&target, e))?;
        if target.exists() {
            fs::remove_dir(&target).map_err(|e| failed(&target, e))?;
        }
        fs::rename(temporary.path(), &target).map_err(|e| failed(&target, e))
    }
}

/// Writes a text file into the folder.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(|e| failed(&path, e))
}

/// An error about a file or folder that cannot be written.
pub(super) fn failed(path: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot write '{}'", path.display())).because(cause)
}
