//! Checksums of files and folders.

use std::fs::File;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::calib::data;
use crate::error::{Error, ErrorKind, Result};
use crate::naming::digits;

/// SHA-256 of a file, or of the names and contents of the files in a folder of samples that can be read, in
/// hexadecimal digits. Hidden files, pipes and what lies too deep for samples do not count.
///
/// # Errors
/// [`ErrorKind::Io`] for what cannot be read.
pub(super) fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    match path.is_dir() {
        true => add_folder(&mut hasher, path, data::DEEPEST)?,
        false => add_file(&mut hasher, path)?,
    }
    Ok(digits(&hasher.finalize()))
}

fn add_folder(hasher: &mut Sha256, folder: &Path, depth: usize) -> Result<()> {
    for path in data::entries(folder)? {
        let mut inner = Sha256::new();
        match depth.checked_sub(1) {
            Some(depth) if path.is_dir() => add_folder(&mut inner, &path, depth)?,
            _ if path.is_file() => add_file(&mut inner, &path)?,
            _ => continue,
        }
        hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(inner.finalize());
    }
    Ok(())
}

fn add_file(hasher: &mut Sha256, path: &Path) -> Result<()> {
    let unreadable = |e| {
        Error::new(ErrorKind::Io, "cannot read it to take its checksum")
            .because(e)
            .in_model(path.display())
    };
    // A pipe or a device may never end.
    if path.exists() && !path.is_file() {
        return Err(unreadable(io::ErrorKind::InvalidInput.into()).hint("give a file or a folder"));
    }
    let mut file = File::open(path).map_err(unreadable)?;
    io::copy(&mut file, hasher).map(drop).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_and_contents_of_a_folder_count() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        fs::create_dir(folder.path().join("cats")).unwrap();
        put("cats/1.png", "x");
        let first = sha256(folder.path()).unwrap();
        put("cats/1.png", "y");
        let changed = sha256(folder.path()).unwrap();
        put("cats/1.png", "x");
        assert_eq!(sha256(folder.path()).unwrap(), first);
        fs::rename(folder.path().join("cats/1.png"), folder.path().join("cats/2.png")).unwrap();
        let renamed = sha256(folder.path()).unwrap();
        assert!(first != changed && first != renamed && changed != renamed);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        put("abc", "abc");
        assert_eq!(sha256(&folder.path().join("abc")).unwrap(), abc);
        assert!(sha256(&folder.path().join("nothing")).is_err());
    }

    #[test]
    fn what_readers_do_not_see_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| fs::write(folder.path().join(name), "x").unwrap();
        fs::create_dir(folder.path().join("cats")).unwrap();
        put("cats/1.png");
        let first = sha256(folder.path()).unwrap();
        put(".DS_Store");
        put("cats/.1.png.part");
        assert_eq!(sha256(folder.path()).unwrap(), first);
    }

    #[cfg(unix)]
    #[test]
    fn circles_of_links_and_pipes_come_to_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        fs::write(inside("1.png"), "x").unwrap();
        let first = sha256(folder.path()).unwrap();
        let made = std::process::Command::new("mkfifo").arg(inside("2.png")).status();
        if made.is_ok_and(|status| status.success()) {
            assert_eq!(sha256(folder.path()).unwrap(), first);
            assert_eq!(sha256(&inside("2.png")).unwrap_err().kind(), ErrorKind::Io);
        }
        std::os::unix::fs::symlink(folder.path(), inside("again")).unwrap();
        assert_ne!(sha256(folder.path()).unwrap(), first);
    }
}
