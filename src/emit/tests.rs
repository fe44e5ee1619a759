use std::path::Path;

use ndarray::{ArrayD, IxDyn};

use super::*;
use crate::align::TaskId;
use crate::canon::Canonical;
use crate::couple::{Channel, GroupId, LayerId};
use crate::ir::builder::GraphBuilder;
use crate::ir::{DataType, Tensor};
use crate::mtz::joint::Task;
use crate::onnx;
use crate::ops::{self, NodeView};
use crate::runtime::{self, HostArray, ModelSource, RuntimeChoice, RuntimeOptions};

const A: TaskId = TaskId(0);
const B: TaskId = TaskId(1);

fn task(name: &str, model: Model) -> Task {
    Task::new(name, Canonical::stored(model).unwrap()).unwrap()
}

fn fixture(name: &str) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(name);
    let mut model = onnx::load(&path).unwrap();
    for id in model.graph.topological_order().unwrap() {
        let types = ops::infer(&NodeView::new(&model.graph, id, &[]));
        let outputs = model.graph.node(id).outputs.clone();
        for (output, ty) in outputs.into_iter().zip(types) {
            if let (Some(output), Some(ty)) = (output, ty) {
                model.graph.set_type(output, Some(ty));
            }
        }
    }
    model
}

/// Two LeNet-5 nets. Every second channel of each hidden group is shared with a shifted partner. The
/// weights are still the original ones, so that none are equal by chance.
fn joint(share: usize) -> JointModel {
    let tasks = ["a", "b"].map(|n| task(n, fixture(&format!("lenet5_mnist_{n}.onnx"))));
    let mut joint = JointModel::new(tasks.to_vec());
    let groups: Vec<(GroupId, usize)> = joint.tasks()[0]
        .coupling()
        .groups()
        .filter(|(_, g)| g.frozen.is_none())
        .map(|(id, g)| (id, g.size))
        .collect();
    assert_eq!(groups.len(), 3);
    for id in 0..joint.tasks()[0].coupling().layers.len() {
        joint.fuse(&[A.layer(LayerId(id)), B.layer(LayerId(id))]);
    }
    for (group, size) in groups {
        for index in (0..size).step_by(2).take(share) {
            joint.share(A.group(group).channel(index), B.group(group).channel((index + 3) % size));
        }
    }
    joint
}

/// Outputs in both runtimes, which must agree.
fn run(model: &Model, inputs: &[(&str, HostArray)]) -> Vec<(String, ArrayD<f32>)> {
    let reference = run_in(RuntimeChoice::Ort, model, inputs);
    for (a, b) in reference.iter().zip(run_in(RuntimeChoice::Tract, model, inputs)) {
        assert_eq!(a.0, b.0);
        close(&a.1, &b.1);
    }
    reference
}

fn run_in(
    choice: RuntimeChoice,
    model: &Model,
    inputs: &[(&str, HostArray)],
) -> Vec<(String, ArrayD<f32>)> {
    let options = RuntimeOptions { choice, ..RuntimeOptions::default() };
    let backend = runtime::open(&options).unwrap();
    let bytes = onnx::encode(model).unwrap();
    let mut session = backend.load(ModelSource::Bytes(&bytes)).unwrap();
    let feeds: Vec<(&str, &HostArray)> = inputs.iter().map(|(n, a)| (*n, a)).collect();
    let results = session.run(&feeds).unwrap();
    let names = session.outputs().iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    names.into_iter().zip(results.iter().map(|r| r.as_f32().unwrap())).collect()
}

fn images(n: usize) -> HostArray {
    let pixel = |i: usize| ((i * 31 + i / 28 * 7) % 17) as f32 / 17.0;
    let values = (0..n * 784).map(pixel).collect();
    HostArray::F32(ArrayD::from_shape_vec(IxDyn(&[n, 1, 28, 28]), values).unwrap())
}

fn close(a: &ArrayD<f32>, b: &ArrayD<f32>) {
    assert_eq!(a.shape(), b.shape());
    let worst = a.iter().zip(b).map(|(x, y)| (x - y).abs()).max_by(f32::total_cmp).unwrap_or(0.0);
    assert!(worst < 1e-4, "deviation {worst}");
}

fn originals(joint: &JointModel, x: &HostArray) -> Vec<ArrayD<f32>> {
    let alone = |task: &Task| run(task.model(), &[("image", x.clone())]).remove(0).1;
    joint.tasks().iter().map(alone).collect()
}

fn task_input(task: usize) -> HostArray {
    HostArray::I64(ArrayD::from_elem(IxDyn(&[1]), task as i64))
}

#[test]
fn heads_equal_the_task_nets() {
    for share in [0, 4, 1000] {
        let joint = joint(share);
        let x = images(3);
        let model = emit(&joint, &EmitOptions::default()).unwrap();
        let results = run(&model, &[("image", x.clone())]);
        assert_eq!(results[0].0, "a/logits");
        assert_eq!(results[1].0, "b/logits");
        for (result, original) in results.iter().zip(originals(&joint, &x)) {
            close(&result.1, &original);
        }
    }
}

#[test]
fn inputs_may_be_separate() {
    let joint = joint(4);
    let options = EmitOptions { inputs: InputMode::Separate, ..EmitOptions::default() };
    let model = emit(&joint, &options).unwrap();
    let x = images(2);
    let results = run(&model, &[("a/image", x.clone()), ("b/image", x.clone())]);
    for (result, original) in results.iter().zip(originals(&joint, &x)) {
        close(&result.1, &original);
    }
}

/// Makes the fused weights of shared neurons equal, as a merge does, by copying those of task a.
fn fuse(joint: &mut JointModel) {
    let [a, b] = joint.tasks() else { unreachable!() };
    let (a, b) = (a.clone(), b.clone());
    for (la, lb) in a.coupling().layers.iter().zip(&b.coupling().layers) {
        let wa = la.layer.read(&a.model().graph).unwrap();
        let ba = la.layer.read_bias(&a.model().graph).unwrap().unwrap();
        let mut wb = lb.layer.read(&b.model().graph).unwrap();
        let mut bb = lb.layer.read_bias(&b.model().graph).unwrap().unwrap();
        let neuron_a = |c: &Channel| joint.neuron(A.channel(*c));
        let neuron_b = |c: &Channel| joint.neuron(B.channel(*c));
        let (ia, ib) = (la.inputs.as_ref().unwrap(), lb.inputs.as_ref().unwrap());
        for (i, row_a) in la.outputs.iter().enumerate() {
            let Some(n) = neuron_a(row_a) else { continue };
            let j = lb.outputs.iter().position(|c| neuron_b(c) == Some(n)).unwrap();
            bb[j] = ba[i];
            let mut seen: std::collections::HashMap<_, usize> = Default::default();
            for (p, column) in ia.iter().enumerate() {
                let key = (neuron_a(column), neuron_a(column).is_none().then_some(column.index));
                if key.0.is_none() && la.name != "conv1" {
                    continue;
                }
                let nth = seen.entry(key).or_default();
                let same = |c: &&(usize, &Channel)| {
                    neuron_b(c.1) == key.0 && (key.0.is_some() || c.1.index == column.index)
                };
                let q = ib.iter().enumerate().filter(|c| same(&c)).nth(*nth).unwrap().0;
                *nth += 1;
                for t in 0..wa.dim().2 {
                    wb[[j, q, t]] = wa[[i, p, t]];
                }
            }
        }
        lb.layer.write(&mut joint.model_mut(B).graph, &wb, Some(&bb)).unwrap();
    }
}

#[test]
fn fused_blocks_are_stored_once_as_the_plan_says() {
    for share in [0, 4, 1000] {
        let mut joint = joint(share);
        fuse(&mut joint);
        for form in [Form::Heads, Form::Masked, Form::Switch] {
            let model = emit(&joint, &EmitOptions { form, ..EmitOptions::default() }).unwrap();
            let stored: usize = model
                .graph
                .values()
                .filter_map(|(id, _)| model.graph.initializer(id))
                .filter(|t| t.dtype == DataType::F32 && !t.dims.is_empty())
                .map(|t| t.len())
                .sum();
            let sizes = crate::mtz::plan::sizes(&joint).unwrap();
            assert_eq!(stored as u64, sizes.joint(), "{form:?} sharing {share}");
        }
    }
}

#[test]
fn masked_form_equals_the_selected_task_and_zeroes_the_other() {
    for share in [0, 4, 1000] {
        let mut joint = joint(share);
        fuse(&mut joint);
        let options = EmitOptions { form: Form::Masked, ..EmitOptions::default() };
        let model = emit(&joint, &options).unwrap();
        let x = images(3);
        let originals = originals(&joint, &x);
        for task in 0..2 {
            let results = run(&model, &[("image", x.clone()), ("task", task_input(task))]);
            close(&results[task].1, &originals[task]);
            assert!(results[1 - task].1.iter().all(|v| *v == 0.0));
        }
    }
}

#[test]
fn switch_form_equals_the_selected_task_and_zeroes_the_other() {
    let mut joint = joint(4);
    fuse(&mut joint);
    let options = EmitOptions { form: Form::Switch, ..EmitOptions::default() };
    let model = emit(&joint, &options).unwrap();
    let x = images(3);
    let originals = originals(&joint, &x);
    for task in 0..2 {
        let results = run(&model, &[("image", x.clone()), ("task", task_input(task))]);
        close(&results[task].1, &originals[task]);
        assert_eq!(results[1 - task].1, ArrayD::<f32>::zeros(IxDyn(&[3, 10])));
    }
}

#[test]
fn one_task_alone_equals_its_net() {
    let joint = joint(4);
    let x = images(2);
    let models = emit_tasks(&joint).unwrap();
    for (model, original) in models.into_iter().zip(originals(&joint, &x)) {
        let results = run(&model, &[("image", x.clone())]);
        assert_eq!(results[0].0, "logits");
        close(&results[0].1, &original);
    }
}

#[test]
fn a_written_joint_model_is_restored_bit_for_bit() {
    for form in [Form::Heads, Form::Masked, Form::Switch] {
        let mut joint = joint(4);
        fuse(&mut joint);
        let options = EmitOptions { form, ..EmitOptions::default() };
        let model = emit(&joint, &options).unwrap();
        let bytes = onnx::encode(&model).unwrap();
        let read = onnx::decode(bytes.into(), None, "joint").unwrap();
        let restored = restore(&read).unwrap();
        for task in [A, B] {
            let (before, after) = (joint.task(task).graph(), restored.task(task).graph());
            for (_, value) in before.values() {
                let tensor =
                    |g: &Graph| g.initializer(g.value_named(&value.name).unwrap()).cloned();
                assert_eq!(tensor(before), tensor(after), "{}", value.name);
            }
            assert_eq!(joint.sharing(task), restored.sharing(task));
        }
        assert_eq!(
            onnx::encode(&emit(&restored, &options).unwrap()).unwrap(),
            onnx::encode(&model).unwrap()
        );
    }
}

#[test]
fn constants_without_elements_are_restored() {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "batch,2,4,4");
    let (w1, w2) = (b.weights("w1", &[6, 2, 1, 1]), b.weights("w2", &[3, 6, 1, 1]));
    let region = b.constant("region", Tensor::from_f32(&ArrayD::zeros(IxDyn(&[0]))));
    let scales =
        b.constant("scales", Tensor::from_f32(&ndarray::arr1(&[1.0, 1.0, 2.0, 2.0]).into_dyn()));
    let h = b.op("Conv", "h", &[x, w1], []);
    let large = b.op("Resize", "large", &[h, region, scales], []);
    let y = b.op("Conv", "y", &[large, w2], []);
    let mut net = b.build(&[y]);
    crate::canon::infer_types(&mut net.graph).unwrap();
    let tasks = ["a", "b"].map(|name| task(name, net.clone()));
    let model = emit(&JointModel::new(tasks.to_vec()), &EmitOptions::default()).unwrap();
    let bytes = onnx::encode(&model).unwrap();
    let restored = restore(&onnx::decode(bytes.into(), None, "joint").unwrap()).unwrap();
    assert_eq!(emit(&restored, &EmitOptions::default()).unwrap(), model);
}

#[test]
fn other_models_have_no_plan() {
    assert_eq!(
        restore(&fixture("lenet5_mnist_a.onnx")).unwrap_err().kind(),
        crate::error::ErrorKind::Format
    );
}

#[test]
fn outputs_have_their_names_though_a_node_has_them_too() {
    let mut joint = joint(4);
    for id in [A, B] {
        let graph = &mut joint.model_mut(id).graph;
        let last = graph.producer(graph.outputs[0]).unwrap();
        graph.edit_node(last, |node| node.name = "logits".to_owned());
    }
    fuse(&mut joint);
    for (_, form, _) in FORMS {
        let model = emit(&joint, &EmitOptions { form: *form, ..EmitOptions::default() }).unwrap();
        let names = model.graph.outputs.iter().map(|o| model.graph.value(*o).name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["a/logits", "b/logits"], "{form:?}");
    }
}
