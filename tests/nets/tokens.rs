//! Layers over tokens, of text encoders and vision transformers.

use std::path::Path;

use ndarray::{ArrayD, Axis};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use onnx_zip::calib::data::{DataOptions, Dataset, tables};
use onnx_zip::canon::BatchNorm;
use onnx_zip::couple::{Coupling, GroupId};
use onnx_zip::emit::{self, EmitOptions, FORMS, Form};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{DataType, Model, Tensor};
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions, Method};
use onnx_zip::onnx;
use onnx_zip::ops::LayerKind;
use onnx_zip::runtime::{HostArray, ModelSource};

use crate::support::{self, backend, canonical, deviation, model, run};

/// Samples of text for an encoder, or random images or ids.
fn samples(net: &Model) -> Dataset {
    let bytes = onnx::encode(net).unwrap();
    let session = backend().load(ModelSource::Bytes(&bytes)).unwrap();
    match session.inputs().len() {
        2 => text(net, "tokens"),
        _ => {
            let dims = [("t".to_owned(), 7)].into();
            let options =
                DataOptions { dims, tables: tables(&net.graph), ..DataOptions::default() };
            Dataset::synthetic(session.inputs(), 64, 1, &options).unwrap()
        }
    }
}

/// Ids and masks of a fixture.
fn text(net: &Model, name: &str) -> Dataset {
    let bytes = onnx::encode(net).unwrap();
    let session = backend().load(ModelSource::Bytes(&bytes)).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/open");
    let path = folder.join(format!("{name}.npz"));
    Dataset::open(&path, session.inputs(), &DataOptions::default()).unwrap()
}

fn outputs(net: &Model, data: &Dataset, task: Option<usize>) -> Vec<ArrayD<f32>> {
    let mut batch = data.batch(0..data.len()).unwrap();
    let selected = task.map(|task| ArrayD::from_elem(ndarray::IxDyn(&[1]), task as i64));
    batch.extend(selected.map(|task| ("task".to_owned(), HostArray::I64(task))));
    run(net, &batch)
}

/// The outputs of every task in one form of a joint model.
fn joint_outputs(joint: &JointModel, data: &Dataset, form: Form) -> Vec<ArrayD<f32>> {
    let written = emit::emit(joint, &EmitOptions { form, ..EmitOptions::default() }).unwrap();
    match form {
        Form::Heads => outputs(&written, data, None),
        _ => {
            let tasks = 0..joint.tasks().len();
            tasks.map(|task| outputs(&written, data, Some(task)).swap_remove(task)).collect()
        }
    }
}

fn options(method: Method, share: f64) -> MergeOptions {
    let budget = Budget::uniform(Share::Fraction(share));
    MergeOptions { method, budget, ..MergeOptions::default() }
}

fn merge(a: &Model, b: &Model, options: &MergeOptions) -> JointModel {
    let data = samples(a);
    support::merge([(a.clone(), data.clone()), (b.clone(), data)], options).0
}

/// Bytes of the constants with consumers: others are not written to files.
fn bytes(net: &Model) -> usize {
    let readers = net.graph.consumers();
    let read = net.graph.values().filter(|(id, _)| !readers[id.index()].is_empty());
    read.filter_map(|(id, _)| net.graph.initializer(id)).map(|tensor| tensor.data.len()).sum()
}

fn written(joint: &JointModel) -> Model {
    emit::emit(joint, &EmitOptions::default()).unwrap()
}

/// A copy with noise added to weights, biases and tables, of `by` times their standard deviation.
fn moved(net: &Model, by: f32) -> Model {
    let mut net = net.clone();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    let ids: Vec<_> = net.graph.values().map(|(id, _)| id).collect();
    for id in ids {
        let Some(tensor) = net.graph.initializer(id) else { continue };
        if !tensor.dtype.is_float() || tensor.dims.is_empty() {
            continue;
        }
        let mut values = tensor.to_f32().unwrap();
        let spread = values.std(0.0).max(0.05);
        values.mapv_inplace(|v| v + by * spread * (2.0 * rng.random::<f32>() - 1.0));
        net.graph.set_initializer(id, Tensor::from_f32(&values));
    }
    net
}

/// The net in canonical form with the hidden units of every perceptron permuted.
fn permuted_units(net: &Model) -> Model {
    let mut net = canonical(net, BatchNorm::Fold);
    let coupling = Coupling::of(&net.graph).unwrap();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    for (id, group) in coupling.groups() {
        let ([up], [down]) = (group.producers.as_slice(), group.consumers.as_slice()) else {
            continue;
        };
        let (up, down) = (coupling.layer(*up), coupling.layer(*down));
        let only = |channels: &[onnx_zip::couple::Channel], id: GroupId| {
            channels.iter().enumerate().all(|(i, c)| c.group == id && c.index == i)
        };
        let has_heads = coupling.nest(id).is_some();
        if has_heads || !only(&up.outputs, id) || !only(down.inputs.as_deref().unwrap(), id) {
            continue;
        }
        let mut order: Vec<usize> = (0..group.size).collect();
        order.shuffle(&mut rng);
        let bias = up.layer.read_bias(&net.graph).unwrap().map(|b| b.select(Axis(0), &order));
        let rows = up.layer.read(&net.graph).unwrap().select(Axis(0), &order);
        let columns = down.layer.read(&net.graph).unwrap().select(Axis(1), &order);
        up.layer.write(&mut net.graph, &rows, bias.as_ref()).unwrap();
        down.layer.write(&mut net.graph, &columns, None).unwrap();
    }
    net
}

const NETS: [&str; 4] = ["open/encoder_14", "open/encoder_17", "open/vision_14", "open/vision_17"];

#[test]
fn every_product_of_tokens_has_a_bias() {
    for name in NETS {
        let net = canonical(&model(name), BatchNorm::Fold);
        let coupling = Coupling::of(&net.graph).unwrap();
        let products = coupling.layers.iter().filter(|l| l.layer.kind == LayerKind::MatMul);
        let mut count = 0;
        for layer in products {
            let bias = layer.layer.read_bias(&net.graph).unwrap();
            assert!(bias.is_some(), "{name} {}", layer.name);
            count += 1;
        }
        assert_eq!(count, 12, "{name}");
    }
}

#[test]
fn sharing_nothing_leaves_transformers_as_they_are() {
    for name in NETS {
        let a = model(name);
        let b = moved(&a, 1.0);
        let data = samples(&a);
        let joint = merge(&a, &b, &options(Method::Refit, 0.0));
        for (_, form, _) in FORMS {
            let joined = joint_outputs(&joint, &data, *form);
            for (net, joined) in [&a, &b].into_iter().zip(joined) {
                let alone = outputs(net, &data, None).remove(0);
                assert!(deviation(&joined, &alone) < 1e-5, "{name} {form:?}");
            }
        }
        assert!(bytes(&written(&joint)) <= bytes(&a) + bytes(&b), "{name}");
    }
}

#[test]
fn a_transformer_with_itself_is_half() {
    for name in NETS {
        let a = model(name);
        let joint = merge(&a, &a, &options(Method::Refit, 1.0));
        let (joined, data) = (written(&joint), samples(&a));
        assert!(bytes(&joined) as f64 <= 1.01 * bytes(&a) as f64, "{name}");
        for joined in outputs(&joined, &data, None) {
            let alone = outputs(&a, &data, None).remove(0);
            assert!(deviation(&joined, &alone) < 1e-5, "{name}");
        }
    }
}

#[test]
fn hidden_units_in_another_order_are_recognised() {
    for name in ["open/encoder_17", "open/vision_14"] {
        let a = model(name);
        let (b, data) = (permuted_units(&a), samples(&a));
        let original = outputs(&a, &data, None).remove(0);
        assert!(deviation(&outputs(&b, &data, None)[0], &original) < 1e-5, "it computes the same");
        let joint = merge(&a, &b, &options(Method::Refit, 1.0));
        for (_, form, _) in FORMS {
            for joined in joint_outputs(&joint, &data, *form) {
                assert!(deviation(&joined, &original) < 1e-4, "{name} {form:?}");
            }
        }
        let joined = written(&joint);
        assert!(bytes(&joined) as f64 <= 1.05 * bytes(&a) as f64, "{name} {}", bytes(&joined));
    }
}

#[test]
fn refitting_reaches_products_of_tokens() {
    let a = model("open/vision_14");
    let (b, data) = (moved(&a, 0.3), samples(&a));
    let loss = |method| {
        let joint = merge(&a, &b, &options(method, 1.0));
        let joined = outputs(&written(&joint), &data, None);
        let alone = [&a, &b].map(|net| outputs(net, &data, None).remove(0));
        let errors = joined.iter().zip(&alone).map(|(x, y)| (x - y).mapv(|d| d * d).sum());
        errors.sum::<f32>()
    };
    let (refit, mtz) = (loss(Method::Refit), loss(Method::Mtz));
    assert!(refit < 0.7 * mtz, "{refit} {mtz}");
}

#[test]
fn padding_tells_nothing_of_a_layers_inputs() {
    let a = model("open/encoder_17");
    let b = moved(&a, 0.3);
    let merged = |name: &str| {
        let data = text(&a, name);
        let nets = [(a.clone(), data.clone()), (b.clone(), data)];
        onnx::encode(&written(&support::merge(nets, &options(Method::Refit, 1.0)).0)).unwrap()
    };
    assert!(merged("tokens") == merged("tokens_padded"));
}

/// A net of one perceptron over embedded tokens.
fn embedded(rows: usize) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let ids = b.typed_input("ids", DataType::I64, "n,t");
    let (table, up) = (b.weights("table", &[rows, 16]), b.weights("up", &[16, 24]));
    let (down, out) = (b.weights("down", &[24, 16]), b.weights("out", &[16, 3]));
    let x = b.op("Gather", "x", &[table, ids], []);
    let hidden = b.op("MatMul", "hidden", &[x, up], []);
    let hidden = b.op("Relu", "relu", &[hidden], []);
    let y = b.op("MatMul", "down", &[hidden, down], []);
    let y = b.op("Relu", "relu2", &[y], []);
    let y = b.op("MatMul", "y", &[y, out], []);
    b.build(&[y])
}

#[test]
fn rows_of_one_vocabulary_are_fused_and_those_of_others_stay() {
    let a = embedded(40);
    let (near, other) = (moved(&a, 0.02), embedded(50));
    let joint = merge(&a, &near, &options(Method::Refit, 1.0));
    let size = bytes(&written(&joint));
    let own = 3 * 17 * 4;
    assert!(size < bytes(&a) + own + 600, "{size} of {}", bytes(&a));
    let joined = outputs(&written(&joint), &samples(&a), None);
    for (net, joined) in [&a, &near].into_iter().zip(joined) {
        assert!(deviation(&joined, &outputs(net, &samples(&a), None)[0]) < 0.05);
    }
    let joint = merge(&a, &other, &options(Method::Refit, 1.0));
    let rows: Vec<usize> = written(&joint)
        .graph
        .values()
        .filter_map(|(id, _)| Some(written(&joint).graph.initializer(id)?.dims.clone()))
        .filter(|dims| dims.len() == 2 && dims[1] == 16 && dims[0] >= 40)
        .map(|dims| dims[0])
        .collect();
    assert_eq!(rows, [40, 50]);
}

/// A net whose output layer is its embedding, transposed.
fn tied() -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let ids = b.typed_input("ids", DataType::I64, "n,t");
    let (table, up) = (b.weights("table", &[80, 16]), b.weights("up", &[16, 24]));
    let down = b.weights("down", &[24, 16]);
    let x = b.op("Gather", "x", &[table, ids], []);
    let hidden = b.op("MatMul", "hidden", &[x, up], []);
    let hidden = b.op("Relu", "relu", &[hidden], []);
    let y = b.op("MatMul", "down", &[hidden, down], []);
    let matrix = b.op("Transpose", "matrix", &[table], [("perm", [1, 0].into())]);
    let y = b.op("MatMul", "y", &[y, matrix], []);
    b.build(&[y])
}

#[test]
fn tied_embeddings_stay_tied() {
    let a = tied();
    let b = moved(&a, 1.0);
    let data = samples(&a);
    for share in [0.0, 1.0] {
        let joint = merge(&a, &b, &options(Method::Refit, share));
        let joined = written(&joint);
        let stored = (bytes(&joined), bytes(&a) + bytes(&b));
        // At full share, refitted biases are stored in addition.
        assert!(stored.0 <= stored.1 + 2 * 4 * (24 + 16 + 80), "{share}: {stored:?}");
        let restored = emit::restore(&joined).unwrap();
        for (task, joined) in restored.tasks().iter().zip(outputs(&joined, &data, None)) {
            assert!(deviation(&outputs(task.model(), &data, None)[0], &joined) < 1e-5, "{share}");
        }
        if share == 0.0 {
            for (net, joined) in [&a, &b].into_iter().zip(outputs(&joined, &data, None)) {
                assert!(deviation(&joined, &outputs(net, &data, None)[0]) < 1e-6);
            }
        }
    }
}

/// A net without any layer: its constants are read by an operator without a rule. The second constant is
/// multiplied by `factor`.
fn unknown(factor: f32) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "n,4,64");
    let scale = b.weights("scale", &[4, 64]);
    let other = b.weights("other", &[4, 64]);
    let scaled = b.graph().initializer(other).unwrap().to_f32().unwrap() * factor;
    b.graph().set_initializer(other, Tensor::from_f32(&scaled));
    let y = b.op("Mod", "mod", &[x, scale], [("fmod", 1.into())]);
    let y = b.op("Mod", "more", &[y, other], [("fmod", 1.into())]);
    b.build(&[y])
}

#[test]
fn what_is_equal_is_stored_once_whatever_reads_it() {
    let (a, b) = (unknown(1.0), unknown(2.0));
    let nothing = options(Method::Refit, 1.0);
    for (other, parts) in [(&b, 3.0), (&a, 2.0)] {
        let joint = merge(&a, other, &nothing);
        let joined = written(&joint);
        assert_eq!(bytes(&joined) as f64, parts * bytes(&a) as f64 / 2.0);
        let data = samples(&a);
        for (net, joined) in [&a, other].into_iter().zip(outputs(&joined, &data, None)) {
            assert_eq!(joined, outputs(net, &data, None)[0]);
        }
    }
}
