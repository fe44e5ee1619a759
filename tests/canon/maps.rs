//! Channels of maps that reshapes put beside the batch, into windows and into heads.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Node, ValueId, ValueKind};

use super::Build;

#[rustfmt::skip]
pub const ROWS: &[(&str, i64, &[&str], Build)] = &[
    ("heads of maps in the batch", 13,
        &["Conv", "Reshape", "Reshape", "Tanh", "Reshape"], heads_in_batch),
    ("patches of channels in the batch", 13, &["Reshape", "Transpose", "Reshape"], patches),
    ("a window over all features", 13, &["Unsqueeze", "Transpose", "Conv"], covering_window),
    ("standardised weights", 15, &["Conv"], standardised),
    ("normalised bands", 15, &["Conv", "Reshape", "Mul", "Add", "Reshape"], bands),
    ("features to maps with channels last", 13, &["Gemm", "Mul", "PRelu", "Reshape", "Conv"],
        maps_last),
    ("features to tokens", 13, &["MatMul", "Add", "Reshape", "Transpose", "MatMul", "Add"], tokens),
];

fn reshape(b: &mut GraphBuilder, x: ValueId, sizes: &[i64]) -> ValueId {
    let sizes = b.ints("sizes", sizes);
    b.op("Reshape", "reshape", &[x, sizes], [])
}

fn heads_in_batch(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "n,3,4,4");
    let (w, bias) = (b.weights("w", &[6, 3, 1, 1]), b.weights("b", &[6]));
    let x = b.op("Conv", "conv", &[x, w, bias], []);
    let heads = reshape(b, x, &[-1, 3, 16]);
    let x = b.op("Tanh", "tanh", &[heads], []);
    reshape(b, x, &[-1, 6, 4, 4])
}

fn patches(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "n,3,4,4");
    let x = reshape(b, x, &[-1, 2, 2, 2]);
    let x = b.op("Transpose", "turned", &[x], [("perm", [0, 2, 1, 3].into())]);
    reshape(b, x, &[-1, 3, 4, 4])
}

fn bands(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "n,3,6,w");
    let (w, bias) = (b.weights("w", &[4, 3, 1, 1]), b.weights("b", &[4]));
    let x = b.op("Conv", "conv", &[x, w, bias], []);
    let x = reshape(b, x, &[0, 12, 2, -1]);
    let params = ["gain", "shift", "mean", "variance"].map(|name| b.positive(name, &[12]));
    let inputs: Vec<ValueId> = std::iter::once(x).chain(params).collect();
    let x = b.op("BatchNormalization", "normal", &inputs, []);
    reshape(b, x, &[0, 4, 6, 0])
}

/// Gated by one number of each sample, behind which nothing is folded.
fn maps_last(b: &mut GraphBuilder) -> ValueId {
    let (x, gate) = (b.input("x", "n,5"), b.input("gate", "n,1"));
    let (w, bias) = (b.weights("w", &[5, 24]), b.weights("b", &[24]));
    let x = b.op("MatMul", "features", &[x, w], []);
    let x = b.op("Add", "shifted", &[x, bias], []);
    let x = b.op("Mul", "gated", &[x, gate], []);
    let slope = b.positive("slope", &[24]);
    let x = b.op("PRelu", "bent", &[x, slope], []);
    let x = reshape(b, x, &[-1, 2, 3, 4]);
    let x = b.op("Transpose", "turned", &[x], [("perm", [0, 3, 1, 2].into())]);
    let (w, bias) = (b.weights("conv.w", &[2, 4, 2, 2]), b.weights("conv.b", &[2]));
    b.op("Conv", "conv", &[x, w, bias], [])
}

fn tokens(b: &mut GraphBuilder) -> ValueId {
    let mut x = b.input("x", "n,3,5");
    for (name, inputs, out, sizes) in [("a", 5, 24, Some([0, 3, 6, 4])), ("b", 4, 7, None)] {
        let (w, bias) = (b.weights(name, &[inputs, out]), b.weights("shift", &[out]));
        x = b.op("MatMul", name, &[x, w], []);
        x = b.op("Add", "shifted", &[x, bias], []);
        x = sizes.map_or(x, |sizes| reshape(b, x, &sizes));
    }
    x
}

fn covering_window(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "n,10,6");
    let axis = b.ints("axis", &[1]);
    let x = b.op("Unsqueeze", "channel", &[x, axis], []);
    let (w, bias) = (b.weights("w", &[7, 1, 3, 6]), b.weights("b", &[7]));
    b.op("Conv", "window", &[x, w, bias], [("kernel_shape", [3, 6].into())])
}

fn standardised(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "n,3,4,4");
    let (w, bias) = (b.weights("w", &[6, 3, 1, 1]), b.weights("b", &[6]));
    let rows = reshape(b, w, &[1, 6, 3]);
    let params = ["gain", "shift", "mean", "variance"].map(|name| b.weights(name, &[6]));
    let outputs =
        ["y", "mean", "var"].map(|name| b.graph().add_value(name, ValueKind::Detached, None));
    b.graph().add_node(Node {
        name: "standardised".to_owned(),
        op: "BatchNormalization".to_owned(),
        inputs: std::iter::once(rows).chain(params).map(Some).collect(),
        outputs: outputs.map(Some).to_vec(),
        attributes: [("training_mode".to_owned(), Attribute::Int(1))].into(),
        ..Node::default()
    });
    let w = reshape(b, outputs[0], &[6, 3, 1, 1]);
    b.op("Conv", "conv", &[x, w, bias], [])
}
