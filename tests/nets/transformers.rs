//! Laws of merges of transformers: heads, their depths, hidden units and channels of the residual stream
//! may be permuted.

use std::collections::HashSet;
use std::path::Path;

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::canon::BatchNorm;
use onnx_zip::couple::Coupling;
use onnx_zip::emit::{self, EmitOptions, Form, InputMode};
use onnx_zip::ir::Model;
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions, Method, Passes};
use onnx_zip::onnx;
use onnx_zip::runtime::{HostArray, ModelSource};

use crate::permute::permuted;
use crate::support::{backend, canonical, deviation, merge_in, run};

/// Nets with their heads per group: the number of heads, and the channels of each. One entry serves both
/// layers if they are alike.
const NETS: &[(&str, &[(usize, usize)])] = &[
    // Queries and keys are one group, values another.
    ("open/vision_14", &[(4, 8), (4, 8)]),
    ("open/vision_17", &[(4, 8), (4, 8)]),
    ("transformers/together_14", &[(4, 4), (4, 4)]),
    ("transformers/split_17", &[(4, 4), (4, 4)]),
    // Two heads of keys and values; two heads of queries for each of them.
    ("transformers/grouped_14", &[(2, 8), (2, 4), (2, 4)]),
    ("transformers/grouped_23", &[(2, 8), (2, 4), (2, 4)]),
    // Fused operators of ONNX Runtime.
    ("transformers/contrib_17", &[(4, 4), (4, 4)]),
    ("transformers/optimised_17", &[(4, 8), (4, 8)]),
    // Nodes of newer operator sets and of text generators, for both layers: values, and halves of
    // queries and keys that a rotary embedding combines. Halves that meet one table in one order are one.
    ("transformers/standard_23", &[(2, 4), (2, 4), (2, 4), (2, 2), (2, 2)]),
    ("transformers/cached_17", &[(2, 16), (2, 16), (2, 8), (4, 16), (4, 16), (4, 16)]),
    // Exports of PyTorch.
    ("torch/mha_w_sf_14", &[(4, 4), (4, 4)]),
    ("torch/tel_post_sf_14", &[(4, 4), (4, 4)]),
    ("torch/einsum2_14", &[(4, 4), (4, 4)]),
    ("torch/bmm_14", &[(4, 4), (4, 4)]),
    ("torch/neox_14", &[(4, 4), (4, 4)]),
    ("torch/llama_inter_14", &[(2, 8), (2, 4), (2, 4)]),
    ("torch/gpt_tied_14", &[(4, 4), (4, 4)]),
    ("torch/bert_mask_14", &[(4, 4), (4, 4)]),
    ("torch/open_17", &[(4, 4), (4, 4)]),
];

fn net(name: &str) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
    onnx::load(&folder.join(format!("{name}.onnx"))).unwrap()
}

pub fn samples(model: &Model, len: usize) -> Dataset {
    let session = backend().load(ModelSource::Bytes(&onnx::encode(model).unwrap())).unwrap();
    let dims = [("tokens".to_owned(), 6)].into();
    let options = DataOptions { dims, ..DataOptions::default() };
    Dataset::synthetic(session.inputs(), len, 1, &options).unwrap()
}

fn options(share: f64) -> MergeOptions {
    MergeOptions { budget: Budget::uniform(Share::Fraction(share)), ..MergeOptions::default() }
}

pub fn merged(a: &Model, b: &Model, share: f64) -> JointModel {
    merged_with(a, b, &options(share))
}

fn merged_with(a: &Model, b: &Model, options: &MergeOptions) -> JointModel {
    let data = samples(a, 64);
    let nets = [a, b].map(|net| (net.clone(), data.clone()));
    merge_in(nets, options, 16).0
}

/// The joint model in one form.
pub fn written(joint: &JointModel, form: Form) -> Model {
    emit::emit(joint, &EmitOptions { form, ..EmitOptions::default() }).unwrap()
}

/// Number of elements of floating-point constants.
pub fn parameters(model: &Model) -> usize {
    let constants = model.graph.values().filter_map(|(id, _)| model.graph.initializer(id));
    constants.filter(|t| t.dtype.is_float()).map(|t| t.dims.iter().product::<usize>()).sum()
}

/// Number of elements of matrices, filters and tables, and of those that have equals before them.
fn weights(model: &Model) -> (usize, usize) {
    let constants = model.graph.values().filter_map(|(id, _)| model.graph.initializer(id));
    let weights = constants.filter(|t| t.dtype.is_float() && t.dims.len() > 1);
    let (mut all, mut again, mut seen) = (0, 0, HashSet::new());
    for weight in weights {
        let len = weight.dims.iter().product::<usize>();
        all += len;
        again += if seen.insert((&weight.dims, &weight.data)) { 0 } else { len };
    }
    (all, again)
}

/// Asserts that a weight that the plan shares is one parameter when the joint model is trained. Weights of
/// one net that only happen to be equal train apart.
fn check_trained(joint: &JointModel, name: &str) {
    let stored = weights(&written(joint, Form::Heads)).0;
    let apart: usize = joint.tasks().iter().map(|task| weights(task.model()).1).sum();
    let trained = weights(&emit::trainable(joint, InputMode::Auto).unwrap().model).0;
    assert!(trained <= stored + apart, "{name}: {trained} trained, {stored} + {apart} stored");
}

pub fn count(model: &Model, op: &str) -> usize {
    named(model, op).len()
}

fn named<'m>(model: &'m Model, op: &str) -> Vec<&'m str> {
    model
        .graph
        .nodes()
        .filter(|(_, node)| node.is(op))
        .map(|(_, node)| node.name.as_str())
        .collect()
}

/// The largest deviation of a joint model's outputs from those of the original nets.
pub fn lost(joint: &JointModel, form: Form, nets: [&Model; 2]) -> f32 {
    let batch = samples(nets[0], 8).batch(0..8).unwrap();
    let model = written(joint, form);
    let task = |task: i64| {
        let mut feeds = batch.clone();
        if form != Form::Heads {
            let task = ndarray::ArrayD::from_elem(ndarray::IxDyn(&[1]), task);
            feeds.push(("task".to_owned(), HostArray::I64(task)));
        }
        run(&model, &feeds).swap_remove(task as usize)
    };
    let losses = nets
        .iter()
        .zip([task(0), task(1)])
        .map(|(net, joined)| deviation(&joined, &run(net, &batch)[0]));
    losses.max_by(f32::total_cmp).unwrap_or(0.0)
}

#[test]
fn every_head_and_every_stream_is_found() {
    for (name, heads) in NETS {
        let model = canonical(&net(name), BatchNorm::Fold);
        let coupling = Coupling::of(&model.graph).unwrap();
        let sizes: Vec<(usize, usize)> =
            coupling.nests.iter().map(|nest| (nest.blocks().len(), nest.width())).collect();
        let heads = heads.repeat(if heads.len() > 5 { 1 } else { 2 });
        assert_eq!(sizes, heads, "{name}");
        let streams = coupling.groups.iter().filter(|group| group.producers.len() > 2);
        assert_eq!(streams.count(), 1, "{name}");
    }
}

#[test]
fn a_permuted_transformer_is_recognised_and_nothing_is_gathered() {
    for (name, _) in NETS {
        let a = net(name);
        let b = permuted(&a, 7);
        let batch = samples(&a, 8).batch(0..8).unwrap();
        assert!(deviation(&run(&b, &batch)[0], &run(&a, &batch)[0]) < 1e-5, "{name}: the copy");
        let gathers = count(&canonical(&a, BatchNorm::Fold), "Gather");
        assert_eq!(count(&b, "Gather"), gathers, "{name}: the copy gathers nothing");
        let joint = merged(&a, &b, 1.0);
        let model = written(&joint, Form::Heads);
        let all = parameters(&canonical(&a, BatchNorm::Fold)) + parameters(&b);
        let part = parameters(&model) as f64 / all as f64;
        assert!(part <= 0.51, "{name}: {part}");
        // If the halves of a gate alternate, three nodes reorder each of the two gates.
        let ordering = if *name == "torch/llama_inter_14" { 6 } else { 0 };
        let most = 2 * gathers + ordering;
        assert!(count(&model, "Gather") <= most, "{name}: {:?}", named(&model, "Gather"));
        for form in [Form::Heads, Form::Switch, Form::Masked] {
            let lost = lost(&joint, form, [&a, &b]);
            assert!(lost < 1e-4, "{name} {form:?} lost {lost}");
        }
    }
}

#[test]
fn a_transformer_with_itself_is_half() {
    for (name, _) in NETS {
        let a = net(name);
        let model = written(&merged(&a, &a, 1.0), Form::Heads);
        let alone = parameters(&canonical(&a, BatchNorm::Fold));
        assert!(parameters(&model) <= alone, "{name}: {} against {alone}", parameters(&model));
    }
}

#[test]
fn whatever_is_shared_every_form_computes_what_the_task_nets_compute() {
    for (name, _) in NETS {
        let a = net(name);
        let b = rescaled(&a);
        for share in [0.0, 0.5, 1.0] {
            // Forms do not depend on the method, and this one loads the fewest parts of nets.
            let zip = MergeOptions { method: Method::Mtz, passes: Passes::One, ..options(share) };
            let joint = merged_with(&a, &b, &zip);
            let tasks = [joint.tasks()[0].model(), joint.tasks()[1].model()];
            for form in [Form::Heads, Form::Switch, Form::Masked] {
                let lost = lost(&joint, form, tasks);
                assert!(lost < 1e-4, "{name} at {share}, {form:?}: {lost}");
            }
            check_trained(&joint, &format!("{name} at {share}"));
            if share == 0.0 {
                let lost = self::lost(&joint, Form::Heads, [&a, &b]);
                assert!(lost < 1e-5, "{name} shares nothing and lost {lost}");
            }
        }
    }
}

/// A net like `model` with other weights.
fn rescaled(model: &Model) -> Model {
    let mut other = permuted(model, 3);
    let weights: Vec<_> = other.graph.values().map(|(id, _)| id).collect();
    for (n, id) in weights.into_iter().enumerate() {
        let Some(tensor) = other.graph.initializer(id).filter(|t| t.dtype.is_float()) else {
            continue;
        };
        if tensor.dims.len() < 2 {
            continue;
        }
        let mut values = tensor.to_f32().unwrap();
        values
            .iter_mut()
            .enumerate()
            .for_each(|(i, v)| *v += 0.05 * ((i * 37 + n * 11) as f32).sin());
        other.graph.set_initializer(id, onnx_zip::ir::Tensor::from_f32(&values));
    }
    other
}
