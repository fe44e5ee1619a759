//! A folder whose files are replaced together.
//!
//! A new folder is renamed once. An existing folder is swapped with the new one in one step, after
//! its other files were linked into the new one. If that is impossible (another owner, a mount point,
//! folders inside, no such system call), files are renamed one by one, models after the files that
//! they read.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::nursery::{Nursery, sweep};
use super::{Replaced, folder_of, no_room, sync_folder, unwritable};
use crate::error::Result;

/// A folder under construction; dropping it removes it.
pub(crate) struct StagedFolder {
    nursery: Nursery,
    /// After what is in them.
    _parents: Made,
    /// Behind all links.
    target: PathBuf,
    /// As the user calls it.
    name: PathBuf,
    /// Whether it is inside its target, because nothing can be written beside the target.
    inside: bool,
}

impl StagedFolder {
    /// Creates an empty folder that will become `target`, or whose files will be moved there.
    pub(crate) fn new(target: &Path) -> Result<Self> {
        let name = target.to_owned();
        let target = checked(target)?;
        let exists = target.exists();
        sweep(&target);
        let parents = Made::folder(folder_of(&target)).map_err(|e| no_room(&name, e))?;
        let (nursery, inside) = match Nursery::within(folder_of(&target)) {
            Ok(nursery) => (nursery, false),
            Err(_) if exists => (Nursery::within(&target).map_err(|e| no_room(&name, e))?, true),
            Err(e) => return Err(no_room(&name, e)),
        };
        Ok(StagedFolder { nursery, _parents: parents, target, name, inside })
    }

    /// Where to write.
    pub(crate) fn path(&self) -> PathBuf {
        self.nursery.path()
    }

    /// Puts the folder, or its files, into place. Files called `stale` are not kept.
    pub(crate) fn commit(self, stale: &BTreeSet<OsString>) -> Result<()> {
        let folder = folder_of(&self.target).to_owned();
        let done = match fs::metadata(&self.target) {
            Err(_) => fs::rename(self.path(), &self.target),
            Ok(old) if self.can_swap(&old) && self.swap(&old, stale).is_ok() => Ok(()),
            Ok(_) => self.one_by_one(stale),
        };
        sync_folder(&folder);
        done.map_err(|e| unwritable(&self.name, e))
    }

    /// Whether the folders can be swapped without a difference in owner, permissions or mount point.
    fn can_swap(&self, old: &Metadata) -> bool {
        let around = std::env::current_dir().is_ok_and(|cwd| cwd.starts_with(&self.target));
        !self.inside && !around && fs::metadata(self.path()).is_ok_and(|new| are_alike(old, &new))
    }

    /// Swaps the folders, the old one's other files included.
    fn swap(&self, old: &Metadata, stale: &BTreeSet<OsString>) -> io::Result<()> {
        let new = self.path();
        let own = entries(&new)?;
        let mut known: BTreeSet<OsString> = own.union(stale).cloned().collect();
        let others: Vec<OsString> = entries(&self.target)?.difference(&known).cloned().collect();
        let carried = others.iter().try_for_each(|file| {
            known.insert(file.clone());
            fs::hard_link(self.target.join(file), new.join(file))
        });
        let swapped = carried.and_then(|()| {
            fs::set_permissions(&new, old.permissions())?;
            exchange(&new, &self.target)
        });
        if let Err(e) = swapped {
            others.iter().for_each(|file| {
                let _ = fs::remove_file(new.join(file));
            });
            return Err(e);
        }
        // Files that other processes have added in the meantime.
        for file in entries(&new)?.difference(&known) {
            let _ = fs::rename(new.join(file), self.target.join(file));
        }
        Ok(())
    }

    fn one_by_one(&self, stale: &BTreeSet<OsString>) -> io::Result<()> {
        let new = self.path();
        let is_model = |file: &OsString| Path::new(file).extension().is_some_and(|e| e == "onnx");
        let mut files: Vec<OsString> = entries(&new)?.into_iter().collect();
        files.sort_by_key(is_model);
        let targets: Vec<PathBuf> = files.iter().map(|file| self.target.join(file)).collect();
        let mut done = Vec::new();
        for (file, target) in files.iter().zip(&targets) {
            match Replaced::by(&new.join(file), target, true) {
                Ok(replaced) => done.push(replaced),
                Err(e) => {
                    done.into_iter().rev().for_each(Replaced::undo);
                    return Err(e);
                }
            }
        }
        sync_folder(&self.target);
        stale.iter().for_each(|file| {
            let _ = fs::remove_file(self.target.join(file));
        });
        Ok(())
    }
}

/// A folder for files that come one after the other; if it is new and stays empty, dropping it removes it.
#[must_use]
pub(crate) struct MadeFolder {
    _made: Made,
}

impl MadeFolder {
    /// Makes the folder `target` and those around it, as far as they are missing.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Io`] for a target that is no folder or cannot be made.
    pub(crate) fn at(target: &Path) -> Result<Self> {
        let real = checked(target)?;
        Ok(MadeFolder { _made: Made::folder(&real).map_err(|e| no_room(target, e))? })
    }
}

/// The folder behind all links, or one that can be made.
fn checked(target: &Path) -> Result<PathBuf> {
    let refused = |e| unwritable(target, e).hint("name a folder");
    let real = match fs::symlink_metadata(target) {
        Ok(_) => target.canonicalize().map_err(refused)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => target.to_owned(),
        Err(e) => return Err(refused(e)),
    };
    if real.file_name().is_none() || (real.exists() && !real.is_dir()) {
        return Err(refused(io::ErrorKind::NotADirectory.into()));
    }
    Ok(real)
}

/// Folders that were created. Those that stay empty are removed again.
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a folder and those around it, as far as they are missing.
    fn folder(folder: &Path) -> io::Result<Self> {
        let missing = folder
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let made = Made(missing.map(Path::to_owned).collect());
        fs::create_dir_all(folder)?;
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // The innermost is first.
        for folder in &self.0 {
            let _ = fs::remove_dir(folder);
        }
    }
}

fn entries(folder: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
}

#[cfg(unix)]
fn are_alike(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.uid(), a.gid()) == (b.dev(), b.uid(), b.gid())
}

#[cfg(not(unix))]
fn are_alike(_: &Metadata, _: &Metadata) -> bool {
    false
}

#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
