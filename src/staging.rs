//! Files that appear whole or not at all.
//!
//! A file is written under a temporary name beside its target and renamed at the end; several files
//! that belong together are all written before the first is renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, ErrorKind, Result};

/// Files written but not yet visible; dropping it removes them.
#[derive(Default)]
pub(crate) struct Stage {
    files: Vec<(NamedTempFile, PathBuf)>,
    bytes: u64,
}

type Buffered<'a> = BufWriter<&'a File>;

impl Stage {
    /// Writes a file that is to become `target`. A device or pipe is written at once.
    pub(crate) fn write(
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
        let file = create_beside(target).map_err(|e| no_room(target, e))?;
        let complete = filled(file.as_file(), fill).and_then(|()| file.as_file().sync_all());
        let size = complete.and_then(|()| Ok(file.as_file().metadata()?.len()));
        self.bytes += size.map_err(|e| failed(target, e))?;
        self.files.push((file, target.to_owned()));
        Ok(())
    }

    /// [`Stage::write`] for what can only be written to a path; not for devices.
    pub(crate) fn write_by_path(
        &mut self,
        target: &Path,
        fill: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<()> {
        let file = create_beside(target).map_err(|e| no_room(target, e))?;
        let written = || -> io::Result<u64> {
            // The writer may put another file in place of ours.
            let permissions = file.as_file().metadata()?.permissions();
            fill(file.path())?;
            let file = File::open(file.path())?;
            file.set_permissions(permissions)?;
            file.sync_all()?;
            Ok(file.metadata()?.len())
        };
        self.bytes += written().map_err(|e| failed(target, e))?;
        self.files.push((file, target.to_owned()));
        Ok(())
    }

    /// Gives the files their names, in the order in which they were written, and returns their size
    /// together. If one cannot be renamed, those that are new are removed again.
    pub(crate) fn commit(self) -> Result<u64> {
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
pub(crate) fn is_device(path: &Path) -> bool {
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
    // Temporary files are private by default; a result is an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder_of(target))
}

/// The folder of a file; paths without one are relative to the current folder.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn no_room(target: &Path, cause: io::Error) -> Error {
    failed(target, cause).hint("choose a folder that exists and that you may write to")
}

fn failed(target: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot write '{}'", target.display())).because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn all_files_have_the_permissions_of_ordinary_ones() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("ordinary"), "x").unwrap();
        let mut stage = Stage::default();
        stage.write(&path("a"), |out| out.write_all(b"ab")).unwrap();
        // A writer that has its own private temporary file.
        let replace = |at: &Path| -> io::Result<()> {
            let mut own = NamedTempFile::new_in(folder_of(at))?;
            own.write_all(b"cde")?;
            own.persist(at)?;
            Ok(())
        };
        stage.write_by_path(&path("b"), replace).unwrap();
        assert_eq!(stage.commit().unwrap(), 5);
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode();
        assert_eq!([mode("a"), mode("b")], [mode("ordinary"); 2]);
        assert_eq!(fs::read(path("b")).unwrap(), b"cde");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut stage = Stage::default();
        let refuse = |_: &Path| Err(io::Error::other("no"));
        assert!(stage.write_by_path(&folder.path().join("a"), refuse).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
