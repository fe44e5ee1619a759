//! Laws on well-known architectures with branches, groups, shuffles and gates.

mod net;

use std::collections::BTreeMap;

use ndarray::ArrayD;

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::canon::BatchNorm;
use onnx_zip::couple::{CoupledLayer, Coupling, End};
use onnx_zip::emit::{self, EmitOptions, Form, InputMode};
use onnx_zip::ir::{Graph, Model, Tensor};
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions, Method, Passes};
use onnx_zip::onnx;
use onnx_zip::runtime::{HostArray, ModelSource};
use onnx_zip::zipper::{self, Input, Part, PrepareOptions};

use crate::permute::permuted;
use crate::rewrite;
use crate::support::{backend, canonical, deviation, merge, merge_with, run};
use net::{ARCHITECTURES, Architecture};

fn samples(model: &Model, count: usize) -> Dataset {
    let bytes = onnx::encode(model).unwrap();
    let session = backend().load(ModelSource::Bytes(&bytes)).unwrap();
    Dataset::synthetic(session.inputs(), count, 5, &DataOptions::default()).unwrap()
}

fn outputs(model: &Model, task: Option<i64>) -> Vec<ArrayD<f32>> {
    let input = &model.graph.value(model.graph.inputs[0]).name;
    let values = (0..3 * 224 * 224).map(|i: i64| ((i * i * 7919 + i * 31) % 1009) as f32 / 300.0);
    let pixels = values.map(|v| v - 1.7).collect();
    let image = ArrayD::from_shape_vec(vec![1, 3, 224, 224], pixels).unwrap();
    let mut batch = vec![(input.clone(), HostArray::F32(image))];
    if let Some(task) = task {
        let selected = ArrayD::from_elem(vec![1], task);
        batch.push(("task".to_owned(), HostArray::I64(selected)));
    }
    run(model, &batch)
}

/// Layers that cannot be shared, except output layers.
fn frozen_layers(graph: &Graph) -> Vec<String> {
    let coupling = Coupling::of(graph).unwrap();
    let is_frozen = |layer: &&CoupledLayer| {
        let group = coupling.group(layer.outputs[0].group);
        group.frozen.is_some() && group.end() != Some(End::Output)
    };
    coupling.layers.iter().filter(is_frozen).map(|layer| layer.name.clone()).collect()
}

fn options(share: f64) -> MergeOptions {
    MergeOptions {
        budget: Budget::uniform(Share::Fraction(share)),
        max_rows: 512,
        ..MergeOptions::default()
    }
}

fn sharing_nothing_changes_nothing(arch: Architecture) {
    let nets = [1, 2].map(|seed| net::net(arch.name, arch.divisor, seed));
    let originals: Vec<ArrayD<f32>> = nets.iter().map(|n| outputs(n, None).remove(0)).collect();
    let inputs = nets.into_iter().zip(["a", "b"]);
    let inputs = inputs.map(|(model, name)| Input { name: name.into(), model }).collect();
    let joint = zipper::prepare(inputs).unwrap().joint;
    let joined = emit::emit(&joint, &EmitOptions::default()).unwrap();
    for (joined, original) in outputs(&joined, None).iter().zip(&originals) {
        let lost = deviation(joined, original);
        assert!(lost < 1e-4, "{} lost {lost}", arch.name);
    }
}

fn emission_is_exact(arch: Architecture) {
    let nets = [1, 2].map(|seed| net::net(arch.name, arch.divisor, seed));
    let data = samples(&nets[0], 1);
    let zip = MergeOptions { method: Method::Mtz, passes: Passes::One, ..options(0.5) };
    let (joint, _) = merge(nets.map(|n| (n, data.clone())), &zip);
    let alone: Vec<ArrayD<f32>> =
        joint.tasks().iter().map(|t| outputs(t.model(), None).remove(0)).collect();
    for form in [Form::Heads, Form::Masked, Form::Switch] {
        let model = emit::emit(&joint, &EmitOptions { form, ..EmitOptions::default() }).unwrap();
        for (task, alone) in alone.iter().enumerate() {
            let selected = (form != Form::Heads).then_some(task as i64);
            let lost = deviation(&outputs(&model, selected)[task], alone);
            assert!(lost < 1e-4, "{} {form:?} lost {lost}", arch.name);
        }
        let written = onnx::decode(onnx::encode(&model).unwrap().into(), None, "joint").unwrap();
        let restored = emit::restore(&written).unwrap();
        for (task, restored) in joint.tasks().iter().zip(restored.tasks()) {
            assert_eq!(constants(task.model()), constants(restored.model()), "{}", arch.name);
        }
    }
}

fn a_permuted_copy_is_recognised(arch: Architecture) {
    let a = net::net(arch.name, arch.divisor, 1);
    let b = permuted(&a, 7);
    let a_nodes = a.graph.nodes().count();
    let original = outputs(&a, None).remove(0);
    let largest = original.iter().fold(0.0f32, |m, v| m.max(*v));
    assert!(largest < 0.9 || original.sum() < 0.9, "{} is sure of one class", arch.name);
    assert!(deviation(&outputs(&b, None)[0], &original) < 1e-4, "the copy computes the same");
    let graph = canonical(&a, BatchNorm::Fold).graph;
    assert!(frozen_layers(&graph).is_empty(), "{}: {:?}", arch.name, frozen_layers(&graph));
    let data = vec![samples(&a, 2); 2];
    let parts = [("a", a), ("b", b)]
        .map(|(name, model)| Part::Net(Box::new(Input { name: name.to_owned(), model })));
    let outputs_too = PrepareOptions { share_outputs: true, ..PrepareOptions::default() };
    let (joint, outcome) = merge_with(parts.into(), data, &options(1.0), outputs_too);
    let sizes = &outcome.sizes;
    assert_eq!(
        (sizes.joint(), &sizes.specific[..]),
        (sizes.originals[0], &[0, 0][..]),
        "{}",
        arch.name
    );
    let joined = emit::emit(&joint, &EmitOptions::default()).unwrap();
    let separate = EmitOptions { inputs: InputMode::Separate, ..EmitOptions::default() };
    let apart = emit::emit(&joint, &separate).unwrap();
    for (model, nets) in [(&joined, 1.0), (&apart, 2.0)] {
        let (nodes, own) = (model.graph.nodes().count() as f64, a_nodes as f64);
        assert!(
            nodes <= 1.1 * nets * own,
            "{}: {nodes} nodes in place of {nets} x {own}",
            arch.name
        );
    }
    let ratio = weights(&joined) / joint.tasks().iter().map(|t| weights(t.model())).sum::<f64>();
    assert!(ratio < 0.505, "{}: {ratio} of both nets' weights are stored", arch.name);
    for joined in outputs(&joined, None) {
        let lost = deviation(&joined, &original);
        assert!(lost < 1e-4, "{} lost {lost}", arch.name);
    }
}

/// A model's constants by name.
fn constants(model: &Model) -> BTreeMap<&str, &Tensor> {
    let graph = &model.graph;
    let ids = graph.values().map(|(id, _)| id);
    ids.filter_map(|id| Some((graph.value(id).name.as_str(), graph.initializer(id)?))).collect()
}

/// Bytes of a model's constants, as its file stores them.
fn weights(model: &Model) -> f64 {
    let written = onnx::decode(onnx::encode(model).unwrap().into(), None, "written").unwrap();
    constants(&written).values().map(|t| t.data.len() as f64).sum()
}

fn each(law: fn(Architecture)) {
    let failed: Vec<&str> = ARCHITECTURES
        .into_iter()
        .filter(|a| std::panic::catch_unwind(|| law(*a)).is_err())
        .map(|a| a.name)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn sharing_nothing_leaves_every_architecture_as_it_is() {
    each(sharing_nothing_changes_nothing);
}

#[test]
fn every_form_computes_what_the_task_nets_of_every_architecture_do() {
    each(emission_is_exact);
}

#[test]
fn permuted_copies_of_every_architecture_are_recognised() {
    each(a_permuted_copy_is_recognised);
}

#[test]
fn rewritten_copies_of_every_architecture_are_recognised() {
    each(|arch| rewrite::recognised(&net::net(arch.name, arch.divisor, 1), arch.name));
}
