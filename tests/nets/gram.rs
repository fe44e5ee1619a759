//! Laws of merges from stored statistics.

use std::path::Path;

use ndarray::ArrayD;
use onnx_zip::ir::Model;
use onnx_zip::mtz::options::{Biases, Passes, Unit};
use onnx_zip::{
    Arrays, CalibrateOptions, Joint, MergeOptions, Merger, ModelInput, Report, Silent, calibrate,
    onnx,
};

use crate::permute::permuted;
use crate::support::{deviation, images, model, outputs};

/// Rows of statistics that all samples have fewer of, so that none is left out.
const ROWS: usize = 1 << 22;

/// Two nets, each with its samples.
struct Pair([(ModelInput, Arrays); 2]);

impl Pair {
    fn new(a: &Model, b: &Model) -> Pair {
        let samples = |net: &Model, data: &str| {
            // Enough for sums to take less memory than rows.
            let has_positions = net.graph.nodes().any(|(_, node)| node.is("Conv"));
            let count = if has_positions { 120 } else { 500 };
            let batch = images(net, data, count).batch(0..count).unwrap();
            (onnx::encode(net).unwrap().into(), Arrays::named(batch))
        };
        Pair([samples(a, "mnist_train"), samples(b, "fashion_train")])
    }

    fn zoo(kind: &str) -> Pair {
        Pair::new(&model(&format!("{kind}_mnist")), &model(&format!("{kind}_fashion")))
    }

    fn merger(&self, options: MergeOptions) -> Merger {
        let nets = self.0.iter().zip(["a", "b"]);
        nets.fold(Merger::new(options), |merger, ((net, _), name)| {
            merger.named_model(name, net.clone())
        })
    }

    fn merged_from_samples(&self, mut options: MergeOptions) -> Joint {
        options.method.passes = Passes::One;
        let merger = self.merger(options);
        let merger = self.0.iter().fold(merger, |merger, (_, data)| merger.data(data.clone()));
        merger.merge(&Silent).unwrap()
    }

    fn merged_from_files(&self, mut options: MergeOptions) -> Joint {
        let folder = tempfile::tempdir().unwrap();
        for (at, (net, data)) in self.0.iter().enumerate() {
            let file = folder.path().join(format!("{at}.gram"));
            store(net, data.clone(), &file);
            options.calibration.gram.push(file);
        }
        self.merger(options).merge(&Silent).unwrap()
    }
}

fn store(net: &ModelInput, data: Arrays, file: &Path) {
    let mut options = CalibrateOptions::default();
    options.statistics.max_rows = ROWS;
    calibrate(net, &[data.into()], &options, file, &Silent).unwrap();
}

fn options(share: Option<f64>, unit: Unit) -> MergeOptions {
    let mut options = MergeOptions::default();
    options.sharing.share = share;
    options.sharing.unit = Some(unit);
    options.sharing.biases = Some(Biases::PerTask);
    options.tuning.statistics.max_rows = ROWS;
    options.result.no_compare = true;
    options
}

fn run(joint: &Joint) -> Vec<ArrayD<f32>> {
    outputs(&onnx::load(joint.path()).unwrap(), &[])
}

fn report(joint: &Joint) -> &Report {
    &joint.outcome().unwrap().report
}

/// Statistics in files are those that one pass over the samples takes: all inputs, those of single
/// channels, and how errors move the outputs.
#[test]
fn files_merge_as_one_pass_over_their_samples_does() {
    for (kind, unit) in [
        ("lenet300", Unit::Neuron),
        ("zoo/resnet", Unit::Layer),
        ("zoo/mobilenet", Unit::Layer),
        ("zoo/mobilenet", Unit::Neuron),
        ("zoo/gru", Unit::Layer),
    ] {
        let pair = match kind {
            "lenet300" => Pair::new(&model("lenet300_mnist_a"), &model("lenet300_fashion")),
            kind => Pair::zoo(kind),
        };
        let wanted = pair.merged_from_samples(options(Some(1.0), unit));
        let found = pair.merged_from_files(options(Some(1.0), unit));
        let (a, b) = (report(&wanted), report(&found));
        assert_eq!(a.joint.parameters, b.joint.parameters);
        assert!(!b.synthetic_data && b.tasks.iter().all(|task| task.without_sensitivity.is_none()));
        for (found, wanted) in run(&found).iter().zip(&run(&wanted)) {
            let off = deviation(found, wanted);
            assert!(off < 1e-3, "{kind} {unit:?} differs by {off}");
        }
    }
}

#[test]
fn a_permuted_copy_is_recognised_from_files_and_nothing_is_lost() {
    for name in ["lenet300_fashion", "zoo/resnet_mnist", "zoo/mobilenet_mnist"] {
        let a = model(name);
        let original = outputs(&a, &[]).remove(0);
        let joint = Pair::new(&a, &permuted(&a, 7)).merged_from_files(options(None, Unit::Layer));
        let report = report(&joint);
        assert!(report.compression.parameters_of_all < 0.55, "{name}");
        for joined in run(&joint) {
            let lost = deviation(&joined, &original);
            assert!(lost < 1e-4, "{name} lost {lost}");
        }
    }
}

/// Without samples, what layers lose is predicted; the choice of layers is about as good.
#[test]
fn a_size_is_reached_with_predicted_losses() {
    let pair = Pair::zoo("zoo/resnet");
    let mut sized = options(None, Unit::Layer);
    sized.goal.target_size = Some(0.7);
    let joint = pair.merged_from_files(sized);
    let report = report(&joint);
    assert!((0.55..=0.7).contains(&report.compression.parameters_of_all));
    assert!(report.search.iter().any(|trial| trial.kept && trial.deviation.is_none()));
    let originals =
        ["zoo/resnet_mnist", "zoo/resnet_fashion"].map(|name| outputs(&model(name), &[]).remove(0));
    let full = pair.merged_from_files(options(Some(1.0), Unit::Layer));
    let lost = |joint: &Joint| -> f32 {
        run(joint).iter().zip(&originals).map(|(found, wanted)| deviation(found, wanted)).sum()
    };
    assert!(lost(&joint) < 0.8 * lost(&full), "{} {}", lost(&joint), lost(&full));
}
