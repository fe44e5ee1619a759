//! The commands other than `merge`.

use std::fs;
use std::process::Command;

use ndarray::Array4;
use ndarray_npy::write_npy;
use onnx_zip::emit::{FORM_KEY, RECIPE_KEY};
use onnx_zip::ir::Model;
use onnx_zip::report::{ModelReport, Plan};
use onnx_zip::verify::Verification;

use crate::tool::{Tool, fashion, files, fixture, images, mnist, stderr, stdout};

/// A folder with a joint model whose tasks are called `digits` and `clothes`.
fn joint(form: &str) -> Tool {
    let tool = Tool::new();
    let images = images();
    let names = ["--name", "digits", "--name", "clothes", "--form", form, "--quiet"];
    tool.merge(&[&names[..], &["--data", &images, "--scale", "1/255"]].concat());
    tool
}

/// The arguments for verifying `joint.onnx` on few images.
fn verifying<'a>(a: &'a str, b: &'a str, images: &'a str) -> Vec<&'a str> {
    let mut args = vec!["verify", "joint.onnx", a, b, "--data", images, "--scale", "1/255"];
    args.extend(["--samples", "100", "--runtime", "tract"]);
    args
}

#[test]
fn verify_reports_errors_and_holds_to_limits() {
    let tool = joint("heads");
    let (a, b, images) = (mnist(), fashion(), images());
    let args = verifying(&a, &b, &images);
    let output = tool.run(0, &[&args[..], &["--json"]].concat());
    let report: Verification = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        report.tasks.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(),
        ["digits", "clothes"]
    );
    let digits = &report.tasks[0];
    assert_eq!(digits.samples, 100);
    assert!(digits.error_before.unwrap() <= 0.05);
    let deviation = digits.outputs[0].runtimes[0].original;
    assert!(deviation.max > 0.0 && deviation.max.is_finite());
    let text = stdout(&tool.run(1, &[&args[..], &["--max-deviation", "1e-9"]].concat()));
    assert!(text.contains("FAILED") && text.contains("differs from the original"), "{text}");
    tool.run(0, &[&args[..], &["--max-deviation", "1e9", "--max-drop", "100"]].concat());
}

#[test]
fn verify_holds_a_file_to_what_its_merge_reported() {
    let tool = joint("heads");
    let (a, b, images) = (mnist(), fashion(), images());
    let args = verifying(&a, &b, &images);
    tool.run(0, &args);
    let mut model = onnx_zip::onnx::load(&tool.path("joint.onnx")).unwrap();
    let weights: Vec<_> = model.graph.values().map(|(id, _)| id).collect();
    for id in weights {
        if let Some(tensor) = model.graph.initializer(id) {
            let coarse = tensor.to_f32().unwrap().mapv(|v| (v * 4.0).round() / 4.0);
            model.graph.set_initializer(id, onnx_zip::ir::Tensor::from_f32(&coarse));
        }
    }
    onnx_zip::onnx::save(&model, &tool.path("joint.onnx"), &Default::default()).unwrap();
    let text = stdout(&tool.run(1, &args));
    assert!(text.contains("FAILED") && text.contains("when it was merged"), "{text}");
}

#[test]
fn verify_knows_every_form() {
    for form in ["masked", "switch"] {
        let tool = joint(form);
        let (a, b, images) = (mnist(), fashion(), images());
        let output = tool.run(0, &[&verifying(&a, &b, &images)[..], &["--json"]].concat());
        let report: Verification = serde_json::from_slice(&output.stdout).unwrap();
        assert!(
            report.tasks.iter().all(|task| task.agreement.is_some_and(|a| a > 0.5)),
            "{report:?}"
        );
    }
}

#[test]
fn verify_wants_the_originals() {
    let tool = joint("heads");
    let (a, b) = (mnist(), fashion());
    let error = tool.refused(&["verify", "joint.onnx", &a]);
    assert!(error.contains("digits, clothes"), "{error}");
    let error = tool.refused(&["verify", &a, &a, &b]);
    assert!(error.contains("no joint model"), "{error}");
    tool.refused(&["verify", "joint.onnx", &a, &b, "--max-drop", "1"]);
}

#[test]
fn verify_refuses_limits_that_nothing_could_exceed() {
    let tool = Tool::new();
    tool.merge(&["--samples", "16", "--share", "0", "--no-verify", "--no-compare"]);
    let (a, b) = (mnist(), fashion());
    write_npy(tool.path("x.npy"), &Array4::<f32>::zeros((8, 1, 28, 28))).unwrap();
    let verify = ["verify", "joint.onnx", &a, &b, "--data", "x.npy", "--runtime", "tract"];
    let refused = |more: &[&str]| tool.refused(&[&verify[..], more].concat());
    let error = refused(&["--max-drop", "1"]);
    assert!(
        error.contains("needs labelled samples") && error.contains("lenet300_fashion"),
        "{error}"
    );
    for limit in ["--max-drop", "--max-deviation", "--tolerance"] {
        for value in ["nan", "inf", "-1"] {
            let error = refused(&[limit, value]);
            assert!(error.contains("is no number ≥ 0") && error.contains(limit), "{error}");
        }
    }
    tool.run(0, &verify);
}

#[test]
fn an_extracted_task_computes_what_the_joint_model_does() {
    let tool = joint("heads");
    tool.run(0, &["extract", "joint.onnx", "--task", "clothes", "-o", "clothes.onnx"]);
    let model = onnx_zip::onnx::load(&tool.path("clothes.onnx")).unwrap();
    let names = |ids: &[onnx_zip::ir::ValueId]| -> Vec<String> {
        ids.iter().map(|id| model.graph.value(*id).name.clone()).collect()
    };
    assert_eq!(names(&model.graph.inputs), ["image"]);
    assert_eq!(names(&model.graph.outputs), ["logits"]);
    tool.run(0, &["extract", "joint.onnx", "--task", "digits", "-o", "digits.onnx"]);
    let images = images();
    let args = verifying("digits.onnx", "clothes.onnx", &images);
    tool.run(0, &[&args[..], &["--max-deviation", "1e-3"]].concat());
}

#[test]
fn split_stores_shared_weights_once() {
    let tool = joint("heads");
    tool.run(0, &["split", "joint.onnx", "-o", "tasks"]);
    let size = |name: &str| fs::metadata(tool.path(name)).unwrap().len();
    let names: Vec<String> = files(&tool.path("tasks")).into_iter().map(|f| f.0).collect();
    let [clothes, digits, weights] = &names[..] else { panic!("{names:?}") };
    assert_eq!([clothes.as_str(), digits], ["clothes.onnx", "digits.onnx"]);
    assert!(weights.starts_with("weights-") && weights.ends_with(".bin"));
    let weights = size(&format!("tasks/{weights}"));
    // Pages of the data file are padded, and a joint model stores hardly more than its weights.
    assert!(weights < size("joint.onnx") + (1 << 14));
    assert!(size("tasks/digits.onnx") + size("tasks/clothes.onnx") < weights / 5);
    let images = images();
    let args = verifying("tasks/digits.onnx", "tasks/clothes.onnx", &images);
    tool.run(0, &[&args[..], &["--max-deviation", "1e-3"]].concat());
}

#[test]
fn extract_and_split_refuse_what_is_no_joint_model() {
    let tool = joint("heads");
    let error = tool.refused(&["extract", "joint.onnx", "--task", "cats", "-o", "cats.onnx"]);
    assert!(error.contains("choose one of digits, clothes"), "{error}");
    tool.refused(&["extract", &mnist(), "--task", "digits", "-o", "x.onnx"]);
    tool.refused(&["extract", "joint.onnx", "--task", "digits", "-o", "joint.onnx"]);
    tool.refused(&["split", &mnist(), "-o", "tasks"]);
}

#[test]
fn a_stripped_copy_computes_the_same_and_cannot_be_taken_apart() {
    let images = images();
    for form in ["heads", "masked", "switch"] {
        let tool = joint(form);
        tool.run(0, &["strip", "joint.onnx", "-o", "device.onnx"]);
        let size = |name: &str| fs::metadata(tool.path(name)).unwrap().len();
        assert!(size("device.onnx") < size("joint.onnx"));
        for task in ["digits", "clothes"] {
            tool.run(0, &["extract", "joint.onnx", "--task", task, "-o", &format!("{task}.onnx")]);
        }
        let mut args = verifying("digits.onnx", "clothes.onnx", &images);
        args[1] = "device.onnx";
        tool.run(0, &[&args[..], &["--max-deviation", "1e-3"]].concat());
        let error = tool.refused(&["extract", "device.onnx", "--task", "digits", "-o", "x.onnx"]);
        assert!(error.contains("stripped"), "{error}");
    }
    Tool::new().refused(&["strip", &mnist(), "-o", "x.onnx"]);
}

#[test]
fn a_recipe_may_be_left_out_and_a_damaged_one_is_refused() {
    let tool = Tool::new();
    tool.merge(&["--no-recipe"]);
    let model = onnx_zip::onnx::load(&tool.path("joint.onnx")).unwrap();
    assert!(!model.metadata.contains_key(RECIPE_KEY) && model.metadata.contains_key(FORM_KEY));
    let tool = joint("heads");
    let model = onnx_zip::onnx::load(&tool.path("joint.onnx")).unwrap();
    let recipe = &model.metadata[RECIPE_KEY];
    let cut = recipe[..recipe.len() / 2].to_owned();
    let texts = [
        ("{\"version\":1}".to_owned(), "version 1"),
        (cut, "recipe"),
        ("5:".into(), "recipe"),
        ("4:".into(), "version 4"),
    ];
    for (text, word) in texts {
        let mut model = model.clone();
        model.metadata.insert(RECIPE_KEY.to_owned(), text);
        tool.write("changed.onnx", &onnx_zip::onnx::encode(&model).unwrap());
        for command in [vec!["extract", "--task", "digits"], vec!["split"]] {
            let args = [&command[..1], &["changed.onnx"], &command[1..], &["-o", "x"]].concat();
            let error = tool.refused(&args);
            assert!(error.contains(word), "{error}");
        }
    }
}

#[test]
fn operators_that_another_program_has_changed_are_noticed() {
    let tool = joint("heads");
    let written = onnx_zip::onnx::load(&tool.path("joint.onnx")).unwrap();
    let extracted = |model: &Model| {
        tool.write("changed.onnx", &onnx_zip::onnx::encode(model).unwrap());
        let output =
            tool.run(0, &["extract", "changed.onnx", "--task", "digits", "-o", "digits.onnx"]);
        let split = tool.run(0, &["split", "changed.onnx", "-o", "tasks"]);
        let remark = "another program has changed the operators";
        let [first, second] = [output, split].map(|output| stderr(&output).contains(remark));
        assert_eq!(first, second);
        first
    };
    let mut trained = written.clone();
    trained.metadata.insert("note".into(), "trained".into());
    let ids: Vec<_> = trained.graph.values().map(|(id, _)| id).collect();
    for id in ids {
        let tensor = trained.graph.initializer(id).filter(|t| !t.dims.is_empty());
        if let Some(numbers) = tensor.filter(|t| t.dtype.is_float()).map(|t| t.to_f32().unwrap()) {
            let half = onnx_zip::ir::Tensor::from_f32(&numbers.mapv(|v| v / 2.0));
            trained.graph.set_initializer(id, half);
        }
    }
    assert!(!extracted(&written) && !extracted(&trained));
    let mut changed = written;
    let relus = changed.graph.nodes().filter(|(_, node)| node.is("Relu"));
    let relu = relus.map(|(id, _)| id).next().unwrap();
    changed.graph.edit_node(relu, |node| node.op = "Sigmoid".to_owned());
    assert!(extracted(&changed));
    let both = ["merge", "changed.onnx", "-o", "again.onnx", "--share", "0", "--no-compare"];
    assert!(stdout(&tool.run(0, &both)).contains("has changed the operators"));
}

#[test]
fn plan_tells_sizes_without_data() {
    let tool = Tool::new();
    let output = tool
        .run(0, &["plan", &mnist(), &fashion(), "--json", "--share", "0.8", "--unit", "neuron"]);
    let plan: Plan = serde_json::from_slice(&output.stdout).unwrap();
    let merged = tool.merge(&["--share", "0.8", "--unit", "neuron", "--json"]);
    let report: onnx_zip::report::Report = serde_json::from_slice(&merged.stdout).unwrap();
    assert_eq!(plan.prediction.sizes.joint(), report.joint.parameters.total);
    assert_eq!(plan.prediction.sizes.shared, report.joint.parameters.shared);
    let file = fs::metadata(tool.path("joint.onnx")).unwrap().len() as f64;
    let off = plan.file as f64 / file - 1.0;
    assert!(off.abs() < 0.03, "{} bytes are planned, {file} written", plan.file);
}

#[test]
fn inspect_shows_layers_and_groups() {
    let tool = Tool::new();
    let output = tool.run(0, &["inspect", &mnist(), "--json"]);
    let report: ModelReport = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report.parameters, 266_610);
    assert_eq!(report.layers.iter().map(|l| l.neurons).collect::<Vec<_>>(), [300, 100, 10]);
    let shareable = report.groups.iter().filter(|g| g.frozen.is_none()).count();
    assert_eq!(shareable, 2);
    assert!(stdout(&tool.run(0, &["inspect", &mnist()])).contains("266,610 parameters"));
}

#[test]
fn inspect_counts_layers_with_the_weights_of_others_once() {
    let tool = Tool::new();
    tool.merge(&["--share", "1", "--biases", "shared", "--inputs", "separate", "--quiet"]);
    let output = tool.run(0, &["inspect", "joint.onnx", "--json"]);
    let report: ModelReport = serde_json::from_slice(&output.stdout).unwrap();
    let own = report.layers.iter().filter(|layer| layer.same_as.is_none());
    assert_eq!(own.map(|layer| layer.parameters).sum::<u64>(), report.parameters);
    let others: Vec<&str> = report.layers.iter().filter_map(|l| l.same_as.as_deref()).collect();
    assert_eq!((report.layers.len(), others), (6, vec!["shared/fc1", "shared/fc2"]));
}

#[test]
fn inspect_counts_the_weights_of_each_gate() {
    let tool = Tool::new();
    let net = fixture("models/zoo/lstm_mnist.onnx");
    let output = tool.run(0, &["inspect", &net, "--json"]);
    let report: ModelReport = serde_json::from_slice(&output.stdout).unwrap();
    // Four gates of 64 units, which read 28 numbers and 64 units, and ten outputs.
    assert_eq!(report.parameters, 4 * 64 * (28 + 64 + 1) + 10 * (64 + 1));
    assert!(report.layers.iter().all(|layer| layer.same_as.is_none()));
}

#[test]
fn every_command_has_help_with_every_flag_explained() {
    let tool = Tool::new();
    let commands = [
        "merge",
        "plan",
        "inspect",
        "fix",
        "prune",
        "calibrate",
        "verify",
        "extract",
        "split",
        "strip",
        "retrain",
        "import",
        "completions",
    ];
    for command in commands {
        let long = stdout(&tool.run(0, &["help", command]));
        assert!(long.contains("Usage: onnx-zip"), "{command}: {long}");
    }
    assert!(stdout(&tool.run(0, &["help", "merge"])).contains("Examples:"));
    tool.run(0, &["--version"]);
    tool.run(2, &[]);
}

/// What bash offers for the last of these words.
fn completed(tool: &Tool, words: &[&str]) -> Vec<String> {
    let (last, before) = words.split_last().unwrap();
    let script = format!(
        "source completions.bash; COMP_WORDS=({}); COMP_CWORD={}; _onnx__zip onnx-zip '{last}' '{}'; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        before.len(),
        before.last().unwrap(),
    );
    let bash = Command::new("bash").args(["-c", &script]).current_dir(tool.path("")).output();
    stdout(&bash.unwrap()).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_their_options() {
    let tool = Tool::new();
    let script = tool.run(0, &["completions", "bash"]).stdout;
    tool.write("completions.bash", &script);
    assert_eq!(completed(&tool, &["onnx-zip", "ver"]), ["verify"]);
    assert_eq!(completed(&tool, &["onnx-zip", "foot"]), [""]);
    assert_eq!(completed(&tool, &["onnx-zip", "merge", "--tar"]), ["--target-size"]);
    assert_eq!(completed(&tool, &["onnx-zip", "merge", "--method", "re"]), ["refit"]);
    assert_eq!(completed(&tool, &["onnx-zip", "prune", "--tar"]), [""]);
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&tool.run(0, &["completions", shell]));
        assert!(script.contains("keep-shared") && !script.contains("footprint"), "{shell}");
    }
}
