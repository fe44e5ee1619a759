//! Models with branches that an input decides about.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Graph, Model, ValueKind};
use onnx_zip::onnx;
use onnx_zip::report::{ModelReport, Report};

use crate::tool::{Tool, stdout};

/// A net of two layers for each of two rates, as detectors of voices have.
fn two_rates(seed: usize) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    // An unused draw changes the random weights that follow.
    b.weights("unused", &[seed]);
    let (x, rate) = (b.input("x", "n,8"), b.typed_input("rate", DataType::I64, ""));
    let high = b.constant("high", onnx_zip::ir::Tensor::from_i64(Vec::new(), &[16_000]));
    let is_high = b.op("Equal", "is_high", &[rate, high], []);
    let branches = ["then_branch", "else_branch"].map(|name| {
        let weights = [("w1", vec![16, 8]), ("b1", vec![16]), ("w2", vec![4, 16]), ("b2", vec![4])];
        let weights = weights.map(|(weight, dims)| b.weights(&format!("{name}.{weight}"), &dims));
        let mut branch = Graph::new(name);
        let x = branch.add_value("x", ValueKind::Captured(x), None);
        let [w1, b1, w2, b2] = weights.map(|outer| {
            let weight = b.graph().value(outer).name.clone();
            branch.add_value(&weight, ValueKind::Captured(outer), None)
        });
        let h = branch.add_op("Gemm", "hidden", &[x, w1, b1], [("transB", 1.into())]);
        let h = branch.add_op("Relu", "relu", &[h], []);
        branch.outputs = vec![branch.add_op("Gemm", "fc", &[h, w2, b2], [("transB", 1.into())])];
        (name, Attribute::Graph(Box::new(branch)))
    });
    let y = b.op("If", "y", &[is_high], branches);
    b.build(&[y])
}

fn with_two_nets() -> Tool {
    let tool = Tool::new();
    for (seed, name) in [(1, "a.onnx"), (2, "b.onnx")] {
        tool.write(name, &onnx::encode(&two_rates(seed)).unwrap());
    }
    tool
}

#[test]
fn reports_name_the_command_that_makes_layers_of_a_branch() {
    let tool = with_two_nets();
    let text = stdout(&tool.run(0, &["inspect", "a.onnx"]));
    assert!(text.contains("which the input 'rate' decides about"), "{text}");
    assert!(text.contains("onnx-zip fix MODEL --input 'rate=VALUE'"), "{text}");
    let error = tool.refused(&["merge", "a.onnx", "b.onnx", "-o", "j.onnx", "--runtime", "tract"]);
    assert!(error.contains("onnx-zip fix MODEL"), "{error}");
}

#[test]
fn nets_for_one_rate_are_merged_and_come_back() {
    let tool = with_two_nets();
    for (net, rate) in [("a", "16000"), ("b", "16000"), ("a", "8000")] {
        let (from, to) = (format!("{net}.onnx"), format!("{net}_{rate}.onnx"));
        tool.run(0, &["fix", &from, "--input", &format!("rate={rate}"), "-o", &to]);
        let found = tool.run(0, &["inspect", &to, "--json"]);
        let found: ModelReport = serde_json::from_slice(&found.stdout).unwrap();
        let inputs: Vec<&str> = found.inputs.iter().map(|port| port.name.as_str()).collect();
        assert_eq!((inputs, found.layers.len(), found.outside.len()), (vec!["x"], 2, 0));
    }
    let nets = ["a_16000.onnx", "b_16000.onnx", "a_8000.onnx"];
    for form in ["heads", "masked", "switch"] {
        let more = ["-o", "j.onnx", "--share", "1", "--form", form, "--runtime", "tract", "--json"];
        let report = tool.run(0, &[&["merge"], &nets[..], &more].concat());
        let report: Report = serde_json::from_slice(&report.stdout).unwrap();
        assert!(report.joint.parameters.shared >= 16 * 8, "{form}");
    }
    tool.run(0, &["extract", "j.onnx", "--task", "a_8000", "-o", "again.onnx"]);
}

#[test]
fn a_value_keeps_what_the_model_computes() {
    let tool = with_two_nets();
    tool.run(0, &["fix", "a.onnx", "--input", "rate=8000", "-o", "low.onnx"]);
    let low = onnx::load(&tool.path("low.onnx")).unwrap();
    let names: Vec<&str> = low.graph.values().map(|(_, value)| value.name.as_str()).collect();
    assert!(names.contains(&"else_branch.w1") && !names.contains(&"then_branch.w1"), "{names:?}");
    let original = two_rates(1);
    let weight = |model: &Model| {
        let id = model.graph.value_named("else_branch.w1").unwrap();
        model.graph.initializer(id).unwrap().clone()
    };
    assert_eq!(weight(&low), weight(&original));
    let error = tool.refused(&["fix", "a.onnx", "--input", "sr=8000", "-o", "x.onnx"]);
    assert!(error.contains("there is no input 'sr'; the inputs are x, rate"), "{error}");
}
