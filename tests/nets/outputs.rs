//! Laws of merges that also share neurons of output layers.

use onnx_zip::align::TaskId;
use onnx_zip::calib::data::Dataset;
use onnx_zip::couple::End;
use onnx_zip::emit::{self, EmitOptions, FORMS};
use onnx_zip::ir::Model;
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions, Method};
use onnx_zip::onnx;
use onnx_zip::zipper::{Input, Outcome, Part, PrepareOptions};

use crate::permute::permuted;
use crate::support::{
    check_forms, check_size, deviation, images, joint_outputs, merge_with, model, outputs,
};

fn merge(
    parts: Vec<Part>,
    method: Method,
    share: f64,
    share_outputs: bool,
) -> (JointModel, Outcome) {
    let tasks = parts.iter().map(|part| match part {
        Part::Net(_) => 1,
        Part::Joint(joint) => joint.tasks().len(),
    });
    let data: Vec<Dataset> =
        vec![images(&model("lenet5_mnist_a"), "mnist_train", 600); tasks.sum()];
    let budget = Budget::uniform(Share::Fraction(share));
    let options = MergeOptions { method, budget, ..MergeOptions::default() };
    merge_with(parts, data, &options, PrepareOptions { share_outputs, ..PrepareOptions::default() })
}

fn net(name: &str, model: &Model) -> Part {
    Part::Net(Box::new(Input { name: name.to_owned(), model: model.clone() }))
}

/// Number of shared neurons in a task's output layers.
fn shared_outputs(joint: &JointModel, task: usize) -> usize {
    let coupling = joint.tasks()[task].coupling();
    let groups = coupling.groups().filter(|(_, group)| group.end() == Some(End::Output));
    groups.map(|(id, _)| joint.sharing(TaskId(task))[id.0].iter().flatten().count()).sum()
}

fn check(joint: &JointModel) {
    check_forms(joint);
    check_size(joint);
}

#[test]
fn a_permuted_copy_is_the_same_net() {
    for (name, method) in [
        ("lenet5_mnist_a", Method::Mtz),
        ("lenet5_mnist_a", Method::Refit),
        ("zoo/resnet_mnist", Method::Refit),
    ] {
        let a = model(name);
        let original = outputs(&a, &[]).remove(0);
        let parts = vec![net("a", &a), net("b", &permuted(&a, 7))];
        let (joint, outcome) = merge(parts, method, 1.0, true);
        assert_eq!(outcome.sizes.joint(), outcome.sizes.originals[0], "{name} {method:?}");
        assert_eq!(outcome.sizes.specific, [0, 0], "{name} {method:?}");
        for (form, kind, _) in FORMS {
            for joined in joint_outputs(&joint, *kind) {
                let lost = deviation(&joined, &original);
                assert!(lost < 1e-4, "{name} {method:?} {form} lost {lost}");
            }
        }
    }
}

#[test]
fn partly_shared_outputs_keep_their_order_in_every_form() {
    for method in [Method::Mtz, Method::Refit] {
        let nets = ["lenet5_mnist_a", "zoo/lenet5_small_fashion"].map(model);
        let (joint, _) = merge(vec![net("a", &nets[0]), net("b", &nets[1])], method, 0.5, true);
        assert_eq!([0, 1].map(|task| shared_outputs(&joint, task)), [5, 5]);
        check(&joint);
    }
}

#[test]
fn nets_are_added_to_a_joint_model_with_or_without_their_outputs() {
    let nets = ["lenet5_mnist_a", "lenet5_mnist_b", "zoo/lenet5_small_fashion"].map(model);
    let (joint, _) = merge(vec![net("a", &nets[0]), net("b", &nets[1])], Method::Refit, 1.0, true);
    let written = onnx::encode(&emit::emit(&joint, &EmitOptions::default()).unwrap()).unwrap();
    let restored = emit::restore(&onnx::decode(written.into(), None, "joint").unwrap()).unwrap();
    for (share_outputs, shared) in [(false, [10, 10, 0]), (true, [10, 10, 10])] {
        let parts = vec![Part::Joint(restored.clone()), net("c", &nets[2])];
        let (more, _) = merge(parts, Method::Refit, 1.0, share_outputs);
        assert_eq!([0, 1, 2].map(|task| shared_outputs(&more, task)), shared);
        check(&more);
    }
}

#[test]
fn outputs_are_the_tasks_own_where_nobody_asks() {
    let nets = ["lenet5_mnist_a", "lenet5_mnist_b"].map(model);
    let (joint, _) = merge(vec![net("a", &nets[0]), net("b", &nets[1])], Method::Refit, 1.0, false);
    assert_eq!([0, 1].map(|task| shared_outputs(&joint, task)), [0, 0]);
}
