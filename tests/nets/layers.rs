//! Laws of merges with whole layers as the unit of sharing.

use std::collections::BTreeSet;
use std::sync::Mutex;

use onnx_zip::canon::BatchNorm;
use onnx_zip::emit::{self, EmitOptions, restore};
use onnx_zip::ir::Model;
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Biases, Budget, MergeOptions, Unit};
use onnx_zip::mtz::plan::{predict, sizes};
use onnx_zip::onnx;
use onnx_zip::progress::{Progress, Silent};
use onnx_zip::report::Trial;
use onnx_zip::zipper::{self, Goal, Input, Job, Outcome, Prepared, merge_for};

use crate::permute::permuted;
use crate::support::{
    FEW_ROWS, calibration, canonical, check_forms, check_size, deviation, images, joint_outputs,
    model, outputs,
};

fn prepared(a: Model, b: Model) -> Prepared {
    let inputs = [("a", a), ("b", b)];
    let inputs = inputs.map(|(name, model)| Input { name: name.to_owned(), model });
    zipper::prepare(inputs.into()).unwrap()
}

fn options(biases: Biases) -> MergeOptions {
    let mut budget = Budget::uniform(Share::Fraction(1.0));
    budget.set_biases(biases);
    MergeOptions { budget, max_rows: FEW_ROWS, ..MergeOptions::default() }
}

fn merged_for(
    goal: Goal,
    prepared: &Prepared,
    options: &MergeOptions,
) -> (JointModel, Outcome, Vec<Trial>) {
    let data = images(prepared.joint.tasks()[0].model(), "mnist_train", 600);
    merge_for(goal, prepared, &[], &Job::new(&calibration(&data), options, &Silent)).unwrap()
}

/// Indices of the sites with a layer whose name contains any of `names`.
fn places(prepared: &Prepared, names: &[&str]) -> BTreeSet<usize> {
    let name = |own| prepared.joint.layer(own).name.clone();
    let sites = prepared.alignment.sites.iter().enumerate();
    let wanted = sites
        .filter(|(_, site)| site.members().any(|own| names.iter().any(|n| name(own).contains(n))));
    wanted.map(|(place, _)| place).collect()
}

#[test]
fn a_permuted_copy_keeps_no_layer_of_its_own() {
    for name in ["lenet5_mnist_a", "zoo/resnet_mnist", "zoo/mobilenet_mnist"] {
        let a = model(name);
        let original = outputs(&a, &[]).remove(0);
        let prepared = prepared(a.clone(), permuted(&a, 7));
        let (joint, outcome, trials) = merged_for(Goal::Knee, &prepared, &options(Biases::PerTask));
        assert!(outcome.sites.iter().all(|site| !site.keeps_weights()), "{name}");
        assert_eq!(trials.len(), 1, "{name}");
        let (size, all) = (outcome.sizes.joint(), outcome.sizes.separate());
        let heads = outcome.sizes.specific.iter().sum::<u64>();
        assert!(size - heads == (all - heads) / 2, "{name}: {:?}", outcome.sizes);
        for joined in joint_outputs(&joint, emit::Form::Heads) {
            assert!(deviation(&joined, &original) < 1e-4, "{name}");
        }
    }
}

#[test]
fn layers_with_weights_of_their_own_are_one_node_for_each_task() {
    for (net, own) in [
        ("resnet", &["features.0/", "2/first", "3/shortcut"][..]),
        ("mobilenet", &["features.0/", "features.2.0", "features.3.0", "features.4.2"]),
    ] {
        let [a, b] = ["mnist", "fashion"].map(|task| model(&format!("zoo/{net}_{task}")));
        let convolutions = |m: &Model| m.graph.nodes().filter(|(_, n)| n.is("Conv")).count();
        let separate = convolutions(&canonical(&a, BatchNorm::Fold)) * 2;
        let mut prepared = prepared(a.clone(), b);
        let all = sizes(&prepared.joint).unwrap().separate();
        prepared.alignment.keep_weights(&places(&prepared, own));
        let data = images(&a, "mnist_train", 600);
        let options = options(Biases::PerTask);
        let planned =
            predict(&prepared.joint, &prepared.alignment, &options.budget, false).unwrap();
        let (joint, outcome) =
            zipper::merge(prepared, &calibration(&data), &options, &Silent).unwrap();
        assert_eq!(outcome.sites.iter().filter(|s| s.keeps_weights()).count(), own.len(), "{net}");
        assert_eq!(planned.sizes, outcome.sizes, "{net}");
        assert!(outcome.sizes.joint() < all, "{net}");
        check_forms(&joint);
        check_size(&joint);
        let heads = emit::emit(&joint, &EmitOptions::default()).unwrap();
        assert!(convolutions(&heads) <= separate, "{net}: {}", convolutions(&heads));
        assert!(!heads.graph.nodes().any(|(_, n)| n.is("Concat") || n.is("Gather")), "{net}");
        let read = onnx::decode(onnx::encode(&heads).unwrap().into(), None, net).unwrap();
        let back = restore(&read).unwrap();
        assert_eq!(sizes(&back).unwrap(), outcome.sizes, "{net}");
    }
}

#[test]
fn biases_of_the_tasks_take_one_number_for_each_neuron_and_lose_less() {
    let [a, b] = ["mnist", "fashion"].map(|task| model(&format!("zoo/resnet_{task}")));
    let data = images(&a, "mnist_train", 600);
    let distance = |biases: Biases| {
        let (nets, options) = (prepared(a.clone(), b.clone()), options(biases));
        let (joint, outcome) = zipper::merge(nets, &calibration(&data), &options, &Silent).unwrap();
        check_forms(&joint);
        let joined = outputs(joint.tasks()[0].model(), &[]).remove(0);
        let original = outputs(&a, &[]).remove(0);
        let squares: f32 = joined.iter().zip(&original).map(|(x, y)| (x - y).powi(2)).sum();
        let rows: usize = outcome.sites.iter().map(|site| site.shared).sum();
        (squares, outcome.sizes.joint(), rows as u64)
    };
    let (shared, small, _) = distance(Biases::Shared);
    let (per_task, large, rows) = distance(Biases::PerTask);
    assert_eq!(large - small, rows);
    assert!(per_task < shared, "{per_task} {shared}");
}

#[test]
fn sizes_are_kept_and_of_what_fits_the_closest_is_taken() {
    let [a, b] = ["mnist", "fashion"].map(|task| model(&format!("zoo/mobilenet_{task}")));
    let prepared = prepared(a, b);
    for unit in [Unit::Layer, Unit::Neuron, Unit::Mixed] {
        let options = MergeOptions { unit, ..options(Biases::PerTask) };
        let (joint, outcome, trials) = merged_for(Goal::Size(0.62), &prepared, &options);
        let size = outcome.sizes.joint() as f64 / outcome.sizes.separate() as f64;
        assert!((0.56..=0.62).contains(&size), "{unit:?}: {size}");
        check_forms(&joint);
        let kept = trials.iter().find(|trial| trial.kept).unwrap();
        assert!((kept.size - size).abs() < 1e-9, "{unit:?}");
        let others = trials.iter().filter(|trial| trial.size <= 0.62);
        assert!(others.map(|t| t.deviation).all(|other| other >= kept.deviation), "{unit:?}");
    }
}

/// Records stages.
#[derive(Default)]
struct Stages(Mutex<Vec<String>>);

impl Progress for Stages {
    fn begin(&self, stage: &str, _: u64) {
        self.0.lock().unwrap().push(stage.to_owned());
    }

    fn step(&self) {}

    fn note(&self, _: &str) {}

    fn stopped(&self) -> bool {
        false
    }
}

#[test]
fn sensitivities_are_measured_only_where_something_may_be_shared() {
    let [a, b] = ["mnist_a", "fashion"].map(|task| model(&format!("lenet300_{task}")));
    let data = images(&a, "mnist_train", 60);
    for (share, wanted) in [(0.0, false), (0.1, true)] {
        let budget = Budget::uniform(Share::Fraction(share));
        let options = MergeOptions { budget, ..MergeOptions::default() };
        let (nets, stages) = (prepared(a.clone(), b.clone()), Stages::default());
        zipper::merge(nets, &calibration(&data), &options, &stages).unwrap();
        let stages = stages.0.into_inner().unwrap();
        assert_eq!(stages.iter().any(|stage| stage == "sensitivities"), wanted, "{stages:?}");
    }
}
