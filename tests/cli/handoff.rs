//! `retrain --export` and `import`. `tests/python/handoff.sh` tests the training between them.

use std::fs;

use crate::tool::{Tool, fashion, images, mnist};

/// Exports `joint.onnx` into `training`.
fn exported(tool: &Tool) {
    let (a, b, images) = (mnist(), fashion(), images());
    let args = ["retrain", "joint.onnx", "--export", "training", "--teacher", &a, "--teacher", &b];
    let data = ["--data", &images, "--scale", "1/255", "--samples", "50", "--runtime", "tract"];
    tool.run(0, &[&args[..], &data].concat());
}

#[test]
fn weights_that_were_not_trained_give_the_same_file() {
    for form in ["heads", "masked", "switch"] {
        let tool = Tool::new();
        tool.merge(&["--form", form, "--quiet", "--no-verify"]);
        exported(&tool);
        fs::copy(tool.path("training/forward.onnx"), tool.path("training/trained.onnx")).unwrap();
        tool.run(0, &["import", "training", "-o", "again.onnx"]);
        let [before, after] = ["joint.onnx", "again.onnx"].map(|n| fs::read(tool.path(n)).unwrap());
        assert!(before == after, "{form}");
    }
}

#[test]
fn an_export_needs_teachers_or_labels_and_an_empty_folder() {
    let tool = Tool::new();
    tool.merge(&["--quiet"]);
    let (a, images) = (mnist(), images());
    let base = ["retrain", "joint.onnx", "--runtime", "tract", "--export", "training"];
    let refused = |more: &[&str]| tool.refused(&[&base[..], more].concat());
    let error = refused(&["--teacher", &a]);
    assert!(error.contains("1 original model ") && error.contains("--teacher once"), "{error}");
    let error = refused(&["--loss", "cross-entropy"]);
    assert!(error.contains("needs labels"), "{error}");
    let error = tool.refused(&["retrain", &a, "--export", "training", "--data", &images]);
    assert!(error.contains("not a joint model"), "{error}");
    exported(&tool);
    let b = fashion();
    let error = refused(&["--teacher", &a, "--teacher", &b]);
    assert!(error.contains("is not empty"), "{error}");
}

#[test]
fn an_import_needs_what_training_leaves_behind() {
    let tool = Tool::new();
    tool.merge(&["--quiet"]);
    let error = tool.refused(&["import", "training", "-o", "x.onnx"]);
    assert!(error.contains("retraining with --export"), "{error}");
    exported(&tool);
    let error = tool.refused(&["import", "training", "-o", "x.onnx"]);
    assert!(error.contains("run train.py"), "{error}");
    fs::copy(mnist(), tool.path("training/trained.onnx")).unwrap();
    let error = tool.refused(&["import", "training", "-o", "x.onnx"]);
    assert!(error.contains("initializer '") && error.contains("is missing"), "{error}");
    let error = tool.refused(&["import", "training", "-o", "training/joint.onnx"]);
    assert!(error.contains("is the input"), "{error}");
}
