//! The usual uses of `retrain`.

use std::fs;
use std::path::Path;

use onnx_zip::ir::Tensor;
use onnx_zip::onnx;
use onnx_zip::report::{Report, RetrainReport};
use onnx_zip::retrain::{Ending, LossKind};

use crate::tool::{Tool, fashion, fashion_images, fixture, images, mnist, stderr, stdout};

const FEW: [&str; 6] = ["--samples", "600", "--batch", "50", "--scale", "1/255"];

impl Tool {
    /// Retrains `joint.onnx` for a few steps towards its original models.
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
    // A merge without refits leaves large errors to train away.
    let mtz = ["--method", "mtz", "--data", &images(), "--scale", "1/255"];
    tool.merge(&[&["--form", "switch"][..], &mtz].concat());
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
    // Plans are compressed, so sizes differ by a few bytes with the hashes in them.
    assert!(size("joint.onnx").abs_diff(size("joint2.onnx")) < 64);
}

#[test]
fn a_merge_retrains_at_its_end_or_after_each_layer() {
    let data = images();
    let merge = |when: &str| {
        let tool = Tool::new();
        let few = ["--data", &data, "--scale", "1/255", "--samples", "300", "--batch", "50"];
        let rounds = [
            "--retrain",
            when,
            "--iterations",
            "10",
            "--original-iterations",
            "1000",
            "--share",
            "1",
        ];
        let output = tool.merge(&[&few[..], &rounds, &["--report", "r.json"]].concat());
        let report = fs::read(tool.path("r.json")).unwrap();
        (serde_json::from_slice::<Report>(&report).unwrap(), stdout(&output))
    };
    for (name, rounds) in [("end", &[10][..]), ("per-layer", &[5, 5])] {
        let (report, text) = merge(name);
        let retrained = report.retraining.unwrap();
        let taken: Vec<usize> = retrained.rounds.iter().map(|r| r.outcome.iterations).collect();
        assert_eq!((taken.as_slice(), retrained.ratio()), (rounds, Some(100.0)));
        assert!(text.contains("100.0 times fewer iterations than the 1,000"), "{text}");
        for round in &retrained.rounds {
            let (before, after): (Vec<f64>, Vec<f64>) =
                round.outcome.tasks.iter().map(|task| (task.before.loss, task.after.loss)).unzip();
            let sum = |losses: &[f64]| losses.iter().sum::<f64>();
            assert!(sum(&after) <= sum(&before), "{name}: {round:?}");
        }
        // The digits that were not drawn have labels, which the net of clothes cannot know.
        let [digits, clothes] = retrained.originals[..] else { panic!("{retrained:?}") };
        assert!(digits < 0.05 && clothes > 0.5, "{digits}, {clothes}");
        let merged: Vec<&[String]> =
            report.layers[..2].iter().map(|layer| layer.layers.as_slice()).collect();
        let behind: Vec<&[String]> =
            retrained.rounds.iter().map(|round| round.layers.as_slice()).collect();
        assert_eq!(behind, merged[2 - rounds.len()..], "{name}");
        for round in &retrained.rounds {
            let [digits, _] = round.errors[..] else { panic!("{round:?}") };
            assert!(digits.before < 0.2 && digits.after < 0.2 && digits.before > 0.0, "{round:?}");
            let shown = format!("{:.2} %", 100.0 * digits.after);
            assert!(text.contains("labelled samples that were not drawn"), "{text}");
            assert!(
                text.lines().any(|line| line.contains(&round.layers[0]) && line.contains(&shown)),
                "{text}"
            );
        }
        assert!(report.verification.unwrap().passed());
        assert_eq!(report.layers.iter().map(|l| l.shared).collect::<Vec<_>>(), [300, 100, 0]);
    }
}

#[test]
fn statistics_are_taken_anew_without_training() {
    let tool = Tool::new();
    let a = fixture("models/zoo/vggbn_mnist_unfolded.onnx");
    let mut other = onnx::load(Path::new(&a)).unwrap();
    let first = other.graph.value_named("features.0.0.weight").unwrap();
    let weight = other.graph.initializer(first).unwrap().to_f32().unwrap();
    other.graph.set_initializer(first, Tensor::from_f32(&(-weight)));
    let b = tool.write("b.onnx", &onnx::encode(&other).unwrap());
    let (digits, clothes) = (images(), fashion_images());
    let data = ["--data", &digits, "--data", &clothes, "--scale", "1/255"];
    let nets = [&["merge", &a, b], &data[..]].concat();
    let few = ["--samples", "200", "--reset-bn", "-o", "joint.onnx", "--report", "r.json"];
    tool.run(0, &[&nets[..], &few, &["--batchnorm", "per-task"]].concat());
    let report = fs::read(tool.path("r.json")).unwrap();
    let report: Report = serde_json::from_slice(&report).unwrap();
    let rounds = report.retraining.unwrap().rounds;
    assert_eq!(
        rounds.iter().map(|r| (r.outcome.iterations, r.outcome.normalisations)).collect::<Vec<_>>(),
        [(0, 10)]
    );
    let reset = ["-o", "joint2.onnx", "--reset-bn", "--iterations", "0", "--samples", "100"];
    let again = |joint: &'static str| [&["retrain", joint], &reset[..], &data].concat();
    let text = stdout(&tool.run(0, &again("joint.onnx")));
    assert!(text.contains("statistics of 10 normalisations taken anew"), "{text}");
    tool.run(0, &[&nets[..], &["-o", "folded.onnx", "--samples", "50"]].concat());
    assert!(tool.refused(&again("folded.onnx")).contains("--batchnorm per-task"));
    let (a, b) = (mnist(), fashion());
    let plain = ["merge", &a, &b, "-o", "x.onnx", "--reset-bn", "--batchnorm", "per-task"];
    let error = tool.refused(&[&plain[..], &data].concat());
    assert!(error.contains("the models themselves have no BatchNormalization"), "{error}");
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
