//! Samples that do not fill their last batch, in nets with axes that count samples and tokens at once.

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{DataType, Model};
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions, Method};
use onnx_zip::onnx;
use onnx_zip::runtime::ModelSource;

use crate::support::{backend, deviation, merge_in, run};

const BATCH: usize = 4;

/// A net of three layers over tokens, all in one axis with the samples, and so is the mask that each layer's rows meet.
fn rows_of_tokens(seed: usize) -> Model {
    let mut b = GraphBuilder::new("rows", 17);
    // An unused draw changes the random weights that follow.
    b.weights("unused", &[seed + 1]);
    let x = b.input("x", "n,t,4");
    let mask = b.typed_input("mask", DataType::I64, "n,t");
    let (one, width) = (b.ints("one", &[-1, 1]), b.ints("width", &[-1, 4]));
    let flags = b.op("Reshape", "flags", &[mask, one], []);
    let flags = b.op("Cast", "numbers", &[flags], [("to", 1.into())]);
    let mut rows = b.op("Reshape", "rows", &[x, width], []);
    for (at, [reads, makes]) in [[4, 6], [6, 8], [8, 5]].into_iter().enumerate() {
        let weight = b.weights(&format!("w{at}"), &[makes, reads]);
        let bias = b.weights(&format!("b{at}"), &[makes]);
        rows = b.op("Gemm", &format!("fc{at}"), &[rows, weight, bias], [("transB", 1.into())]);
        rows = b.op("Tanh", &format!("tanh{at}"), &[rows], []);
        rows = b.op("Mul", &format!("masked{at}"), &[rows, flags], []);
    }
    let weight = b.weights("head.w", &[3, 5]);
    let bias = b.weights("head.b", &[3]);
    let rows = b.op("Gemm", "head", &[rows, weight, bias], [("transB", 1.into())]);
    let (shape, three) = (b.op("Shape", "shape", &[mask], []), b.ints("three", &[3]));
    let shape = b.op("Concat", "sizes", &[shape, three], [("axis", 0.into())]);
    let tokens = b.op("Reshape", "tokens", &[rows, shape], []);
    let y = b.op("ReduceMean", "y", &[tokens], [("axes", [1].into()), ("keepdims", 0.into())]);
    b.build(&[y])
}

fn samples(net: &Model, count: usize, tokens: usize) -> Dataset {
    let bytes = onnx::encode(net).unwrap();
    let session = backend().load(ModelSource::Bytes(&bytes)).unwrap();
    let options = DataOptions { dims: [("t".to_owned(), tokens)].into(), ..DataOptions::default() };
    Dataset::synthetic(session.inputs(), count, 1, &options).unwrap()
}

fn merged(method: Method, data: &Dataset, batch: usize) -> JointModel {
    let budget = Budget::uniform(Share::Fraction(1.0));
    let options = MergeOptions { method, budget, ..MergeOptions::default() };
    let nets = [0, 1].map(|seed| (rows_of_tokens(seed), data.clone()));
    let (joint, outcome) = merge_in(nets, &options, batch);
    assert!(outcome.sites.iter().filter(|site| site.reason.is_none()).count() >= 3);
    joint
}

#[test]
fn the_last_batch_may_have_any_size() {
    // As many tokens as samples in a batch, and other numbers.
    for (tokens, left) in [(BATCH, 3), (3, 1)] {
        let count = 2 * BATCH + left;
        let data = samples(&rows_of_tokens(0), count, tokens);
        let batch = data.batch(0..count).unwrap();
        merged(Method::Refit, &data, BATCH);
        let parts = merged(Method::Mtz, &data, BATCH);
        let whole = merged(Method::Mtz, &data, count);
        for (part, whole) in parts.tasks().iter().zip(whole.tasks()) {
            let [part, whole] = [part, whole].map(|task| run(task.model(), &batch).remove(0));
            assert!(deviation(&part, &whole) < 1e-3, "{tokens} tokens, {count} samples");
        }
    }
}
