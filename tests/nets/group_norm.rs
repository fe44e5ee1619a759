//! Group normalisation: groups are permuted as blocks, and the channels within a group in any order.

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::canon::BatchNorm;
use onnx_zip::couple::Coupling;
use onnx_zip::emit::Form;
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Model, Tensor, ValueId};
use onnx_zip::onnx;
use onnx_zip::runtime::ModelSource;

use crate::permute::permuted;
use crate::support::{backend, canonical, deviation, run};
use crate::transformers::{count, lost, merged, parameters, written};

const GROUPS: usize = 4;
const CHANNELS: usize = 12;

/// The way in which an exporter writes the normalisation.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    /// One node; by the operator set, it has one scale per group or per channel.
    Node(i64),
    /// Channels and pixels of a group on one axis.
    Flat,
}

fn norm(b: &mut GraphBuilder, x: ValueId, name: &str, style: Style) -> ValueId {
    let named = |what: &str| format!("{name}.{what}");
    let epsilon = ("epsilon", 1e-3.into());
    let Style::Node(opset) = style else {
        let flat = b.ints(&named("flat"), &[0, GROUPS as i64, -1]);
        let y = b.op("Reshape", &named("flattened"), &[x, flat], []);
        let all = |value| Tensor::from_f32(&ndarray::arr1(&[value; GROUPS]).into_dyn());
        let (one, zero) = (b.constant("one", all(1.0)), b.constant("zero", all(0.0)));
        let y = b.op("InstanceNormalization", &named("norm"), &[y, one, zero], [epsilon]);
        let shape = b.op("Shape", &named("shape"), &[x], []);
        let y = b.op("Reshape", &named("back"), &[y, shape], []);
        let scale = b.positive(&named("scale"), &[CHANNELS, 1, 1]);
        let shift = b.weights(&named("shift"), &[CHANNELS, 1, 1]);
        let y = b.op("Mul", &named("scaled"), &[y, scale], []);
        return b.op("Add", &named("shifted"), &[y, shift], []);
    };
    let entries = if opset < 21 { GROUPS } else { CHANNELS };
    let (scale, shift) =
        (b.positive(&named("scale"), &[entries]), b.weights(&named("shift"), &[entries]));
    let groups = ("num_groups", (GROUPS as i64).into());
    b.op("GroupNormalization", &named("norm"), &[x, scale, shift], [epsilon, groups])
}

/// A residual net with a normalisation behind each convolution.
fn net(style: Style) -> Model {
    let opset = if let Style::Node(opset) = style { opset } else { 17 };
    let mut b = GraphBuilder::new("net", opset);
    let x = b.input("x", "batch,3,6,6");
    let conv = |b: &mut GraphBuilder, x, name: &str, inputs: usize| {
        let w = b.weights(&format!("{name}.w"), &[CHANNELS, inputs, 3, 3]);
        let y = b.op("Conv", name, &[x, w], [("pads", [1, 1, 1, 1].into())]);
        norm(b, y, &format!("{name}.norm"), style)
    };
    let first = conv(&mut b, x, "first", 3);
    let y = b.op("Relu", "relu1", &[first], []);
    let y = conv(&mut b, y, "second", CHANNELS);
    let y = b.op("Relu", "relu2", &[y], []);
    let y = conv(&mut b, y, "third", CHANNELS);
    let y = b.op("Add", "sum", &[first, y], []);
    let y = b.op("GlobalAveragePool", "pooled", &[y], []);
    let y = b.op("Flatten", "flat", &[y], []);
    let w = b.weights("out", &[CHANNELS, 5]);
    let y = b.op("MatMul", "y", &[y, w], []);
    b.build(&[y])
}

#[test]
fn a_permuted_copy_is_recognised_and_nothing_is_gathered() {
    for style in [Style::Node(18), Style::Node(21), Style::Flat] {
        let a = net(style);
        let plain = canonical(&a, BatchNorm::Fold);
        let coupling = Coupling::of(&plain.graph).unwrap();
        let nests: Vec<(usize, usize)> =
            coupling.nests.iter().map(|nest| (nest.blocks().len(), nest.width())).collect();
        assert_eq!(nests, [(GROUPS, CHANNELS / GROUPS); 2], "{style:?}");
        let b = permuted(&a, 5);
        let session = backend().load(ModelSource::Bytes(&onnx::encode(&a).unwrap())).unwrap();
        let data = Dataset::synthetic(session.inputs(), 8, 1, &DataOptions::default()).unwrap();
        let batch = data.batch(0..8).unwrap();
        assert!(deviation(&run(&b, &batch)[0], &run(&a, &batch)[0]) < 1e-5, "{style:?}: the copy");
        let joint = merged(&a, &b, 1.0);
        let model = written(&joint, Form::Heads);
        let part = parameters(&model) as f64 / (parameters(&plain) + parameters(&b)) as f64;
        assert!(part <= 0.51, "{style:?}: {part}");
        assert_eq!(count(&model, "Gather"), 0, "{style:?}");
        for form in [Form::Heads, Form::Switch, Form::Masked] {
            let lost = lost(&joint, form, [&a, &b]);
            assert!(lost < 1e-4, "{style:?} {form:?} lost {lost}");
        }
    }
}

#[test]
fn sharing_a_part_keeps_groups_whole() {
    let a = net(Style::Node(21));
    let mut b = permuted(&a, 5);
    for id in b.graph.values().map(|(id, _)| id).collect::<Vec<_>>() {
        let Some(tensor) = b.graph.initializer(id).filter(|t| t.dims.len() == 4) else { continue };
        let mut values = tensor.to_f32().unwrap();
        values.iter_mut().enumerate().for_each(|(i, v)| *v += 0.3 * (i as f32).sin());
        b.graph.set_initializer(id, Tensor::from_f32(&values));
    }
    for share in [0.0, 0.5, 1.0] {
        let joint = merged(&a, &b, share);
        let tasks = [joint.tasks()[0].model(), joint.tasks()[1].model()];
        for form in [Form::Heads, Form::Switch, Form::Masked] {
            let lost = lost(&joint, form, tasks);
            assert!(lost < 1e-4, "{share} {form:?}: {lost}");
        }
    }
}
