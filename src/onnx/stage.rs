//! Files that appear whole or not at all.
//!
//! A file is written under a temporary name beside its target and renamed at the end; several files
//! that belong together are all written before the first is renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use super::folder_of;
use crate::error::{Error, ErrorKind, Result};

/// Files written but not yet visible; dropping it removes them.
#[derive(Default)]
pub(super) struct Stage {
    files: Vec<(NamedTempFile, PathBuf)>,
    bytes: u64,
}

type Buffered<'a> = BufWriter<&'a File>;

impl Stage {
    /// Writes a file that is to become `target`. A device or pipe is written at once.
    pub(super) fn write(
        &mut self,
        target: &Path,
        fill: impl FnOnce(&mut Buffered<'_>) -> io::Result<()>,
    ) -> Result<()> {
        if target.is_dir() {
            return Err(failed(target, io::ErrorKind::IsADirectory.into()).hint("name a file"));
        }
        if is_device(target) {
            let device = OpenOptions::new().write(true).open(target);
            let device = device.map_err(|e| failed(target, e))?;
            return filled(&device, fill).map_err(|e| failed(target, e));
        }
        let file = create_beside(target).map_err(|e| {
            failed(target, e).hint("choose a folder that exists and that you may write to")
        })?;
        let complete = filled(file.as_file(), fill).and_then(|()| file.as_file().sync_all());
        let size = complete.and_then(|()| Ok(file.as_file().metadata()?.len()));
        self.bytes += size.map_err(|e| failed(target, e))?;
        self.files.push((file, target.to_owned()));
        Ok(())
    }

    /// Gives the files their names, in the order in which they were written, and returns their size
    /// together. If one cannot be renamed, those that are new are removed again.
    pub(super) fn commit(self) -> Result<u64> {
        let mut appeared = Vec::new();
        for (file, target) in self.files {
            let existed = target.exists();
            if let Err(e) = file.persist(&target) {
                for new in appeared {
                    // The first error is the one to report.
                    let _ = fs::remove_file(new);
                }
                return Err(failed(&target, e.error));
            }
            if !existed {
                appeared.push(target);
            }
        }
        Ok(self.bytes)
    }
}

/// Whether `path` is something that cannot be replaced by a file: a device, a pipe or a socket.
pub(super) fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir())
}

fn filled(file: &File, fill: impl FnOnce(&mut Buffered<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    fill(&mut out)?;
    out.flush()
}

fn create_beside(target: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".onnx-zip-").suffix(".tmp");
    // Temporary files are private by default; a saved model is an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder_of(target))
}

fn failed(target: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot write '{}'", target.display())).because(cause)
}
