//! The façade of the library: its items, and its behaviour.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, Axis};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::{
    Arrays, DataInput, ErrorKind, HostArray, Joint, MergeOptions, Merger, ModelInput, PlanOptions,
    Silent, inspect, plan,
};

fn net(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/models/lenet300_{name}.onnx"))
}

fn images() -> ArrayD<f32> {
    ArrayD::from_shape_fn(vec![120, 1, 28, 28], |i| {
        ((i[0] * 31 + i[2] * 7 + i[3]) % 17) as f32 / 17.0
    })
}

fn merger(data: impl Into<DataInput>) -> Merger {
    let mut options = MergeOptions::default();
    options.sharing.share = Some(1.0);
    options.result.no_compare = true;
    Merger::new(options)
        .named_model("a", net("mnist_a"))
        .named_model("b", fs::read(net("mnist_b")).unwrap())
        .data(data)
}

fn bytes(joint: &Joint) -> Vec<u8> {
    fs::read(joint.path()).unwrap()
}

#[test]
fn arrays_and_batches_of_them_give_the_same_joint_model() {
    let whole = merger(Arrays::named([("image", images().into())])).merge(&Silent).unwrap();
    let batches = images()
        .axis_chunks_iter(Axis(0), 50)
        .map(|c| Ok(vec![HostArray::from(c.to_owned())]))
        .collect::<Vec<_>>();
    let streamed = Arrays::from_batches(batches).unwrap();
    let streamed = merger(streamed).merge(&Silent).unwrap();
    assert_eq!(bytes(&whole), bytes(&streamed));
    let merged = whole.outcome().unwrap();
    assert!(merged.passed && merged.report.compression.parameters_of_all < 0.55);
    assert_eq!(merged.report.joint.bytes, bytes(&whole).len() as u64);
}

#[test]
fn a_joint_model_is_saved_opened_and_taken_apart() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let joint = merger(Arrays::in_order([images().into()])).merge(&Silent).unwrap();
    joint.save(at("joint.onnx"), &Silent).unwrap();
    assert_eq!(fs::read(at("joint.onnx")).unwrap(), bytes(&joint));
    let opened = Joint::open(at("joint.onnx")).unwrap();
    assert_eq!(opened.tasks().unwrap(), ["a", "b"]);
    opened.extract("a", at("a.onnx"), &Silent).unwrap();
    assert_eq!(fs::read(at("a.onnx")).unwrap(), opened.extract_bytes("a", &Silent).unwrap());
    opened.split(at("tasks"), &Silent).unwrap();
    assert!(at("tasks/b.onnx").is_file());
    let error = opened.extract("c", at("c.onnx"), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(Joint::open(at("a.onnx")).is_err());
    // Temporary files are removed with the last clone.
    let (own, clone) = (joint.path().to_owned(), joint.clone());
    drop(joint);
    assert!(own.exists());
    drop(clone);
    assert!(!own.exists());
}

#[test]
fn models_are_told_about_without_data() {
    let models = ["mnist_a", "mnist_b"].map(|name| ModelInput::from(net(name)));
    let plan = plan(&models, &["x".to_owned(), "y".to_owned()], &PlanOptions::default()).unwrap();
    assert_eq!(plan.tasks, ["x", "y"]);
    let from_bytes: ModelInput = fs::read(net("mnist_a")).unwrap().into();
    let (file, memory) = (inspect(&models[0]).unwrap(), inspect(&from_bytes).unwrap());
    assert_eq!((file.sha256, file.layers), (memory.sha256, memory.layers));
}

/// The public items that users rely on. A new version may add lines; removing or changing a line is a
/// breaking change.
#[test]
fn the_facade_keeps_what_users_rely_on() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for file in sources(&root.join("src/api")) {
        found.extend(items(&fs::read_to_string(&file).unwrap()));
    }
    let promised = fs::read_to_string(root.join("tests/api.txt")).unwrap();
    let lost: Vec<&str> = promised.lines().filter(|l| !found.iter().any(|f| f == l)).collect();
    assert!(promised.lines().count() > 50);
    assert!(lost.is_empty(), "src/api has no longer:\n{}", lost.join("\n"));
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Public items of a file, each on one line, without bodies.
fn items(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines().map(str::trim) {
        if open {
            let item = found.last_mut().unwrap();
            item.push(' ');
            item.push_str(line);
        } else if line.starts_with("pub ") && !line.starts_with("pub use") {
            found.push(line.to_owned());
        } else {
            continue;
        }
        let is_function = found.last().is_some_and(|item| item.starts_with("pub fn"));
        open = is_function && !line.ends_with(['{', ';']);
    }
    let plain = |item: String| item.trim_end_matches([' ', '{', ';', ',']).to_owned();
    found.into_iter().map(plain).collect()
}

/// A net with layers of and without biases, whose inputs `x`, `rate` and all constants are inputs of the file if
/// `lists` is true.
fn with_default_values(lists: bool) -> Vec<u8> {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "batch,4");
    let (w, bias) = (b.weights("w", &[3, 4]), b.weights("bias", &[3]));
    let (bare, rate) = (b.weights("bare", &[2, 3]), b.scalar("rate", 0.5));
    let y = b.op("Gemm", "fc1", &[x, w, bias], [("transB", 1.into())]);
    let y = b.op("Mul", "scale", &[y, rate], []);
    let y = b.op("Relu", "relu", &[y], []);
    let y = b.op("Gemm", "fc2", &[y, bare], [("transB", 1.into())]);
    let mut model = b.build(&[y]);
    // Files of this version list constants among the inputs.
    model.ir_version = if lists { 3 } else { 8 };
    let mut bytes = onnx_zip::onnx::encode(&model).unwrap();
    assert_eq!(bytes[..2], [8, if lists { 3 } else { 8 }]);
    bytes[1] = 8;
    bytes
}

#[test]
fn inputs_with_default_values_are_told() {
    let report = inspect(&with_default_values(false).into()).unwrap();
    assert_eq!(report.notes, [""; 0]);
    let model = with_default_values(true);
    let report = inspect(&model.clone().into()).unwrap();
    assert_eq!(report.inputs.len(), 1);
    let note = "the inputs 'rate', 'w', 'bias', 'bare' have default values, which are constants in a merge and \
                can no longer be set";
    assert_eq!(report.notes, [note]);
    assert!(report.text().contains(&format!("note: {note}")));
    let models: [ModelInput; 2] = [model.clone().into(), with_default_values(false).into()];
    let plan = plan(&models, &[], &PlanOptions::default()).unwrap();
    assert!(plan.notes.contains(&format!("model: {note}")), "{:?}", plan.notes);
    let merged = Merger::new(MergeOptions::default()).model(model.clone()).model(model);
    let joint = merged.merge(&Silent).unwrap();
    let notes = joint.outcome().unwrap().report.warnings.iter().filter(|w| w.contains("'rate'"));
    assert_eq!(notes.count(), 2);
}

#[test]
fn inspect_counts_the_biases_of_the_file() {
    let report = inspect(&with_default_values(false).into()).unwrap();
    let parameters: Vec<u64> = report.layers.iter().map(|layer| layer.parameters).collect();
    assert_eq!((parameters, report.parameters), (vec![15, 6], 21));
}
