//! The curve of size against loss.

use std::fs;

use onnx_zip::report::{Frontier, Report};

use crate::tool::{Tool, fashion, fashion_images, files, fixture, images, mnist, stdout};

fn curve<'a>(a: &'a str, b: &'a str, data: [&'a str; 2], more: &[&'a str]) -> Vec<&'a str> {
    let args = ["frontier", a, b, "--data", data[0], "--data", data[1], "--scale", "1/255"];
    let few = ["--samples", "200", "--runtime", "tract"];
    [&args[..], &few, more].concat()
}

#[test]
fn a_curve_falls_from_all_that_is_shared_and_its_points_are_plans() {
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let (x, y) = (images(), fashion_images());
    let reports =
        ["--report", "c.html", "--report", "c.json", "--report", "c.csv", "--report", "c.md"];
    let more = [&["--keep", "kept", "--plans", "plans"], &reports[..], &["--latency"]].concat();
    let output = tool.run(0, &curve(&a, &b, [&x, &y], &more));
    let json = fs::read_to_string(tool.path("c.json")).unwrap();
    let found: Frontier = serde_json::from_str(&json).unwrap();
    // Two layers can be shared: both, either, or none.
    assert!((2..=4).contains(&found.points.len()), "{}", stdout(&output));
    assert!(found.points.is_sorted_by(|p, q| p.size < q.size));
    assert_eq!(found.points.iter().filter(|p| p.knee).count(), 1);
    assert!(
        found.points[0].own.is_empty() && found.points[0].loss >= found.points.last().unwrap().loss
    );
    assert!(found.tasks.iter().all(|t| t.original.error.is_some() && t.samples == 1000));
    assert!(found.points.iter().all(|p| p.latency.is_some_and(|(a, b)| a > 0.0 && b > 0.0)));
    let text = stdout(&output);
    assert!(text.contains("◀ knee") && text.contains("originals"), "{text}");
    assert_eq!(
        fs::read_to_string(tool.path("c.csv")).unwrap().lines().count(),
        found.points.len() + 1
    );
    let page = fs::read_to_string(tool.path("c.html")).unwrap();
    let card = fs::read_to_string(tool.path("c.md")).unwrap();
    assert!(
        card.contains("| latency | layers with weights of their own | |")
            && card.contains("| 1.00 |  | originals |"),
        "{card}"
    );
    for view in [&text, &card, &page] {
        assert!(view.contains(" samples per task"), "{view}");
    }
    assert!(page.matches("<circle").count() > 2 * found.points.len() && !page.contains("<script"));
    assert_eq!(files(&tool.path("kept")).len(), 2 * found.points.len());
    assert_eq!(files(&tool.path("plans")).len(), found.points.len());
    for point in &found.points {
        let name = format!("joint-{:.2}.toml", 100.0 * point.size);
        let plan = format!("plans/{name}");
        let args =
            ["merge", "--plan", &plan, "-o", "again.onnx", "--json", "--no-verify", "--no-compare"];
        let report: Report = serde_json::from_slice(&tool.run(0, &args).stdout).unwrap();
        assert!((report.compression.parameters_of_all - point.size).abs() < 1e-9);
        let kept =
            fs::read(tool.path(&format!("kept/{}", name.replace(".toml", ".onnx")))).unwrap();
        assert!(kept == fs::read(tool.path("again.onnx")).unwrap(), "{name}");
    }
}

#[test]
fn without_labels_outputs_are_compared_and_neurons_can_be_the_unit() {
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let args = ["frontier", &a, &b, "--runtime", "tract", "--samples", "64", "--points", "4"];
    let output = tool.run(0, &[&args[..], &["--unit", "neuron", "--json"]].concat());
    let found: Frontier = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found.points.len(), 4);
    assert!(found.points.is_sorted_by(|p, q| p.size < q.size));
    let all = || found.points.iter().flat_map(|p| &p.tasks);
    assert!(all().all(|t| t.error.is_none() && t.agreement.is_some()));
    assert!(
        found.points[0].plan.contains("seed = 0") && found.points[1].plan.contains("shared = ")
    );
}

/// Shards, retraining and forms are those of a merge, and points are what a merge makes.
#[test]
fn points_have_the_options_of_a_merge() {
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let (x, y) = (images(), fashion_images());
    let more = ["--points=2", "--keep=kept", "--json", "--shards=2", "--retrain=end"];
    let form = ["--iterations=20", "--form=masked", "--max-rows=100"];
    let said = tool.run(0, &curve(&a, &b, [&x, &y], &[&more[..], &form].concat()));
    let found: Frontier = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(found.points.len(), 2);
    let plans = files(&tool.path("kept")).into_iter().map(|(name, _)| name);
    for plan in plans.filter(|name| name.ends_with(".toml")) {
        let text = fs::read_to_string(tool.path(&format!("kept/{plan}"))).unwrap();
        assert!(text.contains("shards = 2") && text.contains("form = \"masked\""), "{text}");
        let path = format!("kept/{plan}");
        let args = ["merge", "--plan", &path, "-o", "again.onnx", "--no-verify", "--no-compare"];
        tool.run(0, &args);
        let kept = fs::read(tool.path(&path.replace(".toml", ".onnx"))).unwrap();
        assert!(kept == fs::read(tool.path("again.onnx")).unwrap(), "{plan}");
    }
}

#[test]
fn points_of_both_units_are_as_many_as_asked_for() {
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let args = ["frontier", &a, &b, "--runtime", "tract", "--samples", "64", "--points", "4"];
    let more = ["--unit", "mixed", "--keep", "kept", "--plans", "plans", "--json"];
    let output = tool.run(0, &[&args[..], &more].concat());
    let found: Frontier = serde_json::from_slice(&output.stdout).unwrap();
    assert!((2..=4).contains(&found.points.len()), "{}", found.points.len());
    assert!(found.points.iter().any(|p| p.plan.contains("shared = ")));
    assert_eq!(files(&tool.path("kept")).len(), 2 * found.points.len());
    assert_eq!(files(&tool.path("plans")).len(), found.points.len());
}

#[test]
fn points_may_have_differences_in_few_bits() {
    let tool = Tool::new();
    let nets =
        ["mnist", "fashion"].map(|task| fixture(&format!("models/finetunes/resnet_{task}.onnx")));
    let (x, y) = (images(), fashion_images());
    let data = ["--data", &x, "--data", &y, "--scale", "1/255", "--samples", "60"];
    let more = ["--delta", "int8", "--points", "2", "--plans", "plans", "--keep", "kept", "--json"];
    let output = tool.run(0, &[&["frontier", &nets[0], &nets[1]], &data[..], &more].concat());
    let found: Frontier = serde_json::from_slice(&output.stdout).unwrap();
    let [full, knee] = found.points.as_slice() else { panic!("{}", stdout(&output)) };
    assert!(!full.plan.contains("bits = ") && knee.plan.contains("bits = "), "{}", knee.plan);
    assert!(full.size < knee.size && full.loss >= knee.loss);
    let name = format!("joint-{:.2}", 100.0 * knee.size);
    let plan = format!("plans/{name}.toml");
    let args = ["merge", "--plan", &plan, "-o", "again.onnx", "--no-verify", "--no-compare"];
    tool.run(0, &args);
    let kept = fs::read(tool.path(&format!("kept/{name}.onnx"))).unwrap();
    assert!(kept == fs::read(tool.path("again.onnx")).unwrap());
}

#[test]
fn what_fixes_the_size_is_refused() {
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let error = tool.refused(&["frontier", &a, &b, "--share", "1"]);
    assert!(error.contains("--share"), "{error}");
    let error = tool.refused(&["frontier", &a, &b, "--report", "nowhere/c.html"]);
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn points_are_measured_on_as_many_samples_as_are_asked_for() {
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let (x, y) = (images(), fashion_images());
    let measured = |more: &[&str]| -> Vec<usize> {
        let args = curve(&a, &b, [&x, &y], &[&["--points", "1", "--json"], more].concat());
        let found: Frontier = serde_json::from_slice(&tool.run(0, &args).stdout).unwrap();
        found.tasks.iter().map(|task| task.samples).collect()
    };
    assert_eq!(measured(&[]), [1000, 1000]);
    assert_eq!(measured(&["--measure", "300"]), [300, 300]);
}
