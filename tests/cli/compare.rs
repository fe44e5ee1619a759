//! The comparison of a joint model with its originals, as `merge` reports it.

use onnx_zip::report::Report;

use crate::tool::{Tool, ended, fashion, fixture, mnist, stderr, stdout};

/// Multiply-adds of LeNet-300-100.
const ONE: u64 = 784 * 300 + 300 * 100 + 100 * 10;

fn report(args: &[&str]) -> Report {
    let output = Tool::new().merge(&[args, &["--json", "--no-verify"]].concat());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Arguments of a merge of both LeNets on few samples.
fn merging<'a>(a: &'a str, b: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let few = ["--runtime", "tract", "--samples", "16", "--no-verify"];
    [&["merge", a, b, "-o", "joint.onnx"], &few[..], more].concat()
}

fn loud(text: &str, start: &str) -> Vec<String> {
    text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
}

#[test]
fn counts_are_those_of_the_files() {
    for form in ["heads", "switch"] {
        let report = report(&["--share", "0", "--samples", "16", "--form", form]);
        let compared = report.comparison.unwrap();
        assert_eq!(compared.bytes.joint, report.joint.bytes, "{form}");
        assert_eq!(compared.bytes.originals, report.tasks.iter().map(|t| t.bytes).sum::<u64>());
        assert_eq!(compared.parameters.originals, 2 * 266_610);
        assert_eq!(compared.parameters.ratio, 1.0);
        let counted = compared.multiply_adds.unwrap();
        assert_eq!((counted.joint, counted.originals), (2 * ONE, 2 * ONE), "{form}");
        let latency = compared.latency.unwrap();
        assert!(latency.joint > 0.0 && latency.originals.len() == 2 && latency.rounds > 0);
        assert!(compared.unmeasured.is_empty(), "{:?}", compared.unmeasured);
        assert_eq!(compared.memory.is_some(), cfg!(target_os = "linux"));
    }
}

#[test]
fn what_is_common_is_computed_once() {
    let compared = report(&["--share", "1", "--unit", "neuron"]).comparison.unwrap();
    let counted = compared.multiply_adds.unwrap();
    assert_eq!(counted.joint, ONE + 100 * 10);
    assert_eq!(counted.originals, 2 * ONE);
    assert!(compared.is_smaller() && compared.bytes.ratio < 0.6);
    assert!(compared.nodes.joint < compared.nodes.originals);
}

#[test]
fn a_joint_model_that_saves_nothing_is_said_and_can_be_refused() {
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let output = tool.run(0, &merging(&a, &b, &["--share", "0"]));
    let said = loud(&stderr(&output), "WARNING: the joint model is no smaller");
    assert_eq!(said.len(), 1, "{}", stderr(&output));
    assert!(said[0].contains("--share") && said[0].contains("--target-size"), "{said:?}");
    let text = stdout(&output);
    for part in ["against the originals", "multiply-adds", "latency", "note: the joint model is"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let output =
        tool.run(1, &merging(&a, &b, &["--share", "0", "--require", "smaller", "--quiet"]));
    let said = loud(&stderr(&output), "FAILED: --require smaller is not met: the joint model is");
    assert_eq!(said.len(), 1, "{}", stderr(&output));
    assert!(tool.path("joint.onnx").is_file());
}

#[test]
fn what_is_required_and_so_is_no_failure() {
    let (a, b) = (mnist(), fashion());
    let args = merging(&a, &b, &["--share", "1", "--require", "smaller"]);
    let output = Tool::new().run(0, &args);
    assert!(!stderr(&output).contains("FAILED"), "{}", stderr(&output));
}

#[test]
fn the_comparison_can_be_left_out() {
    let left_out = report(&["--no-compare", "--share", "0", "--samples", "16"]);
    assert_eq!(left_out.comparison, None);
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let args = merging(&a, &b, &["--no-compare", "--require", "smaller"]);
    let output = tool.run(2, &args);
    assert!(stderr(&output).contains("cannot be used with"), "{}", stderr(&output));
}

#[test]
fn a_comparison_that_fails_is_said_and_the_model_stays() {
    let tool = Tool::new();
    tool.merge(&["--share", "1", "--samples", "16", "--no-verify", "--no-compare"]);
    let other = fixture("models/lenet300_mnist_b.onnx");
    let merge = |code: i32, more: &[&str]| {
        let args = ["merge", "joint.onnx", &other, "-o", "three.onnx", "--share", "1"];
        let few = ["--runtime", "tract", "--samples", "16", "--no-verify", "--json"];
        let report = ["--report", "three.html"];
        let mut command = tool.command(&[&args[..], &few, &report, more].concat());
        // Tasks of a joint model are measured from temporary files.
        let output = ended(code, command.env("TMPDIR", tool.path("nowhere")));
        assert!(tool.path("three.onnx").is_file());
        output
    };
    let output = merge(0, &[]);
    let said = loud(&stderr(&output), "WARNING: the comparison with the originals is incomplete");
    assert!(said.len() == 1 && said[0].contains("temporary file"), "{}", stderr(&output));
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    let compared = report.comparison.unwrap();
    assert!(compared.memory.is_none() && compared.latency.is_some() && compared.is_smaller());
    assert!(report.warnings.iter().any(|warning| warning.contains("temporary file")));
    let page = std::fs::read_to_string(tool.path("three.html")).unwrap();
    assert!(page.contains("comparison with the originals is incomplete"));
    merge(0, &["--require", "smaller"]);
}
