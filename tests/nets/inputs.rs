//! Nets with unequal inputs: grey and coloured images, and images of different sizes.

use ndarray::{ArrayD, Axis, IxDyn};

use onnx_zip::align::TaskId;
use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::emit::{self, EmitOptions, Form};
use onnx_zip::error::ErrorKind;
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Model, Tensor, ValueId};
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions, Method};
use onnx_zip::onnx;
use onnx_zip::runtime::{HostArray, ModelSource};

use crate::permute::permuted;
use crate::support::{backend, deviation, merge, run};

type Batch = Vec<(String, HostArray)>;

/// A convolutional net for images of `channels` channels; the weights for all but the first are
/// `others` times random numbers, and what comes after does not depend on the images' kind.
fn net(channels: usize, side: usize, others: f32) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", &format!("n,{channels},{side},{side}"));
    let first = b.weights("first", &[6, 1, 3, 3]);
    let rest = [
        b.weights("b1", &[6]),
        b.weights("w2", &[8, 6, 3, 3]),
        b.weights("b2", &[8]),
        b.weights("w3", &[3, 8]),
        b.weights("b3", &[3]),
    ];
    let colours = b.weights("colours", &[6, channels, 3, 3]);
    let mut numbers = |v| b.graph().initializer(v).unwrap().to_f32().unwrap();
    let (first, colours) = (numbers(first), numbers(colours));
    let all = ArrayD::from_shape_fn(IxDyn(&[6, channels, 3, 3]), |at| match at[1] {
        0 => first[[at[0], 0, at[2], at[3]]],
        _ => others * colours[[at[0], at[1], at[2], at[3]]],
    });
    let w1 = b.constant("w1", Tensor::from_f32(&all));
    let pads = [("pads", [1, 1, 1, 1].into())];
    let y = b.op("Conv", "conv1", &[x, w1, rest[0]], pads.clone());
    let y = b.op("Relu", "relu1", &[y], []);
    let y = b.op("Conv", "conv2", &[y, rest[1], rest[2]], pads);
    let y = b.op("Relu", "relu2", &[y], []);
    let y = b.op("GlobalAveragePool", "pool", &[y], []);
    let y = b.op("Flatten", "flat", &[y], []);
    let y = b.op("Gemm", "head", &[y, rest[3], rest[4]], [("transB", 1.into())]);
    b.build(&[y])
}

fn samples(model: &Model) -> Dataset {
    let session = backend().load(ModelSource::Bytes(&onnx::encode(model).unwrap())).unwrap();
    Dataset::synthetic(session.inputs(), 200, 1, &DataOptions::default()).unwrap()
}

fn with_samples(model: Model) -> (Model, Dataset) {
    let data = samples(&model);
    (model, data)
}

/// The joint model's outputs, with one batch per task.
fn joint_outputs(joint: &JointModel, form: Form, batches: &[Batch]) -> Vec<ArrayD<f32>> {
    let model = emit::emit(joint, &EmitOptions { form, ..EmitOptions::default() }).unwrap();
    let names = model.graph.inputs.iter().map(|v| model.graph.value(*v).name.clone());
    let names = names.filter(|name| name != "task");
    let arrays = batches.iter().flatten().map(|(_, array)| array.clone());
    let fed: Batch = names.zip(arrays).collect();
    let selected = |task: usize| HostArray::I64(ArrayD::from_elem(IxDyn(&[1]), task as i64));
    match form {
        Form::Heads => run(&model, &fed),
        _ => (0..batches.len())
            .map(|task| {
                let mut fed = fed.clone();
                fed.push(("task".to_owned(), selected(task)));
                run(&model, &fed).swap_remove(task)
            })
            .collect(),
    }
}

#[test]
fn a_net_of_grey_images_is_found_in_a_net_of_coloured_ones() {
    let (grey, colour) = (net(1, 10, 0.0), permuted(&net(3, 12, 0.0), 5));
    for method in [Method::Mtz, Method::Refit] {
        let nets = [with_samples(grey.clone()), with_samples(colour.clone())];
        let (joint, outcome) = merge(nets, &MergeOptions { method, ..MergeOptions::default() });
        assert_eq!(outcome.sites.iter().map(|s| s.shared).collect::<Vec<_>>(), [6, 8, 0]);
        assert_eq!(outcome.sites[0].shared_inputs, 1);
        // The output layers, and the weights for the two colours that grey images lack.
        assert_eq!(outcome.sizes.specific, [27, 27 + 6 * 2 * 9]);
        for (task, original) in joint.tasks().iter().zip([&grey, &colour]) {
            let batch = samples(original).batch(0..32).unwrap();
            let lost = deviation(&run(task.model(), &batch)[0], &run(original, &batch)[0]);
            assert!(lost < 1e-4, "{method:?} lost {lost}");
        }
    }
}

#[test]
fn every_form_takes_inputs_of_different_kinds() {
    let nets = [net(1, 10, 0.0), net(3, 12, 0.5), net(4, 10, -0.5)];
    for share in [0.0, 0.6, 1.0] {
        let budget = Budget::uniform(Share::Fraction(share));
        let options = MergeOptions { budget, ..MergeOptions::default() };
        let (joint, outcome) = merge(nets.clone().map(with_samples), &options);
        let (stored, all) = (outcome.sizes.joint(), outcome.sizes.separate());
        assert!(if share > 0.0 { stored < all } else { stored == all }, "{share}");
        let batches: Vec<Batch> =
            nets.iter().map(|net| samples(net).batch(0..8).unwrap()).collect();
        let merged = joint.tasks().iter().map(|task| task.model());
        let models: Vec<&Model> =
            if share > 0.0 { merged.collect() } else { nets.iter().collect() };
        let pairs = models.into_iter().zip(&batches);
        let expected: Vec<ArrayD<f32>> =
            pairs.map(|(model, batch)| run(model, batch).remove(0)).collect();
        for form in [Form::Heads, Form::Switch] {
            for (got, expected) in joint_outputs(&joint, form, &batches).iter().zip(&expected) {
                let gap = deviation(got, expected);
                assert!(gap < 1e-5, "{form:?} at {share} deviates by {gap}");
            }
        }
        let masked = EmitOptions { form: Form::Masked, ..EmitOptions::default() };
        assert_eq!(masked.check(&joint).unwrap_err().kind(), ErrorKind::Usage);
        let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
        let read = onnx::decode(onnx::encode(&written).unwrap().into(), None, "joint").unwrap();
        let restored = emit::restore(&read).unwrap();
        (0..3).for_each(|task| {
            assert_eq!(restored.sharing(TaskId(task)), joint.sharing(TaskId(task)))
        });
    }
}

/// A net whose first layer reads two inputs side by side in this order, and which computes the same in any order.
fn side_by_side(order: [&str; 2]) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let inputs = [("x", b.input("x", "n,3")), ("z", b.input("z", "n,4"))];
    let weights = [("x", b.weights("wx", &[3, 6])), ("z", b.weights("wz", &[4, 6]))];
    let of = |all: [(&str, ValueId); 2]| {
        order.map(|name| all.into_iter().find(|(own, _)| *own == name).unwrap().1)
    };
    let rows = of(weights).map(|w| b.graph().initializer(w).unwrap().to_f32().unwrap());
    let views = [rows[0].view(), rows[1].view()];
    let w = ndarray::concatenate(Axis(0), &views).unwrap();
    let w = b.constant("w", Tensor::from_f32(&w));
    let y = b.op("Concat", "joined", &of(inputs), [("axis", 1.into())]);
    let y = b.op("MatMul", "first", &[y, w], []);
    let y = b.op("Relu", "relu", &[y], []);
    let head = b.weights("head", &[6, 3]);
    let y = b.op("MatMul", "y", &[y, head], []);
    b.build(&[y])
}

#[test]
fn inputs_side_by_side_correspond_by_name() {
    let nets = [side_by_side(["x", "z"]), side_by_side(["z", "x"])];
    let (joint, _) = merge(nets.clone().map(with_samples), &MergeOptions::default());
    for (task, net) in joint.tasks().iter().zip(&nets) {
        let batch = samples(net).batch(0..8).unwrap();
        let gap = deviation(&run(task.model(), &batch)[0], &run(net, &batch)[0]);
        assert!(gap < 1e-4, "{gap}");
    }
}

/// A net of two inputs, which stand in this order.
fn of_two(order: [&str; 2], seed: usize) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    b.weights("unused", &[seed]);
    let inputs = order.map(|name| b.input(name, "n,5"));
    let of = |name: &str| inputs[order.iter().position(|n| *n == name).unwrap()];
    let halves = ["left", "right"].map(|side| {
        let weights = [b.weights(&format!("w_{side}"), &[6, 5]), b.weights(side, &[6])];
        let gemm = [of(side), weights[0], weights[1]];
        let y = b.op("Gemm", &format!("fc_{side}"), &gemm, [("transB", 1.into())]);
        b.op("Relu", &format!("relu_{side}"), &[y], [])
    });
    let y = b.op("Sub", "apart", &halves, []);
    let head = b.weights("head", &[3, 6]);
    let y = b.op("Gemm", "y", &[y, head], [("transB", 1.into())]);
    b.build(&[y])
}

#[test]
fn common_inputs_are_those_of_one_name() {
    let nets = [of_two(["left", "right"], 1), of_two(["right", "left"], 2)];
    for share in [0.0, 1.0] {
        let budget = Budget::uniform(Share::Fraction(share));
        let options = MergeOptions { budget, ..MergeOptions::default() };
        let (joint, _) = merge(nets.clone().map(with_samples), &options);
        let batch = samples(&nets[0]).batch(0..8).unwrap();
        let alone = joint.tasks().iter().map(|task| run(task.model(), &batch).remove(0));
        let alone: Vec<ArrayD<f32>> = alone.collect();
        for (got, net) in alone.iter().zip(&nets).filter(|_| share == 0.0) {
            assert!(deviation(got, &run(net, &batch)[0]) < 1e-6);
        }
        for form in [Form::Heads, Form::Masked, Form::Switch] {
            let model =
                emit::emit(&joint, &EmitOptions { form, ..EmitOptions::default() }).unwrap();
            let names = model.graph.inputs.iter().map(|v| model.graph.value(*v).name.as_str());
            assert_eq!(names.filter(|name| *name != "task").collect::<Vec<_>>(), ["left", "right"]);
            let batches = [batch.clone(), batch.clone()];
            for (got, expected) in joint_outputs(&joint, form, &batches).iter().zip(&alone) {
                assert!(deviation(got, expected) < 1e-5, "{form:?} at {share}");
            }
        }
    }
}

/// A convolutional net whose first layer has this window; `side` is the size of images, `None` for an
/// open one.
fn moving(window: [(&'static str, Attribute); 2], seed: usize, side: Option<usize>) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    // An unused draw changes the random weights that follow.
    b.weights("unused", &[seed]);
    let side = side.map_or("h,w".to_owned(), |s| format!("{s},{s}"));
    let x = b.input("x", &format!("n,2,{side}"));
    let (w1, b1) = (b.weights("w1", &[6, 2, 3, 3]), b.weights("b1", &[6]));
    let (w2, b2) = (b.weights("w2", &[8, 6, 3, 3]), b.weights("b2", &[8]));
    let (w3, b3) = (b.weights("w3", &[3, 8]), b.weights("b3", &[3]));
    let y = b.op("Conv", "conv1", &[x, w1, b1], window);
    let y = b.op("Relu", "relu1", &[y], []);
    let y = b.op("Conv", "conv2", &[y, w2, b2], []);
    let y = b.op("Relu", "relu2", &[y], []);
    let y = b.op("GlobalAveragePool", "pool", &[y], []);
    let y = b.op("Flatten", "flat", &[y], []);
    let y = b.op("Gemm", "head", &[y, w3, b3], [("transB", 1.into())]);
    b.build(&[y])
}

#[test]
fn layers_that_move_differently_share_weights_in_every_form() {
    let plain = || [("pads", [0, 0, 0, 0].into()), ("strides", [1, 1].into())];
    let padded = || [("pads", [1, 1, 1, 1].into()), ("strides", [1, 1].into())];
    let strided = || [("pads", [1, 1, 1, 1].into()), ("strides", [2, 2].into())];
    for (side, share) in [(Some(12), 1.0), (Some(12), 0.6), (None, 0.6)] {
        let nets =
            [moving(plain(), 1, side), moving(padded(), 2, side), moving(strided(), 3, side)];
        let images = samples(&moving(plain(), 1, Some(12)));
        let budget = Budget::uniform(Share::Fraction(share));
        let options = MergeOptions { budget, ..MergeOptions::default() };
        let (joint, outcome) = merge(nets.map(|net| (net, images.clone())), &options);
        assert!(outcome.sites[..2].iter().all(|site| site.shared > 0));
        let batch = images.batch(0..8).unwrap();
        let alone = joint.tasks().iter().map(|task| run(task.model(), &batch).remove(0));
        let alone: Vec<ArrayD<f32>> = alone.collect();
        for form in [Form::Heads, Form::Masked, Form::Switch] {
            let batches: Vec<Batch> = vec![batch.clone(); 3];
            for (got, expected) in joint_outputs(&joint, form, &batches).iter().zip(&alone) {
                let gap = deviation(got, expected);
                assert!(gap < 1e-5, "{form:?} at {share} deviates by {gap}");
            }
        }
    }
}
