//! Laws of merges of nets that differ before their corresponding layers.

use ndarray::{Array1, Array4, ArrayD, s};

use onnx_zip::canon::BatchNorm;
use onnx_zip::couple::{CoupledLayer, Coupling};
use onnx_zip::emit::{self, EmitOptions};
use onnx_zip::ir::{Attribute, Graph, Model, NodeId, Tensor, ValueId};
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions, Method, Unit};
use onnx_zip::mtz::plan::predict;
use onnx_zip::onnx;
use onnx_zip::progress::Silent;
use onnx_zip::zipper::{self, Goal, Input, Job, Outcome, Part, PrepareOptions, merge_for};

use crate::permute::permuted;
use crate::support::{
    FEW_ROWS, calibration, canonical, check_forms, check_size, deviation, images, joint_outputs,
    merge, model, outputs,
};

fn options(method: Method, share: f64) -> MergeOptions {
    MergeOptions {
        method,
        budget: Budget::uniform(Share::Fraction(share)),
        max_rows: FEW_ROWS,
        ..MergeOptions::default()
    }
}

fn merged(nets: &[Model], method: Method, share: f64) -> (JointModel, Outcome) {
    let data = images(&nets[0], "mnist_train", 600);
    merge(nets.iter().map(|net| (net.clone(), data.clone())), &options(method, share))
}

fn first_conv(graph: &Graph) -> NodeId {
    graph.nodes().find(|(_, node)| node.is("Conv")).unwrap().0
}

/// The net with the first layer's kernel padded by zeros: another layer that computes the same.
fn with_larger_kernel(mut model: Model) -> Model {
    let graph = &mut model.graph;
    let id = first_conv(graph);
    let weight = graph.node(id).input(1).unwrap();
    let old = graph.initializer(weight).unwrap().to_f32().unwrap();
    let [out, inputs, height, width] = <[usize; 4]>::try_from(old.shape()).unwrap();
    let mut new = Array4::zeros((out, inputs, height + 2, width + 2));
    new.slice_mut(s![.., .., 1..=height, 1..=width]).assign(&old);
    graph.set_initializer(weight, Tensor::from_f32(&new.into_dyn()));
    graph.edit_node(id, |node| {
        let pads = node.ints("pads").map_or(vec![1; 4], |p| p.iter().map(|p| p + 1).collect());
        let kernel = vec![height as i64 + 2, width as i64 + 2];
        node.attributes.insert("pads".to_owned(), Attribute::Ints(pads));
        node.attributes.insert("kernel_shape".to_owned(), Attribute::Ints(kernel));
    });
    model
}

/// The net with an additional identity layer after the first activation.
fn with_one_more_layer(mut model: Model) -> Model {
    let graph = &mut model.graph;
    let conv = first_conv(graph);
    let weight = graph.node(conv).input(1).unwrap();
    let channels = graph.initializer(weight).unwrap().dims[0];
    let order = graph.topological_order().unwrap();
    let activation = order.into_iter().find(|id| graph.node(*id).is("Relu")).unwrap();
    let value = graph.node(activation).output(0).unwrap();
    let readers: Vec<NodeId> =
        graph.nodes().filter(|(_, n)| n.reads().any(|v| v == value)).map(|(id, _)| id).collect();
    let identity =
        Array4::from_shape_fn((channels, channels, 1, 1), |(i, j, ..)| f32::from(u8::from(i == j)));
    let w = graph.add_initializer("more.w", Tensor::from_f32(&identity.into_dyn()));
    let b = graph.add_initializer("more.b", Tensor::from_f32(&Array1::zeros(channels).into_dyn()));
    let more = graph.add_op("Conv", "more", &[value, w, b], []);
    let more = graph.add_op("Relu", "more.relu", &[more], []);
    for id in readers {
        graph.edit_node(id, |node| {
            let reads = |v: &&mut ValueId| **v == value;
            node.inputs.iter_mut().flatten().filter(reads).for_each(|v| *v = more);
        });
    }
    model
}

/// Asserts that every form computes the outputs of the task nets, and that these can be recovered.
fn check(joint: &JointModel) {
    check_forms(joint);
    let written = emit::emit(joint, &EmitOptions::default()).unwrap();
    let read = onnx::decode(onnx::encode(&written).unwrap().into(), None, "joint").unwrap();
    let restored = emit::restore(&read).unwrap();
    for task in joint.task_ids() {
        assert_eq!(restored.sharing(task), joint.sharing(task));
    }
}

/// Asserts that a merge with a copy has lost nothing, and that tasks have weights of their own in some
/// layers only.
fn check_copies((joint, outcome): &(JointModel, Outcome), original: &ArrayD<f32>, own: &[&str]) {
    for task in 0..2 {
        let parameters = parameters(joint, task, own);
        assert_eq!(outcome.sizes.specific[task], parameters, "{own:?}");
    }
    for joined in joint_outputs(joint, emit::Form::Heads) {
        let lost = deviation(&joined, original);
        assert!(lost < 1e-4, "{own:?} lost {lost}");
    }
    check(joint);
}

/// Number of parameters of these layers and of the output layer in a task's net.
fn parameters(joint: &JointModel, task: usize, layers: &[&str]) -> u64 {
    let net = &joint.tasks()[task];
    let all = net.coupling().layers.iter();
    let count = |(number, layer): (usize, &CoupledLayer)| {
        let is_last = number + 1 == net.coupling().layers.len();
        let (out, inputs, taps) = layer.layer.sizes(net.graph()).unwrap();
        let counts = is_last || layers.contains(&layer.name.as_str());
        if counts { (out * (inputs * taps + 1)) as u64 } else { 0 }
    };
    all.enumerate().map(count).sum()
}

const NETS: [(&str, Method); 5] = [
    ("lenet5_mnist_a", Method::Mtz),
    ("lenet5_mnist_a", Method::Refit),
    ("zoo/resnet_mnist", Method::Refit),
    ("zoo/inception_mnist", Method::Refit),
    ("zoo/mobilenet_mnist", Method::Refit),
];

/// The name of a net's first layer in canonical form.
fn first_layer(net: &Model) -> String {
    Coupling::of(&canonical(net, BatchNorm::Fold).graph).unwrap().layers[0].name.clone()
}

#[test]
fn copies_behind_another_first_layer_share_all_the_others() {
    for (name, method) in NETS {
        let a = model(name);
        let original = outputs(&a, &[]).remove(0);
        let b = with_larger_kernel(permuted(&a, 7));
        assert!(deviation(&outputs(&b, &[])[0], &original) < 1e-5, "the copy computes the same");
        let first = first_layer(&a);
        check_copies(&merged(&[a, b], method, 1.0), &original, &[&first]);
    }
}

#[test]
fn copies_with_one_more_layer_share_all_the_others() {
    for (name, method) in &NETS[..2] {
        let a = model(name);
        let original = outputs(&a, &[]).remove(0);
        let b = with_one_more_layer(permuted(&a, 7));
        assert!(deviation(&outputs(&b, &[])[0], &original) < 1e-5, "the copy computes the same");
        for nets in [[a.clone(), b.clone()], [b, a]] {
            check_copies(&merged(&nets, *method, 1.0), &original, &["more"]);
        }
    }
}

#[test]
fn partial_merges_behind_differences_stay_exact_and_as_large_as_predicted() {
    for name in ["lenet5_mnist_b", "zoo/resnet_fashion"] {
        let first = if name.contains("resnet") { "zoo/resnet_mnist" } else { "lenet5_mnist_a" };
        let nets = [model(first), with_one_more_layer(with_larger_kernel(model(name)))];
        for share in [0.0, 0.5, 1.0] {
            let (joint, outcome) = merged(&nets, Method::Refit, share);
            check(&joint);
            check_size(&joint);
            let inputs = nets.iter().zip(["a", "b"]);
            let inputs =
                inputs.map(|(model, name)| Input { name: name.into(), model: model.clone() });
            let plan = zipper::prepare(inputs.collect()).unwrap();
            let budget = Budget::uniform(Share::Fraction(share));
            let planned = predict(&plan.joint, &plan.alignment, &budget, false).unwrap();
            assert_eq!(planned.sizes, outcome.sizes, "{name} {share}");
            assert_eq!(outcome.sizes.shared > 0, share > 0.0, "{name} {share}");
        }
    }
}

#[test]
fn a_size_is_met_behind_differences() {
    let nets = ["lenet5_mnist_a", "lenet5_mnist_b"].map(model);
    for nets in [
        [nets[0].clone(), with_larger_kernel(nets[1].clone())],
        [nets[0].clone(), with_one_more_layer(nets[1].clone())],
    ] {
        let calibration = calibration(&images(&nets[0], "mnist_train", 600));
        let inputs = nets.iter().zip(["a", "b"]);
        let inputs = inputs.map(|(model, name)| Input { name: name.into(), model: model.clone() });
        let prepared = zipper::prepare(inputs.collect()).unwrap();
        let options = MergeOptions { unit: Unit::Neuron, ..options(Method::Refit, 1.0) };
        let goal = Goal::Size(0.7);
        let (joint, outcome, _) =
            merge_for(goal, &prepared, &[], &Job::new(&calibration, &options, &Silent)).unwrap();
        let size = outcome.sizes.joint() as f64 / outcome.sizes.separate() as f64;
        assert!((0.67..=0.7).contains(&size), "{size}");
        check(&joint);
        check_size(&joint);
    }
}

#[test]
fn layers_may_keep_their_weights_and_those_behind_them_share() {
    for (name, method) in NETS {
        let a = model(name);
        let (original, first) = (outputs(&a, &[]).remove(0), first_layer(&a));
        let data = calibration(&images(&a, "mnist_train", 600));
        let inputs = [("b", permuted(&a, 7)), ("a", a)];
        let parts =
            inputs.map(|(name, model)| Part::Net(Box::new(Input { name: name.into(), model })));
        let kept = PrepareOptions { own_weights: vec![first.clone()], ..Default::default() };
        let prepared = zipper::prepare_parts(parts.into(), kept).unwrap();
        let merged = zipper::merge(prepared, &data, &options(method, 1.0), &Silent).unwrap();
        check_copies(&merged, &original, &[&first]);
    }
}

#[test]
fn a_third_net_joins_two_that_differ() {
    let names = ["lenet5_mnist_a", "lenet5_mnist_b", "zoo/lenet5_small_fashion"];
    let [a, b, c] = names.map(model);
    for share in [0.5, 1.0] {
        let nets = [with_one_more_layer(a.clone()), with_larger_kernel(b.clone()), c.clone()];
        let (joint, outcome) = merged(&nets, Method::Refit, share);
        let sites = outcome.sites.iter().filter(|site| site.shared > 0);
        assert!(sites.clone().any(|site| site.tasks == [0, 1, 2]), "{:?}", outcome.sites);
        check(&joint);
        check_size(&joint);
    }
}
