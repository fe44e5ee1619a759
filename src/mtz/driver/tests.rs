//! Walks through small nets.

use std::sync::Arc;

use ndarray::Array2;

use super::*;
use crate::align::{TaskChannel, TaskId};
use crate::calib::data::{DataOptions, Dataset};
use crate::ir::builder::GraphBuilder;
use crate::ir::{Model, Tensor};
use crate::mtz::matching::Share;
use crate::mtz::options::{Budget, Method};
use crate::onnx;
use crate::progress::Silent;
use crate::runtime::{self, Backend, ModelSource, RuntimeChoice, RuntimeOptions};
use crate::zipper::{Input, Prepared, prepare};

const UNITS: usize = 6;

/// The order of the stream's channels and of the hidden channels in the copy.
const ORDER: [usize; UNITS] = [3, 0, 5, 1, 4, 2];

fn backend() -> Arc<dyn Backend> {
    let choice = RuntimeOptions { choice: RuntimeChoice::Tract, ..RuntimeOptions::default() };
    runtime::open(&choice).unwrap()
}

/// A residual net of fully connected layers; with `copied`, its channels are permuted.
fn residual(copied: bool) -> Model {
    let mut b = GraphBuilder::new("net", 13);
    let mut layer = |name: &str, out: usize, inputs: usize, [rows, columns]: [bool; 2]| {
        let weight = b.weights(&format!("{name}.random"), &[out, inputs]);
        let bias = b.weights(&format!("{name}.shift"), &[out]);
        let mut read = |value| b.graph().initializer(value).unwrap().to_f32().unwrap();
        let (weight, bias) = (read(weight), read(bias));
        let order = |is_moved: bool, size: usize| -> Vec<usize> {
            if is_moved && copied { ORDER.to_vec() } else { (0..size).collect() }
        };
        let (rows, columns) = (order(rows, out), order(columns, inputs));
        let weight = weight.select(ndarray::Axis(0), &rows).select(ndarray::Axis(1), &columns);
        let bias = bias.select(ndarray::Axis(0), &rows);
        let w = b.constant(&format!("{name}.weight"), Tensor::from_f32(&weight));
        (w, b.constant(&format!("{name}.bias"), Tensor::from_f32(&bias)))
    };
    let first = layer("first", UNITS, 5, [true, false]);
    let inner = layer("inner", UNITS, UNITS, [true, true]);
    let second = layer("second", UNITS, UNITS, [true, true]);
    let head = layer("head", 3, UNITS, [false, true]);
    let x = b.input("x", "batch,5");
    let gemm = |b: &mut GraphBuilder, name: &str, x, (w, c)| {
        b.op("Gemm", name, &[x, w, c], [("transB", 1.into())])
    };
    let stream = gemm(&mut b, "first", x, first);
    let stream = b.op("Relu", "first.relu", &[stream], []);
    let h = gemm(&mut b, "inner", stream, inner);
    let h = b.op("Relu", "inner.relu", &[h], []);
    let h = gemm(&mut b, "second", h, second);
    let stream = b.op("Add", "sum", &[stream, h], []);
    let y = gemm(&mut b, "head", stream, head);
    b.build(&[y])
}

fn prepared() -> Prepared {
    let input = |(name, copied): (&str, bool)| Input { name: name.into(), model: residual(copied) };
    prepare([("a", false), ("b", true)].map(input).into()).unwrap()
}

fn samples(backend: &dyn Backend) -> Dataset {
    let bytes = onnx::encode(&residual(false)).unwrap();
    let session = backend.load(ModelSource::Bytes(&bytes)).unwrap();
    Dataset::synthetic(session.inputs(), 200, 3, &DataOptions::default()).unwrap()
}

fn options(method: Method, share: f64) -> MergeOptions {
    let budget = Budget::uniform(Share::Fraction(share));
    MergeOptions { method, budget, ..MergeOptions::default() }
}

/// Runs `work` with a driver of the two nets, and returns the nets afterwards.
fn driven<R>(options: &MergeOptions, work: impl FnOnce(Driver<'_>) -> R) -> (R, JointModel) {
    driven_after(None, options, work)
}

/// [`driven`] with what other merges have left.
fn driven_after<R>(
    originals: Option<&Originals>,
    options: &MergeOptions,
    work: impl FnOnce(Driver<'_>) -> R,
) -> (R, JointModel) {
    let backend = backend();
    let data = samples(backend.as_ref());
    let Prepared { mut joint, alignment, .. } = prepared();
    let source = Source { backend: backend.as_ref(), data: &data, batch: 50, memory: 1 << 24 };
    let inputs = DriverInputs {
        alignment: &alignment,
        sources: vec![source.clone(), source],
        sensitivities: &[],
        stored: &[],
        shards: None,
        originals,
        options,
        progress: &Silent,
    };
    let result = work(Driver::new(&mut joint, inputs).unwrap());
    (result, joint)
}

fn merged(options: &MergeOptions) -> (Vec<SiteRecord>, JointModel) {
    driven(options, |driver| driver.run(&mut |_, _| Ok(false)).unwrap())
}

/// The layer called `name` of a task.
fn layer(joint: &JointModel, task: TaskId, name: &str) -> TaskLayer {
    let layers = &joint.task(task).coupling().layers;
    let at = layers.iter().position(|layer| layer.name == name).unwrap();
    task.layer(crate::couple::LayerId(at))
}

/// For each row of a layer of the first task, the row of the second task's layer with the same neuron.
fn partners(joint: &JointModel, name: &str) -> Vec<Option<usize>> {
    let rows = |task: usize| -> Vec<TaskChannel> {
        let own = layer(joint, TaskId(task), name);
        joint.layer(own).outputs.iter().map(|c| own.task.channel(*c)).collect()
    };
    let theirs = rows(1);
    let partner = |own: &TaskChannel| {
        let neuron = joint.neuron(*own)?;
        theirs.iter().position(|other| joint.neuron(*other) == Some(neuron))
    };
    rows(0).iter().map(partner).collect()
}

#[test]
fn statistics_that_another_merge_left_change_nothing() {
    let weights = |(_, joint): &(Vec<SiteRecord>, JointModel)| -> Vec<Vec<u8>> {
        joint.tasks().iter().map(|task| onnx::encode(task.model()).unwrap()).collect()
    };
    let after = |originals| {
        let options = options(Method::Refit, 0.5);
        driven_after(Some(originals), &options, |d| d.run(&mut |_, _| Ok(false)).unwrap())
    };
    let originals = Originals::default();
    let first = after(&originals);
    let left = originals.take();
    assert!(!left.layers.is_empty(), "the nets have groups of several layers");
    originals.leave(left, u64::MAX);
    let second = after(&originals);
    assert_eq!(weights(&first), weights(&second));
    assert_eq!(weights(&first), weights(&merged(&options(Method::Refit, 0.5))));
    assert_eq!(first.0.iter().map(|r| r.shared).sum::<usize>(), 3 * UNITS / 2);
}

#[test]
fn a_copy_in_another_order_is_found_at_every_layer() {
    let places: Vec<Option<usize>> =
        (0..UNITS).map(|unit| ORDER.iter().position(|other| *other == unit)).collect();
    for method in [Method::Mtz, Method::Refit] {
        let (records, joint) = merged(&options(method, 1.0));
        for name in ["first", "inner", "second"] {
            assert_eq!(partners(&joint, name), places, "{method:?} {name}");
        }
        assert_eq!(records.iter().map(|r| r.shared).collect::<Vec<_>>(), [UNITS, UNITS, UNITS, 0]);
        assert!(records.iter().all(|r| r.relative_errors.iter().all(|e| *e < 1e-9)), "{records:?}");
        assert!(joint.has_common_weights().unwrap());
    }
}

#[test]
fn fused_layers_agree_bit_for_bit_where_a_part_is_shared() {
    for (method, share) in [(Method::Mtz, 0.5), (Method::Refit, 0.5), (Method::Refit, 0.8)] {
        let (records, mut joint) = merged(&options(method, share));
        assert!(records[0].shared > 0 && records[0].shared < UNITS);
        assert!(joint.has_common_weights().unwrap());
        // The check detects a single different weight.
        let own = layer(&joint, TaskId(1), "inner");
        let partners = partners(&joint, "inner");
        let row = partners.iter().flatten().next().copied().unwrap();
        let mut weights: Array2<f32> = joint.weights(own).unwrap();
        weights.row_mut(row).mapv_inplace(|w| w + 1e-3);
        joint.write(own, weights.view()).unwrap();
        assert!(!joint.has_common_weights().unwrap());
    }
}

#[test]
fn nothing_shared_changes_no_weight() {
    let before = prepared().joint;
    let (records, joint) = merged(&options(Method::Refit, 0.0));
    assert!(records.iter().all(|record| record.shared == 0));
    for (task, name) in joint.task_ids().flat_map(|t| ["first", "inner", "head"].map(|n| (t, n))) {
        let own = layer(&joint, task, name);
        assert_eq!(joint.weights(own).unwrap(), before.weights(own).unwrap());
    }
}

#[test]
fn between_is_asked_before_each_layer_but_the_first() {
    let mut merged = Vec::new();
    let options = options(Method::Mtz, 0.5);
    let (records, _) = driven(&options, |driver| {
        driver.run(&mut |_, last| {
            merged.push(last.layers.clone());
            Ok(false)
        })
    });
    let records = records.unwrap();
    assert_eq!(merged, [&records[0], &records[1]].map(|record| record.layers.clone()));
}

#[test]
fn the_outlook_knows_what_pairs_cost_at_later_layers_and_changes_nothing() {
    let options = options(Method::Refit, 1.0);
    let ((first, again), joint) = driven(&options, |driver| {
        let look = || driver.look_ahead().unwrap().unwrap();
        let later = |outlook: &Outlook| {
            let own = layer(driver.joint, TaskId(1), "first");
            let costs = outlook.later.at(own).unwrap();
            let rows: Vec<(TaskChannel, usize)> =
                costs.neurons.iter().map(|(channel, row)| (*channel, *row)).collect();
            (costs.cost.clone(), rows)
        };
        (later(&look()), later(&look()))
    });
    assert_eq!(first.0, again.0);
    assert!(joint.task_ids().all(|task| joint.sharing(task).iter().flatten().all(Option::is_none)));
    // At the stream's second producer, only pairs of a channel and its copy cost nothing.
    let (cost, rows) = first;
    for (channel, row) in rows.iter().filter(|(channel, _)| channel.task == TaskId(0)) {
        let partner = ORDER.iter().position(|unit| *unit == channel.channel.index).unwrap();
        for (j, cost) in cost.row(*row).iter().enumerate() {
            assert_eq!(*cost < 1e-9, j == partner, "{row} {j} {cost}");
        }
    }
}

#[test]
fn trials_from_a_layer_on_measure_what_trials_of_the_whole_net_do() {
    let (backend, mut joint) = (backend(), prepared().joint);
    let data = samples(backend.as_ref());
    let source = Source { backend: backend.as_ref(), data: &data, batch: 50, memory: 1 << 24 };
    let original = joint.task(TaskId(0)).model().clone();
    let whole = Probe::new(&original, &source, 120, 1).unwrap();
    let mut probes =
        [0, 1 << 24].map(|room| (room, Probe::new(&original, &source, 120, 1).unwrap()));
    let mut change = |probes: &mut [(u64, Probe<'_>)], name: &str, is_next: bool| {
        let own = layer(&joint, TaskId(0), name);
        let changed = joint.layer(own).layer.clone();
        for (room, probe) in probes.iter_mut().filter(|_| is_next) {
            probe.advance(joint.task(own.task).model(), &changed, *room).unwrap();
        }
        let weights: Array2<f32> = joint.weights(own).unwrap() * 1.1;
        joint.write(own, weights.view()).unwrap();
        let model = joint.task(own.task).model();
        let wanted = whole.deviation(model).unwrap();
        assert!(wanted > 1e-4, "{name}: {wanted}");
        for (room, probe) in probes {
            if !is_next {
                probe.changed(model, &changed);
            }
            let found = probe.deviation(model).unwrap();
            assert!((found - wanted).abs() < 1e-6 * wanted, "{name}, {room}: {found} {wanted}");
        }
    };
    for name in ["first", "inner", "second", "head"] {
        change(&mut probes, name, true);
    }
    // The cut has passed this layer.
    change(&mut probes, "inner", false);
}

#[test]
fn trials_reach_outputs_that_come_before_the_layer() {
    let net = |name: &str| {
        let mut b = GraphBuilder::new("net", 13);
        let gemm = |b: &mut GraphBuilder, name: &str, x, inputs: usize| {
            let w = b.weights(&format!("{name}.weight"), &[4, inputs]);
            b.op("Gemm", name, &[x, w], [("transB", 1.into())])
        };
        let x = b.input("x", "batch,5");
        let early = gemm(&mut b, "first", x, 5);
        let h = b.op("Relu", "relu", &[early], []);
        let y = gemm(&mut b, "second", h, 4);
        Input { name: name.into(), model: b.build(&[early, y]) }
    };
    let (backend, joint) = (backend(), prepare(["a", "b"].map(net).into()).unwrap().joint);
    let data = samples(backend.as_ref());
    let source = Source { backend: backend.as_ref(), data: &data, batch: 50, memory: 1 << 24 };
    let model = joint.task(TaskId(0)).model();
    let mut probe = Probe::new(model, &source, 120, 1).unwrap();
    let second = joint.layer(layer(&joint, TaskId(0), "second")).layer.clone();
    probe.advance(model, &second, 1 << 24).unwrap();
    assert_eq!(probe.deviation(model).unwrap(), 0.0);
}
