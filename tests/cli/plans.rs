//! Plans: recording, editing and repeating merges.

use std::fs;

use onnx_zip::report::{Plan, Report};

use crate::tool::{Tool, fashion, fixture, images, mnist, stderr};

/// A merge of two nets on few samples, with a plan.
fn planned(tool: &Tool, models: [&str; 2], more: &[&str]) -> String {
    let images = images();
    let args = ["merge", models[0], models[1], "-o", "a.onnx", "--save-plan", "a.toml", "--json"];
    let few = ["--data", &images, "--scale", "1/255", "--samples", "32", "--runtime", "tract"];
    let quick = ["--no-verify", "--no-compare"];
    tool.run(0, &[&args[..], &few, &quick, more].concat());
    fs::read_to_string(tool.path("a.toml")).unwrap()
}

fn repeated(tool: &Tool, plan: &str, output: &str, more: &[&str]) -> Report {
    let args = ["merge", "--plan", plan, "-o", output, "--json"];
    let output = tool.run(0, &[&args[..], more].concat());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn bytes(tool: &Tool, name: &str) -> Vec<u8> {
    fs::read(tool.path(name)).unwrap()
}

#[test]
fn a_plan_repeats_a_merge_byte_by_byte() {
    let nets = ["mobilenet", "resnet"].map(|net| {
        ["mnist", "fashion"].map(|data| fixture(&format!("models/zoo/{net}_{data}.onnx")))
    });
    let lenets = [mnist(), fashion()];
    let cases: [(&[String; 2], &[&str]); 5] = [
        (&nets[0], &["--seed", "3"]),
        (&nets[1], &["--target-size", "70%"]),
        (&lenets, &["--target-size", "70%", "--unit", "neuron", "--name", "x", "--name", "y"]),
        (
            &lenets,
            &["--share", "0.8", "--unit", "neuron", "--keep-shared", "fc1=50%", "--alpha", "0.3"],
        ),
        (&lenets, &["--own-weights", "fc1", "--form", "masked", "--no-recipe"]),
    ];
    for ([a, b], options) in cases {
        let tool = Tool::new();
        let text = planned(&tool, [a, b], options);
        repeated(&tool, "a.toml", "b.onnx", &["--save-plan", "b.toml"]);
        assert!(bytes(&tool, "a.onnx") == bytes(&tool, "b.onnx"), "{options:?}\n{text}");
        assert_eq!(text, fs::read_to_string(tool.path("b.toml")).unwrap(), "{options:?}");
    }
}

#[test]
fn what_is_changed_in_a_plan_or_typed_beside_it_takes_effect() {
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let text = planned(&tool, [&a, &b], &["--share", "1"]);
    let own = |report: &Report| -> Vec<usize> { report.layers.iter().map(|l| l.shared).collect() };
    assert_eq!(own(&repeated(&tool, "a.toml", "b.onnx", &[])), [300, 100, 0]);
    let (head, fc2) = text.split_once("name = \"fc2\"\n").unwrap();
    let changed = format!("{head}name = \"fc2\"\n{}", fc2.replacen("\"common\"", "\"own\"", 1));
    tool.write("changed.toml", changed.as_bytes());
    assert_eq!(own(&repeated(&tool, "changed.toml", "b.onnx", &[])), [300, 0, 0]);
    let few = changed.replace("name = \"fc1\"\n", "name = \"fc1\"\nshared = 7\n");
    tool.write("few.toml", few.as_bytes());
    let few = repeated(&tool, "few.toml", "b.onnx", &[]);
    assert_eq!((own(&few)[0], few.settings.share.as_str()), (7, "plan"));
    assert_eq!(few.settings.options["samples"], ["32"]);
    // Typed options override the plan. A typed share overrides the plan's layers, too.
    let typed = repeated(&tool, "changed.toml", "b.onnx", &["--share", "0", "--seed", "9"]);
    assert_eq!((own(&typed), typed.settings.seed), (vec![0, 0, 0], 9));
    let sized = repeated(&tool, "changed.toml", "b.onnx", &["--target-size", "60%"]);
    assert!(sized.search.len() > 1 && sized.compression.parameters_of_all <= 0.6);
    let named = repeated(&tool, "changed.toml", "b.onnx", &["--name", "x", "--name", "y"]);
    assert_eq!(named.tasks[1].name, "y");
    let other = fixture("models/lenet300_mnist_b.onnx");
    let args = ["merge", &a, &other, "--plan", "changed.toml", "-o", "c.onnx", "--json"];
    let report: Report = serde_json::from_slice(&tool.run(0, &args).stdout).unwrap();
    assert!(report.tasks[1].path.ends_with("mnist_b.onnx") && own(&report) == [300, 0, 0]);
}

#[test]
fn paths_of_a_plan_count_from_its_folder() {
    let tool = Tool::new();
    fs::create_dir_all(tool.path("plans/old")).unwrap();
    fs::copy(mnist(), tool.path("x.onnx")).unwrap();
    fs::copy(fashion(), tool.path("-y.onnx")).unwrap();
    let args = ["merge", "x.onnx", "./-y.onnx", "-o", "a.onnx", "--save-plan", "plans/old/p.toml"];
    let few =
        ["--share", "1", "--samples", "16", "--runtime", "tract", "--no-verify", "--no-compare"];
    tool.run(0, &[&args[..], &few].concat());
    let text = fs::read_to_string(tool.path("plans/old/p.toml")).unwrap();
    assert!(text.contains("path = \"../../x.onnx\""), "{text}");
    repeated(&tool, "plans/old/p.toml", "b.onnx", &[]);
    assert!(bytes(&tool, "a.onnx") == bytes(&tool, "b.onnx"));
}

#[test]
fn a_changed_input_is_said() {
    let tool = Tool::new();
    fs::copy(mnist(), tool.path("x.onnx")).unwrap();
    planned(&tool, ["x.onnx", &fashion()], &["--share", "1"]);
    fs::copy(fixture("models/lenet300_mnist_b.onnx"), tool.path("x.onnx")).unwrap();
    let error = tool.refused(&["merge", "--plan", "a.toml", "-o", "b.onnx"]);
    assert!(error.contains("x.onnx") && error.contains("--allow-changed"), "{error}");
    let output = tool.run(0, &["merge", "--plan", "a.toml", "-o", "b.onnx", "--allow-changed"]);
    let said = stderr(&output)
        .lines()
        .filter(|l| l.starts_with("WARNING") && l.contains("x.onnx"))
        .count();
    assert_eq!(said, 1, "{}", stderr(&output));
    fs::remove_file(tool.path("x.onnx")).unwrap();
    let error = tool.refused(&["merge", "--plan", "a.toml", "-o", "b.onnx", "--allow-changed"]);
    assert!(error.contains("x.onnx"), "{error}");
}

#[test]
fn a_plan_that_cannot_be_followed_is_refused_with_one_sentence() {
    let tool = Tool::new();
    let text = planned(&tool, [&mnist(), &fashion()], &["--share", "1"]);
    let with = |old: &str, new: &str| text.replacen(old, new, 1);
    let options = |line: &str| with("[options]\n", &format!("[options]\n{line}\n"));
    let cases = [
        (String::new(), "version"),
        ("\u{1}\u{2}".to_owned(), "line 1"),
        (with("version = 1", "version = 9"), "version is 9"),
        (with("weights = \"common\"", "weights = \"mine\""), "mine"),
        (with("name = \"fc1\"", "name = \"fc9\""), "fc9"),
        (with("name = \"fc1\"", "names = [\"fc1\", \"fc2\"]"), "fc1"),
        (with("name = \"fc1\"\n", "name = \"fc1\"\nshared = 400\n"), "400"),
        (with("name = \"fc1\"\n", "name = \"fc1\"\nshared = -1\n"), "-1"),
        (
            with("[[layer]]", "[[layer]]\nname = \"fc1\"\nweights = \"own\"\n\n[[layer]]"),
            "two tables for layer 'fc1'",
        ),
        (
            format!("{text}\n[[layer]]\nname = \"fc3\"\n"),
            "layer 'fc3' cannot have common weights: a model output",
        ),
        (options("ouput = \"x\""), "'ouput'"),
        (options("output = \"/etc/passwd\""), "'output'"),
        (options("no-recipe = \"perhaps\""), "true or false"),
        (options("damping = { a = 1 }"), "'damping'"),
        (options("round = 0"), "round"),
        (options("target-size = 0.5"), "--share"),
        (with("[[model]]", "[[models]]"), "models"),
        ("version = 1\n".to_owned(), "MODEL"),
    ];
    for (plan, part) in cases {
        tool.write("bad.toml", plan.as_bytes());
        let output = tool.run(2, &["merge", "--plan", "bad.toml", "-o", "b.onnx"]);
        let said = stderr(&output);
        assert_eq!(said.lines().filter(|l| l.starts_with("error: ")).count(), 1, "{part}: {said}");
        assert!(said.contains(part) && !tool.path("b.onnx").exists(), "{part}: {said}");
    }
    tool.write("bad.toml", &[0xff, 0xfe, 0]);
    for plan in ["bad.toml", "nowhere.toml", "."] {
        let error = tool.refused(&["merge", "--plan", plan, "-o", "b.onnx"]);
        assert!(error.contains("cannot read the plan"), "{error}");
    }
}

#[test]
fn a_dry_run_shows_the_layers_of_its_plan() {
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let text = planned(&tool, [&a, &b], &["--share", "1"]);
    let saved = |more: &[&str]| -> Vec<bool> {
        let args = [&["merge", "--plan", "a.toml", "--dry-run", "--json"], more].concat();
        let plan: Plan = serde_json::from_slice(&tool.run(0, &args).stdout).unwrap();
        plan.prediction.sites.iter().map(|site| site.saved > 0).collect()
    };
    assert_eq!(saved(&[]), [true, true, false]);
    let (head, fc2) = text.split_once("name = \"fc2\"\n").unwrap();
    let own = fc2.replacen("common", "own", 1);
    fs::write(tool.path("a.toml"), format!("{head}name = \"fc2\"\n{own}")).unwrap();
    assert_eq!(saved(&[]), [true, false, false]);
    assert_eq!(saved(&["--share", "1"]), [true, true, false]);
}

#[test]
fn a_wrong_value_in_a_plan_is_said_to_be_there() {
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let text = planned(&tool, [&a, &b], &["--share", "1"]);
    let wrong = text.replace("share = 1\n", "share = 7\n");
    assert_ne!(text, wrong);
    fs::write(tool.path("wrong.toml"), wrong).unwrap();
    let said = tool.refused(&["merge", "--plan", "wrong.toml", "-o", "b.onnx"]);
    assert!(said.contains("wrong.toml: ") && said.contains("a part lies between"), "{said}");
}
