//! Compares the memory that a merge takes with the prediction of its plan.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::onnx::{SaveOptions, save};

use crate::tool::{Tool, ended, stdout};

/// Writes a net of random layers with these widths; `number` seeds the weights.
fn net(path: &Path, widths: &[usize], number: usize) {
    let mut b = GraphBuilder::new("net", 13);
    b.weights("unused", &[number]);
    let mut x = b.input("x", &format!("n,{}", widths[0]));
    for (layer, sizes) in widths.windows(2).enumerate() {
        let w = b.weights(&format!("w{layer}"), &[sizes[1], sizes[0]]);
        x = b.op("Gemm", &format!("fc{layer}"), &[x, w], [("transB", 1.into())]);
        if layer + 2 < widths.len() {
            x = b.op("Relu", &format!("relu{layer}"), &[x], []);
        }
    }
    save(&b.build(&[x]), path, &SaveOptions::default()).unwrap();
}

/// The peak memory of a running process, in bytes.
fn peak(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| 1024 * kilobytes)
}

/// The peak memory of a command, which must succeed.
fn most(command: &mut Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    loop {
        most = most.max(peak(&child).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return most;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The bytes that a plan announces, for models and for work.
fn announced(tool: &Tool, more: &[&str]) -> [u64; 2] {
    let args = [&["plan", "a.onnx", "b.onnx", "--json"], more].concat();
    let plan: serde_json::Value =
        serde_json::from_str(&stdout(&ended(0, &mut tool.command(&args)))).unwrap();
    ["models", "work"].map(|part| plan["memory"][part].as_u64().unwrap())
}

#[test]
fn a_search_holds_its_best_merge_beside_the_current_one() {
    let tool = Tool::new();
    net(&tool.path("a.onnx"), &[300, 200, 10], 1);
    net(&tool.path("b.onnx"), &[300, 200, 10], 2);
    let [models, work] = announced(&tool, &["--share", "1", "--memory", "1GiB"]);
    // Beside what the program takes, a single merge holds all weights twice.
    let weights = (models - (96 << 20)) / 2;
    assert!(weights >= 2 * 4 * 300 * 200);
    assert_eq!(announced(&tool, &["--memory", "1GiB"]), [models + weights, work]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_merge_takes_what_its_plan_announces() {
    let tool = Tool::new();
    let cases: [(&[usize], &str); 3] = [
        (&[5000, 600, 300, 10], "4GiB"),
        (&[2000, 1000, 300, 10], "64MiB"),
        (&[20_000, 400, 10], "64MiB"),
    ];
    for (widths, memory) in cases {
        net(&tool.path("a.onnx"), widths, 1);
        net(&tool.path("b.onnx"), widths, 2);
        let args = ["merge", "a.onnx", "b.onnx", "-o", "joint.onnx", "--share", "1"];
        let limits = ["--unit", "neuron", "--memory", memory, "--max-rows", "200"];
        let more = [&["--samples", "200"][..], &limits].concat();
        let announced: u64 = announced(&tool, &limits).iter().sum();
        let taken = most(&mut tool.command(&[&args[..], &more[..]].concat()));
        let ratio = taken as f64 / announced as f64;
        assert!((0.3..1.15).contains(&ratio), "{widths:?}, {memory}: {taken} of {announced}");
    }
}
