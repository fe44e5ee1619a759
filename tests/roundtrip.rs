//! Every model under `fixtures/models` goes through the format and back unchanged.

use std::fs;
use std::path::{Path, PathBuf};

use onnx_zip::onnx::{self, External, SaveOptions};

fn models_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(models_below(&path));
        } else if path.extension().is_some_and(|e| e == "onnx") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn fixtures() -> Vec<PathBuf> {
    let found = models_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models"));
    assert!(!found.is_empty(), "there are no fixtures");
    found
}

#[test]
fn decoding_undoes_encoding() {
    for path in fixtures() {
        let model = onnx::load(&path).unwrap();
        let bytes = onnx::encode(&model).unwrap();
        let again = onnx::decode(bytes.clone().into(), None, &model.name).unwrap();
        // The first round trip may renumber values, but the bytes of the file stay the same.
        assert_eq!(onnx::encode(&again).unwrap(), bytes, "{}", path.display());
        let third = onnx::decode(bytes.into(), None, &model.name).unwrap();
        assert_eq!(third, again, "{}", path.display());
    }
}

#[test]
fn external_data_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for path in fixtures() {
        let model = onnx::load(&path).unwrap();
        let target = folder.path().join(path.file_name().unwrap());
        let options = SaveOptions { external: External::Always, threshold: 0 };
        onnx::save(&model, &target, &options).unwrap();
        let again = onnx::load(&target).unwrap();
        assert_eq!(onnx::encode(&again).unwrap(), onnx::encode(&model).unwrap());
    }
}
