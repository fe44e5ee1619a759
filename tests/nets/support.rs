//! Loads, merges and runs trained nets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::ArrayD;

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::canon::{BatchNorm, CanonOptions, canonicalise};
use onnx_zip::emit::{self, EmitOptions, FORMS, Form};
use onnx_zip::ir::Model;
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::options::MergeOptions;
use onnx_zip::mtz::plan::sizes;
use onnx_zip::onnx;
use onnx_zip::progress::Silent;
use onnx_zip::runtime::{self, Backend, HostArray, ModelSource, RuntimeOptions, feeds};
use onnx_zip::zipper::{self, Calibration, Input, Outcome, Part, PrepareOptions};

/// Rows per layer for tests that ask for no accuracy that needs more.
pub const FEW_ROWS: usize = 1 << 14;

/// Samples per batch.
const BATCH: usize = 200;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A net of `fixtures/models`.
pub fn model(name: &str) -> Model {
    onnx::load(&fixture(&format!("models/{name}.onnx"))).unwrap()
}

pub fn backend() -> Arc<dyn Backend> {
    runtime::open(&RuntimeOptions::default()).unwrap()
}

/// Images of `fixtures/data` for a net, in 0…1.
pub fn images(model: &Model, data: &str, samples: usize) -> Dataset {
    let bytes = onnx::encode(model).unwrap();
    let session = backend().load(ModelSource::Bytes(&bytes)).unwrap();
    let options = DataOptions { scale: Some("1/255".parse().unwrap()), ..DataOptions::default() };
    let path = fixture(&format!("data/{data}.npz"));
    assert!(path.exists(), "{} is missing: run `make setup`", path.display());
    Dataset::open(&path, session.inputs(), &options).unwrap().take(samples)
}

/// Merges nets, called a, b, …, each calibrated on its own data.
pub fn merge(
    nets: impl IntoIterator<Item = (Model, Dataset)>,
    options: &MergeOptions,
) -> (JointModel, Outcome) {
    let (nets, data): (Vec<Model>, Vec<Dataset>) = nets.into_iter().unzip();
    let names = ('a'..='z').map(|name| name.to_string());
    let parts = names.zip(nets).map(|(name, model)| Part::Net(Box::new(Input { name, model })));
    merge_parts(parts.collect(), data, options)
}

/// [`merge`] with this batch size.
pub fn merge_in(
    nets: impl IntoIterator<Item = (Model, Dataset)>,
    options: &MergeOptions,
    batch: usize,
) -> (JointModel, Outcome) {
    let (nets, data): (Vec<Model>, Vec<Dataset>) = nets.into_iter().unzip();
    let inputs = nets.into_iter().zip(["a", "b", "c", "d", "e"]);
    let inputs = inputs.map(|(model, name)| Input { name: name.to_owned(), model }).collect();
    let calibration = Calibration {
        backend: backend(),
        data,
        stored: Vec::new(),
        predicts: false,
        batch,
        memory: 1 << 30,
        shards: None,
    };
    zipper::merge(zipper::prepare(inputs).unwrap(), &calibration, options, &Silent).unwrap()
}

/// Merges nets and the tasks of joint models.
pub fn merge_parts(
    parts: Vec<Part>,
    data: Vec<Dataset>,
    options: &MergeOptions,
) -> (JointModel, Outcome) {
    merge_with(parts, data, options, PrepareOptions::default())
}

/// [`merge_parts`] with options of preparation.
pub fn merge_with(
    parts: Vec<Part>,
    data: Vec<Dataset>,
    options: &MergeOptions,
    preparation: PrepareOptions,
) -> (JointModel, Outcome) {
    let calibration = Calibration {
        backend: backend(),
        data,
        stored: Vec::new(),
        predicts: false,
        batch: BATCH,
        memory: 1 << 30,
        shards: None,
    };
    let prepared = zipper::prepare_parts(parts, preparation).unwrap();
    zipper::merge(prepared, &calibration, options, &Silent).unwrap()
}

/// Two tasks calibrated on the same samples.
pub fn calibration(data: &Dataset) -> Calibration {
    Calibration {
        backend: backend(),
        data: vec![data.clone(), data.clone()],
        stored: Vec::new(),
        predicts: false,
        batch: 64,
        memory: 1 << 30,
        shards: None,
    }
}

/// Outputs for one batch of named arrays.
pub fn run(model: &Model, batch: &[(String, HostArray)]) -> Vec<ArrayD<f32>> {
    let bytes = onnx::encode(model).unwrap();
    let mut session = backend().load(ModelSource::Bytes(&bytes)).unwrap();
    session.run(&feeds(batch)).unwrap().into_iter().map(|a| a.into_f32().unwrap()).collect()
}

/// Classification error in percent.
pub fn error(model: &Model, data: &Dataset) -> f64 {
    let bytes = onnx::encode(model).unwrap();
    let mut session = backend().load(ModelSource::Bytes(&bytes)).unwrap();
    let mut wrong = 0;
    for range in data.batches(500) {
        let batch = data.batch(range.clone()).unwrap();
        let logits = session.run(&feeds(&batch)).unwrap().remove(0).into_f32().unwrap();
        for (row, label) in logits.outer_iter().zip(data.labels(range).unwrap()) {
            let best = row.iter().enumerate().max_by(|x, y| x.1.total_cmp(y.1)).unwrap();
            wrong += usize::from(best.0 as i64 != label);
        }
    }
    100.0 * wrong as f64 / data.len() as f64
}

/// Largest difference relative to the largest magnitude; NaN if a difference is NaN, so that it fails.
pub fn deviation(a: &ArrayD<f32>, b: &ArrayD<f32>) -> f32 {
    assert_eq!(a.shape(), b.shape());
    let scale = b.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let apart = a.iter().zip(b).filter(|(x, y)| x != y).map(|(x, y)| (x - y).abs());
    (apart.max_by(f32::total_cmp).unwrap_or(0.0) / scale).abs()
}

/// The net in canonical form.
pub fn canonical(model: &Model, batchnorm: BatchNorm) -> Model {
    let options = CanonOptions { batchnorm, ..CanonOptions::default() };
    canonicalise(model.clone(), &options).unwrap().into_inner()
}

/// Outputs for 64 images and the inputs of `extra`.
pub fn outputs(model: &Model, extra: &[(String, HostArray)]) -> Vec<ArrayD<f32>> {
    let mut batch = images(&self::model("lenet5_mnist_a"), "mnist_train", 64).batch(0..64).unwrap();
    batch[0].0.clone_from(&model.graph.value(model.graph.inputs[0]).name);
    batch.extend(extra.iter().cloned());
    run(model, &batch)
}

pub fn joint_outputs(joint: &JointModel, form: Form) -> Vec<ArrayD<f32>> {
    let model = emit::emit(joint, &EmitOptions { form, ..EmitOptions::default() }).unwrap();
    if form == Form::Heads {
        return outputs(&model, &[]);
    }
    (0..joint.tasks().len())
        .map(|task| {
            let selected = ArrayD::from_elem(ndarray::IxDyn(&[1]), task as i64);
            outputs(&model, &[("task".to_owned(), HostArray::I64(selected))]).swap_remove(task)
        })
        .collect()
}

/// Asserts that every form of a joint model computes the outputs of the task nets.
pub fn check_forms(joint: &JointModel) {
    let alone: Vec<ArrayD<f32>> =
        joint.tasks().iter().map(|t| outputs(t.model(), &[]).remove(0)).collect();
    for (name, form, _) in FORMS {
        for (joined, alone) in joint_outputs(joint, *form).iter().zip(&alone) {
            assert!(deviation(joined, alone) < 1e-5, "{name}");
        }
    }
}

/// Asserts that the constants of a joint model's file are as large as the plan predicts.
pub fn check_size(joint: &JointModel) {
    let written = emit::emit(joint, &EmitOptions::default()).unwrap();
    let values = written.graph.values().filter_map(|(id, _)| written.graph.initializer(id));
    let bytes: usize = values.map(|tensor| tensor.data.len()).sum();
    let predicted = (sizes(joint).unwrap().joint() * 4) as f64;
    assert!((bytes as f64 / predicted - 1.0).abs() < 0.02, "{bytes} bytes for {predicted}");
}
