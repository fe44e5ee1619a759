//! Models to change, and commands to run on them.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use ndarray::ArrayD;
use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::emit::{self, EmitOptions, FORMS, Form, RECIPE_KEY};
use onnx_zip::ir::{DataType, Model};
use onnx_zip::mtz::joint::{JointModel, Task};
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions};
use onnx_zip::mtz::plan::predict;
use onnx_zip::onnx;
use onnx_zip::progress::Silent;
use onnx_zip::runtime::{
    self, Backend, HostArray, ModelSource, Port, RuntimeChoice, RuntimeOptions, feeds, fixed_batch,
};
use onnx_zip::zipper::{self, Calibration, Input};
use proptest::sample::Index;

/// Files whose models are changed, below `fixtures`.
const SEEDS: &[&str] = &[
    "hostile/t_cnn1",
    "hostile/t_mlp0",
    "hostile/tiny0",
    "hostile/argmax_out",
    "hostile/f64_out",
    "hostile/feat_out",
    "hostile/film",
    "hostile/gemm_left",
    "hostile/glu_first",
    "hostile/gn_net",
    "hostile/if_in_loop",
    "hostile/init_out",
    "hostile/inter_out",
    "hostile/qdq_block",
    "hostile/qdqnet",
    "hostile/scalar_first",
    "hostile/segdyn",
    "hostile/siamese",
    "hostile/silent",
    "hostile/static_out",
    "hostile/sub_if3",
    "hostile/sub_loop",
    "hostile/sub_scan",
    "hostile/sub_trunk",
    "hostile/tied",
    "hostile/typed2",
    "hostile/unshuffle",
    "models/zoo/gru_mnist",
    "models/zoo/mobilenet_mnist",
    "models/zoo/inception_mnist",
];

/// The folder of all seeds.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// All models of the corpus by name.
pub fn corpus() -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(fixtures().join("hostile")).expect("the corpus");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|suffix| suffix == "onnx"));
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (name, std::fs::read(path).expect("a file of the corpus"))
    };
    paths.into_iter().map(read).collect()
}

fn seeds() -> &'static [Model] {
    static ALL: OnceLock<Vec<Model>> = OnceLock::new();
    let load = |name: &&str| {
        onnx::load(&fixtures().join(name).with_extension("onnx")).expect("seeds can be read")
    };
    ALL.get_or_init(|| SEEDS.iter().map(load).collect())
}

/// The model of seed number `number`.
pub fn seed(number: usize) -> Model {
    seeds()[number].clone()
}

/// Some seed.
pub fn any_seed(index: &Index) -> Model {
    seed(index.index(SEEDS.len()))
}

fn inputs(a: Model, b: &Model) -> Vec<Input> {
    let input = |(name, model): (&str, Model)| Input { name: name.to_owned(), model };
    [("a", a), ("b", b.clone())].map(input).into()
}

/// Plans a merge.
pub fn plan(a: Model, b: &Model) {
    let Ok(prepared) = zipper::prepare(inputs(a, b)) else { return };
    let budget = Budget::uniform(Share::Fraction(0.5));
    let _ = predict(&prepared.joint, &prepared.alignment, &budget, true);
}

/// Merges on a few random samples, in all forms. ONNX Runtime must run a joint model whose task nets it runs.
pub fn merge(a: Model, b: &Model, choice: RuntimeChoice) {
    let Some(joint) = merged_in(a, b, choice) else { return };
    let batch = batch_of(joint.tasks().iter().map(Task::model));
    let nets = joint.tasks().iter().map(|task| answers(task.model(), None, batch, choice));
    let nets: Option<Vec<Answers>> = nets.collect();
    for (_, form, _) in FORMS {
        let options = EmitOptions { form: *form, ..EmitOptions::default() };
        let Ok(written) = emit::emit(&joint, &options) else { continue };
        let Ok(bytes) = onnx::encode(&written) else { continue };
        let read = onnx::decode(bytes.into(), None, "joint").expect("what is written can be read");
        emit::restore(&read).expect("what is written can be taken apart");
        // tract refuses some models although it runs their parts.
        let Some(nets) = nets.as_ref().filter(|_| choice == RuntimeChoice::Ort) else { continue };
        let selected = (*form != Form::Heads).then_some(0);
        let found =
            answers(&read, selected, batch, choice).expect("the joint model runs as its nets do");
        let wanted: Answers = nets.iter().flatten().cloned().collect();
        assert_eq!(found, wanted, "{form:?}");
    }
}

/// Types and shapes of a model's outputs.
type Answers = Vec<(DataType, Vec<usize>)>;

/// Types and shapes of what a model returns for random samples; `None` if it does not run.
fn answers(
    model: &Model,
    task: Option<i64>,
    batch: usize,
    choice: RuntimeChoice,
) -> Option<Answers> {
    let bytes = onnx::encode(model).ok()?;
    let mut session = backend(choice).load(ModelSource::Bytes(&bytes)).ok()?;
    let is_selector = |port: &&Port| task.is_some() && port.name == "task";
    let ports: Vec<Port> =
        session.inputs().iter().filter(|port| !is_selector(port)).cloned().collect();
    let mut samples = samples(&ports)?.batch(0..batch).ok()?;
    if let Some(task) = task {
        samples.push(("task".to_owned(), HostArray::I64(ArrayD::from_elem(vec![1], task))));
    }
    let outputs = session.run(&feeds(&samples)).ok()?;
    Some(outputs.iter().map(|array| (array.dtype(), array.shape().to_vec())).collect())
}

fn backend(choice: RuntimeChoice) -> Arc<dyn Backend> {
    let options = RuntimeOptions { choice, ..RuntimeOptions::default() };
    runtime::open(&options).expect("the runtime was there before")
}

/// Two nets merged on a few random samples; `None` if they cannot be merged.
pub fn merged(a: Model, b: &Model) -> Option<JointModel> {
    merged_in(a, b, RuntimeChoice::Tract)
}

fn merged_in(a: Model, b: &Model, choice: RuntimeChoice) -> Option<JointModel> {
    let data = [&a, b]
        .map(|model| samples(&ports(model)))
        .into_iter()
        .collect::<Option<Vec<Dataset>>>()?;
    let batch = batch_of([&a, b].into_iter());
    let prepared = zipper::prepare(inputs(a, b)).ok()?;
    let backend = backend(choice);
    let calibration = Calibration {
        backend,
        data,
        stored: Vec::new(),
        predicts: false,
        batch,
        memory: 1 << 28,
        shards: None,
    };
    let options = MergeOptions {
        budget: Budget::uniform(Share::Fraction(0.5)),
        max_rows: 64,
        ..MergeOptions::default()
    };
    zipper::merge(prepared, &calibration, &options, &Silent).ok().map(|(joint, _)| joint)
}

/// A model of the corpus.
pub fn of_corpus(name: &str) -> Model {
    let path = fixtures().join("hostile").join(name).with_extension("onnx");
    onnx::load(&path).expect("seeds can be read")
}

/// Samples of a batch for several models: one of them may fix their number for all.
fn batch_of<'m>(mut models: impl Iterator<Item = &'m Model>) -> usize {
    models.find_map(|model| fixed_batch(&ports(model))).unwrap_or(3).min(3)
}

fn ports(model: &Model) -> Vec<Port> {
    let port = |id: &onnx_zip::ir::ValueId| {
        let value = model.graph.value(*id);
        let ty = value.ty.clone()?;
        Some(Port { name: value.name.clone(), dtype: ty.dtype, shape: ty.shape })
    };
    model.graph.inputs.iter().filter_map(port).collect()
}

/// A few samples for some inputs; `None` if these are too large or have too many open sizes.
fn samples(ports: &[Port]) -> Option<Dataset> {
    let elements = |port: &Port| {
        let extents = port.shape.as_ref()?.iter().filter_map(|d| d.known());
        extents.into_iter().try_fold(1usize, |n, d| n.checked_mul(d))
    };
    if !ports.iter().all(|port| elements(port).is_some_and(|n| n < 1 << 20)) {
        return None;
    }
    let dims = [("height".to_owned(), 12), ("width".to_owned(), 8)].into();
    let options = DataOptions { dims, ..DataOptions::default() };
    Dataset::synthetic(ports, 3, 0, &options).ok()
}

/// A small joint model.
pub fn joint() -> Model {
    static ONE: OnceLock<Model> = OnceLock::new();
    let written = || {
        let joint = merged(of_corpus("tiny0"), &of_corpus("tiny1")).expect("seeds merge");
        emit::emit(&joint, &EmitOptions::default()).expect("a joint model")
    };
    ONE.get_or_init(written).clone()
}

/// Changes bytes of a joint model's recipe, below its compression.
pub fn edit_recipe(model: &mut Model, edits: &[(Index, u8)]) {
    let Some(text) = model.metadata.get_mut(RECIPE_KEY) else { return };
    let Some((version, packed)) = text.split_once(':') else { return };
    let packed = STANDARD.decode(packed).expect("the seed is base64");
    let mut bytes = Vec::new();
    ZlibDecoder::new(packed.as_slice()).read_to_end(&mut bytes).expect("the seed is compressed");
    for (place, value) in edits {
        let place = place.index(bytes.len());
        // Digits become digits, so that the recipe often stays readable.
        let digit = bytes[place].is_ascii_digit();
        bytes[place] = if digit { b'0' + value % 10 } else { *value };
    }
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&bytes).expect("bytes can be compressed");
    let packed = packer.finish().expect("bytes can be compressed");
    *text = format!("{version}:{}", STANDARD.encode(packed));
}

/// Restores a joint model, and emits its tasks and every form.
pub fn restore(model: &Model) {
    let Ok(joint) = emit::restore(model) else { return };
    let _ = emit::emit_tasks(&joint);
    for (_, form, _) in FORMS {
        let _ = emit::emit(&joint, &EmitOptions { form: *form, ..EmitOptions::default() });
    }
}
