//! Ctrl-C.

#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::tool::{Tool, files, fixture, images};

#[test]
fn an_interrupted_merge_leaves_nothing_behind() {
    let tool = Tool::new();
    let [a, b] = ["a", "b"].map(|n| fixture(&format!("models/lenet5_mnist_{n}.onnx")));
    let args = ["merge", &a, &b, "-o", "joint.onnx", "--runtime", "tract", "--data", &images()];
    let mut child =
        tool.command(&args).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line == "zipping").unwrap();
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert_eq!(rest.last().unwrap(), "error: stopped on request");
    assert_eq!(files(&tool.path(".")), []);
}
