//! Hidden folders for files that are not in place yet.
//!
//! Each folder holds a locked file. The lock ends with the process, so a folder whose lock is free is
//! a leftover. Both sides take the lock before they touch anything else.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use same_file::Handle;
use tempfile::TempDir;

const PREFIX: &str = ".onnx-zip-";
const SUFFIX: &str = ".tmp";

/// The locked file.
const LOCK: &str = "lock";

/// The folder for files.
const FILES: &str = "new";

/// Retries if another process takes a new folder for a leftover before it is locked.
const TRIES: usize = 16;

/// A hidden folder; dropping it removes it.
pub(super) struct Nursery {
    /// Removed before the lock is released.
    folder: TempDir,
    _lock: File,
}

impl Nursery {
    /// Creates a hidden folder in `folder`, after removing leftovers there.
    pub(super) fn within(folder: &Path) -> io::Result<Self> {
        sweep(folder);
        for _ in 0..TRIES {
            let new = tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).tempdir_in(folder)?;
            if let Some(lock) = locked(new.path())? {
                fs::create_dir(new.path().join(FILES))?;
                return Ok(Nursery { folder: new, _lock: lock });
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Where to write.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join(FILES)
    }
}

/// The lock of a new folder; `None` if another process has it already.
fn locked(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(LOCK);
    let lock = match File::create_new(&path) {
        Ok(lock) => lock,
        Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    match lock.try_lock() {
        Ok(()) => Ok(is_there(&path, &lock)?.then_some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        // On a file system without locks, no process can take the lock, so none removes the folder.
        Err(TryLockError::Error(_)) => Ok(Some(lock)),
    }
}

/// Whether the locked file is still the one at its path.
fn is_there(path: &Path, lock: &File) -> io::Result<bool> {
    let own = Handle::from_file(lock.try_clone()?)?;
    match Handle::from_path(path) {
        Ok(seen) => Ok(seen == own),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes leftovers of killed runs in `folder`, as far as possible.
pub(crate) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|n| n.starts_with(PREFIX) && n.ends_with(SUFFIX));
        // The type is that of a link itself.
        if ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_leftover(&entry.path());
        }
    }
}

fn remove_leftover(folder: &Path) {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    // In a world-writable folder, it may be a trap: a link, or a pipe that blocks.
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    }
    let lock = options.open(folder.join(LOCK));
    if let Ok(lock) = lock
        && lock.try_lock().is_ok()
    {
        let _ = fs::remove_dir_all(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn leftovers_are_removed_and_folders_in_use_stay() {
        let folder = tempfile::tempdir().unwrap();
        let alive = Nursery::within(folder.path()).unwrap();
        fs::write(alive.path().join("a"), "x").unwrap();
        // Leftovers of a kill at any moment: without a lock file, and with an unheld one.
        for (name, lock) in [(".onnx-zip-1.tmp", false), (".onnx-zip-2.tmp", true)] {
            let dead = folder.path().join(name);
            fs::create_dir_all(dead.join(FILES)).unwrap();
            fs::write(dead.join(FILES).join("b"), "x").unwrap();
            if lock {
                fs::write(dead.join(LOCK), "").unwrap();
            }
        }
        fs::write(folder.path().join(".onnx-zip-file.tmp"), "not ours").unwrap();
        let another = Nursery::within(folder.path()).unwrap();
        assert_eq!(entries(folder.path()), 3);
        assert_eq!(fs::read(alive.path().join("a")).unwrap(), b"x");
        drop((alive, another));
        assert_eq!(entries(folder.path()), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_trap_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let trap = folder.path().join(".onnx-zip-x.tmp");
        fs::create_dir(&trap).unwrap();
        std::os::unix::fs::symlink(folder.path().join("made"), trap.join(LOCK)).unwrap();
        sweep(folder.path());
        assert!(trap.exists() && entries(folder.path()) == 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("mine"), "x").unwrap();
        let link = folder.path().join(".onnx-zip-x.tmp");
        std::os::unix::fs::symlink(elsewhere.path(), link).unwrap();
        sweep(folder.path());
        assert_eq!(entries(elsewhere.path()), 1);
    }
}
