//! Layers behind one channel that is added to features, and behind channels that cannot be followed.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::net::{Pattern, conv, dense, images, relu, reshape, rest, transpose};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("features as one channel", first),
    ("features as one channel in the last place", last),
    ("features as one channel of a reshape", reshaped),
    ("features of one channel", of_one_channel),
    ("features as one channel of a sequence", sequence),
    ("filters behind one channel", filters),
    ("filters behind channels that are not followed", not_followed),
];

/// Bands of frequencies, as in front of nets over sounds.
fn bands(b: &mut GraphBuilder, dims: &str) -> ValueId {
    let x = b.input("x", dims);
    let x = dense(b, "bands", x, [10, 8]);
    relu(b, x)
}

fn added(b: &mut GraphBuilder, x: ValueId, axis: i64) -> ValueId {
    let axis = b.ints("axis", &[axis]);
    b.op("Unsqueeze", "added", &[x, axis], [])
}

/// A convolution over one channel, and the rest of a net.
fn behind(b: &mut GraphBuilder, x: ValueId) -> Vec<ValueId> {
    let x = conv(b, "first", x, 6, 1);
    let x = relu(b, x);
    vec![rest(b, x, 6)]
}

/// One filter per channel.
fn each(b: &mut GraphBuilder, x: ValueId, channels: usize) -> ValueId {
    let (w, bias) = (b.weights("each.w", &[channels, 1, 3, 3]), b.weights("each.b", &[channels]));
    let x = b.op("Conv", "each", &[x, w, bias], [("group", (channels as i64).into())]);
    relu(b, x)
}

fn first(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = bands(b, "n,8,10");
    let x = added(b, x, 1);
    behind(b, x)
}

fn last(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = bands(b, "n,8,10");
    let x = added(b, x, 3);
    let x = transpose(b, x, &[0, 3, 1, 2]);
    behind(b, x)
}

fn reshaped(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = bands(b, "n,8,10");
    let x = reshape(b, x, &[-1, 1, 16, 4]);
    behind(b, x)
}

fn of_one_channel(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = bands(b, "n,1,8,10");
    behind(b, x)
}

fn sequence(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,10");
    let (w, bias) = (b.weights("bands.w", &[8, 10]), b.weights("bands.b", &[8]));
    let x = b.op("Gemm", "bands", &[x, w, bias], [("transB", 1.into())]);
    let mut x = added(b, x, 1);
    for (name, out, inputs) in [("first", 6, 1), ("middle", 7, 6)] {
        let w = b.weights(&format!("{name}.w"), &[out, inputs, 3]);
        let bias = b.weights(&format!("{name}.b"), &[out]);
        x = b.op("Conv", name, &[x, w, bias], []);
        x = relu(b, x);
    }
    let w = b.weights("last.w", &[5, 7, 1]);
    vec![b.op("Conv", "last", &[x, w], [])]
}

fn filters(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = bands(b, "n,8,10");
    let x = added(b, x, 1);
    let x = conv(b, "first", x, 6, 1);
    let x = relu(b, x);
    let x = each(b, x, 6);
    vec![rest(b, x, 6)]
}

/// The second layer reads statistics over channels, so its nine numbers stay each task's own. The filters behind it
/// are the first layer by which its channels can be paired.
fn not_followed(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let both = ["ReduceMean", "ReduceMax"]
        .map(|op| b.op(op, op, &[x], [("axes", [1].into()), ("keepdims", 1.into())]));
    let x = b.op("Concat", "both", &both, [("axis", 1.into())]);
    let (w, bias) = (b.weights("second.w", &[3, 2, 1, 1]), b.weights("second.b", &[3]));
    let x = b.op("Conv", "second", &[x, w, bias], []);
    let x = relu(b, x);
    let x = each(b, x, 3);
    vec![rest(b, x, 3)]
}
