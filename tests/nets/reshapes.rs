//! Nets in which a `Reshape` moves or adds axes of extent 1. Exporters write this to change between
//! channels last and channels first when no element moves.

use ndarray::ArrayD;

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::emit::{self, EmitOptions, FORMS, Form};
use onnx_zip::ir::Model;
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions, Method};
use onnx_zip::onnx;
use onnx_zip::runtime::{HostArray, ModelSource};

use crate::permute::permuted;
use crate::support::{self, backend, deviation};

/// A net for grey images with channels last. Between its second and third layer, channels are on axis 2.
/// The third layer has one filter, whose channel moves to the last axis and back.
fn images(seed: usize, batch: &str) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    // An unused draw changes the random weights that follow.
    b.weights("unused", &[seed + 1]);
    let x = b.input("x", &format!("{batch},8,6,1"));
    let widths = b.ints("widths", &[0, 1, 1, 0, 0, 1, 1, 0]);
    let x = b.op("Pad", "pad", &[x, widths], []);
    let mut reshaped = 0;
    let mut reshape = |b: &mut GraphBuilder, x, target: &[i64]| {
        reshaped += 1;
        let target = b.ints(&format!("target{reshaped}"), target);
        b.op("Reshape", &format!("reshape{reshaped}"), &[x, target], [])
    };
    let conv = |b: &mut GraphBuilder, name: &str, x, dims: &[usize]| {
        let (w, bias) =
            (b.weights(&format!("{name}.w"), dims), b.weights(&format!("{name}.b"), &dims[..1]));
        let y = b.op("Conv", name, &[x, w, bias], []);
        b.op("LeakyRelu", &format!("{name}.relu"), &[y], [])
    };
    let x = reshape(&mut b, x, &[-1, 1, 10, 8]);
    let x = conv(&mut b, "first", x, &[6, 1, 3, 3]);
    let x = conv(&mut b, "second", x, &[6, 6, 3, 6]);
    // Zeros copy extents by position: the first reshape copies one of the image, which happens to equal
    // the number of channels, to their place. The second one reverses this.
    let x = reshape(&mut b, x, &[0, 1, 0, -1]);
    let x = b.op("Tanh", "tanh", &[x], []);
    let x = reshape(&mut b, x, &[0, -1, 0, 1]);
    let x = conv(&mut b, "narrow", x, &[1, 6, 3, 1]);
    let x = reshape(&mut b, x, &[0, 4, 1, 1]);
    let x = b.op("Tanh", "last", &[x], []);
    let x = reshape(&mut b, x, &[-1, 1, 4, 1]);
    let x = conv(&mut b, "wide", x, &[5, 1, 2, 1]);
    let x = b.op("Flatten", "flat", &[x], []);
    let (w, bias) = (b.weights("head.w", &[3, 15]), b.weights("head.b", &[3]));
    let y = b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())]);
    b.build(&[y])
}

/// A net for sounds, whose input has no axis of channels.
fn sounds(seed: usize, batch: &str) -> Model {
    let mut b = GraphBuilder::new("sounds", 17);
    b.weights("unused", &[seed + 1]);
    let x = b.input("x", &format!("{batch},40"));
    let (mean, target) = (b.scalar("mean", 0.25), b.ints("target", &[-1, 1, 40]));
    let x = b.op("Sub", "centred", &[x, mean], []);
    let x = b.op("Reshape", "added", &[x, target], []);
    let (w, bias) = (b.weights("first.w", &[6, 1, 5]), b.weights("first.b", &[6]));
    let x = b.op("Conv", "first", &[x, w, bias], [("strides", [3].into())]);
    let x = b.op("Relu", "relu", &[x], []);
    let x = b.op("GlobalAveragePool", "pool", &[x], []);
    let x = b.op("Flatten", "flat", &[x], []);
    let (w, bias) = (b.weights("head.w", &[3, 6]), b.weights("head.b", &[3]));
    let y = b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())]);
    b.build(&[y])
}

fn samples(model: &Model) -> Dataset {
    let session = backend().load(ModelSource::Bytes(&onnx::encode(model).unwrap())).unwrap();
    Dataset::synthetic(session.inputs(), 200, 1, &DataOptions::default()).unwrap()
}

fn merge(nets: [Model; 2], method: Method, share: f64) -> (JointModel, Vec<usize>) {
    let budget = Budget::uniform(Share::Fraction(share));
    let options = MergeOptions { method, budget, ..MergeOptions::default() };
    let nets = nets.map(|net| {
        let data = samples(&net);
        (net, data)
    });
    let (joint, outcome) = support::merge(nets, &options);
    (joint, outcome.sites.iter().map(|site| site.shared).collect())
}

fn outputs(model: &Model, data: &Dataset, task: Option<usize>) -> Vec<ArrayD<f32>> {
    let mut batch = data.batch(0..1).unwrap();
    batch[0].0.clone_from(&model.graph.value(model.graph.inputs[0]).name);
    let selected = task.map(|task| HostArray::I64(ArrayD::from_elem(vec![1], task as i64)));
    batch.extend(selected.map(|task| ("task".to_owned(), task)));
    support::run(model, &batch)
}

/// The outputs of each task in a form of the joint model.
fn joint_outputs(joint: &JointModel, form: Form, data: &Dataset) -> Vec<ArrayD<f32>> {
    let model = emit::emit(joint, &EmitOptions { form, ..EmitOptions::default() }).unwrap();
    match form {
        Form::Heads => outputs(&model, data, None),
        _ => (0..2).map(|task| outputs(&model, data, Some(task)).swap_remove(task)).collect(),
    }
}

#[test]
fn every_form_computes_what_the_task_nets_do_and_sharing_nothing_changes_nothing() {
    let kinds: [fn(usize, &str) -> Model; 2] = [images, sounds];
    for (net, batch) in kinds.into_iter().flat_map(|net| ["n", "?", "1"].map(|n| (net, n))) {
        let nets = [net(0, batch), net(1, batch)];
        let data = samples(&nets[0]);
        for share in [0.0, 0.5] {
            let (joint, shared) = merge(nets.clone(), Method::Refit, share);
            assert_eq!(shared.iter().sum::<usize>() > 0, share > 0.0);
            for (_, form, _) in FORMS {
                let joined = joint_outputs(&joint, *form, &data);
                for (task, joined) in joined.iter().enumerate() {
                    let alone = match share {
                        0.0 => &nets[task],
                        _ => joint.tasks()[task].model(),
                    };
                    let lost = deviation(joined, &outputs(alone, &data, None)[0]);
                    assert!(lost < 1e-5, "{form:?} at {share}, batch {batch}: lost {lost}");
                }
            }
        }
    }
}

#[test]
fn a_permuted_copy_is_recognised_and_nothing_is_lost() {
    for (a, shared) in [(images(0, "n"), vec![6, 6, 1, 5, 0]), (sounds(0, "n"), vec![6, 0])] {
        let b = permuted(&a, 7);
        let data = samples(&a);
        let original = outputs(&a, &data, None).remove(0);
        let moved = deviation(&outputs(&b, &data, None)[0], &original);
        assert!(moved < 1e-5, "the copy computes the same");
        for method in [Method::Mtz, Method::Refit] {
            let (joint, found) = merge([a.clone(), b.clone()], method, 1.0);
            assert_eq!(found, shared);
            for joined in joint_outputs(&joint, Form::Heads, &data) {
                let lost = deviation(&joined, &original);
                assert!(lost < 1e-4, "{method:?} lost {lost}");
            }
        }
    }
}
