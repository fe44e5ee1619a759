//! Laws of merges of three or more nets, and of nets added to a joint model.

use std::collections::BTreeMap;

use ndarray::ArrayD;

use onnx_zip::align::TaskId;
use onnx_zip::calib::data::Dataset;
use onnx_zip::emit::{self, EmitOptions, Form};
use onnx_zip::ir::{Model, Tensor};
use onnx_zip::mtz::joint::{JointModel, Owner};
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions, Method};
use onnx_zip::mtz::plan::predict;
use onnx_zip::mtz::plan::sizes;
use onnx_zip::onnx;
use onnx_zip::progress::Silent;
use onnx_zip::zipper::{self, Calibration, Input, Outcome, Part, PrepareOptions};

use crate::permute::permuted;
use crate::support::{
    backend, check_forms, check_size, deviation, images, joint_outputs, merge_parts, model, outputs,
};

const NETS: [&str; 3] = ["lenet5_mnist_a", "lenet5_mnist_b", "zoo/lenet5_small_fashion"];

fn data(count: usize) -> Vec<Dataset> {
    vec![images(&model(NETS[0]), "mnist_train", 600); count]
}

fn merge(nets: &[Model], options: &MergeOptions) -> (JointModel, Outcome) {
    crate::support::merge(nets.iter().cloned().zip(data(nets.len())), options)
}

fn options(method: Method, share: f64) -> MergeOptions {
    MergeOptions {
        method,
        budget: Budget::uniform(Share::Fraction(share)),
        ..MergeOptions::default()
    }
}

fn three() -> Vec<Model> {
    NETS.iter().map(|name| model(name)).collect()
}

/// The joint model computes what the task nets compute and is as large as the plan says.
fn check(joint: &JointModel) {
    check_forms(joint);
    check_size(joint);
}

#[test]
fn three_nets_that_share_nothing_stay_as_they_are() {
    let (joint, outcome) = merge(&three(), &options(Method::Refit, 0.0));
    assert_eq!(outcome.sizes.shared, 0);
    for (joined, name) in joint_outputs(&joint, Form::Heads).iter().zip(NETS) {
        assert!(deviation(joined, &outputs(&model(name), &[])[0]) < 1e-6);
    }
}

#[test]
fn two_permuted_copies_are_recognised_and_nothing_is_lost() {
    for method in [Method::Mtz, Method::Refit] {
        let a = model(NETS[0]);
        let original = outputs(&a, &[]).remove(0);
        let nets = [permuted(&a, 7), a.clone(), permuted(&a, 8)];
        let (joint, outcome) = merge(&nets, &options(method, 1.0));
        let heads: u64 = outcome.sizes.specific[1..].iter().sum();
        assert_eq!(outcome.sizes.joint() - heads, outcome.sizes.originals[0]);
        for joined in joint_outputs(&joint, Form::Heads) {
            assert!(deviation(&joined, &original) < 1e-4, "{method:?}");
        }
        // The heads are equal, too, so the file is smaller than the plan predicts.
        check_forms(&joint);
    }
}

#[test]
fn neurons_are_shared_by_any_subset_of_the_tasks() {
    for (method, share) in [(Method::Refit, 0.5), (Method::Mtz, 0.8)] {
        let (joint, outcome) = merge(&three(), &options(method, share));
        assert!(outcome.sizes.joint() < outcome.sizes.separate());
        let owners: std::collections::BTreeSet<_> = (0..3)
            .flat_map(|task| joint.layout(TaskId(task)))
            .flatten()
            .map(|block| block.owner)
            .filter(|owner| owner.is_shared())
            .collect();
        assert!(owners.len() > 1, "several sets of tasks share neurons: {owners:?}");
        check(&joint);
    }
}

/// The sets of tasks that share neurons of the first layer, each with the number of neurons.
fn sets(joint: &JointModel) -> BTreeMap<Vec<usize>, usize> {
    let first = |task: TaskId| joint.task(task).coupling().layers[0].outputs[0].group;
    let blocks = joint.task_ids().flat_map(|task| joint.layout(task)[first(task).0].clone());
    let shared = blocks.filter_map(|block| match block.owner {
        Owner::Tasks(tasks) if tasks.len() > 1 => {
            Some((tasks.iter().map(|task| task.0).collect(), block.channels.len()))
        }
        _ => None,
    });
    shared.collect()
}

#[test]
fn newcomers_share_what_all_share_and_more_only_where_that_is_too_little() {
    let [a, b, small] = NETS.map(model);
    let nets = [a, small, b];
    // Nets have 20, 16 and 20 neurons. The first two share 8; the third shares 10, these 8 among them.
    let (joint, _) = merge(&nets, &options(Method::Refit, 0.5));
    let sets = sets(&joint);
    assert_eq!(sets.get(&vec![0, 1, 2]), Some(&8));
    assert_eq!(sets.get(&vec![0, 1]), None);
    assert_eq!(sets.values().sum::<usize>(), 10, "{sets:?}");
    check(&joint);
}

#[test]
fn the_paper_s_method_takes_the_cheapest_pairs_whoever_shares_the_neurons() {
    let [a, b, small] = NETS.map(model);
    let (joint, _) = merge(&[a, small, b], &options(Method::Mtz, 0.5));
    let sets = sets(&joint);
    assert!(sets.contains_key(&vec![0, 1]), "{sets:?}");
    check(&joint);
}

#[test]
fn equal_nets_share_one_set_of_neurons_as_was_predicted() {
    let nets = ["lenet300_mnist_a", "lenet300_mnist_b", "lenet300_fashion"].map(model);
    let options = options(Method::Refit, 0.6);
    let inputs = nets.iter().cloned().zip(["a", "b", "c"]);
    let inputs = inputs.map(|(model, name)| Input { name: name.to_owned(), model }).collect();
    let plan = zipper::prepare(inputs).unwrap();
    let plan = predict(&plan.joint, &plan.alignment, &options.budget, true).unwrap();
    let (joint, outcome) = merge(&nets, &options);
    assert_eq!(outcome.sizes, plan.sizes);
    let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
    // Blocks of weights. First layer: the common rows and those of each task (1 + 3). Second layer: the
    // common rows times common columns and columns of each task (1 + 3), and one product for the rows of
    // each task (3), since none of these weights is common. Last layer: one product per task (3).
    let products = written.graph.nodes().filter(|(_, node)| node.is("Gemm")).count();
    assert_eq!(products, 4 + (4 + 3) + 3);
    check(&joint);
}

#[test]
fn a_net_is_added_to_a_joint_model_that_was_written_and_read() {
    let nets = three();
    let (first, before) = merge(&nets[..2], &options(Method::Refit, 0.9));
    let bytes = onnx::encode(&emit::emit(&first, &EmitOptions::default()).unwrap()).unwrap();
    let read = onnx::decode(bytes.into(), None, "joint").unwrap();
    let joint = emit::restore(&read).unwrap();
    assert_eq!(sizes(&joint).unwrap(), before.sizes);
    let parts = vec![
        Part::Joint(joint),
        Part::Net(Box::new(Input { name: "c".into(), model: nets[2].clone() })),
    ];
    let (joint, outcome) = merge_parts(parts, data(3), &options(Method::Refit, 0.9));
    for (old, new) in first.layout(TaskId(0)).iter().zip(joint.layout(TaskId(0))) {
        let shared = |blocks: &[onnx_zip::mtz::joint::Block]| -> usize {
            blocks.iter().filter(|b| b.owner.is_shared()).map(|b| b.channels.len()).sum()
        };
        assert!(shared(&new) >= shared(old), "what was shared stays shared");
    }
    assert!(outcome.sizes.specific[2] < outcome.sizes.originals[2]);
    check(&joint);
}

#[test]
fn layers_that_a_joint_model_leaves_to_its_tasks_stay_theirs() {
    let nets = three();
    let inputs = nets[..2].iter().cloned().zip(["a", "b"]);
    let part =
        |(model, name): (Model, &str)| Part::Net(Box::new(Input { name: name.to_owned(), model }));
    let kept = PrepareOptions { own_weights: vec!["conv1*".to_owned()], ..Default::default() };
    let prepared = zipper::prepare_parts(inputs.map(part).collect(), kept).unwrap();
    let calibration = Calibration {
        backend: backend(),
        data: data(2),
        stored: Vec::new(),
        predicts: false,
        batch: 64,
        memory: 1 << 30,
        shards: None,
    };
    let all = options(Method::Refit, 1.0);
    let (first, before) = zipper::merge(prepared, &calibration, &all, &Silent).unwrap();
    let read = || {
        let written = emit::emit(&first, &EmitOptions::default()).unwrap();
        Part::Joint(emit::restore(&written).unwrap())
    };
    let (again, after) = merge_parts(vec![read()], data(2), &options(Method::Refit, 0.0));
    assert_eq!(after.sizes, before.sizes);
    let old = joint_outputs(&first, Form::Heads);
    for (old, new) in old.iter().zip(&joint_outputs(&again, Form::Heads)) {
        assert!(deviation(new, old) < 1e-5, "{}", deviation(new, old));
    }
    let net = Part::Net(Box::new(Input { name: "c".into(), model: nets[2].clone() }));
    let (joined, _) = merge_parts(vec![read(), net], data(3), &all);
    for task in 0..2 {
        let graphs = [&first, &joined].map(|joint| joint.task(TaskId(task)).graph());
        let weights = graphs.map(|graph| {
            let conv = graph.nodes().find(|(_, node)| node.is("Conv")).unwrap().1;
            graph.initializer(conv.input(1).unwrap()).unwrap().to_f32().unwrap()
        });
        assert!(deviation(&weights[1], &weights[0]) < 1e-3, "first layer of task {task}");
    }
}

#[test]
fn the_same_bytes_come_out_on_any_number_of_threads() {
    let written = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (joint, _) = merge(&three(), &options(Method::Refit, 0.6));
            onnx::encode(&emit::emit(&joint, &EmitOptions::default()).unwrap()).unwrap()
        })
    };
    assert!(written(1) == written(2));
}

#[test]
fn what_nets_have_in_common_as_it_is_stays_as_it_is() {
    let a = model(NETS[0]);
    let mut b = a.clone();
    let last = b.graph.values().filter_map(|(id, _)| Some((id, b.graph.initializer(id)?.clone())));
    let head = last.filter(|(_, t)| t.dims.first() == Some(&10)).collect::<Vec<_>>();
    for (id, tensor) in head {
        let other: ArrayD<f32> = tensor.to_f32().unwrap().mapv(|v| 0.3 - v);
        b.graph.set_initializer(id, Tensor::from_f32(&other));
    }
    let (joint, outcome) = merge(&[a.clone(), b.clone()], &options(Method::Refit, 1.0));
    let sites = &outcome.sites;
    assert!(
        sites[..3].iter().all(|s| s.cost == 0.0 && s.rows == [0, 0]),
        "no statistics are taken"
    );
    assert_eq!(outcome.sizes.specific, [5010, 5010]);
    for (joined, net) in joint_outputs(&joint, Form::Heads).iter().zip([&a, &b]) {
        assert!(deviation(joined, &outputs(net, &[])[0]) < 1e-6);
    }
    check(&joint);
    let (joint, outcome) = merge(&[a.clone(), a.clone(), b], &options(Method::Mtz, 0.5));
    assert_eq!(outcome.sizes.specific, [0, 0, 5010], "equal heads are one");
    check(&joint);
}
