//! Laws that every merge obeys.

use ndarray::ArrayD;

use onnx_zip::canon::BatchNorm;
use onnx_zip::emit::{self, EmitOptions, FORMS, Form};
use onnx_zip::ir::Model;
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions, Method, Passes};
use onnx_zip::onnx;
use onnx_zip::zipper::{Input, Outcome, Part, PrepareOptions};

use crate::permute::{permuted, permuted_with};
use crate::support::{self, deviation, images, joint_outputs, model, outputs};

fn merge(a: Model, b: Model, options: &MergeOptions) -> (JointModel, Outcome) {
    let data = images(&a, "mnist_train", 600);
    support::merge([(a, data.clone()), (b, data)], options)
}

fn options(method: Method, share: f64) -> MergeOptions {
    MergeOptions {
        method,
        budget: Budget::uniform(Share::Fraction(share)),
        ..MergeOptions::default()
    }
}

#[test]
fn sharing_nothing_leaves_the_nets_as_they_are() {
    for method in [Method::Mtz, Method::Refit] {
        let (a, b) = (model("lenet5_mnist_a"), model("lenet5_mnist_b"));
        let (joint, outcome) = merge(a.clone(), b.clone(), &options(method, 0.0));
        assert_eq!(outcome.sizes.shared, 0);
        for (_, form, _) in FORMS {
            let joined = joint_outputs(&joint, *form);
            for (net, joined) in [&a, &b].into_iter().zip(joined) {
                assert!(deviation(&joined, &outputs(net, &[])[0]) < 1e-6, "{method:?} {form:?}");
            }
        }
    }
}

#[test]
fn a_permuted_copy_is_recognised_and_nothing_is_lost() {
    for (name, method) in [
        ("lenet5_mnist_a", Method::Mtz),
        ("lenet5_mnist_a", Method::Refit),
        ("lenet300_fashion", Method::Refit),
        ("zoo/vggbn_mnist_unfolded", Method::Refit),
        ("zoo/resnet_mnist", Method::Refit),
        ("zoo/mobilenet_mnist", Method::Refit),
    ] {
        let a = model(name);
        let b = permuted(&a, 7);
        let original = outputs(&a, &[]).remove(0);
        assert!(deviation(&outputs(&b, &[])[0], &original) < 1e-5, "the copy computes the same");
        let (joint, outcome) = merge(a, b, &options(method, 1.0));
        let sizes = &outcome.sizes;
        assert_eq!(sizes.joint() - sizes.specific[1], sizes.originals[0]);
        for joined in joint_outputs(&joint, Form::Heads) {
            let lost = deviation(&joined, &original);
            assert!(lost < 1e-4, "{name} {method:?} lost {lost}");
        }
    }
}

#[test]
fn every_task_may_keep_its_own_batch_norm() {
    let a = model("zoo/vggbn_mnist_unfolded");
    let b = permuted_with(&a, 7, BatchNorm::PerTask);
    let original = outputs(&a, &[]).remove(0);
    let data = images(&a, "mnist_train", 300);
    let merged = |method: Method, share: f64| {
        let net = |name: &str, model: &Model| {
            Part::Net(Box::new(Input { name: name.to_owned(), model: model.clone() }))
        };
        let (data, options) = (vec![data.clone(), data.clone()], options(method, share));
        let kept = PrepareOptions { batchnorm: BatchNorm::PerTask, ..PrepareOptions::default() };
        support::merge_with(vec![net("a", &a), net("b", &b)], data, &options, kept).0
    };
    let (full, half) = (merged(Method::Refit, 1.0), merged(Method::Mtz, 0.5));
    assert!(full.tasks()[0].model().graph.nodes().any(|(_, n)| n.is("BatchNormalization")));
    for (_, form, _) in FORMS {
        for joined in joint_outputs(&full, *form) {
            let lost = deviation(&joined, &original);
            assert!(lost < 1e-4, "{form:?} lost {lost}");
        }
        let alone = half.tasks().iter().map(|t| outputs(t.model(), &[]).remove(0));
        for (joined, alone) in joint_outputs(&half, *form).iter().zip(alone) {
            assert!(deviation(joined, &alone) < 1e-5, "{form:?}");
        }
    }
}

#[test]
fn all_forms_of_a_partial_merge_agree_with_its_task_nets() {
    let (a, b) = (model("lenet5_mnist_a"), model("lenet5_mnist_b"));
    let (joint, _) = merge(a, b, &options(Method::Refit, 0.5));
    let alone: Vec<ArrayD<f32>> =
        joint.tasks().iter().map(|t| outputs(t.model(), &[]).remove(0)).collect();
    for (name, form, _) in FORMS {
        for (joined, alone) in joint_outputs(&joint, *form).iter().zip(&alone) {
            assert!(deviation(joined, alone) < 1e-5, "{name}");
        }
    }
}

#[test]
fn more_sharing_never_adds_parameters_and_files_have_the_predicted_size() {
    let mut last = u64::MAX;
    for share in [0.0, 0.3, 0.7, 1.0] {
        let (a, b) = (model("lenet300_mnist_a"), model("lenet300_mnist_b"));
        let (joint, outcome) = merge(a, b, &options(Method::Mtz, share));
        assert!(outcome.sizes.joint() <= last);
        last = outcome.sizes.joint();
        let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
        let bytes = onnx::encode(&written).unwrap().len() as f64;
        let predicted = (outcome.sizes.joint() * 4) as f64;
        assert!((bytes / predicted - 1.0).abs() < 0.02, "{bytes} bytes for {predicted}");
    }
}

#[test]
fn widths_may_differ() {
    let (a, b) = (model("lenet5_mnist_a"), model("zoo/lenet5_small_fashion"));
    let (joint, outcome) = merge(a, b, &options(Method::Refit, 1.0));
    assert!(outcome.sizes.shared > 0);
    let alone: Vec<ArrayD<f32>> =
        joint.tasks().iter().map(|t| outputs(t.model(), &[]).remove(0)).collect();
    for (joined, alone) in joint_outputs(&joint, Form::Heads).iter().zip(&alone) {
        assert!(deviation(joined, alone) < 1e-5);
    }
}

#[test]
fn the_same_bytes_come_out_on_any_number_of_threads() {
    let written = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (a, b) = (model("lenet300_mnist_a"), model("lenet300_fashion"));
            let (joint, _) = merge(a, b, &options(Method::Refit, 0.6));
            onnx::encode(&emit::emit(&joint, &EmitOptions::default()).unwrap()).unwrap()
        })
    };
    assert!(written(1) == written(2));
}

#[test]
fn one_pass_takes_all_statistics_from_the_original_nets() {
    let (a, b) = (model("lenet300_mnist_a"), model("lenet300_mnist_b"));
    let options = MergeOptions { passes: Passes::One, ..options(Method::Mtz, 1.0) };
    let (joint, outcome) = merge(a.clone(), b, &options);
    assert_eq!(outcome.sites[1].shared, 100);
    let lost = deviation(&joint_outputs(&joint, Form::Heads)[0], &outputs(&a, &[])[0]);
    assert!(lost > 1e-3 && lost < 1.0, "two nets are not one: {lost}");
}

#[test]
fn layers_whose_statistics_do_not_fit_stay_as_they_are() {
    let (a, b) = (model("lenet5_mnist_a"), model("lenet5_mnist_b"));
    let options = MergeOptions { memory: 3 << 20, ..options(Method::Refit, 1.0) };
    let (joint, outcome) = merge(a, b, &options);
    let shared: Vec<usize> = outcome.sites.iter().map(|s| s.shared).collect();
    assert_eq!(shared, [20, 50, 0, 0]);
    assert!(outcome.sites[2].reason.as_ref().unwrap().contains("MiB are allowed"));
    let alone = joint.tasks().iter().map(|t| outputs(t.model(), &[]).remove(0));
    for (joined, alone) in joint_outputs(&joint, Form::Heads).iter().zip(alone) {
        assert!(deviation(joined, &alone) < 1e-5);
    }
}
