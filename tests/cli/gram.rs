//! Statistics in files.

use std::fs;

use onnx_zip::calib::net::LayerInputs;
use onnx_zip::calib::store;

use crate::tool::{Tool, fashion, fashion_images, fixture, images, mnist, stderr, stdout};

const FEW: [&str; 5] = ["--scale=1/255", "--samples=120", "--runtime", "tract", "--quiet"];

/// Stores statistics of both LeNet-300-100 nets in `a.gram` and `b.gram`.
fn calibrate(tool: &Tool, more: &[&str]) {
    for (net, data, file) in
        [(mnist(), images(), "a.gram"), (fashion(), fashion_images(), "b.gram")]
    {
        let args = ["calibrate", &net, "--data", &data, "-o", file];
        tool.run(0, &[&args[..], &FEW, more].concat());
    }
}

/// A merge of both from these files.
fn merge<'a>(nets: &'a [String; 2], more: &[&'a str]) -> Vec<&'a str> {
    let args = ["merge", &nets[0], &nets[1], "--gram", "a.gram", "--gram", "b.gram"];
    let all = [&args[..], &["-o", "joint.onnx", "--runtime", "tract", "--no-compare"], more];
    all.concat()
}

#[test]
fn statistics_of_shards_add_up() {
    let tool = Tool::new();
    let (model, images) = (mnist(), images());
    for (seed, output) in [("1", "1.gram"), ("2", "2.gram")] {
        let args = ["calibrate", &model, "--data", &images, "--samples", "50", "--seed", seed];
        tool.run(0, &[&args[..], &["-o", output, "--runtime", "tract", "--quiet"]].concat());
    }
    tool.run(0, &["calibrate", "--merge", "1.gram", "2.gram", "-o", "sum.gram"]);
    let (statistics, meta) = store::load(&tool.path("sum.gram")).unwrap();
    assert_eq!((meta.samples, meta.sensitivity_samples), (100, 100));
    assert_eq!((statistics.layers.len(), statistics.sensitivities.len()), (3, 3));
    assert!(statistics.layers.values().all(|layer| layer.count() == 100));
    tool.write("no.gram", b"no statistics");
    tool.refused(&["calibrate", "--merge", "1.gram", "no.gram", "-o", "x.gram"]);
}

#[test]
fn a_merge_from_files_needs_no_samples_and_says_what_it_did() {
    let tool = Tool::new();
    calibrate(&tool, &[]);
    let nets = [mnist(), fashion()];
    let said = tool.run(0, &merge(&nets, &["--report", "joint.json"]));
    assert!(!stderr(&said).contains("random numbers"), "{}", stderr(&said));
    assert!(stdout(&said).contains("note: statistics are those of the original models"));
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(tool.path("joint.json")).unwrap()).unwrap();
    let settings = &report["settings"];
    assert_eq!((&settings["unit"], &settings["passes"]), (&"layer".into(), &"one".into()));
    assert_eq!(report["synthetic_data"], false);
    let stored = &report["tasks"][0]["statistics"];
    assert_eq!((&stored["samples"], &stored["path"]), (&120.into(), &"a.gram".into()));
    assert_eq!(stored["sensitivities"], true);
    // Statistics know what neurons count for.
    assert!(report["tasks"][0]["without_sensitivity"].is_null());
}

#[test]
fn the_same_bytes_on_any_number_of_threads() {
    let tool = Tool::new();
    let nets = ["mnist", "fashion"].map(|n| fixture(&format!("models/zoo/mobilenet_{n}.onnx")));
    let mut all = Vec::new();
    for threads in ["--threads=1", "--threads=3"] {
        for (net, data, file) in
            [(&nets[0], images(), "a.gram"), (&nets[1], fashion_images(), "b.gram")]
        {
            let args = ["calibrate", net, "--data", &data, "-o", file, threads];
            tool.run(0, &[&args[..], &FEW].concat());
        }
        tool.run(0, &merge(&nets, &[threads]));
        all.push(["a.gram", "joint.onnx"].map(|file| fs::read(tool.path(file)).unwrap()));
    }
    assert!(all[0] == all[1]);
}

#[test]
fn what_files_cannot_serve_is_refused() {
    let tool = Tool::new();
    calibrate(&tool, &[]);
    let nets = [mnist(), fashion()];
    let turned = [fashion(), mnist()];
    assert!(tool.refused(&merge(&turned, &[])).contains("are not those of"));
    let one = ["merge", &nets[0], &nets[1], "--gram", "a.gram", "-o", "joint.onnx"];
    assert!(tool.refused(&one).contains("statistics were given 1 time for 2 models"));
    let curve = ["frontier", &nets[0], &nets[1], "--gram", "a.gram", "--gram", "b.gram"];
    assert!(tool.refused(&curve).contains("--data"));
}

/// Depthwise layers, and how BatchNormalization was read.
#[test]
fn files_hold_single_channels_and_know_how_the_model_was_read() {
    let tool = Tool::new();
    let of = |name: &str| fixture(&format!("models/zoo/{name}.onnx"));
    let (depthwise, normalised) = (of("mobilenet_mnist"), of("vggbn_mnist_unfolded"));
    for (net, file) in [(&depthwise, "d.gram"), (&normalised, "n.gram")] {
        let args = ["calibrate", net, "--data", &images(), "-o", file];
        tool.run(0, &[&args[..], &FEW].concat());
    }
    let (statistics, meta) = store::load(&tool.path("d.gram")).unwrap();
    let is_depthwise = |layer: &&LayerInputs| matches!(layer, LayerInputs::Channels(_));
    assert!(statistics.layers.values().filter(is_depthwise).count() > 1);
    assert_eq!(meta.batchnorm, None);
    let (net, args) = (&normalised, ["--batchnorm", "per-task", "-o", "joint.onnx"]);
    let merge = ["merge", net, net, "--name=a", "--name=b", "--gram", "n.gram", "--gram", "n.gram"];
    let error = tool.refused(&[&merge[..], &args].concat());
    assert!(error.contains("batchnorm fold") && error.contains("--batchnorm per-task"), "{error}");
}
