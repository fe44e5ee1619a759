//! Where a path leads.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// Links on the way to a file; the system allows as many.
const LINKS: usize = 40;

/// The target of a path, with all links resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A file that exists or can be created, and that a rename can replace.
    File(PathBuf),
    /// A device, a pipe or an open file, which is write-only.
    Stream(PathBuf),
}

/// Resolves `path`.
///
/// # Errors
/// [`io::ErrorKind::IsADirectory`] for a folder, [`io::ErrorKind::InvalidInput`] for a target that
/// cannot be written; else the error of the system.
pub(crate) fn resolve(path: &Path) -> io::Result<Target> {
    if path.as_os_str().is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut at = path.to_owned();
    for _ in 0..LINKS {
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_symlink() && is_open_file(&at) => {
                return match fs::metadata(&at)?.is_dir() {
                    true => Err(io::ErrorKind::IsADirectory.into()),
                    false => Ok(Target::Stream(path.to_owned())),
                };
            }
            Ok(found) if found.is_symlink() => at = folder_of(&at).join(fs::read_link(&at)?),
            Ok(found) => return of_kind(at, &found),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return missing(at),
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other("too many links"))
}

fn of_kind(at: PathBuf, found: &Metadata) -> io::Result<Target> {
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if found.is_file() {
        return Ok(Target::File(at));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let (kind, refused) = (found.file_type(), io::ErrorKind::InvalidInput);
        if kind.is_block_device() {
            return Err(io::Error::new(refused, "it is a block device"));
        }
        if kind.is_socket() {
            return Err(io::Error::new(refused, "it is a socket"));
        }
    }
    Ok(Target::Stream(at))
}

/// A missing file can be created, unless the path ends like a folder's.
fn missing(at: PathBuf) -> io::Result<Target> {
    let ends_as_folder = at.as_os_str().to_string_lossy().ends_with(std::path::is_separator);
    match at.file_name() {
        Some(_) if !ends_as_folder => Ok(Target::File(at)),
        _ => Err(io::ErrorKind::IsADirectory.into()),
    }
}

/// Whether a link stands for an open file of a process, as `/dev/stdout` does. The text of such a
/// link need not be a path.
fn is_open_file(link: &Path) -> bool {
    let Ok(folder) = folder_of(link).canonicalize() else { return false };
    folder.starts_with("/proc") && folder.file_name().is_some_and(|name| name == "fd")
}

/// The folder of a file; paths without one are relative to the current folder.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether both paths name one file. Opens regular files only, since opening a pipe may block.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    let is_file = |path| fs::metadata(path).is_ok_and(|m| m.is_file());
    is_file(a) && is_file(b) && same_file::is_same_file(a, b).unwrap_or(false)
}

/// Whether `path` is standard output.
#[cfg(unix)]
pub(crate) fn is_stdout(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let stdout = same_file::Handle::stdout().and_then(|h| h.as_file().metadata());
    let both = stdout.and_then(|out| Ok((out, fs::metadata(path)?)));
    both.is_ok_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Whether `path` is standard output.
#[cfg(not(unix))]
pub(crate) fn is_stdout(_: &Path) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_to_files_that_are_there_and_to_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("real"), "x").unwrap();
        symlink("real", path("one")).unwrap();
        symlink(path("one"), path("two")).unwrap();
        symlink("new", path("dangling")).unwrap();
        symlink("round", path("round")).unwrap();
        symlink(".", path("folder")).unwrap();
        assert_eq!(resolve(&path("two")).unwrap(), Target::File(path("real")));
        assert_eq!(resolve(&path("dangling")).unwrap(), Target::File(path("new")));
        assert!(resolve(&path("round")).is_err());
        for name in ["folder", "", "..", "new/"] {
            let error = resolve(&path(name)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::IsADirectory, "{name}");
        }
    }

    #[test]
    fn devices_and_open_files_are_streams() {
        let null = Path::new("/dev/null");
        assert_eq!(resolve(null).unwrap(), Target::Stream(null.to_owned()));
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink(null, &link).unwrap();
        assert_eq!(resolve(&link).unwrap(), Target::Stream(null.to_owned()));
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
        assert!(resolve(&folder.path().join("s")).is_err());
        if cfg!(target_os = "linux") {
            let stdout = Path::new("/dev/stdout");
            assert_eq!(resolve(stdout).unwrap(), Target::Stream(stdout.to_owned()));
            assert!(is_stdout(stdout));
        }
    }
}
