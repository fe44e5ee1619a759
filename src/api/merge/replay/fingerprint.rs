//! Checksums of files and folders.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::naming::digits;

/// SHA-256 of a file, or of the names and contents of all files in a folder, in hexadecimal digits.
///
/// # Errors
/// [`ErrorKind::Io`] for what cannot be read.
pub(super) fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    add(&mut hasher, path)
        .map_err(|e| Error::new(ErrorKind::Io, "cannot read it to take its checksum").because(e))?;
    Ok(digits(&hasher.finalize()))
}

fn add(hasher: &mut Sha256, path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        return io::copy(&mut File::open(path)?, hasher).map(drop);
    }
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let mut inner = Sha256::new();
        add(&mut inner, &entry.path())?;
        hasher.update(entry.file_name().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(inner.finalize());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
}
