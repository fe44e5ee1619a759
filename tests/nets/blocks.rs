//! Blocks of weights are stored once, also where fused layers read different neurons of the same tasks.

use std::collections::BTreeMap;

use onnx_zip::emit::{self, EmitOptions, FORMS, Form};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{DataType, Model, Tensor, ValueId};
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions};
use onnx_zip::mtz::plan::sizes;
use onnx_zip::onnx;
use onnx_zip::runtime::HostArray;

use crate::exact::{self, samples};
use crate::support::merge;

/// A layer with weights [out, in].
fn layer(b: &mut GraphBuilder, name: &str, x: ValueId, dims: [usize; 2]) -> ValueId {
    let weight = b.weights(&format!("{name}.weight"), &dims);
    let bias = b.weights(&format!("{name}.bias"), &dims[..1]);
    b.op("Gemm", name, &[x, weight, bias], [("transB", 1.into())])
}

/// A net whose layer `c` reads `a`, and if `reads_both` also `b`, which `d` reads in any case; `seed`
/// varies the weights.
fn net(seed: usize, reads_both: bool) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    for skipped in 0..seed {
        b.weights(&format!("skipped{skipped}"), &[1]);
    }
    let x = b.input("x", "n,20");
    let h1 = layer(&mut b, "a", x, [24, 20]);
    let h1 = b.op("Relu", "a.relu", &[h1], []);
    let h2 = layer(&mut b, "b", x, [16, 20]);
    let h2 = b.op("Relu", "b.relu", &[h2], []);
    let (read, width) = match reads_both {
        true => (b.op("Concat", "both", &[h1, h2], [("axis", 1.into())]), 40),
        false => (h1, 24),
    };
    let z = layer(&mut b, "c", read, [32, width]);
    let z = b.op("Relu", "c.relu", &[z], []);
    let z = b.op("Concat", "joined", &[z, h2], [("axis", 1.into())]);
    let z = layer(&mut b, "d", z, [32, 48]);
    let z = b.op("Relu", "d.relu", &[z], []);
    let y = layer(&mut b, "head", z, [5, 32]);
    b.build(&[y])
}

/// All neurons that can be are shared.
fn merged<const N: usize>(nets: [Model; N]) -> JointModel {
    let budget = Budget::uniform(Share::Fraction(1.0));
    let options = MergeOptions { budget, ..MergeOptions::default() };
    let nets = nets.map(|net| {
        let data = samples(&net);
        (net, data)
    });
    merge(nets, &options).0
}

fn emitted(joint: &JointModel, form: Form) -> Model {
    emit::emit(joint, &EmitOptions { form, ..EmitOptions::default() }).unwrap()
}

/// The parameters of a model by name.
fn parameters(model: &Model) -> BTreeMap<&str, &Tensor> {
    let constants = model
        .graph
        .values()
        .filter_map(|(id, value)| Some((value.name.as_str(), model.graph.initializer(id)?)));
    constants.filter(|(_, t)| t.dtype == DataType::F32 && !t.dims.is_empty()).collect()
}

/// Asserts that files have the numbers that the plan counts, and compute the task nets.
fn check(joint: &JointModel) {
    assert!(joint.has_common_weights().unwrap());
    for (name, form, _) in FORMS {
        let model = emitted(joint, *form);
        let stored: usize = parameters(&model).values().map(|tensor| tensor.len()).sum();
        assert_eq!(stored as u64, sizes(joint).unwrap().joint(), "{name}");
        let written = onnx::decode(onnx::encode(&model).unwrap().into(), None, "joint").unwrap();
        let restored = emit::restore(&written).unwrap();
        for (before, after) in joint.tasks().iter().zip(restored.tasks()) {
            assert_eq!(parameters(before.model()), parameters(after.model()), "{name}");
        }
    }
    let batch = exact::batch(joint.tasks()[0].model());
    let alone: Vec<Vec<HostArray>> =
        joint.tasks().iter().map(|task| exact::run(task.model(), &batch)).collect();
    exact::check(joint, &batch, &alone, "blocks");
}

#[test]
fn columns_that_one_task_alone_reads_are_a_block_beside_the_common_ones() {
    let joint = merged([net(1, true), net(2, false)]);
    check(&joint);
    let model = emitted(&joint, Form::Heads);
    let blocks = parameters(&model).into_iter().filter(|(name, _)| name.contains("/c.weight"));
    let blocks: Vec<(&str, &[usize])> =
        blocks.map(|(name, tensor)| (name, tensor.dims.as_slice())).collect();
    assert_eq!(blocks, [("a/c.weight", &[32, 16][..]), ("shared/c.weight", &[32, 24][..])]);
    let products = model.graph.nodes().filter(|(_, node)| node.name == "shared/c").count();
    assert_eq!(products, 1, "the common product is computed once");
}

#[test]
fn columns_that_some_of_several_tasks_read_are_stored_once() {
    check(&merged([net(1, true), net(2, false), net(3, true)]));
}

#[test]
fn layers_that_read_the_same_neurons_stay_whole() {
    let joint = merged([net(1, true), net(2, true)]);
    check(&joint);
    let model = emitted(&joint, Form::Heads);
    let names = parameters(&model).into_keys();
    assert_eq!(names.filter(|name| name.contains("/c.weight")).count(), 1);
}
