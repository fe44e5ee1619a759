//! Checksums of the files of models.

use std::fs::File;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

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
    // First, since it refuses what is no file and may not end.
    let external = onnx::data_files(path)?;
    let (model, length) = digest(path)?;
    if external.is_empty() {
        return Ok(Fingerprint { sha256: digits(&model), length });
    }
    let mut all = Sha256::new();
    all.update(model);
    for (name, file) in &external {
        all.update(name);
        all.update([0]);
        all.update(digest(file)?.0);
    }
    Ok(Fingerprint { sha256: digits(&all.finalize()), length })
}

/// SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// [`ErrorKind::Io`] where it cannot be read.
pub(super) fn of_file(path: &Path) -> Result<String> {
    digest(path).map(|(digest, _)| digits(&digest))
}

/// SHA-256 of a file, and its length.
fn digest(path: &Path) -> Result<([u8; 32], u64)> {
    let mut hasher = Sha256::new();
    let length = File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut hasher))
        .map_err(|e| Error::new(ErrorKind::Io, "cannot read the model").because(e))?;
    Ok((hasher.finalize().into(), length))
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
}
