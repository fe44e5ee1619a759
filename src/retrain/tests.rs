//! Retraining of small merged nets.

mod outputs;
mod rates;
mod rounds;

use std::sync::Arc;

use super::*;
use crate::align::TaskId;
use crate::calib::data::{DataOptions, Dataset};
use crate::emit::{EmitOptions, InputMode, emit, trainable};
use crate::error::ErrorKind;
use crate::ir::Model;
use crate::ir::builder::GraphBuilder;
use crate::mtz::joint::JointModel;
use crate::mtz::matching::Share;
use crate::mtz::options::{Budget, MergeOptions, Method};
use crate::onnx;
use crate::progress::Silent;
use crate::runtime::{self, Backend, ModelSource, RuntimeOptions};
use crate::zipper::{self, Calibration, Input, Job, Prepared};

fn backend() -> Arc<dyn Backend> {
    runtime::open(&RuntimeOptions::default()).unwrap()
}

/// A small convolutional classifier; nets of different `skip` have different weights.
fn net(skip: usize) -> Model {
    net_of(skip, "batch,2,6,6")
}

/// [`net`] with an input of the shape `dims`.
fn net_of(skip: usize, dims: &str) -> Model {
    let mut b = GraphBuilder::new("net", 13);
    b.weights("unused", &[skip]);
    let x = b.input("x", dims);
    let (w1, b1) = (b.weights("w1", &[8, 2, 3, 3]), b.weights("b1", &[8]));
    let (w2, b2) = (b.weights("w2", &[6, 72]), b.weights("b2", &[6]));
    let w3 = b.weights("w3", &[4, 6]);
    let h = b.op("Conv", "conv", &[x, w1, b1], [("pads", [1, 1, 1, 1].into())]);
    let h = b.op("Relu", "relu1", &[h], []);
    let strides = ("strides", [2, 2].into());
    let h = b.op("MaxPool", "pool", &[h], [("kernel_shape", [2, 2].into()), strides]);
    let h = b.op("Flatten", "flat", &[h], []);
    let h = b.op("Gemm", "fc", &[h, w2, b2], [("transB", 1.into())]);
    let h = b.op("Relu", "relu2", &[h], []);
    let y = b.op("Gemm", "logits", &[h, w3], [("transB", 1.into())]);
    let y = b.op("Softmax", "y", &[y], [("axis", 1.into())]);
    b.build(&[y])
}

fn samples(model: &Model, seed: u64) -> Dataset {
    let bytes = onnx::encode(model).unwrap();
    let session = backend().load(ModelSource::Bytes(&bytes)).unwrap();
    Dataset::synthetic(session.inputs(), 400, seed, &DataOptions::default()).unwrap()
}

/// Two nets merged with this share of hidden neurons, the original nets, and samples.
fn merged(share: f64) -> (JointModel, [Model; 2], Dataset) {
    // A fit to the few samples would leave nothing to learn from them.
    let (joint, _, nets, data) = merged_by(Method::Mtz, share, None);
    (joint, nets, data)
}

fn prepared(nets: &[Model; 2]) -> Prepared {
    let named = ["a", "b"].iter().zip(nets);
    let inputs =
        named.map(|(name, model)| Input { name: (*name).to_owned(), model: model.clone() });
    zipper::prepare(inputs.collect()).unwrap()
}

/// A merge that retrains after each layer if a learning rate is given.
fn merged_by(
    method: Method,
    share: f64,
    rate: Option<f64>,
) -> (JointModel, Option<Retrained>, [Model; 2], Dataset) {
    let nets = [net(1), net(50)];
    let data = samples(&nets[0], 3);
    let prepared = prepared(&nets);
    let calibration = Calibration {
        backend: backend(),
        data: vec![data.clone(), data.clone()],
        stored: Vec::new(),
        predicts: false,
        batch: 64,
        memory: 1 << 30,
        shards: None,
    };
    let zip = MergeOptions {
        method,
        budget: Budget::uniform(Share::Fraction(share)),
        ..MergeOptions::default()
    };
    let sets = [data.clone()];
    let plan = rate.map(|rate| Retraining {
        when: When::PerLayer,
        lesson: lesson(&sets, &nets, calibration.backend.as_ref()),
        tests: &[],
        options: RetrainOptions { rate: Rate::Absolute(rate), patience: None, ..options() },
        original_iterations: None,
    });
    let job = Job::new(&calibration, &zip, &Silent);
    let retraining = plan.as_ref();
    let (joint, outcome) =
        zipper::merge_decided(prepared, None, &Job { retraining, ..job }).unwrap();
    (joint, outcome.retrained, nets, data)
}

fn options() -> RetrainOptions {
    RetrainOptions { iterations: 60, batch: 32, rate: Rate::Absolute(1e-2), ..Default::default() }
}

fn lesson<'a>(data: &'a [Dataset], teachers: &'a [Model], backend: &'a dyn Backend) -> Lesson<'a> {
    Lesson { data, teachers, backend, checkpoint: None, resume: false }
}

fn trained(
    joint: &JointModel,
    lesson: &Lesson<'_>,
    options: &RetrainOptions,
) -> (JointModel, Outcome) {
    let mut joint = joint.clone();
    let outcome = retrain(&mut joint, lesson, options, &Silent).unwrap();
    (joint, outcome)
}

/// Names and shapes of the parameters as they are stored.
fn initializers(joint: &JointModel) -> Vec<(String, Vec<usize>)> {
    let graph = trainable(joint, InputMode::Auto).unwrap().model.graph;
    let of = |(id, v): (_, &crate::ir::Value)| {
        Some((v.name.clone(), graph.initializer(id)?.dims.clone()))
    };
    graph.values().filter_map(of).collect()
}

fn bytes(joint: &JointModel) -> Vec<u8> {
    onnx::encode(&emit(joint, &EmitOptions::default()).unwrap()).unwrap()
}

#[test]
fn every_loss_and_optimiser_learns() {
    let (joint, nets, data) = merged(1.0);
    let (backend, data) = (backend(), [data]);
    for (optimizer, ..) in OptimizerKind::ALL {
        for loss in [LossKind::Distillation, LossKind::Scores, LossKind::Mse] {
            let rate = if optimizer == OptimizerKind::Sgd { 0.02 } else { 0.01 };
            let options =
                RetrainOptions { optimizer, loss, rate: Rate::Absolute(rate), ..options() };
            let (_, outcome) = trained(&joint, &lesson(&data, &nets, backend.as_ref()), &options);
            for task in &outcome.tasks {
                let (before, after) = (task.before.loss, task.after.loss);
                assert!(after < 0.9 * before, "{optimizer:?} {loss:?}: {before} -> {after}");
            }
        }
    }
}

#[test]
fn mixed_samples_teach_and_depend_on_seed_and_step_alone() {
    let (joint, nets, data) = merged(1.0);
    let (backend, data) = (backend(), [data]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training");
    let mixed = RetrainOptions { mix: true, ..options() };
    let saved = Lesson { checkpoint: Some(&path), ..lesson(&data, &nets, backend.as_ref()) };
    let stopping = StopAfter(std::sync::atomic::AtomicUsize::new(40));
    let stopped = retrain(&mut joint.clone(), &saved, &mixed, &stopping).unwrap();
    assert_eq!(stopped.ending, Ending::Interrupted);
    let again = Lesson { resume: true, ..saved };
    let resumed = trained(&joint, &again, &mixed).0;

    let plain = lesson(&data, &nets, backend.as_ref());
    let (whole, outcome) = trained(&joint, &plain, &mixed);
    assert!(bytes(&whole) == bytes(&resumed));
    assert!(bytes(&whole) != bytes(&trained(&joint, &plain, &options()).0));
    for task in &outcome.tasks {
        let (before, after) = (task.before.loss, task.after.loss);
        assert!(after < 0.9 * before, "{before} -> {after}");
    }
}

#[test]
fn layers_are_merged_behind_retrained_ones_as_behind_others() {
    let net = |joint: &JointModel, task: usize| {
        let graph = joint.tasks()[task].graph();
        ["w1", "w2", "w3"].map(|name| {
            let weight = graph.initializer(graph.value_named(name).unwrap()).unwrap();
            weight.to_f32().unwrap()
        })
    };
    let (plain, ..) = merged_by(Method::Refit, 1.0, None);
    // The steps are too small to matter, but statistics are restarted after each layer.
    let (still, retrained, ..) = merged_by(Method::Refit, 1.0, Some(1e-12));
    let rounds = retrained.unwrap().rounds;
    assert_eq!(rounds.iter().map(|r| r.outcome.iterations).collect::<Vec<_>>(), [30, 30]);
    for (before, after) in net(&plain, 1).iter().zip(net(&still, 1)) {
        let off =
            (before - &after).mapv(f32::abs).into_iter().max_by(f32::total_cmp).unwrap_or(0.0);
        assert!(off < 1e-3, "{off}");
    }
    let (moved, ..) = merged_by(Method::Refit, 1.0, Some(1e-2));
    assert!(net(&moved, 0)[0] != net(&plain, 0)[0]);
    assert_eq!(initializers(&moved), initializers(&plain));
}

#[test]
fn layers_come_nearer_to_those_of_the_originals() {
    let (joint, nets, data) = merged(0.5);
    let (backend, sets) = (backend(), [data.clone()]);
    // Pre-activations of the fully connected layer of either net.
    let hidden = |joint: &JointModel| {
        let all = joint.tasks().iter().map(|task| {
            let mut model = task.model().clone();
            model.graph.outputs = vec![task.coupling().layers[1].layer.output];
            let mut session =
                backend.load(ModelSource::Bytes(&onnx::encode(&model).unwrap())).unwrap();
            let batch = data.batch(0..100).unwrap();
            session.run(&runtime::feeds(&batch)).unwrap().remove(0).into_f32().unwrap()
        });
        all.collect::<Vec<_>>()
    };
    let originals = hidden(&prepared(&nets).joint);
    let off = |layers: f64| {
        let options = RetrainOptions { layers, ..options() };
        let (after, _) = trained(&joint, &lesson(&sets, &nets, backend.as_ref()), &options);
        let off = hidden(&after).into_iter().zip(&originals);
        off.map(|(after, original)| (after - original).mapv(|v| v * v).sum()).sum::<f32>()
    };
    let (free, matched) = (off(0.0), off(10.0));
    assert!(matched < 0.75 * free, "{free} -> {matched}");
    let labels = RetrainOptions { layers: 1.0, loss: LossKind::CrossEntropy, ..options() };
    assert!(labels.validate(2).is_err());
}

#[test]
fn what_is_shared_stays_shared() {
    let (joint, nets, data) = merged(0.5);
    let (backend, data) = (backend(), [data]);
    let (after, _) = trained(&joint, &lesson(&data, &nets, backend.as_ref()), &options());
    assert_eq!(initializers(&joint), initializers(&after));
    assert!(bytes(&joint) != bytes(&after));
}

#[test]
fn tasks_fed_apart_or_together_train_alike() {
    let (joint, nets, data) = merged(1.0);
    let backend = backend();
    let outcome = |data: &[Dataset]| {
        let options = RetrainOptions { iterations: 1, validation: 0.0, batch: 400, ..options() };
        let after = trained(&joint, &lesson(data, &nets, backend.as_ref()), &options).0;
        let graph = after.tasks()[0].graph().clone();
        let weight = graph.value_named("w2").unwrap();
        graph.initializer(weight).unwrap().to_f32().unwrap()
    };
    // One batch of all samples: only its order differs.
    let (together, apart) =
        (outcome(std::slice::from_ref(&data)), outcome(&[data.clone(), data.clone()]));
    let off = (&together - &apart).mapv(f32::abs).into_iter().max_by(f32::total_cmp).unwrap_or(0.0);
    assert!(off < 1e-4, "{off}");
}

#[test]
fn pruned_connections_stay_pruned_and_biases_of_two_tasks_part() {
    let (mut joint, nets, data) = merged(1.0);
    let backend = backend();
    let graph = &mut joint.model_mut(TaskId(1)).graph;
    let head = graph.value_named("w3").unwrap();
    let mut weight = graph.initializer(head).unwrap().to_f32().unwrap();
    weight.iter_mut().step_by(3).for_each(|w| *w = 0.0);
    graph.set_initializer(head, crate::ir::Tensor::from_f32(&weight));
    let (after, _) = trained(&joint, &lesson(&[data], &nets, backend.as_ref()), &options());
    let read = |task: usize, layer: usize| {
        let task = &after.tasks()[task];
        let layer = &task.coupling().layers[layer].layer;
        let bias = layer.read_bias(task.graph()).unwrap().unwrap();
        (layer.read(task.graph()).unwrap(), bias)
    };
    let (kept, bias) = read(1, 2);
    let zeros = kept.iter().filter(|w| **w == 0.0).count();
    assert_eq!(zeros, weight.len().div_ceil(3));
    // Neither head had a bias: equal constants must not become one parameter.
    assert_ne!(read(0, 2).1, bias);
    assert!(bias.iter().any(|b| *b != 0.0));
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_resuming_changes_nothing() {
    let (joint, nets, data) = merged(0.5);
    let (backend, data) = (backend(), [data.clone(), data]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training");
    let plain = lesson(&data, &nets, backend.as_ref());
    let (whole, outcome) = trained(&joint, &plain, &options());
    assert!(bytes(&whole) == bytes(&trained(&joint, &plain, &options()).0));
    let other = RetrainOptions { seed: 1, ..options() };
    assert!(bytes(&whole) != bytes(&trained(&joint, &plain, &other).0));

    let saved = Lesson { checkpoint: Some(&path), ..lesson(&data, &nets, backend.as_ref()) };
    let stopping = StopAfter(std::sync::atomic::AtomicUsize::new(40));
    let mut part = joint.clone();
    let stopped = retrain(&mut part, &saved, &options(), &stopping).unwrap();
    assert_eq!(stopped.ending, Ending::Interrupted);
    assert!(stopped.iterations > 5 && stopped.iterations < 60);
    let again = Lesson { resume: true, ..saved };
    let (resumed, rest) = trained(&joint, &again, &options());
    assert!(bytes(&resumed) == bytes(&whole));
    assert_eq!((rest.iterations, rest.best), (outcome.iterations, outcome.best));
    let [a, b] = &nets;
    let swapped = [b.clone(), a.clone()];
    let others = Lesson { teachers: &swapped, ..again };
    for (joint, lesson, options) in
        [(&joint, again, &other), (&part, again, &options()), (&joint, others, &options())]
    {
        let error = retrain(&mut joint.clone(), &lesson, options, &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}

#[test]
fn nets_of_a_fixed_batch_learn_from_originals_that_run_again() {
    let nets = [1, 50].map(|skip| net_of(skip, "32,2,6,6"));
    let (backend, data) = (backend(), [samples(&nets[0], 3)]);
    let lesson = lesson(&data, &nets, backend.as_ref());
    for mix in [false, true] {
        let options = RetrainOptions { mix, iterations: 2, ..options() };
        let mut joint = prepared(&nets).joint;
        let outcome = retrain(&mut joint, &lesson, &options, &Silent).unwrap();
        assert_eq!((outcome.iterations, outcome.tasks.len()), (2, 2));
        assert!(outcome.tasks.iter().all(|task| task.after.loss.is_finite()));
    }
}

#[test]
fn the_largest_seed_is_one_like_others() {
    let (joint, nets, data) = merged(0.5);
    let (backend, data) = (backend(), [data.clone(), data]);
    let options = RetrainOptions { seed: u64::MAX, iterations: 1, ..options() };
    let (_, outcome) = trained(&joint, &lesson(&data, &nets, backend.as_ref()), &options);
    assert_eq!(outcome.iterations, 1);
}

/// Stops after so many steps of any stage.
struct StopAfter(std::sync::atomic::AtomicUsize);

impl crate::progress::Progress for StopAfter {
    fn begin(&self, _: &str, _: u64) {}
    fn step(&self) {
        let left = &self.0;
        let _ = left.fetch_update(
            std::sync::atomic::Ordering::Relaxed,
            std::sync::atomic::Ordering::Relaxed,
            |n| Some(n.saturating_sub(1)),
        );
    }
    fn note(&self, _: &str) {}
    fn stopped(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed) == 0
    }
}

#[test]
fn mistakes_are_told() {
    let (joint, nets, data) = merged(1.0);
    let (backend, data) = (backend(), [data]);
    let run = |teachers: &[Model], options: &RetrainOptions| {
        let lesson = lesson(&data, teachers, backend.as_ref());
        retrain(&mut joint.clone(), &lesson, options, &Silent).unwrap_err()
    };
    let wild =
        RetrainOptions { rate: Rate::Absolute(1e30), optimizer: OptimizerKind::Sgd, ..options() };
    let error = run(&nets, &wild);
    assert_eq!(error.kind(), ErrorKind::Numeric);
    assert!(error.to_string().contains("learning_rate"), "{error}");
    assert!(run(&nets[..1], &options()).to_string().contains("teacher"));
    let labels = RetrainOptions { loss: LossKind::CrossEntropy, ..options() };
    assert!(run(&[], &labels).to_string().contains("no labels"));
}

#[test]
fn few_samples_make_smaller_batches() {
    let (mut joint, nets, data) = merged(1.0);
    let (backend, data) = (backend(), [data]);
    let large = RetrainOptions { batch: 10 * data[0].len(), ..options() };
    let lesson = lesson(&data, &nets, backend.as_ref());
    let outcome = retrain(&mut joint, &lesson, &large, &Silent).unwrap();
    let steps = outcome.history.iter().filter(|point| !point.training.is_empty());
    let losses: Vec<f64> = steps.map(|point| point.training.iter().sum()).collect();
    assert!(losses.len() > 1 && losses.last() < losses.first(), "{losses:?}");
}
