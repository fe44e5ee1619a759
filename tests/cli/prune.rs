//! `prune`, and merges of pruned models.

use onnx_zip::ir::Model;
use onnx_zip::onnx;
use onnx_zip::report::{PruneReport, Report};

use crate::tool::{Tool, fixture, images, mnist};

/// The numbers of non-zero weights and of all weights in layers.
fn connections(model: &Model) -> (usize, usize) {
    let tensors = model.graph.values().filter_map(|(id, _)| model.graph.initializer(id));
    let weights: Vec<f32> = tensors
        .filter(|t| t.dims.len() > 1)
        .filter_map(|t| t.to_f32().ok())
        .flat_map(|w| w.into_iter().collect::<Vec<_>>())
        .collect();
    (weights.iter().filter(|w| **w != 0.0).count(), weights.len())
}

fn pruned(tool: &Tool, model: &str, output: &str, more: &[&str]) -> PruneReport {
    let images = images();
    let args = ["prune", model, "-o", output, "--data", &images, "--scale", "1/255", "--json"];
    let output = tool.run(0, &[&args[..], more].concat());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn as_many_weights_go_as_asked_and_optimal_surgery_loses_least() {
    let tool = Tool::new();
    let report = pruned(&tool, &mnist(), "obs.onnx", &["--sparsity", "90%"]);
    let (kept, all) = connections(&onnx::load(&tool.path("obs.onnx")).unwrap());
    assert_eq!(all, 784 * 300 + 300 * 100 + 1000);
    assert!((kept as f64 / all as f64 - 0.1).abs() < 0.001, "{kept} of {all}");
    assert_eq!(report.layers.iter().map(|l| l.kept).sum::<usize>(), kept);
    let small = ["--sparsity", "0.9", "--method", "magnitude"];
    let magnitude = pruned(&tool, &mnist(), "small.onnx", &small);
    let error = |report: &PruneReport| report.layers[0].relative_error;
    assert!(error(&report) < error(&magnitude), "{report:?} {magnitude:?}");
    tool.refused(&["prune", &mnist(), "-o", "x.onnx", "--sparsity", "1.5"]);
}

#[test]
fn a_joint_model_has_no_more_connections_than_the_pruned_models_had() {
    let tool = Tool::new();
    let b = fixture("models/lenet300_mnist_b.onnx");
    pruned(&tool, &mnist(), "a.onnx", &["--sparsity", "0.8"]);
    pruned(&tool, &b, "b.onnx", &["--sparsity", "0.7"]);
    let of = |name: &str| connections(&onnx::load(&tool.path(name)).unwrap()).0;
    let images = images();
    let args = ["merge", "a.onnx", "b.onnx", "-o", "joint.onnx", "--data", &images, "--json"];
    for method in ["mtz", "refit"] {
        let output = tool.run(0, &[&args[..], &["--scale", "1/255", "--method", method]].concat());
        let report: Report = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report.verification.unwrap().passed());
        let (joint, separate) = (of("joint.onnx"), of("a.onnx") + of("b.onnx"));
        assert!(4 * joint < 3 * separate, "{method}: {joint} of {separate}");
        for task in ["a", "b"] {
            tool.run(0, &["extract", "joint.onnx", "--task", task, "-o", "task.onnx"]);
            assert!(of("task.onnx") < separate, "{method}: zeros are kept");
        }
    }
}

#[test]
fn a_joint_model_is_not_pruned() {
    let tool = Tool::new();
    tool.merge(&["--samples", "16", "--share", "1", "--no-verify", "--no-compare"]);
    let images = images();
    let args = ["prune", "joint.onnx", "--sparsity", "0.9", "-o", "x.onnx", "--data", &images];
    let error = tool.refused(&args);
    assert!(error.contains("prune the original models"), "{error}");
}
