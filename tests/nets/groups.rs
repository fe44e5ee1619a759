//! Groups with several producers.

use ndarray::{Array1, Array2};
use rand::{Rng, SeedableRng};

use onnx_zip::align::TaskId;
use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::emit::{self, EmitOptions};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Dim, Graph, Model, Tensor, TensorType, ValueId};
use onnx_zip::mtz::options::{MergeOptions, Method};
use onnx_zip::onnx;
use onnx_zip::runtime::ModelSource;

use crate::permute::permuted;
use crate::support::{backend, deviation, merge, run};

fn layer(graph: &mut Graph, input: ValueId, name: &str, weights: Array2<f32>) -> ValueId {
    let bias = Array1::from_shape_fn(weights.nrows(), |i| 0.1 * (i % 2) as f32);
    let bias = if name == "stem" { Array1::zeros(weights.nrows()) } else { bias };
    let w = graph.add_initializer("w", Tensor::from_f32(&weights.into_dyn()));
    let b = graph.add_initializer("b", Tensor::from_f32(&bias.into_dyn()));
    graph.add_op("Gemm", name, &[input, w, b], [("transB", Attribute::Int(1))])
}

/// A residual net whose first layer computes the same in every channel.
fn residual() -> Model {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    let mut random =
        |n: usize, m: usize| Array2::from_shape_fn((n, m), |_| rng.random::<f32>() - 0.5);
    let mut graph = Graph::new("residual");
    let shape = Some(vec![Dim::Symbol("n".into()), Dim::Known(6)]);
    let x = graph.add_input("x", TensorType { dtype: DataType::F32, shape });
    let row = random(1, 6);
    let stem = Array2::from_shape_fn((5, 6), |(_, j)| row[(0, j)]);
    let stream = layer(&mut graph, x, "stem", stem);
    let hidden = layer(&mut graph, stream, "up", random(8, 5));
    let hidden = graph.add_op("Relu", "relu", &[hidden], []);
    let branch = layer(&mut graph, hidden, "down", random(5, 8));
    let sum = graph.add_op("Add", "sum", &[stream, branch], []);
    let sum = graph.add_op("Relu", "relu", &[sum], []);
    let y = layer(&mut graph, sum, "head", random(3, 5));
    graph.outputs = vec![y];
    Model { ir_version: 8, opsets: [(String::new(), 17)].into(), graph, ..Model::default() }
}

#[test]
fn channels_that_the_first_layer_cannot_tell_apart_are_paired_by_the_later_ones() {
    let a = residual();
    let session = backend().load(ModelSource::Bytes(&onnx::encode(&a).unwrap())).unwrap();
    let options = DataOptions::default();
    let data = Dataset::synthetic(session.inputs(), 400, 1, &options).unwrap();
    let batch = data.batch(0..64).unwrap();
    let original = run(&a, &batch).remove(0);
    for method in [Method::Mtz, Method::Refit] {
        let nets = [a.clone(), permuted(&a, 5), permuted(&a, 6)].map(|net| (net, data.clone()));
        let (joint, outcome) = merge(nets, &MergeOptions { method, ..MergeOptions::default() });
        assert_eq!(outcome.sites.iter().map(|s| s.shared).collect::<Vec<_>>(), [5, 8, 5, 0]);
        for task in joint.tasks() {
            let lost = deviation(&run(task.model(), &batch)[0], &original);
            assert!(lost < 1e-3, "{method:?} lost {lost}");
        }
    }
}

#[test]
fn a_joint_model_with_such_groups_can_be_taken_apart_again() {
    let a = residual();
    let session = backend().load(ModelSource::Bytes(&onnx::encode(&a).unwrap())).unwrap();
    let data = Dataset::synthetic(session.inputs(), 100, 1, &DataOptions::default()).unwrap();
    let nets = [a.clone(), permuted(&a, 5), permuted(&a, 6)].map(|net| (net, data.clone()));
    let (joint, _) = merge(nets, &MergeOptions::default());
    let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
    let read = onnx::decode(onnx::encode(&written).unwrap().into(), None, "joint").unwrap();
    let restored = emit::restore(&read).unwrap();
    for task in 0..3 {
        assert_eq!(restored.sharing(TaskId(task)), joint.sharing(TaskId(task)));
    }
}

/// A net that shrinks an image and enlarges it again, with two kinds of transposed convolutions.
fn decoder() -> Model {
    let mut b = GraphBuilder::new("decoder", 17);
    let x = b.input("x", "n,2,9,9");
    let (w1, b1) = (b.weights("w1", &[7, 2, 3, 3]), b.weights("b1", &[7]));
    let (w2, b2) = (b.weights("w2", &[7, 6, 3, 3]), b.weights("b2", &[6]));
    let (w3, b3) = (b.weights("w3", &[6, 5, 2, 4]), b.weights("b3", &[5]));
    let (w4, b4) = (b.weights("w4", &[1, 5, 1, 1]), b.weights("b4", &[1]));
    let y = b.op("Conv", "conv", &[x, w1, b1], [("strides", [2, 2].into())]);
    let y = b.op("Relu", "relu1", &[y], []);
    let window = [("strides", [2, 2].into()), ("output_padding", [1, 1].into())];
    let y = b.op("ConvTranspose", "up1", &[y, w2, b2], window);
    let y = b.op("Relu", "relu2", &[y], []);
    let window = [("pads", [1, 0, 0, 2].into()), ("dilations", [2, 1].into())];
    let y = b.op("ConvTranspose", "up2", &[y, w3, b3], window);
    let y = b.op("Relu", "relu3", &[y], []);
    let y = b.op("Conv", "head", &[y, w4, b4], []);
    b.build(&[y])
}

#[test]
fn transposed_convolutions_share_neurons() {
    let a = decoder();
    let session = backend().load(ModelSource::Bytes(&onnx::encode(&a).unwrap())).unwrap();
    let data = Dataset::synthetic(session.inputs(), 200, 1, &DataOptions::default()).unwrap();
    let batch = data.batch(0..16).unwrap();
    let original = run(&a, &batch).remove(0);
    for method in [Method::Mtz, Method::Refit] {
        let nets = [a.clone(), permuted(&a, 5)].map(|net| (net, data.clone()));
        let (joint, outcome) = merge(nets, &MergeOptions { method, ..MergeOptions::default() });
        assert_eq!(outcome.sites.iter().map(|s| s.shared).collect::<Vec<_>>(), [7, 6, 5, 0]);
        let heads = emit::emit(&joint, &EmitOptions::default()).unwrap();
        for output in run(&heads, &batch) {
            let lost = deviation(&output, &original);
            assert!(lost < 1e-4, "{method:?} lost {lost}");
        }
    }
}
