//! Compares the outputs of a joint model in every form with those of its nets.

use std::sync::Arc;

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::emit::{self, EmitOptions, FORMS, Form};
use onnx_zip::error::Result;
use onnx_zip::ir::{DataType, Model};
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions};
use onnx_zip::onnx;
use onnx_zip::runtime::{Backend, HostArray, ModelSource, Port, feeds};

use crate::support::{self, backend, deviation};

/// Samples for a net.
pub fn samples(model: &Model) -> Dataset {
    let ports = model.graph.inputs.iter().map(|input| {
        let value = model.graph.value(*input);
        let ty = value.ty.clone().unwrap();
        Port { name: value.name.clone(), dtype: ty.dtype, shape: ty.shape }
    });
    let ports: Vec<Port> = ports.collect();
    Dataset::synthetic(&ports, 24, 1, &DataOptions::default()).unwrap()
}

/// Merges two nets; `share` is the part of their neurons that is shared.
pub fn merge(nets: [Model; 2], share: f64) -> JointModel {
    let budget = Budget::uniform(Share::Fraction(share));
    let nets = nets.map(|net| {
        let data = samples(&net);
        (net, data)
    });
    support::merge_in(nets, &MergeOptions { budget, ..MergeOptions::default() }, 6).0
}

/// The outputs of a model for a batch, whose arrays feed the inputs in order.
pub fn run(model: &Model, batch: &[HostArray]) -> Vec<HostArray> {
    run_in(&backend(), model, batch).unwrap()
}

/// [`run`] in a given runtime, which may refuse the model.
pub fn run_in(
    backend: &Arc<dyn Backend>,
    model: &Model,
    batch: &[HostArray],
) -> Result<Vec<HostArray>> {
    let mut session = backend.load(ModelSource::Bytes(&onnx::encode(model)?))?;
    let names: Vec<String> = session.inputs().iter().map(|p| p.name.clone()).collect();
    let named: Vec<(String, HostArray)> = names.into_iter().zip(batch.iter().cloned()).collect();
    session.run(&feeds(&named))
}

/// A batch of samples for a net, one array per input.
pub fn batch(model: &Model) -> Vec<HostArray> {
    let size = model.graph.fixed_batch().unwrap_or(3);
    samples(model).batch(0..size).unwrap().into_iter().map(|(_, array)| array).collect()
}

/// Asserts that two arrays are equal up to rounding.
pub fn alike(found: &HostArray, wanted: &HostArray, what: &str) {
    assert_eq!((found.dtype(), found.shape()), (wanted.dtype(), wanted.shape()), "{what}");
    if found.dtype() == DataType::STRING {
        return assert_eq!(found, wanted, "{what}");
    }
    let floats = |array: &HostArray| array.clone().cast(DataType::F32).unwrap().into_f32().unwrap();
    let lost = deviation(&floats(found), &floats(wanted));
    assert!(lost < 1e-4 || lost.is_nan(), "{what} lost {lost}");
}

fn is_zero(array: &HostArray) -> bool {
    if let HostArray::Text(texts) = array {
        return texts.iter().all(String::is_empty);
    }
    let floats = array.clone().cast(DataType::F32).unwrap().into_f32().unwrap();
    floats.iter().all(|v| *v == 0.0)
}

/// Asserts that every form of a joint model computes the outputs `wanted` of each task, and zeros of the
/// same shape for tasks that are not selected, and that its nets can be recovered.
pub fn check(joint: &JointModel, batch: &[HostArray], wanted: &[Vec<HostArray>], name: &str) {
    check_in(&backend(), joint, batch, wanted, name).unwrap();
}

/// [`check`] in a runtime that may not be able to run what is checked.
pub fn check_in(
    backend: &Arc<dyn Backend>,
    joint: &JointModel,
    batch: &[HostArray],
    wanted: &[Vec<HostArray>],
    name: &str,
) -> Result<()> {
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
            let found = run_in(backend, &model, &fed)?;
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
        let restored = emit::restore(&written).unwrap();
        assert_eq!(restored.tasks().len(), joint.tasks().len(), "{name}, {form_name}");
    }
    Ok(())
}
