//! Nets so small that a run takes no time.

use ndarray::Array2;
use ndarray_npy::write_npy;
use std::path::Path;

use onnx_zip::ir::Model;
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::onnx;

/// Two layers; the weights differ by `seed`.
fn net(seed: usize) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "batch,4");
    // This draw changes the random weights that follow. Unread weights are not saved.
    b.weights("skipped", &[seed]);
    let (w1, b1) = (b.weights("w1", &[8, 4]), b.weights("b1", &[8]));
    let (w2, b2) = (b.weights("w2", &[3, 8]), b.weights("b2", &[3]));
    let h = b.op("Gemm", "first", &[x, w1, b1], [("transB", 1.into())]);
    let h = b.op("Relu", "relu", &[h], []);
    let y = b.op("Gemm", "last", &[h, w2, b2], [("transB", 1.into())]);
    b.build(&[y])
}

/// Writes `a.onnx`, `b.onnx` and samples for them into `folder`.
pub fn write(folder: &Path, seed: usize) {
    for (name, seed) in [("a", seed), ("b", seed + 1)] {
        onnx::save(&net(seed), &folder.join(format!("{name}.onnx")), &Default::default()).unwrap();
    }
    let samples = Array2::from_shape_fn((16, 4), |(i, j)| ((i * 7 + j * 3) % 11) as f32 / 11.0);
    write_npy(folder.join("x.npy"), &samples).unwrap();
}
