use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::*;
use crate::align::TaskId;
use crate::calib::data::DataOptions;
use crate::canon::{CanonOptions, canonicalise};
use crate::couple::{GroupId, LayerId};
use crate::emit::{EmitOptions, FORMS, InputMode, emit, restore};
use crate::ir::builder::GraphBuilder;
use crate::ir::{Attribute, Graph, Node, Tensor, ValueId};
use crate::mtz::joint::{JointModel, Task};
use crate::progress::Silent;
use crate::runtime::{self, Backend, HostArray, ModelSource, RuntimeChoice, RuntimeOptions, feeds};

/// A convolution with a normalisation of its own before it, pooling, a gate and a layer behind.
fn net(seed: usize) -> Model {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "batch,2,8,8");
    for i in 0..seed {
        b.weights(&format!("unused{i}"), &[1]);
    }
    let norm = ["scale", "shift", "mean"].map(|n| b.weights(n, &[2]));
    let variance = b.positive("variance", &[2]);
    let n = b.op("BatchNormalization", "norm", &[x, norm[0], norm[1], norm[2], variance], []);
    let (w, c) = (b.weights("conv.weight", &[4, 2, 3, 3]), b.weights("conv.bias", &[4]));
    let y = b.op("Conv", "conv", &[n, w, c], [("pads", [1, 1, 1, 1].into())]);
    let y = b.op("HardSwish", "gate", &[y], []);
    let window = [("kernel_shape", [2, 2].into()), ("strides", [2, 2].into())];
    let y = b.op("AveragePool", "pool", &[y], window);
    let y = b.op("HardSigmoid", "squash", &[y], [("alpha", Attribute::Float(0.3))]);
    let y = b.op("Flatten", "flat", &[y], []);
    let (w, c) = (b.weights("fc.weight", &[3, 64]), b.weights("fc.bias", &[3]));
    let y = b.op("Gemm", "fc", &[y, w, c], [("transB", 1.into())]);
    b.build(&[y])
}

/// Two nets that share every second channel of the convolution, with a shifted partner.
fn joint() -> JointModel {
    let task = |name: &str, seed: usize| {
        let model = canonicalise(net(seed), &CanonOptions::default()).unwrap();
        Task::new(name, model).unwrap()
    };
    let mut joint = JointModel::new(vec![task("a", 0), task("b", 5)]);
    let mut groups = joint.tasks()[0].coupling().groups();
    let (group, _): (GroupId, _) = groups.find(|(_, g)| g.frozen.is_none()).unwrap();
    drop(groups);
    let layers = &joint.tasks()[0].coupling().layers;
    let conv = LayerId(layers.iter().position(|layer| layer.name == "conv").unwrap());
    joint.fuse(&[TaskId(0).layer(conv), TaskId(1).layer(conv)]);
    for (index, partner) in [(0, 3), (2, 1)] {
        copy_neuron(&mut joint, index, partner);
        let (a, b) = (TaskId(0).group(group), TaskId(1).group(group));
        joint.share(a.channel(index), b.channel(partner));
    }
    joint
}

/// Gives filter `to` of the second task the weights of filter `from` of the first.
fn copy_neuron(joint: &mut JointModel, from: usize, to: usize) {
    for name in ["conv.weight", "conv.bias"] {
        let array = |joint: &JointModel, task: usize| {
            let graph = joint.tasks()[task].graph();
            let id = graph.value_named(name).unwrap();
            (id, graph.initializer(id).unwrap().to_f32().unwrap())
        };
        let (_, source) = array(joint, 0);
        let (id, mut target) = array(joint, 1);
        target
            .index_axis_mut(ndarray::Axis(0), to)
            .assign(&source.index_axis(ndarray::Axis(0), from));
        joint.model_mut(TaskId(1)).graph.set_initializer(id, Tensor::from_f32(&target));
    }
}

fn tract() -> Arc<dyn Backend> {
    let options = RuntimeOptions { choice: RuntimeChoice::Tract, ..RuntimeOptions::default() };
    runtime::open(&options).unwrap()
}

fn session(model: &Model) -> Box<dyn Session> {
    let bytes = onnx::encode(model).unwrap();
    tract().load(ModelSource::Bytes(&bytes)).unwrap()
}

/// All outputs by name, for the same samples at every input.
fn outputs(model: &Model) -> BTreeMap<String, ArrayD<f32>> {
    let mut session = session(model);
    let x = ArrayD::from_shape_fn(IxDyn(&[5, 2, 8, 8]), |i| {
        ((i[0] * 37 + i[1] * 11 + i[2] * 5 + i[3] * 3) % 13) as f32 / 6.0 - 1.0
    });
    let inputs: Vec<(String, HostArray)> =
        session.inputs().iter().map(|p| (p.name.clone(), x.clone().into())).collect();
    let results = session.run(&feeds(&inputs)).unwrap();
    let names = session.outputs().iter().map(|p| p.name.clone());
    names.zip(results.iter().map(|r| r.as_f32().unwrap())).collect()
}

fn close(a: &BTreeMap<String, ArrayD<f32>>, b: &BTreeMap<String, ArrayD<f32>>) {
    assert!(a.keys().eq(b.keys()), "{:?} {:?}", a.keys(), b.keys());
    for (name, own) in a {
        let worst = own
            .iter()
            .zip(&b[name])
            .map(|(x, y)| (x - y).abs())
            .max_by(f32::total_cmp)
            .unwrap_or(0.0);
        assert!(worst < 1e-5, "{name}: {worst}");
    }
}

fn change(model: &mut Model, names: &[String], change: impl Fn(f32) -> f32) {
    for name in names {
        let id = model.graph.value_named(name).unwrap();
        let array = model.graph.initializer(id).unwrap().to_f32().unwrap().mapv(&change);
        model.graph.set_initializer(id, Tensor::from_f32(&array));
    }
}

#[test]
fn the_net_to_train_computes_the_joint_model_in_operators_with_gradients() {
    let joint = joint();
    let Forward { model, trainable } = forward(&joint).unwrap();
    let emitted = emit(&joint, &EmitOptions::default()).unwrap();
    close(&outputs(&model), &outputs(&emitted));
    let left = model.graph.nodes().find(|(_, n)| !TRAINABLE_OPS.contains(&n.op.as_str()));
    assert!(left.is_none(), "{left:?}");
    assert_eq!((model.opset(), model.ir_version), (14, 8));
    assert!(trainable.contains(&"shared/conv.weight".to_owned()), "{trainable:?}");
    assert!(!trainable.iter().any(|name| name.contains("mean") || name.contains("variance")));
    // Scale and shift, weight and bias of both layers; the second is too small to fall into blocks.
    assert_eq!(trainable.iter().filter(|name| name.starts_with("a/")).count(), 6, "{trainable:?}");
}

#[test]
fn untrained_weights_come_back_as_the_same_model() {
    let plan = joint();
    for (_, form, _) in FORMS {
        for inputs in [InputMode::Auto, InputMode::Separate] {
            let mut joint = emit(&plan, &EmitOptions { form: *form, inputs }).unwrap();
            joint.metadata.insert("origin".into(), "mine".into());
            let Forward { model, .. } = forward(&restore(&joint).unwrap()).unwrap();
            let back = trained(&joint, &model).unwrap();
            assert_eq!(onnx::encode(&back).unwrap(), onnx::encode(&joint).unwrap(), "{form:?}");
        }
    }
}

#[test]
fn trained_weights_reach_every_task_and_stay_shared() {
    let plan = joint();
    for (_, form, _) in FORMS {
        let joint = emit(&plan, &EmitOptions { form: *form, ..EmitOptions::default() }).unwrap();
        let Forward { mut model, trainable } = forward(&plan).unwrap();
        change(&mut model, &trainable, |v| 0.5 * v + 0.1);
        let back = restore(&trained(&joint, &model).unwrap()).unwrap();
        close(&outputs(&model), &outputs(&emit(&back, &EmitOptions::default()).unwrap()));
        for (old, new) in plan.tasks().iter().zip(back.tasks()) {
            for name in ["scale", "conv.weight", "conv.bias", "fc.weight", "fc.bias"] {
                let of = |task: &Task| {
                    let graph = task.graph();
                    let id = graph.value_named(name).unwrap();
                    graph.initializer(id).unwrap().to_f32().unwrap()
                };
                assert_eq!(of(old).mapv(|v| 0.5 * v + 0.1), of(new), "{form:?} {name}");
            }
        }
        assert_eq!(plan.sharing(TaskId(0)), back.sharing(TaskId(0)));
        let size = |plan: &JointModel| {
            let model = emit(plan, &EmitOptions::default()).unwrap();
            onnx::encode(&model).unwrap().len()
        };
        assert_eq!(size(&plan), size(&back));
    }
}

#[test]
fn zeros_in_weights_are_masked() {
    let mut plan = joint();
    let graph = &mut plan.model_mut(TaskId(0)).graph;
    let id = graph.value_named("fc.weight").unwrap();
    let mut weight = graph.initializer(id).unwrap().to_f32().unwrap();
    weight.iter_mut().step_by(3).for_each(|v| *v = 0.0);
    graph.set_initializer(id, Tensor::from_f32(&weight));
    let Forward { mut model, trainable } = forward(&plan).unwrap();
    let before = outputs(&model);
    close(&before, &outputs(&emit(&plan, &EmitOptions::default()).unwrap()));
    let masks: Vec<_> =
        model.graph.values().filter(|(_, v)| v.name.ends_with(".mask")).map(|(id, _)| id).collect();
    let all: usize = masks.iter().map(|id| model.graph.initializer(*id).unwrap().len()).sum();
    let ones: f32 =
        masks.iter().map(|id| model.graph.initializer(*id).unwrap().to_f32().unwrap().sum()).sum();
    assert_eq!((all, ones as usize), (weight.len(), weight.len() - weight.len().div_ceil(3)));
    // Training cannot change masked zeros.
    let names: Vec<String> =
        trainable.into_iter().filter(|n| n.starts_with("a/fc.weight")).collect();
    assert!(!names.is_empty());
    change(&mut model, &names, |v| if v == 0.0 { 7.0 } else { v });
    close(&before, &outputs(&model));
}

/// A net `x → Gemm → node`, of which the weight is trained.
fn behind_a_layer(node: impl Fn(&mut GraphBuilder, ValueId) -> ValueId) -> (Graph, ValueId) {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "batch,4,6,6");
    let w = b.weights("w", &[4, 4, 1, 1]);
    let h = b.op("Conv", "first", &[x, w], []);
    let y = node(&mut b, h);
    (b.build(&[y]).graph, w)
}

#[test]
fn nodes_that_would_be_trained_wrongly_are_named() {
    let two = |b: &mut GraphBuilder, h: ValueId| {
        let graph = b.graph();
        let outputs = ["one", "other"]
            .map(|n| Some(graph.add_value(n, crate::ir::ValueKind::Detached, None)))
            .to_vec();
        graph.add_node(Node {
            name: "bad".into(),
            op: "Split".into(),
            inputs: vec![Some(h)],
            outputs: outputs.clone(),
            attributes: [("axis".to_owned(), Attribute::Int(1))].into(),
            ..Node::default()
        });
        outputs[0].unwrap()
    };
    let branch = |b: &mut GraphBuilder, h: ValueId| {
        let mut sub = Graph::new("branch");
        let inner = sub.add_value("inner", crate::ir::ValueKind::Captured(h), None);
        let out = sub.add_op("Relu", "out", &[inner], []);
        sub.outputs.push(out);
        let condition = b.scalar("condition", 1.0);
        let branch = || Attribute::Graph(Box::new(sub.clone()));
        b.op("If", "bad", &[condition], [("then_branch", branch()), ("else_branch", branch())])
    };
    let same = |b: &mut GraphBuilder, h: ValueId| {
        let w = b.weights("v", &[4, 4, 3, 3]);
        let auto_pad = Attribute::Str(b"SAME_UPPER".to_vec());
        b.op("Conv", "bad", &[h, w], [("auto_pad", auto_pad)])
    };
    let reflected = |b: &mut GraphBuilder, h: ValueId| {
        let pads = b.ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1]);
        b.op("Pad", "bad", &[h, pads], [("mode", Attribute::Str(b"reflect".to_vec()))])
    };
    let cases: [(&str, (Graph, ValueId)); 6] = [
        ("Split with an unused output is wrong", behind_a_layer(two)),
        ("sub-graph of If aborts", behind_a_layer(branch)),
        ("Conv with auto_pad is wrong", behind_a_layer(same)),
        ("Pad with a constant", behind_a_layer(reflected)),
        ("operator Elu", behind_a_layer(|b, h| b.op("Elu", "bad", &[h], []))),
        ("operator Pow", behind_a_layer(|b, h| b.op("Pow", "bad", &[h, h], []))),
    ];
    for (expected, (graph, weight)) in cases {
        let error = operators::check(&graph, &[weight]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let text = error.to_string();
        let expected = expected.replace("operator Pow", "Pow with a computed exponent");
        assert!(text.contains("node 'bad'") && text.contains(&expected), "{text}");
    }
}

#[test]
fn what_no_gradient_goes_through_may_be_anything() {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "batch,4");
    let e = b.op("Elu", "before", &[x], []);
    let w = b.weights("w", &[4, 4]);
    let y = b.op("MatMul", "layer", &[e, w], []);
    operators::check(&b.build(&[y]).graph, &[w]).unwrap();
}

#[test]
fn weights_that_do_not_belong_are_refused() {
    let plan = joint();
    let base = emit(&plan, &EmitOptions::default()).unwrap();
    let Forward { model, trainable } = forward(&plan).unwrap();
    let name = trainable[0].clone();
    let id = model.graph.value_named(&name).unwrap();
    let refused = |model: Model| trained(&base, &model).unwrap_err();

    let mut other = model.clone();
    other.graph.rename_value(id, "elsewhere");
    assert!(refused(other).to_string().contains(&format!("'{name}' is missing")));
    let mut other = model.clone();
    other.graph.set_initializer(id, Tensor::from_f32(&ArrayD::zeros(IxDyn(&[1, 1]))));
    assert!(refused(other).to_string().contains("has the shape [1, 1], not"));
    let mut other = model.clone();
    change(&mut other, &[name], |_| f32::NAN);
    assert_eq!(refused(other).kind(), ErrorKind::Numeric);
    let error = trained(&model, &model).unwrap_err();
    assert!(error.to_string().contains("not a joint model"), "{error}");
}

fn samples(model: &Model, len: usize) -> Dataset {
    Dataset::synthetic(session(model).inputs(), len, 0, &DataOptions::default()).unwrap()
}

/// Exports the joint model with its own task nets as teachers.
fn exported(target: &Path, loss: Loss, teachers: bool) -> Result<()> {
    let plan = joint();
    let base = emit(&plan, &EmitOptions::default()).unwrap();
    let data = samples(plan.tasks()[0].model(), 70);
    let lessons = plan
        .tasks()
        .iter()
        .map(|task| Lesson { teacher: teachers.then(|| session(task.model())), data: &data });
    export(&base, lessons.collect(), ExportOptions { loss, batch: 32 }, target, &Silent)
}

#[test]
fn the_folder_holds_what_the_scripts_read() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("training");
    exported(&target, Loss::Distillation, true).unwrap();
    let read = |name: &str| std::fs::read(target.join(name)).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&read(MANIFEST)).unwrap();
    let tasks = manifest["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 2);
    for task in tasks {
        assert_eq!(task["samples"], 70);
        let file = |entry: &serde_json::Value| target.join(entry["file"].as_str().unwrap());
        let x: ndarray::Array4<f32> = ndarray_npy::read_npy(file(&task["inputs"][0])).unwrap();
        let y: ndarray::Array2<f32> = ndarray_npy::read_npy(file(&task["targets"][0])).unwrap();
        assert_eq!((x.dim(), y.dim()), ((70, 2, 8, 8), (70, 3)));
        // The loss of a constant guess is about 1 per task.
        let spread = f64::from(y.var(0.0)) * task["targets"][0]["weight"].as_f64().unwrap();
        assert!((spread - 1.0).abs() < 1e-3, "{spread}");
    }
    let forward = onnx::load(&target.join(FORWARD)).unwrap();
    let inputs = forward.graph.inputs.iter().map(|id| forward.graph.value(*id).name.as_str());
    assert_eq!(inputs.collect::<Vec<_>>(), ["a/x", "b/x"]);
    assert!(SCRIPTS.iter().all(|(name, text)| read(name) == text.as_bytes()));
    let again = exported(&target, Loss::Distillation, true).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Usage);
}

#[test]
fn a_failed_export_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("training");
    for (loss, teachers, expected) in
        [(Loss::Distillation, false, "no output 'fc'"), (Loss::CrossEntropy, false, "needs labels")]
    {
        let error = exported(&target, loss, teachers).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
