//! Joint models that fail their verification, or whose verification is interrupted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use onnx_zip::ir::Model;
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::onnx;
use onnx_zip::report::Report;

use crate::tool::{Tool, files, fixture, images, stderr, stdout};

/// A net whose outputs differ from run to run.
fn fickle() -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "batch,4");
    let (w, v) = (b.weights("w", &[8, 4]), b.weights("v", &[3, 8]));
    let h = b.op("Gemm", "first", &[x, w], [("transB", 1.into())]);
    let h = b.op("Relu", "relu", &[h], []);
    let y = b.op("Gemm", "last", &[h, v], [("transB", 1.into())]);
    let noise = b.op("RandomUniformLike", "noise", &[y], []);
    let z = b.op("Add", "sum", &[y, noise], []);
    b.build(&[z])
}

/// A folder with two such nets and an old joint model.
fn workplace() -> Tool {
    let tool = Tool::new();
    for name in ["a.onnx", "b.onnx"] {
        onnx::save(&fickle(), &tool.path(name), &Default::default()).unwrap();
    }
    tool.write("joint.onnx", b"old");
    tool
}

const MERGE: [&str; 11] = [
    "merge",
    "a.onnx",
    "b.onnx",
    "-o",
    "joint.onnx",
    "--samples",
    "8",
    "--runtime",
    "ort",
    "--runtime-library",
    concat!(env!("CARGO_MANIFEST_DIR"), "/.onnxruntime"),
];

#[test]
fn a_rejected_model_is_not_left_in_place_of_the_old_one() {
    let tool = workplace();
    let before = files(&tool.path("."));
    let output = tool.run(1, &MERGE);
    assert!(stdout(&output).contains("(NOT written)") && stdout(&output).contains("FAILED"));
    assert!(stderr(&output).contains("is not written to 'joint.onnx'; --keep-rejected"));
    assert_eq!(files(&tool.path(".")), before);
    let quiet = tool.run(1, &[&MERGE[..], &["--quiet", "--report", "r.json"]].concat());
    assert!(stderr(&quiet).contains("error: the joint model failed its verification"));
    let report: Report = serde_json::from_slice(&fs::read(tool.path("r.json")).unwrap()).unwrap();
    assert!(!report.joint.written && !report.verification.unwrap().passed());
    assert_eq!(fs::read(tool.path("joint.onnx")).unwrap(), b"old");
}

#[test]
fn a_rejected_model_is_kept_where_that_is_wished_for() {
    let tool = workplace();
    let output = tool.run(1, &[&MERGE[..], &["--keep-rejected", "--json"]].concat());
    assert!(stderr(&output).contains("it is kept as 'joint.rejected.onnx'"));
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.joint.written && report.joint.path == "joint.rejected.onnx");
    assert_eq!(fs::read(tool.path("joint.onnx")).unwrap(), b"old");
    let size = fs::metadata(tool.path("joint.rejected.onnx")).unwrap().len();
    assert_eq!(size, report.joint.bytes);
    let names: Vec<String> = files(&tool.path(".")).into_iter().map(|f| f.0).collect();
    assert_eq!(names, ["a.onnx", "b.onnx", "joint.onnx", "joint.rejected.onnx"]);
    let error = tool.refused(&[&MERGE[..4], &["/dev/null", "--keep-rejected"]].concat());
    assert!(error.contains("leave out --keep-rejected"), "{error}");
}

#[cfg(unix)]
#[test]
fn who_stops_the_verification_keeps_the_old_model() {
    let tool = Tool::new();
    tool.write("joint.onnx", b"old");
    let [a, b] = ["a", "b"].map(|n| fixture(&format!("models/lenet5_mnist_{n}.onnx")));
    let data = images();
    let merge = ["merge", &a, &b, "-o", "joint.onnx", "--data", &data, "--runtime", "tract"];
    let args = [&merge[..], &["--samples", "256", "--batch", "2", "--share", "0"]].concat();
    let mut child =
        tool.command(&args).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line == "verify").unwrap();
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(lines.last().unwrap(), "error: stopped on request");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read(tool.path("joint.onnx")).unwrap(), b"old");
    assert_eq!(files(&tool.path(".")).len(), 1);
}
