//! Errors about files and arrays of the data.

use std::path::Path;

use crate::error::{Error, ErrorKind};

/// An error about one array of a file.
pub(super) fn wrong_array(file: &Path, array: &str, clause: &str) -> Error {
    Error::new(ErrorKind::Calibration, format!("{}: array '{array}' {clause}", file.display()))
}

/// An error about a file that cannot be read at all.
pub(super) fn unreadable(file: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be read", file.display())).because(error)
}
