//! A grouped convolution is one node of the joint model if all its groups are shared alike.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::emit::{self, EmitOptions, Form, InputMode};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{DataType, Model, Tensor, ValueId};
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Biases, Budget, MergeOptions, Method};
use onnx_zip::mtz::plan::sizes;
use onnx_zip::onnx;
use onnx_zip::runtime::{HostArray, ModelSource};

use crate::permute::permuted;
use crate::support::{backend, deviation, merge, run};

/// A net under construction, with a Relu after every layer.
struct Net(GraphBuilder);

impl Net {
    fn layer(
        &mut self,
        op: &str,
        name: &str,
        x: ValueId,
        dims: [usize; 4],
        groups: i64,
    ) -> ValueId {
        let Net(b) = self;
        let filters = if op == "Conv" { dims[0] } else { dims[1] * groups as usize };
        let weight = b.weights(&format!("{name}.weight"), &dims);
        let bias = b.weights(&format!("{name}.bias"), &[filters]);
        let pad = i64::from(dims[2] == 3);
        let attributes = [("group", groups.into()), ("pads", [pad; 4].into())];
        let y = b.op(op, name, &[x, weight, bias], attributes);
        b.op("Relu", &format!("{name}.relu"), &[y], [])
    }

    fn shuffle(&mut self, x: ValueId, groups: i64, each: i64) -> ValueId {
        let Net(b) = self;
        let apart = b.ints("apart", &[0, groups, each, 7, 7]);
        let together = b.ints("together", &[0, groups * each, 7, 7]);
        let y = b.op("Reshape", "apart.to", &[x, apart], []);
        let y = b.op("Transpose", "mixed", &[y], [("perm", [0, 2, 1, 3, 4].into())]);
        b.op("Reshape", "together.to", &[y, together], [])
    }
}

/// A net with a shuffle between grouped convolutions, a shortcut, and a transposed convolution of two
/// groups; `seed` varies the weights.
fn net(seed: usize) -> Model {
    let mut net = Net(GraphBuilder::new("net", 17));
    for skipped in 0..seed {
        net.0.weights(&format!("skipped{skipped}"), &[1]);
    }
    let x = net.0.input("x", "n,3,7,7");
    let stem = net.layer("Conv", "stem", x, [12, 3, 3, 3], 1);
    let one = net.layer("Conv", "one", stem, [24, 4, 1, 1], 3);
    let mixed = net.shuffle(one, 3, 8);
    let deep = net.layer("Conv", "deep", mixed, [24, 1, 3, 3], 24);
    let two = net.layer("Conv", "two", deep, [12, 8, 1, 1], 3);
    let sum = net.0.op("Add", "sum", &[two, stem], []);
    let up = net.layer("ConvTranspose", "up", sum, [12, 5, 2, 2], 2);
    let head = net.layer("Conv", "head", up, [2, 10, 1, 1], 1);
    net.0.build(&[head])
}

fn samples(model: &Model, count: usize) -> Dataset {
    let session = backend().load(ModelSource::Bytes(&onnx::encode(model).unwrap())).unwrap();
    Dataset::synthetic(session.inputs(), count, 1, &DataOptions::default()).unwrap()
}

/// The joint model of two nets on made-up samples.
pub fn merged(nets: [Model; 2], share: f64, method: Method, biases: Biases) -> JointModel {
    let data = samples(&nets[0], 40);
    let mut budget = Budget::uniform(Share::Fraction(share));
    budget.set_biases(biases);
    let options = MergeOptions { budget, method, ..MergeOptions::default() };
    merge(nets.map(|net| (net, data.clone())), &options).0
}

/// Numbers of nodes by operator; convolutions by operator and number of groups.
pub fn nodes(model: &Model) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, node) in model.graph.nodes() {
        let groups = node.int("group", 0);
        let name = if groups > 0 { format!("{} {groups}", node.op) } else { node.op.clone() };
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// Checks outputs, recovered weights and sizes of each form.
pub fn is_right_in_every_form(joint: &JointModel) {
    let batch = samples(joint.tasks()[0].model(), 5).batch(0..5).unwrap();
    let alone: Vec<ArrayD<f32>> =
        joint.tasks().iter().map(|t| run(t.model(), &batch).remove(0)).collect();
    for (_, form, _) in emit::FORMS {
        let model =
            emit::emit(joint, &EmitOptions { form: *form, ..EmitOptions::default() }).unwrap();
        for (task, alone) in alone.iter().enumerate() {
            let mut batch = batch.clone();
            if *form != Form::Heads {
                let selected = ArrayD::from_elem(IxDyn(&[1]), task as i64);
                batch.push(("task".to_owned(), HostArray::I64(selected)));
            }
            let lost = deviation(&run(&model, &batch)[task], alone);
            assert!(lost < 1e-5, "{form:?} lost {lost}");
        }
        let written = onnx::decode(onnx::encode(&model).unwrap().into(), None, "joint").unwrap();
        let restored = emit::restore(&written).unwrap();
        for (before, after) in joint.tasks().iter().zip(restored.tasks()) {
            assert_eq!(constants(before.model()), constants(after.model()), "{form:?}");
        }
        // Constants that happen to be equal, as biases of zeros, are stored once; the plan counts each.
        let (stored, planned) = (stored(&model), sizes(joint).unwrap().joint());
        assert!(stored <= planned && stored * 100 >= planned * 97, "{form:?}: {stored} {planned}");
    }
    for (model, alone) in emit::emit_tasks(joint).unwrap().iter().zip(alone) {
        let lost = deviation(&run(model, &batch)[0], &alone);
        assert!(lost < 1e-5, "alone lost {lost}");
    }
}

fn constants(model: &Model) -> BTreeMap<&str, &Tensor> {
    let graph = &model.graph;
    let ids = graph.values().map(|(id, _)| id);
    ids.filter_map(|id| Some((graph.value(id).name.as_str(), graph.initializer(id)?))).collect()
}

/// Number of float parameters that a model's nodes read, without those that only the `masked` form adds.
fn stored(model: &Model) -> u64 {
    let all = constants(model).into_values().filter(|t| t.dtype == DataType::F32);
    all.map(|tensor| tensor.len() as u64).sum()
}

#[test]
fn they_come_out_whole_at_full_share() {
    for nets in [[net(0), net(1)], [net(0), permuted(&net(0), 3)]] {
        let joint = merged(nets, 1.0, Method::Refit, Biases::Shared);
        is_right_in_every_form(&joint);
        let model = emit::emit(&joint, &EmitOptions::default()).unwrap();
        let nodes = nodes(&model);
        assert_eq!(
            (nodes["Conv 3"], nodes["Conv 24"], nodes["ConvTranspose 2"]),
            (2, 1, 1),
            "{nodes:?}"
        );
        assert!(model.graph.nodes().count() < 20, "{nodes:?}");
        let options = EmitOptions { inputs: InputMode::Separate, ..EmitOptions::default() };
        let apart = emit::emit(&joint, &options).unwrap();
        assert_eq!(stored(&apart), stored(&model));
    }
}

#[test]
fn they_come_out_whole_where_nothing_is_shared() {
    let joint = merged([net(0), net(1)], 0.0, Method::Refit, Biases::Shared);
    is_right_in_every_form(&joint);
    let nodes = nodes(&emit::emit(&joint, &EmitOptions::default()).unwrap());
    assert_eq!(
        (nodes["Conv 3"], nodes["Conv 24"], nodes["ConvTranspose 2"]),
        (4, 2, 2),
        "{nodes:?}"
    );
}

#[test]
fn groups_that_share_a_part_of_their_neurons_compute_what_they_should() {
    for (method, biases) in [
        (Method::Mtz, Biases::Shared),
        (Method::Refit, Biases::Shared),
        (Method::Refit, Biases::PerTask),
    ] {
        for share in [0.3, 0.5, 0.8, 1.0] {
            is_right_in_every_form(&merged([net(0), net(1)], share, method, biases));
        }
    }
}
