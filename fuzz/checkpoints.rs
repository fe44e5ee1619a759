//! Checkpoints of a training.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::error::Result;
use onnx_zip::ir::Model;
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::onnx;
use onnx_zip::progress::Silent;
use onnx_zip::retrain::{Lesson, RetrainOptions, retrain};
use onnx_zip::runtime::{self, Backend, ModelSource, RuntimeChoice, RuntimeOptions};

use super::models::{merged, of_corpus};

/// Steps of the training that writes the checkpoint.
const ITERATIONS: usize = 2;

/// The nets and samples of the training.
struct Training {
    joint: JointModel,
    teachers: Vec<Model>,
    data: Vec<Dataset>,
    backend: std::sync::Arc<dyn Backend>,
}

fn training() -> &'static Training {
    static ONE: OnceLock<Training> = OnceLock::new();
    ONE.get_or_init(|| {
        let options = RuntimeOptions { choice: RuntimeChoice::Tract, ..RuntimeOptions::default() };
        let backend = runtime::open(&options).expect("tract is always there");
        let teachers: Vec<Model> = ["t_mlp0", "t_mlp1"].map(of_corpus).into();
        let samples = |model: &Model| {
            let bytes = onnx::encode(model).expect("seeds can be written");
            let session = backend.load(ModelSource::Bytes(&bytes)).expect("seeds run");
            Dataset::synthetic(session.inputs(), 8, 0, &DataOptions::default()).expect("samples")
        };
        let data = teachers.iter().map(samples).collect();
        let joint = merged(of_corpus("t_mlp0"), &teachers[1]).expect("seeds merge");
        Training { joint, teachers, data, backend }
    })
}

/// Trains for `iterations` steps with a checkpoint.
fn train(path: &Path, iterations: usize, resume: bool) -> Result<()> {
    let Training { joint, teachers, data, backend } = training();
    let lesson =
        Lesson { data, teachers, backend: backend.as_ref(), checkpoint: Some(path), resume };
    let options = RetrainOptions { iterations, batch: 4, ..RetrainOptions::default() };
    retrain(&mut joint.clone(), &lesson, &options, &Silent).map(drop)
}

/// A valid checkpoint.
pub fn seed() -> &'static [u8] {
    static ONE: OnceLock<Vec<u8>> = OnceLock::new();
    ONE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("training.ckpt");
        train(&path, ITERATIONS, false).expect("the seed trains");
        fs::read(path).expect("a checkpoint")
    })
}

/// Resumes from a checkpoint.
pub fn resume(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("training.ckpt");
    fs::write(&path, bytes).expect("a file");
    let _ = train(&path, ITERATIONS + 1, true);
}
