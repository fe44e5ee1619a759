//! Checksums of the files that commands read and write.

use std::fs::File;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::calib::data;
use crate::error::{Error, ErrorKind, Result};
use crate::naming::digits;
use crate::onnx;

/// What tells a model's file from others.
#[derive(Debug, PartialEq)]
pub(super) struct Fingerprint {
    /// SHA-256 of the file, or of it and of its external data, in hexadecimal digits.
    pub(super) sha256: String,
    /// Bytes of the file, without external data.
    pub(super) length: u64,
}

/// The fingerprint of a model's file. External data counts, since fine-tunes of one net may differ in their
/// data only.
///
/// # Errors
/// [`ErrorKind::Io`] where a file cannot be read; as [`onnx::load`].
pub(super) fn of_model(path: &Path) -> Result<Fingerprint> {
    // First, since it says what a file is that is no model.
    let external = onnx::data_files(path)?;
    let (model, length) = hashed(path)?;
    if external.is_empty() {
        return Ok(Fingerprint { sha256: digits(&model.finalize()), length });
    }
    let mut all = Sha256::new();
    all.update(model.finalize());
    for (name, file) in &external {
        add(&mut all, name.as_bytes(), hashed(file)?.0);
    }
    Ok(Fingerprint { sha256: digits(&all.finalize()), length })
}

/// SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// [`ErrorKind::Io`] where it cannot be read.
pub(super) fn of_file(path: &Path) -> Result<String> {
    hashed(path).map(|(hasher, _)| digits(&hasher.finalize()))
}

/// SHA-256 of a file, or of the names and contents of the files in a folder of samples that can be read, in
/// hexadecimal digits. Hidden files, pipes and what lies too deep for samples do not count.
///
/// # Errors
/// [`ErrorKind::Io`] for what cannot be read.
pub(super) fn of_samples(path: &Path) -> Result<String> {
    match path.is_dir() {
        true => hashed_folder(path, data::DEEPEST).map(|hasher| digits(&hasher.finalize())),
        false => of_file(path),
    }
}

fn hashed_folder(folder: &Path, depth: usize) -> Result<Sha256> {
    let mut all = Sha256::new();
    for path in data::entries(folder)? {
        let contents = match depth.checked_sub(1) {
            Some(depth) if path.is_dir() => hashed_folder(&path, depth)?,
            _ if path.is_file() => hashed(&path)?.0,
            _ => continue,
        };
        add(&mut all, path.file_name().unwrap_or_default().as_encoded_bytes(), contents);
    }
    Ok(all)
}

/// Adds one of several files: its name and its contents.
fn add(all: &mut Sha256, name: &[u8], contents: Sha256) {
    all.update(name);
    all.update([0]);
    all.update(contents.finalize());
}

/// The contents of a file, and their length.
fn hashed(path: &Path) -> Result<(Sha256, u64)> {
    let unreadable = |e| {
        Error::new(ErrorKind::Io, "cannot read it to take its checksum")
            .because(e)
            .in_model(path.display())
    };
    // A pipe or a device may never end.
    if path.exists() && !path.is_file() {
        return Err(unreadable(io::ErrorKind::InvalidInput.into()).hint("give a regular file"));
    }
    let mut hasher = Sha256::new();
    let mut file = File::open(path).map_err(unreadable)?;
    let length = io::copy(&mut file, &mut hasher).map_err(unreadable)?;
    Ok((hasher, length))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::api::models::load_one;
    use crate::onnx::{External, SaveOptions};

    #[test]
    fn external_data_counts_in_the_checksum_of_a_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let net = onnx::load(&root.join("fixtures/models/lenet300_mnist_a.onnx")).unwrap();
        let saved = |external: External| {
            onnx::save(&net, &path, &SaveOptions { external, ..SaveOptions::default() }).unwrap();
        };
        let sum = || of_model(&path).map(|found| found.sha256);
        saved(External::Never);
        assert_eq!(sum().unwrap(), of_file(&path).unwrap());
        saved(External::Always);
        let (model, before) = (fs::read(&path).unwrap(), sum().unwrap());
        assert_ne!(before, of_file(&path).unwrap());
        // Other exporters do not name the data after its contents.
        let (_, data) = onnx::data_files(&path).unwrap().pop_first().unwrap();
        let mut weights = fs::read(&data).unwrap();
        weights[0] ^= 1;
        fs::write(&data, &weights).unwrap();
        assert_eq!(fs::read(&path).unwrap(), model);
        assert_ne!(sum().unwrap(), before);
        let loaded = load_one(&path.clone().into(), "net".to_owned()).unwrap();
        assert_eq!(loaded.sha256, sum().unwrap());
        fs::remove_file(&data).unwrap();
        assert_eq!(sum().unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn names_and_contents_of_a_folder_count() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        fs::create_dir(folder.path().join("cats")).unwrap();
        put("cats/1.png", "x");
        let first = of_samples(folder.path()).unwrap();
        put("cats/1.png", "y");
        let changed = of_samples(folder.path()).unwrap();
        put("cats/1.png", "x");
        assert_eq!(of_samples(folder.path()).unwrap(), first);
        fs::rename(folder.path().join("cats/1.png"), folder.path().join("cats/2.png")).unwrap();
        let renamed = of_samples(folder.path()).unwrap();
        assert!(first != changed && first != renamed && changed != renamed);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        put("abc", "abc");
        assert_eq!(of_samples(&folder.path().join("abc")).unwrap(), abc);
        assert!(of_samples(&folder.path().join("nothing")).is_err());
    }

    #[test]
    fn what_readers_do_not_see_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| fs::write(folder.path().join(name), "x").unwrap();
        fs::create_dir(folder.path().join("cats")).unwrap();
        put("cats/1.png");
        let first = of_samples(folder.path()).unwrap();
        put(".DS_Store");
        put("cats/.1.png.part");
        assert_eq!(of_samples(folder.path()).unwrap(), first);
    }

    #[cfg(unix)]
    #[test]
    fn circles_of_links_and_pipes_come_to_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        fs::write(inside("1.png"), "x").unwrap();
        let first = of_samples(folder.path()).unwrap();
        let made = std::process::Command::new("mkfifo").arg(inside("2.png")).status();
        if made.is_ok_and(|status| status.success()) {
            assert_eq!(of_samples(folder.path()).unwrap(), first);
            assert_eq!(of_samples(&inside("2.png")).unwrap_err().kind(), ErrorKind::Io);
        }
        std::os::unix::fs::symlink(folder.path(), inside("again")).unwrap();
        assert_ne!(of_samples(folder.path()).unwrap(), first);
    }
}
