//! Pictures and sounds as the bytes of files, on disk or inside archives.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::complaints::unreadable;
use super::file::opened;
use crate::error::{Error, ErrorKind, Result};

/// Limit of a file's bytes: a larger file is a mistake, and would fill the memory.
pub(super) const LARGEST: u64 = 1 << 28;

/// Number of files that are read before they are decoded.
pub(super) const AT_ONCE: usize = 64;

/// Encoded samples.
pub(super) trait Media: Send + Sync + fmt::Debug {
    /// Their number.
    fn count(&self) -> usize;

    /// The name of one of them in messages.
    fn name(&self, row: usize) -> String;

    /// The bytes of some of them, in that order.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if a file cannot be read, [`ErrorKind::Calibration`] if it is too large.
    fn bytes(&self, rows: &[usize]) -> Result<Vec<Vec<u8>>>;
}

/// Separate files.
#[derive(Debug)]
pub(super) struct Paths(pub(super) Vec<PathBuf>);

impl Media for Paths {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn name(&self, row: usize) -> String {
        self.0.get(row).map(|path| path.display().to_string()).unwrap_or_default()
    }

    fn bytes(&self, rows: &[usize]) -> Result<Vec<Vec<u8>>> {
        rows.iter().filter_map(|row| self.0.get(*row)).map(|path| read_whole(path)).collect()
    }
}

fn read_whole(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A file may grow, so the limit applies while reading.
    let read = opened(path)?.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(path, error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(too_large(&path.display().to_string()));
    }
    Ok(bytes)
}

/// An error about a picture or a sound that is too large.
pub(super) fn too_large(name: &str) -> Error {
    let message = format!("{name} is larger than {} MiB", LARGEST >> 20);
    Error::new(ErrorKind::Calibration, message)
}

/// A file for reads at any offset.
pub(super) struct Anywhere {
    path: PathBuf,
    file: Mutex<File>,
    /// Its length when it was opened.
    pub(super) length: u64,
}

impl fmt::Debug for Anywhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Anywhere({})", self.path.display())
    }
}

impl Anywhere {
    /// Opens a file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where it cannot be opened.
    pub(super) fn open(path: &std::path::Path) -> Result<Self> {
        let file = opened(path)?;
        let length = file.metadata().map_err(|error| unreadable(path, error))?.len();
        Ok(Anywhere { path: path.to_owned(), file: Mutex::new(file), length })
    }

    /// Fills `place` with the bytes at `offset`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if there are no such bytes, for example because the file has been cut.
    pub(super) fn read(&self, offset: u64, place: &mut [u8]) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(place));
        read.map_err(|error| unreadable(&self.path, error))
    }
}

/// Whether these are the bytes of a sound.
pub(super) fn is_sound(bytes: &[u8]) -> bool {
    bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE")
}
