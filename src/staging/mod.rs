//! Files that appear whole or not at all.
//!
//! Files are written into a hidden folder beside their targets ([`nursery`]), where they can be read
//! and checked, and renamed when all are complete. A killed run leaves such a folder behind; the next
//! run that writes beside it removes it. Links are followed. Devices and pipes are written at the end
//! ([`stream`]). A folder that must be replaced as a whole is swapped ([`folder`]).

mod folder;
mod nursery;
mod stream;
mod target;

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;

use nursery::Nursery;

pub(crate) use folder::{MadeFolder, StagedFolder};
pub(crate) use nursery::sweep;
pub(crate) use target::{Target, folder_of, is_stdout, resolve, same_file};

/// Files written but not yet in place; dropping it removes them.
pub(crate) struct Stage<'p> {
    progress: &'p dyn Progress,
    /// By the folder of their targets.
    nurseries: Vec<(PathBuf, Nursery)>,
    files: Vec<Staged>,
}

/// A file on its way.
struct Staged {
    at: PathBuf,
    target: Target,
    /// As the user calls it.
    name: PathBuf,
}

type Buffered = BufWriter<File>;

impl<'p> Stage<'p> {
    /// An empty stage. `progress` may cancel waiting for the reader of a pipe.
    pub(crate) fn new(progress: &'p dyn Progress) -> Self {
        Stage { progress, nurseries: Vec::new(), files: Vec::new() }
    }

    /// Writes a file for `target`, and returns its temporary path.
    pub(crate) fn write(
        &mut self,
        target: &Path,
        fill: impl FnOnce(&mut Buffered) -> io::Result<()>,
    ) -> Result<PathBuf> {
        let write = |staged: &Staged| {
            let mut out = BufWriter::with_capacity(1 << 20, File::create_new(&staged.at)?);
            fill(&mut out)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
        };
        self.staged(target, write)
    }

    /// [`Stage::write`] for a writer that takes a path.
    pub(crate) fn write_by_path(
        &mut self,
        target: &Path,
        fill: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<PathBuf> {
        let write = |staged: &Staged| {
            let permissions = File::create_new(&staged.at)?.metadata()?.permissions();
            fill(&staged.at)?;
            // The writer may have replaced the file by one with private permissions.
            let file = File::open(&staged.at)?;
            file.set_permissions(permissions)?;
            file.sync_all()
        };
        self.staged(target, write)
    }

    fn staged(
        &mut self,
        target: &Path,
        write: impl FnOnce(&Staged) -> io::Result<()>,
    ) -> Result<PathBuf> {
        let staged = self.place(target)?;
        write(&staged).map_err(|e| unwritable(target, e))?;
        let at = staged.at.clone();
        self.files.push(staged);
        Ok(at)
    }

    /// Changes the target of the file for `from` to `to`, in the same folder.
    pub(crate) fn divert(&mut self, from: &Path, to: &Path) -> Result<()> {
        let file = self.files.iter_mut().find(|file| file.name == from);
        if let Some(file) = file {
            (file.target, file.name) = (at(to)?, to.to_owned());
        }
        Ok(())
    }

    /// The size of all files.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where they are gone.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let size = |file: &Staged| {
            fs::metadata(&file.at).map(|m| m.len()).map_err(|e| unwritable(&file.name, e))
        };
        self.files.iter().map(size).sum()
    }

    /// Puts the files into place in the order of writing, and returns their total size. If one fails,
    /// all are undone, except data written to pipes.
    pub(crate) fn commit(mut self) -> Result<u64> {
        let bytes = self.bytes()?;
        let files = std::mem::take(&mut self.files);
        for file in &files {
            if let Target::Stream(path) = &file.target {
                stream::pour(&file.at, path, self.progress).map_err(|e| match e {
                    stream::Failure::Stopped(e) => e,
                    stream::Failure::Io(e) => unwritable(&file.name, e),
                })?;
            }
        }
        let mut done: Vec<Replaced<'_>> = Vec::new();
        let several = files.len() > 1;
        for file in &files {
            let Target::File(target) = &file.target else { continue };
            match Replaced::by(&file.at, target, several) {
                Ok(replaced) => done.push(replaced),
                Err(e) => {
                    done.into_iter().rev().for_each(Replaced::undo);
                    return Err(unwritable(&file.name, e));
                }
            }
        }
        self.nurseries.iter().for_each(|(folder, _)| sync_folder(folder));
        Ok(bytes)
    }

    /// The temporary path of a file for `target`.
    fn place(&mut self, name: &Path) -> Result<Staged> {
        let target = at(name)?;
        let (folder, file) = match &target {
            Target::File(path) => (folder_of(path).to_owned(), path.file_name()),
            Target::Stream(path) => (std::env::temp_dir(), path.file_name()),
        };
        let nursery = self.nursery(&folder).map_err(|e| no_room(name, e))?;
        let file = file.ok_or_else(|| unwritable(name, io::ErrorKind::InvalidInput.into()))?;
        let at = nursery.path().join(file);
        if self.files.iter().any(|other| other.at == at) {
            let message = format!("'{}' would be written twice", name.display());
            return Err(
                Error::new(ErrorKind::Usage, message).hint("give every output its own name")
            );
        }
        Ok(Staged { at, target, name: name.to_owned() })
    }

    fn nursery(&mut self, folder: &Path) -> io::Result<&Nursery> {
        let known = self.nurseries.iter().position(|(of, _)| of == folder);
        let at = match known {
            Some(at) => at,
            None => {
                self.nurseries.push((folder.to_owned(), Nursery::within(folder)?));
                self.nurseries.len() - 1
            }
        };
        self.nurseries.get(at).map(|(_, nursery)| nursery).ok_or(io::ErrorKind::NotFound.into())
    }
}

/// A file that was put into place, and the file that it replaced.
struct Replaced<'a> {
    target: &'a Path,
    /// The replaced file, as a second link to it; `None` if there was none.
    before: Option<PathBuf>,
}

impl<'a> Replaced<'a> {
    /// Renames `at` to `target`; with `undoable`, keeps the replaced file if possible.
    fn by(at: &Path, target: &'a Path, undoable: bool) -> io::Result<Self> {
        let mut before = None;
        if undoable && target.exists() {
            let mut kept = at.as_os_str().to_owned();
            kept.push(".before");
            before = Some(PathBuf::from(kept)).filter(|kept| fs::hard_link(target, kept).is_ok());
        }
        let existed = target.exists();
        fs::rename(at, target)?;
        // A file that could not be kept must not be removed.
        let before = before.or_else(|| existed.then(|| target.to_owned()));
        Ok(Replaced { target, before })
    }

    /// Errors of undoing are ignored: the first error is reported.
    fn undo(self) {
        let _ = match &self.before {
            Some(before) => fs::rename(before, self.target),
            None => fs::remove_file(self.target),
        };
    }
}

/// A rename is durable when its folder is synced, which not every system supports.
fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

fn at(name: &Path) -> Result<Target> {
    resolve(name).map_err(|e| match e.kind() {
        io::ErrorKind::IsADirectory => unwritable(name, e).hint("name a file"),
        _ => unwritable(name, e),
    })
}

/// [`unwritable`] for a folder that takes no files.
pub(crate) fn no_room(target: &Path, cause: io::Error) -> Error {
    let hint = remedy(&cause);
    unwritable(target, cause).hint(hint)
}

/// What helps where a file or a folder cannot be made. Not every cause is the folder's.
pub(crate) fn remedy(cause: &io::Error) -> &'static str {
    if is_out_of_files(cause) {
        return "allow more open files (ulimit -n)";
    }
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there, or choose another folder"
        }
        io::ErrorKind::FileTooLarge => "allow larger files (ulimit -f), or choose another folder",
        _ => "choose a folder that exists and that you may write to",
    }
}

/// Whether the process, or the system, has as many open files as it may.
fn is_out_of_files(cause: &io::Error) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::io::Errno;
        let code = cause.raw_os_error();
        code.is_some_and(|code| {
            [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).contains(&code)
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = cause;
        false
    }
}

/// The error for a file or folder that cannot be written.
pub(crate) fn unwritable(target: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot write '{}'", target.display())).because(cause)
}

#[cfg(test)]
mod tests;
