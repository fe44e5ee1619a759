//! Merges for a target size, for a limit of the measured loss, up to a layer, and in multiples.

use std::time::Instant;

use ndarray::{Array1, Array2};
use ndarray_npy::NpzWriter;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use onnx_zip::ir::Model;
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::onnx::{self, SaveOptions};
use onnx_zip::report::Report;
use onnx_zip::runtime::{self, HostArray, ModelSource, RuntimeOptions, feeds};

use crate::tool::{Tool, fashion, fixture, images, mnist, stdout};

fn merge(tool: &Tool, models: [&str; 2], more: &[&str]) -> Report {
    let images = images();
    let args = ["merge", models[0], models[1], "-o", "joint.onnx", "--json", "--no-verify"];
    let data = ["--data", &images, "--scale", "1/255", "--samples", "250", "--runtime", "tract"];
    let output = tool.run(0, &[&args[..], &data[..], more].concat());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_size_is_met_and_cheap_layers_share_most() {
    let tool = Tool::new();
    let report =
        merge(&tool, [&mnist(), &fashion()], &["--target-size", "70%", "--unit", "neuron"]);
    let size = report.compression.parameters_of_all;
    assert!(size <= 0.7 && size > 0.68, "{size}");
    let [full, kept] = report.search.as_slice() else { panic!("{:?}", report.search) };
    assert!(!full.kept && full.size < 0.51 && kept.kept && (kept.size - size).abs() < 1e-9);
    let even = merge(&tool, [&mnist(), &fashion()], &["--share", "0.6", "--unit", "neuron"]);
    assert!(even.compression.parameters_of_all > 0.68);
    let rounded = merge(&tool, [&mnist(), &fashion()], &["--target-size", "0.7", "--round", "16"]);
    assert!(rounded.compression.parameters_of_all <= 0.7);
    assert!(rounded.layers[..2].iter().all(|l| l.shared % 16 == 0 || l.shared == l.neurons[0]));
}

#[test]
fn whole_layers_are_left_to_the_tasks() {
    let tool = Tool::new();
    let full = merge(&tool, [&mnist(), &fashion()], &["--share", "1"]);
    assert_eq!(full.layers.iter().map(|l| l.shared).collect::<Vec<_>>(), [300, 100, 0]);
    assert!(full.search.is_empty());
    let report = merge(&tool, [&mnist(), &fashion()], &["--target-size", "60%"]);
    let shared: Vec<usize> = report.layers.iter().map(|l| l.shared).collect();
    assert_eq!(shared, [300, 0, 0]);
    assert!(report.layers[1].reason.as_ref().unwrap().contains("own weights"));
    assert!(report.compression.parameters_of_all <= 0.6);
    assert_eq!(report.settings.share, "target-size 0.6");
    assert_eq!(report.settings.options["target-size"], ["60%"]);
    assert_eq!(report.settings.options["scale"], ["1/255"]);
    let kept = report.search.iter().find(|t| t.kept).unwrap();
    let others = report.search.iter().filter(|t| !t.kept && t.size <= 0.6);
    assert!(others.map(|t| t.deviation).all(|other| other >= kept.deviation));
    let none = merge(&tool, [&mnist(), &fashion()], &["--share", "0"]);
    assert_eq!(none.joint.parameters.shared, 0);
    let both = merge(&tool, [&mnist(), &fashion()], &["--target-size", "70%", "--unit", "mixed"]);
    assert_eq!(both.search.len(), 3, "{:?}", both.search);
}

#[test]
fn both_units_are_tried_without_a_size_too() {
    let tool = Tool::new();
    let [layers, both] =
        ["layer", "mixed"].map(|unit| merge(&tool, [&mnist(), &fashion()], &["--unit", unit]));
    assert_eq!(both.search.len(), layers.search.len() + 1, "{:?}", both.search);
    let kept = both.search.iter().find(|trial| trial.kept).unwrap();
    assert!(layers.search.iter().filter(|t| t.kept).all(|t| t.deviation >= kept.deviation));
}

#[test]
fn the_time_of_a_search_is_that_of_all_its_merges() {
    let (tool, start) = (Tool::new(), Instant::now());
    let report = merge(&tool, [&mnist(), &fashion()], &["--target-size", "60%"]);
    let wall = start.elapsed().as_secs_f64();
    let of = |stage: &str| report.seconds.iter().find(|s| s.stage == stage).unwrap().seconds;
    assert!(of("zip") > 0.0 && of("other merges") > 0.0 && of("measure") > 0.0);
    let total: f64 = report.seconds.iter().map(|s| s.seconds).sum();
    assert!(total <= wall, "{total} of {wall} s: {:?}", report.seconds);
}

#[test]
fn a_size_that_cannot_be_had_is_refused() {
    let tool = Tool::new();
    let (a, b) = (mnist(), fashion());
    let args = ["merge", &a, &b, "-o", "joint.onnx", "--runtime", "tract", "--samples", "50"];
    let error = tool.refused(&[&args[..], &["--target-size", "0.3"]].concat());
    assert!(error.contains("30.0 %"), "{error}");
    let error = tool.refused(&[&args[..], &["--max-drop", "1"]].concat());
    assert!(error.contains("labelled"), "{error}");
    let error = tool.refused(&[&args[..], &["--target-size", "0.6", "--dry-run"]].concat());
    assert!(error.contains("for a goal"), "{error}");
    let error = tool.refused(&[&args[..], &["--until", "nowhere"]].concat());
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn as_much_is_shared_as_a_measured_loss_allows() {
    let tool = Tool::new();
    let b = fixture("models/lenet300_mnist_b.onnx");
    let tight = merge(&tool, [&mnist(), &b], &["--max-drop", "0.3"]);
    let kept: Vec<_> = tight.search.iter().filter(|t| t.kept).collect();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].drops.len() == 2 && kept[0].drops.iter().all(|d| *d <= 0.003 + 1e-9));
    assert!((tight.compression.parameters_of_all - kept[0].size).abs() < 1e-9);
    let smaller = tight.search.iter().filter(|t| t.size < kept[0].size - 1e-9);
    assert!(smaller.clone().all(|t| t.drops.iter().any(|d| *d > 0.003)), "{:?}", tight.search);
    let loose = merge(&tool, [&mnist(), &b], &["--max-drop", "50"]);
    assert_eq!(loose.search.len(), 1);
    assert!(loose.compression.parameters_of_all < 0.51);
    let neurons = merge(&tool, [&mnist(), &b], &["--max-drop", "0.5", "--unit", "neuron"]);
    let kept = neurons.search.iter().find(|t| t.kept).unwrap();
    assert!(kept.size < 1.0 && kept.drops.iter().all(|d| *d <= 0.005 + 1e-9), "{kept:?}");
    let smaller = neurons.search.iter().filter(|t| t.size < kept.size - 1e-9);
    assert!(smaller.clone().all(|t| t.drops.iter().any(|d| *d > 0.005)), "{:?}", neurons.search);
    assert!(neurons.search.len() <= 8, "{:?}", neurons.search);
}

#[test]
fn the_trunk_ends_where_it_is_told_to() {
    let tool = Tool::new();
    let report = merge(&tool, [&mnist(), &fashion()], &["--until", "fc1", "--biases", "shared"]);
    assert_eq!(report.layers.iter().map(|l| l.shared).collect::<Vec<_>>(), [300]);
    assert_eq!(report.structure.unmatched[0].len(), 2);
    let specific: u64 = report.joint.parameters.specific.iter().map(|(_, n)| n).sum();
    assert_eq!(specific, 2 * (301 * 100 + 1010));
}

#[test]
fn numbers_of_shared_neurons_are_whole_multiples() {
    let tool = Tool::new();
    let report = merge(&tool, [&mnist(), &fashion()], &["--share", "0.5", "--round", "16"]);
    assert_eq!(report.layers.iter().map(|l| l.shared).collect::<Vec<_>>(), [144, 48, 0]);
    let limited = merge(&tool, [&mnist(), &fashion()], &["--max-cost", "0.3", "--round", "8"]);
    assert!(limited.layers[..2].iter().all(|l| l.shared % 8 == 0 || l.shared == l.neurons[0]));
}

#[test]
fn differences_in_few_bits_are_said_and_verified() {
    let tool = Tool::new();
    let nets =
        ["mnist", "fashion"].map(|task| fixture(&format!("models/finetunes/resnet_{task}.onnx")));
    let nets = [nets[0].as_str(), nets[1].as_str()];
    let report = merge(&tool, nets, &["--target-size", "66%", "--delta", "int8"]);
    let with = report.layers.iter().filter(|layer| !layer.bits.is_empty());
    assert!(with.count() > 0 && report.compression.parameters_of_all <= 0.66);
    let verified = tool.run(0, &["verify", "joint.onnx", nets[0], nets[1], "--runtime", "tract"]);
    assert!(String::from_utf8_lossy(&verified.stdout).contains("verified"), "{verified:?}");

    let args = ["merge", nets[0], nets[1], "-o", "four.onnx", "--target-size", "60%"];
    let more = ["--delta", "int4", "--runtime", "tract", "--samples", "50"];
    let error = tool.refused(&[&args[..], &more].concat());
    assert!(error.contains("weights of 4 bits") && error.contains("--delta int8"), "{error}");
}

/// A net that says yes or no.
fn yes_or_no(seed: usize) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "batch,6");
    for _ in 0..seed {
        b.weights("skipped", &[7]);
    }
    let (w, v) = (b.weights("w", &[16, 6]), b.weights("v", &[1, 16]));
    let h = b.op("Gemm", "first", &[x, w], [("transB", 1.into())]);
    let h = b.op("Relu", "relu", &[h], []);
    let y = b.op("Gemm", "last", &[h, v], [("transB", 1.into())]);
    let y = b.op("Sigmoid", "probability", &[y], []);
    b.build(&[y])
}

/// Samples, labelled with a net's answers.
fn answered(tool: &Tool, net: &Model, name: &str) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let x = Array2::from_shape_simple_fn((200, 6), || rng.random_range(-1.0f32..1.0));
    let backend = runtime::open(&RuntimeOptions::default()).unwrap();
    let mut session = backend.load(ModelSource::Graph(net)).unwrap();
    let fed = ("x".to_owned(), HostArray::from(x.clone().into_dyn()));
    let found = session.run(&feeds(&[fed])).unwrap().remove(0).into_f32().unwrap();
    let labels: Array1<i64> = found.iter().map(|p| i64::from(*p >= 0.5)).collect();
    assert!(labels.iter().any(|l| *l == 0) && labels.iter().any(|l| *l == 1));
    let mut file = NpzWriter::new(std::fs::File::create(tool.path(name)).unwrap());
    file.add_array("x", &x).unwrap();
    file.add_array("labels", &labels).unwrap();
    file.finish().unwrap();
}

#[test]
fn a_single_probability_is_an_answer() {
    let tool = Tool::new();
    for (seed, name) in ["a", "b"].into_iter().enumerate() {
        let net = yes_or_no(seed);
        onnx::save(&net, &tool.path(&format!("{name}.onnx")), &SaveOptions::default()).unwrap();
        answered(&tool, &net, &format!("{name}.npz"));
    }
    let args = ["merge", "a.onnx", "b.onnx", "-o", "joint.onnx", "--json", "--runtime", "tract"];
    let data = ["--data", "a.npz", "--data", "b.npz"];
    let merged = |more: &[&str]| -> Report {
        let output = tool.run(0, &[&args[..], &data[..], more].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let full = merged(&["--share", "1"]).verification.unwrap();
    for task in &full.tasks {
        let wrong = 1.0 - task.agreement.unwrap();
        assert_eq!(task.error_before, Some(0.0));
        assert!((task.error_after.unwrap() - wrong).abs() < 1e-9 && wrong > 0.0, "{task:?}");
    }
    let limited = merged(&["--max-drop", "0"]);
    assert!(limited.search.iter().any(|trial| trial.drops.iter().any(|drop| *drop > 0.0)));
    let trained = ["retrain", "joint.onnx", "-o", "trained.onnx", "--teacher", "a.onnx"];
    let more = ["--teacher", "b.onnx", "--runtime", "tract", "--iterations", "20"];
    let output = tool.run(0, &[&trained[..], &more, &data].concat());
    assert!(stdout(&output).contains("error before"), "{}", stdout(&output));
}
