//! Groups that several layers make.

use ndarray::{Array1, Array2};
use rand::{Rng, SeedableRng};

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::emit::{self, EmitOptions};
use onnx_zip::ir::{Attribute, DataType, Dim, Graph, Model, Tensor, TensorType, ValueId};
use onnx_zip::onnx;
use onnx_zip::runtime::ModelSource;
use onnx_zip::zip::options::{Method, ZipOptions};

use crate::permute::permuted;
use crate::support::{backend, deviation, merge, run};

fn layer(graph: &mut Graph, input: ValueId, name: &str, weights: Array2<f32>) -> ValueId {
    let bias = Array1::from_shape_fn(weights.nrows(), |i| 0.1 * (i % 2) as f32);
    let bias = if name == "stem" { Array1::zeros(weights.nrows()) } else { bias };
    let w = graph.add_initializer("w", Tensor::from_f32(&weights.into_dyn()));
    let b = graph.add_initializer("b", Tensor::from_f32(&bias.into_dyn()));
    graph.add_op("Gemm", name, &[input, w, b], [("transB", Attribute::Int(1))])
}

/// A residual net whose first layer makes the same of every channel.
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
        let (joint, outcome) = merge(nets, &ZipOptions { method, ..ZipOptions::default() });
        assert_eq!(outcome.sites.iter().map(|s| s.shared).collect::<Vec<_>>(), [5, 8, 5, 0]);
        for task in &joint.tasks {
            let lost = deviation(&run(&task.model, &batch)[0], &original);
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
    let (joint, _) = merge(nets, &ZipOptions::default());
    let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
    let read = onnx::decode(onnx::encode(&written).unwrap().into(), None, "joint").unwrap();
    let restored = emit::restore(&read).unwrap();
    for task in 0..3 {
        assert_eq!(restored.sharing(task), joint.sharing(task));
    }
}
