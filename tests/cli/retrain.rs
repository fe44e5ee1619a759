//! `retrain` as it is meant to be used.

use std::fs;

use onnx_zip::report::RetrainReport;
use onnx_zip::retrain::{Ending, LossKind};

use crate::tool::{Tool, fashion, images, mnist, stderr, stdout};

const FEW: [&str; 6] = ["--samples", "600", "--batch", "50", "--scale", "1/255"];

impl Tool {
    /// Retrains `joint.onnx` a little towards its original models.
    fn retrain(&self, iterations: &str, more: &[&str]) -> Vec<u8> {
        let (a, b, data) = (mnist(), fashion(), images());
        let args = ["retrain", "joint.onnx", "--teacher", &a, "--teacher", &b, "--data", &data];
        self.run(
            0,
            &[&args[..], &FEW, &["-o", "joint2.onnx", "--iterations", iterations], more].concat(),
        )
        .stdout
    }
}

#[test]
fn a_joint_model_learns_from_its_originals() {
    let tool = Tool::new();
    tool.merge(&["--form", "switch", "--data", &images(), "--scale", "1/255"]);
    let report: RetrainReport =
        serde_json::from_slice(&tool.retrain("80", &["--json", "--patience", "20"])).unwrap();
    assert_eq!((report.outcome.iterations, report.outcome.ending), (80, Ending::Complete));
    assert_eq!(report.settings.loss, LossKind::Distillation);
    for task in &report.outcome.tasks {
        assert!(task.after.loss < task.before.loss, "{task:?}");
    }
    assert!(report.verification.unwrap().passed());
    let inspected = |file: &str| stdout(&tool.run(0, &["inspect", file, "--json"]));
    assert!(inspected("joint2.onnx").contains("lenet300_fashion"));
    let size = |file: &str| fs::metadata(tool.path(file)).unwrap().len();
    assert_eq!(size("joint.onnx"), size("joint2.onnx"));
}

#[test]
fn training_goes_on_from_a_checkpoint() {
    let tool = Tool::new();
    tool.merge(&["--data", &images(), "--scale", "1/255"]);
    let saved = ["--checkpoint", "training", "--no-verify"];
    tool.retrain("20", &saved);
    let whole = fs::read(tool.path("joint2.onnx")).unwrap();
    let text =
        String::from_utf8(tool.retrain("20", &[&saved[..], &["--resume"]].concat())).unwrap();
    assert!(text.contains("written to joint2.onnx"), "{text}");
    assert_eq!(fs::read(tool.path("joint2.onnx")).unwrap(), whole);
}

#[test]
fn labels_take_the_place_of_originals() {
    let tool = Tool::new();
    tool.merge(&["--data", &images(), "--scale", "1/255"]);
    let data = images();
    let args =
        ["retrain", "joint.onnx", "-o", "joint2.onnx", "--data", &data, "--iterations", "20"];
    let output = tool.run(0, &[&args[..], &FEW].concat());
    assert!(stdout(&output).contains("error before"), "{}", stdout(&output));
    assert!(stderr(&output).contains("steps/s"), "{}", stderr(&output));
}

#[test]
fn what_is_missing_is_told() {
    let tool = Tool::new();
    tool.merge(&["--samples", "16"]);
    let (a, data) = (mnist(), images());
    let base = ["retrain", "joint.onnx", "-o", "joint2.onnx"];
    let refused = |more: &[&str]| tool.refused(&[&base[..], more].concat());
    assert!(refused(&["--teacher", &a]).contains("--teacher once for each of"));
    assert!(refused(&[]).contains("--data"));
    assert!(refused(&["--data", &data, "--weights", "1"]).contains("1 weights"));
    let plain = ["retrain", &a, "-o", "joint2.onnx", "--data", &data];
    assert!(tool.refused(&plain).contains("not a joint model"));
}
