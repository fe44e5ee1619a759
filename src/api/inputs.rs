//! The files that a command reads. None of its outputs may replace them.

use std::path::PathBuf;

use super::data::{DataInput, Given};
use super::models::ModelInput;
use crate::onnx;

/// The files of models, with those of their external data. A file that cannot be read counts without
/// external data; loading the model tells why.
pub(crate) fn of_models(models: &[ModelInput]) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for model in models {
        let ModelInput::Path(path) = model else { continue };
        all.extend(onnx::data_files(path).unwrap_or_default().into_values());
        all.push(path.clone());
    }
    all
}

/// The files of samples and of their preprocessing.
pub(crate) fn of_samples(given: Given<'_>) -> Vec<PathBuf> {
    let path = |input: &DataInput| match input {
        DataInput::Path(path) => Some(path.clone()),
        DataInput::Arrays(_) => None,
    };
    given.inputs.iter().filter_map(path).chain(given.options.preprocess.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::options::SampleOptions;
    use crate::ir::builder::GraphBuilder;
    use crate::onnx::{External, SaveOptions};

    #[test]
    fn external_data_counts_as_a_part_of_its_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "batch,300");
        let w = b.weights("w", &[300, 300]);
        let y = b.op("MatMul", "y", &[x, w], []);
        let apart = SaveOptions { external: External::Always, ..SaveOptions::default() };
        onnx::save(&b.build(&[y]), &path, &apart).unwrap();
        let found = of_models(&[path.clone().into(), ModelInput::Bytes(Default::default())]);
        let names = || std::fs::read_dir(folder.path()).unwrap();
        assert_eq!((found.len(), names().count()), (2, 2));
        assert!(names().all(|entry| {
            found.iter().any(|path| path.ends_with(entry.as_ref().unwrap().file_name()))
        }));
        let missing = folder.path().join("missing.onnx");
        assert_eq!(of_models(&[missing.clone().into()]), [missing]);
    }

    #[test]
    fn samples_are_read_from_files_and_prepared_as_files_say() {
        let options = SampleOptions { preprocess: vec!["p.json".into()], ..Default::default() };
        let given = Given { inputs: &["a.npz".into()], options: &options };
        assert_eq!(of_samples(given), ["a.npz", "p.json"].map(PathBuf::from));
    }
}
