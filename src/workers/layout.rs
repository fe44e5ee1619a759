//! Paths and formats of the files in the folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::staging::unwritable;

/// The files of one merge.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

/// The requests of the merge's current walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Layout {
        Layout { root: root.to_owned() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn nets(&self) -> PathBuf {
        self.root.join("nets")
    }

    pub(super) fn shard(&self, shard: usize) -> PathBuf {
        self.root.join(format!("shards/{shard}"))
    }

    pub(super) fn request(&self, number: u64) -> PathBuf {
        self.root.join(format!("requests/{number}"))
    }

    pub(super) fn reply(&self, number: u64, shard: usize) -> PathBuf {
        self.root.join(format!("replies/{number}-{shard}"))
    }

    pub(super) fn claim(&self, shard: usize) -> PathBuf {
        self.root.join(format!("claims/{shard}"))
    }

    pub(super) fn workers(&self) -> PathBuf {
        self.root.join("workers")
    }

    pub(super) fn merge(&self) -> PathBuf {
        self.root.join("merge")
    }

    pub(super) fn failed(&self) -> PathBuf {
        self.root.join("failed")
    }

    pub(super) fn end(&self) -> PathBuf {
        self.root.join("end")
    }

    /// Makes the folders of a merge.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if the folder is not empty; [`ErrorKind::Io`] if it cannot be created.
    pub(super) fn make(&self) -> Result<()> {
        let failed = |e| unwritable(&self.root, e);
        fs::create_dir_all(&self.root).map_err(failed)?;
        if fs::read_dir(&self.root).map_err(failed)?.next().is_some() {
            let message = format!("the folder '{}' is not empty", self.root.display());
            return Err(Error::new(ErrorKind::Usage, message)
                .hint("give each merge an empty folder of its own for its workers"));
        }
        for folder in ["shards", "requests", "replies", "claims", "workers"] {
            fs::create_dir(self.root.join(folder)).map_err(failed)?;
        }
        Ok(())
    }

    /// Removes all files, and leaves a note that the merge has ended.
    pub(super) fn clear(&self) {
        // The merge is over, so errors of removing files are ignored.
        let _ = write(&self.end(), b"");
        for folder in ["shards", "requests", "replies", "claims", "workers"] {
            // Renaming first: workers that have not seen the end then find no folder to write into.
            let (used, old) = (self.root.join(folder), self.root.join(format!("{folder}.old")));
            let _ = fs::rename(&used, &old).and_then(|()| fs::remove_dir_all(&old));
        }
        for file in [self.nets(), self.root.join("current"), self.failed(), self.merge()] {
            let _ = fs::remove_file(file);
        }
    }

    /// Names the requests of the current walk.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where they cannot be written.
    pub(super) fn set_current(&self, current: Current) -> Result<()> {
        let text = format!("{} {}", current.first, current.last);
        write(&self.root.join("current"), text.as_bytes())
    }

    /// The requests of the current walk; `None` before the first one.
    pub(super) fn current(&self) -> Option<Current> {
        let text = fs::read_to_string(self.root.join("current")).ok()?;
        let (first, last) = text.split_once(' ')?;
        Some(Current { first: first.parse().ok()?, last: last.parse().ok()? })
    }
}

/// Writes a file that appears whole or not at all.
///
/// # Errors
/// [`ErrorKind::Io`] where it cannot be written.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let beside = path.with_extension(format!("{}-{number}.part", std::process::id()));
    let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    written.map_err(|e| {
        // The first error is reported, not one of cleaning up.
        let _ = fs::remove_file(&beside);
        unwritable(path, e)
    })
}

/// The bytes of a file; `None` if it does not exist.
///
/// # Errors
/// [`ErrorKind::Io`] where it cannot be read.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => {
            let message = format!("cannot read '{}'", path.display());
            Err(Error::new(ErrorKind::Io, message).because(e))
        }
    }
}
