//! Laws on nets that are written in ways of their own: gates, sub-graphs, outputs of every type.

mod net;

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::emit::{self, EmitOptions, FORMS, Form};
use onnx_zip::ir::{DataType, Model};
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions};
use onnx_zip::mtz::plan::sizes;
use onnx_zip::onnx;
use onnx_zip::runtime::{HostArray, ModelSource, feeds};

use crate::permute::permuted;
use crate::support::{self, backend, deviation};
use net::{PATTERNS, Pattern};

fn samples(model: &Model) -> Dataset {
    let session = backend().load(ModelSource::Bytes(&onnx::encode(model).unwrap())).unwrap();
    Dataset::synthetic(session.inputs(), 24, 1, &DataOptions::default()).unwrap()
}

fn merge(nets: [Model; 2], share: f64) -> JointModel {
    let budget = Budget::uniform(Share::Fraction(share));
    let nets = nets.map(|net| {
        let data = samples(&net);
        (net, data)
    });
    support::merge_in(nets, &MergeOptions { budget, ..MergeOptions::default() }, 6).0
}

/// What a model computes for a batch, its inputs fed in order.
fn run(model: &Model, batch: &[HostArray]) -> Vec<HostArray> {
    let bytes = onnx::encode(model).unwrap();
    let mut session = backend().load(ModelSource::Bytes(&bytes)).unwrap();
    let names: Vec<String> = session.inputs().iter().map(|p| p.name.clone()).collect();
    let named: Vec<(String, HostArray)> = names.into_iter().zip(batch.iter().cloned()).collect();
    session.run(&feeds(&named)).unwrap()
}

fn batch(model: &Model) -> Vec<HostArray> {
    let size = model.graph.fixed_batch().unwrap_or(3);
    samples(model).batch(0..size).unwrap().into_iter().map(|(_, array)| array).collect()
}

fn alike(found: &HostArray, wanted: &HostArray, what: &str) {
    assert_eq!((found.dtype(), found.shape()), (wanted.dtype(), wanted.shape()), "{what}");
    let floats = |array: &HostArray| array.clone().cast(DataType::F32).unwrap().into_f32().unwrap();
    let lost = deviation(&floats(found), &floats(wanted));
    assert!(lost < 1e-4 || lost.is_nan(), "{what} lost {lost}");
}

fn is_zero(array: &HostArray) -> bool {
    let floats = array.clone().cast(DataType::F32).unwrap().into_f32().unwrap();
    floats.iter().all(|v| *v == 0.0)
}

/// Every form of a joint model gives what `wanted` gives by task, and zeros of the same shape for the
/// tasks that are not selected.
fn check(joint: &JointModel, batch: &[HostArray], wanted: &[Vec<HostArray>], name: &str) {
    let each = wanted[0].len();
    for (form_name, form, _) in FORMS {
        let model = emit::emit(joint, &EmitOptions { form: *form, ..EmitOptions::default() });
        let model = model.unwrap();
        for (task, wanted) in wanted.iter().enumerate() {
            let mut fed = batch.to_vec();
            if *form != Form::Heads {
                let selected = ndarray::ArrayD::from_elem(vec![1], task as i64);
                fed.push(HostArray::I64(selected));
            }
            let found = run(&model, &fed);
            for (number, found) in found.iter().enumerate() {
                let wanted = &wanted[number % each];
                let what = format!("{name}, {form_name}, task {task}, output {number}");
                match number / each == task {
                    true => alike(found, wanted, &what),
                    false if *form == Form::Heads => {}
                    false => {
                        assert_eq!(found.shape(), wanted.shape(), "{what}");
                        assert_eq!(found.dtype(), wanted.dtype(), "{what}");
                        assert!(is_zero(found), "{what} is not zero");
                    }
                }
            }
        }
        let written = onnx::decode(onnx::encode(&model).unwrap().into(), None, "joint").unwrap();
        assert_eq!(emit::restore(&written).unwrap().tasks.len(), 2, "{name}, {form_name}");
    }
}

fn each(law: fn(&Pattern)) {
    let failed: Vec<&str> = PATTERNS
        .iter()
        .filter(|pattern| std::panic::catch_unwind(|| law(pattern)).is_err())
        .map(|pattern| pattern.0)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn sharing_nothing_leaves_every_output_as_it_is() {
    each(|pattern| {
        let nets = [1, 2].map(|seed| net::net(pattern, seed));
        let batch = batch(&nets[0]);
        let wanted: Vec<Vec<HostArray>> = nets.iter().map(|net| run(net, &batch)).collect();
        check(&merge(nets, 0.0), &batch, &wanted, pattern.0);
    });
}

#[test]
fn every_form_computes_what_the_task_nets_do() {
    each(|pattern| {
        let nets = [1, 2].map(|seed| net::net(pattern, seed));
        let batch = batch(&nets[0]);
        let joint = merge(nets, 0.5);
        let wanted: Vec<Vec<HostArray>> =
            joint.tasks.iter().map(|task| run(&task.model, &batch)).collect();
        check(&joint, &batch, &wanted, pattern.0);
    });
}

#[test]
fn a_permuted_copy_is_recognised_and_nothing_is_lost() {
    each(|pattern| {
        let a = net::net(pattern, 1);
        let b = permuted(&a, 7);
        let batch = batch(&a);
        let wanted = run(&a, &batch);
        for (found, wanted) in run(&b, &batch).iter().zip(&wanted) {
            alike(found, wanted, "the copy computes the same");
        }
        let joint = merge([a, b], 1.0);
        check(&joint, &batch, &[wanted.clone(), wanted], pattern.0);
        let sizes = sizes(&joint).unwrap();
        // What makes the answers stays each task's own, and is the same weights in another order.
        let own = sizes.joint() - sizes.originals[0];
        assert!(own <= 5 * 8 + 5, "{}: {own} parameters are stored twice", pattern.0);
    });
}
