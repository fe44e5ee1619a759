//! Transposed convolutions in the forms that exporters write.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, ValueId};

use super::net::{Pattern, conv, halves, images, relu, rest};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("maps enlarged to given sizes", to_sizes),
    ("maps enlarged by a mode", by_mode),
    ("channels enlarged each alone", depthwise),
    ("channels enlarged each alone without a bias", depthwise_unbiased),
    ("several enlargements of each channel", several_each),
    ("gates enlarged each alone", gated_depthwise),
];

/// A transposed convolution with a bias and an activation.
fn up<const N: usize>(
    b: &mut GraphBuilder,
    x: ValueId,
    dims: [usize; 4],
    group: usize,
    attributes: [(&'static str, Attribute); N],
) -> ValueId {
    let (w, bias) = (b.weights("up.w", &dims), b.weights("up.b", &[dims[1] * group]));
    let x = b.op("ConvTranspose", "up", &[x, w, bias], attributes);
    relu(b, x)
}

fn to_sizes(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let sizes = [("output_shape", [16, 18].into()), ("strides", [2, 2].into())];
    let x = up(b, x, [6, 5, 3, 3], 1, sizes);
    let sizes = [("output_shape", [18, 19].into()), ("auto_pad", "SAME_UPPER".into())];
    let x = up(b, x, [5, 4, 4, 4], 1, sizes);
    vec![rest(b, x, 4)]
}

fn by_mode(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let mut x = relu(b, x);
    for (mode, dims) in [("SAME_UPPER", [6, 5, 3, 3]), ("SAME_LOWER", [5, 4, 4, 3])] {
        x = up(b, x, dims, 1, [("auto_pad", mode.into()), ("strides", [1, 2].into())]);
    }
    vec![rest(b, x, 4)]
}

fn depthwise(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let window = [("group", 6.into()), ("strides", [2, 2].into()), ("pads", [1, 1, 1, 1].into())];
    let x = up(b, x, [6, 1, 4, 4], 6, window);
    vec![rest(b, x, 6)]
}

fn depthwise_unbiased(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let w = b.weights("up.w", &[6, 1, 2, 2]);
    let window = [("group", 6.into()), ("strides", [2, 2].into())];
    let x = b.op("ConvTranspose", "up", &[x, w], window);
    let x = relu(b, x);
    vec![rest(b, x, 6)]
}

fn several_each(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    let x = up(b, x, [6, 2, 2, 2], 6, [("group", 6.into()), ("strides", [2, 2].into())]);
    vec![rest(b, x, 12)]
}

fn gated_depthwise(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "double", x, 12, 3);
    let (w, bias) = (b.weights("up.w", &[12, 1, 2, 2]), b.weights("up.b", &[12]));
    let window = [("group", 12.into()), ("strides", [2, 2].into())];
    let x = b.op("ConvTranspose", "up", &[x, w, bias], window);
    let [values, gates] = halves(b, x, 6);
    let x = b.op("Mul", "gated", &[values, gates], []);
    vec![rest(b, x, 6)]
}
