//! Laws that every merge obeys, on trained nets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{ArrayD, Axis};
use rand::SeedableRng;
use rand::seq::SliceRandom;

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::couple::{Coupling, LayerId};
use onnx_zip::emit::{self, EmitOptions, FORMS, Form};
use onnx_zip::ir::Model;
use onnx_zip::onnx;
use onnx_zip::progress::Silent;
use onnx_zip::runtime::{self, Backend, HostArray, ModelSource, RuntimeOptions, feeds};
use onnx_zip::zip::joint::{JointModel, Task};
use onnx_zip::zip::matcher::Share;
use onnx_zip::zip::options::{Budget, Method, Passes, ZipOptions};
use onnx_zip::zipper::{self, Calibration, Input, Outcome};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn model(name: &str) -> Model {
    onnx::load(&fixture(&format!("models/{name}.onnx"))).unwrap()
}

fn backend() -> Arc<dyn Backend> {
    runtime::open(&RuntimeOptions::default()).unwrap()
}

fn images(model: &Model, samples: usize) -> Dataset {
    let bytes = onnx::encode(model).unwrap();
    let session = backend().load(ModelSource::Bytes(&bytes)).unwrap();
    let options = DataOptions { scale: Some("1/255".parse().unwrap()), ..DataOptions::default() };
    let path = fixture("data/mnist_train.npz");
    Dataset::open(&path, session.inputs(), &options).unwrap().take(samples)
}

fn merge(a: Model, b: Model, options: &ZipOptions) -> (JointModel, Outcome) {
    let data = vec![images(&a, 600), images(&b, 600)];
    let calibration = Calibration { backend: backend(), data, batch: 100, memory: 1 << 30 };
    let inputs = vec![Input { name: "a".into(), model: a }, Input { name: "b".into(), model: b }];
    let prepared = zipper::prepare(inputs).unwrap();
    zipper::merge(prepared, &calibration, options, &Silent).unwrap()
}

fn options(method: Method, share: f64) -> ZipOptions {
    ZipOptions { method, budget: Budget::uniform(Share::Fraction(share)), ..ZipOptions::default() }
}

fn outputs(model: &Model, extra: &[(String, HostArray)]) -> Vec<ArrayD<f32>> {
    let bytes = onnx::encode(model).unwrap();
    let mut session = backend().load(ModelSource::Bytes(&bytes)).unwrap();
    let mut batch = images(&self::model("lenet5_mnist_a"), 64).batch(0..64).unwrap();
    batch.extend(extra.iter().cloned());
    session.run(&feeds(&batch)).unwrap().into_iter().map(|a| a.into_f32().unwrap()).collect()
}

/// Largest difference relative to the largest magnitude.
fn deviation(a: &ArrayD<f32>, b: &ArrayD<f32>) -> f32 {
    assert_eq!(a.shape(), b.shape());
    let scale = b.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / scale
}

/// The net with the channels of every hidden group in another order.
fn permuted(model: &Model, seed: u64) -> Model {
    let mut task = Task::new("p", typed(model)).unwrap();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let orders: Vec<Vec<usize>> = task
        .coupling
        .groups
        .iter()
        .map(|g| {
            let mut order: Vec<usize> = (0..g.size).collect();
            if g.frozen.is_none() {
                order.shuffle(&mut rng);
            }
            order
        })
        .collect();
    let coupling: Coupling = task.coupling.clone();
    for id in 0..coupling.layers.len() {
        let layer = coupling.layer(LayerId(id));
        let graph = &mut task.model.graph;
        let w = layer.layer.read(graph).unwrap();
        let bias = layer.layer.read_bias(graph).unwrap();
        let place = |channels: &[onnx_zip::couple::Channel]| -> Vec<usize> {
            channels
                .iter()
                .enumerate()
                .map(|(at, c)| {
                    // The at-th index holds the n-th pixel of its channel: take the same pixel of
                    // the channel that comes here.
                    let nth = channels[..at].iter().filter(|d| *d == c).count();
                    let wanted = orders[c.group.0][c.index];
                    let mut same = channels
                        .iter()
                        .enumerate()
                        .filter(|(_, d)| d.group == c.group && d.index == wanted);
                    same.nth(nth).unwrap().0
                })
                .collect()
        };
        let rows = place(&layer.outputs);
        let columns = place(layer.inputs.as_ref().unwrap());
        let w = w.select(Axis(0), &rows).select(Axis(1), &columns);
        let bias = bias.map(|b| b.select(Axis(0), &rows));
        layer.layer.write(graph, &w, bias.as_ref()).unwrap();
    }
    task.model
}

fn typed(model: &Model) -> Model {
    let options = onnx_zip::canon::CanonOptions::default();
    onnx_zip::canon::canonicalise(model.clone(), &options).unwrap().into_inner()
}

fn joint_outputs(joint: &JointModel, form: Form) -> Vec<ArrayD<f32>> {
    let model = emit::emit(joint, &EmitOptions { form, ..EmitOptions::default() }).unwrap();
    if form == Form::Heads {
        return outputs(&model, &[]);
    }
    (0..joint.tasks.len())
        .map(|task| {
            let selected = ArrayD::from_elem(ndarray::IxDyn(&[1]), task as i64);
            outputs(&model, &[("task".to_owned(), HostArray::I64(selected))]).swap_remove(task)
        })
        .collect()
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
fn all_forms_of_a_partial_merge_agree_with_its_task_nets() {
    let (a, b) = (model("lenet5_mnist_a"), model("lenet5_mnist_b"));
    let (joint, _) = merge(a, b, &options(Method::Refit, 0.5));
    let alone: Vec<ArrayD<f32>> =
        joint.tasks.iter().map(|t| outputs(&t.model, &[]).remove(0)).collect();
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
        joint.tasks.iter().map(|t| outputs(&t.model, &[]).remove(0)).collect();
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
    let options = ZipOptions { passes: Passes::One, ..options(Method::Mtz, 1.0) };
    let (joint, outcome) = merge(a.clone(), b, &options);
    assert_eq!(outcome.sites[1].shared, 100);
    let lost = deviation(&joint_outputs(&joint, Form::Heads)[0], &outputs(&a, &[])[0]);
    assert!(lost > 1e-3 && lost < 1.0, "two nets are not one: {lost}");
}
