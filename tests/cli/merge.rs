//! The usual uses of `merge`.

use std::fs;
use std::process::Output;

use onnx_zip::mtz::site::OWN_WEIGHTS;
use onnx_zip::report::{Plan, Report};

use crate::tool::{Tool, fashion, fixture, images, mnist, stderr, stdout};

#[test]
fn the_bare_command_works_and_says_what_it_lacks() {
    let tool = Tool::new();
    let output = tool.merge(&[]);
    assert!(tool.path("joint.onnx").is_file());
    let loud: Vec<_> =
        stderr(&output).lines().filter(|l| l.contains("WARNING")).map(str::to_owned).collect();
    assert_eq!(loud.len(), 1, "{}", stderr(&output));
    assert!(loud[0].contains("--data"));
    let text = stdout(&output);
    for part in ["joint.onnx: 2 tasks", "lenet300_fashion only", "fc1", "verified on"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn reports_agree_with_the_file() {
    let tool = Tool::new();
    let (images, a) = (images(), mnist());
    let args = ["--data", &images, "--scale", "1/255", "--json", "--report", "r.json"];
    let output = tool.merge(
        &[&args[..], &["--report", "r.html", "--share", "0.8", "--unit", "neuron", "--no-compare"]]
            .concat(),
    );
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(fs::read(tool.path("r.json")).unwrap(), output.stdout);
    assert!(fs::read_to_string(tool.path("r.html")).unwrap().contains("joint.onnx"));
    assert_eq!(report.joint.bytes, fs::metadata(tool.path("joint.onnx")).unwrap().len());
    assert_eq!(report.tasks[0].bytes, fs::metadata(&a).unwrap().len());
    assert_eq!(report.tasks[0].parameters, 266_610);
    assert_eq!(report.layers.iter().map(|l| l.shared).collect::<Vec<_>>(), [240, 80, 0]);
    assert!(!report.synthetic_data && report.tasks[0].data.labels);
    assert_eq!(report.tasks[0].data.samples, 300);
    let checked = report.verification.unwrap();
    assert!(checked.passed());
    let [first, second] = checked.tasks.as_slice() else { panic!("{checked:?}") };
    assert_eq!((first.samples, second.samples), (256, 256));
    assert!(first.error_before.unwrap() < 0.05 && first.error_after.is_some());
    assert!(stderr(&output).is_empty() || !stderr(&output).contains("WARNING"));
}

/// Where no weights were fitted, random numbers cost nothing.
fn no_word_of_random_numbers(output: &Output, report: &Report) {
    let said = stderr(output);
    assert!(!said.contains("random numbers"), "{said}");
    let warnings = &report.warnings;
    assert!(!warnings.iter().any(|w| w.contains("random numbers")), "{warnings:?}");
}

#[test]
fn another_form_of_a_joint_model_needs_no_samples() {
    let tool = Tool::new();
    let more = ["--share", "0.5", "--unit", "neuron", "--samples", "16", "--no-verify"];
    let output = tool.merge(&[&more[..], &["--no-compare", "--json"]].concat());
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.warnings.iter().any(|w| w.contains("random numbers")), "{:?}", report.warnings);
    let args = ["merge", "joint.onnx", "-o", "masked.onnx", "--form", "masked", "--share", "0"];
    let quick = ["--runtime", "tract", "--samples", "16", "--no-compare", "--json"];
    let output = tool.run(0, &[&args[..], &quick].concat());
    no_word_of_random_numbers(&output, &serde_json::from_slice(&output.stdout).unwrap());
}

#[test]
fn sharing_nothing_changes_nothing() {
    for form in ["heads", "masked", "switch"] {
        let tool = Tool::new();
        let output = tool.merge(&["--share", "0", "--form", form, "--samples", "16", "--json"]);
        let report: Report = serde_json::from_slice(&output.stdout).unwrap();
        no_word_of_random_numbers(&output, &report);
        for task in report.verification.unwrap().tasks {
            assert_eq!(task.agreement, Some(1.0), "{form}");
            assert!(task.outputs[0].runtimes[0].original.max < 1e-4, "{form}");
        }
    }
}

#[test]
fn a_model_with_itself_is_half_the_size() {
    let tool = Tool::new();
    let a = mnist();
    let args = ["merge", &a, &a, "-o", "joint.onnx", "--runtime", "tract", "--samples", "900"];
    let output = tool.run(0, &[&args[..], &["--json"]].concat());
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report.tasks[1].name, "lenet300_mnist_a_2");
    assert!(report.compression.parameters_of_all < 0.51);
    no_word_of_random_numbers(&output, &report);
    for task in report.verification.unwrap().tasks {
        assert_eq!(task.agreement, Some(1.0));
    }
}

#[test]
fn the_same_seed_gives_the_same_file_on_any_number_of_threads() {
    let tool = Tool::new();
    let joint = |threads: &str| {
        tool.merge(&["--threads", threads, "--quiet", "--no-verify"]);
        fs::read(tool.path("joint.onnx")).unwrap()
    };
    assert_eq!(joint("1"), joint("2"));
}

#[test]
fn quiet_is_quiet() {
    let output = Tool::new().merge(&["--quiet", "--samples", "16"]);
    assert_eq!((stdout(&output), stderr(&output)), (String::new(), String::new()));
}

#[test]
fn an_existing_file_is_replaced_and_nothing_else_is_left() {
    let tool = Tool::new();
    tool.write("joint.onnx", b"old");
    tool.merge(&["--samples", "16", "--share", "0"]);
    assert!(fs::metadata(tool.path("joint.onnx")).unwrap().len() > 1000);
    assert_eq!(crate::tool::files(&tool.path(".")).len(), 1);
}

#[test]
fn a_dry_run_is_a_plan() {
    let tool = Tool::new();
    let (a, b) = (mnist(), fashion());
    let args = ["merge", &a, &b, "--dry-run", "--share", "0.5", "--report", "r.json"];
    let dry = tool.run(0, &args);
    let plan = tool.run(0, &["plan", &a, &b, "--share", "0.5"]);
    assert_eq!(stdout(&dry), stdout(&plan));
    assert!(stderr(&dry).contains("it leaves alone --report"), "{}", stderr(&dry));
    assert!(crate::tool::files(&tool.path(".")).is_empty());
}

#[test]
fn rules_hold_in_their_layers() {
    let rules = ["--keep-shared", "fc*=50%", "--keep-shared", "fc2=7"];
    let output = Tool::new().merge(&[&rules[..], &["--json"]].concat());
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report.layers.iter().map(|l| l.shared).collect::<Vec<_>>(), [150, 7, 0]);
    assert_eq!(report.settings.keep_shared, ["fc*=0.5", "fc2=7"]);
}

#[test]
fn computing_without_onnx_runtime_is_said() {
    let (a, b) = (mnist(), fashion());
    let args = ["merge", &a, &b, "-o", "joint.onnx", "--samples", "16", "--json"];
    for runtime in ["auto", "tract"] {
        let output = Tool::new().run(0, &[&args[..], &["--runtime", runtime]].concat());
        let report: Report = serde_json::from_slice(&output.stdout).unwrap();
        let unexpected = runtime == "auto" && report.runtime.starts_with("tract");
        let says_so = stderr(&output).contains("ONNX Runtime's library was not found");
        assert_eq!(says_so, unexpected, "{runtime}: {}", report.runtime);
    }
}

#[test]
fn layers_keep_their_weights_where_that_is_asked_for() {
    let tool = Tool::new();
    let output = tool.merge(&["--own-weights", "fc1", "--share", "1", "--samples", "16", "--json"]);
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report.settings.own_weights, ["fc1"]);
    let layers = report.layers.iter().map(|l| (l.layers[0].as_str(), l.shared, l.shared_inputs));
    assert_eq!(layers.collect::<Vec<_>>(), [("fc1", 0, 0), ("fc2", 100, 300), ("fc3", 0, 0)]);
    assert_eq!(report.layers[0].reason.as_deref(), Some(OWN_WEIGHTS));
    let error = tool.refused(&["plan", &mnist(), &fashion(), "--own-weights", "conv*"]);
    assert!(error.contains("matches no layer"), "{error}");
}

#[test]
fn outputs_are_shared_where_that_is_asked_for() {
    let tool = Tool::new();
    let output = tool.merge(&["--share-outputs", "--share", "1", "--samples", "16", "--json"]);
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.settings.share_outputs);
    assert_eq!(report.layers.iter().map(|l| l.shared).collect::<Vec<_>>(), [300, 100, 10]);
    let plan = tool
        .run(0, &["plan", &mnist(), &fashion(), "--share-outputs", "--biases", "shared", "--json"]);
    let plan: Plan = serde_json::from_slice(&plan.stdout).unwrap();
    assert_eq!(plan.prediction.sizes.specific, [0, 0]);
    assert_eq!(plan.prediction.sizes.shared, plan.prediction.sizes.originals[0]);
}

#[test]
fn tasks_may_have_inputs_of_their_own() {
    let tool = Tool::new();
    tool.merge(&[
        "--inputs",
        "separate",
        "--name",
        "digits",
        "--name",
        "clothes",
        "--samples",
        "16",
    ]);
    let output = tool.run(0, &["inspect", "joint.onnx"]);
    for name in ["digits/image", "clothes/image", "digits/logits", "clothes/logits"] {
        assert!(stdout(&output).contains(name), "{}", stdout(&output));
    }
}

#[test]
fn convolutions_merge_too() {
    let tool = Tool::new();
    let [a, b] = ["a", "b"].map(|n| fixture(&format!("models/lenet5_mnist_{n}.onnx")));
    let images = images();
    let args = ["merge", &a, &b, "-o", "joint.onnx", "--runtime", "tract", "--samples", "64"];
    let output = tool.run(
        0,
        &[&args[..], &["--data", &images, "--scale", "1/255", "--json", "--share", "1"]].concat(),
    );
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.verification.unwrap().passed());
    assert!(report.compression.parameters_of_all < 0.52);
}

#[test]
fn three_models_at_once_or_one_after_the_other() {
    let tool = Tool::new();
    let (a, b, c) = (mnist(), fixture("models/lenet300_mnist_b.onnx"), fashion());
    let images = images();
    let data =
        ["--data", &images, "--scale", "1/255", "--samples", "200", "--share", "1", "--json"];
    let merge = |models: &[&str], output: &str| -> Report {
        let args = [&["merge"], models, &["-o", output], &data[..]].concat();
        serde_json::from_slice(&tool.run(0, &args).stdout).unwrap()
    };
    let all = merge(&[&a, &b, &c], "all.onnx");
    assert!(all.compression.parameters_of_all < 0.36);
    assert_eq!(all.layers[0].tasks, [0, 1, 2]);
    let first = merge(&[&a, &b], "two.onnx");
    let added = merge(&["two.onnx", &c], "three.onnx");
    let names: Vec<&str> = added.tasks.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["lenet300_mnist_a", "lenet300_mnist_b", "lenet300_fashion"]);
    assert_eq!(added.tasks[1].sha256, first.tasks[1].sha256, "the file that a task is from");
    assert!(added.verification.unwrap().passed());
    assert_eq!(added.joint.parameters.total, all.joint.parameters.total);
    tool.run(0, &["verify", "three.onnx", &a, &b, &c, "--samples", "16"]);
}
