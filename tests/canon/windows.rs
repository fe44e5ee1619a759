//! Transposed convolutions that leave padding to the runtime, or have one filter per channel.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, ValueId};

use super::{Build, batch_norm, image};

#[rustfmt::skip]
pub const ROWS: &[(&str, i64, &[&str], Build)] = &[
    ("transposed convolutions that are told sizes", 13,
        &["ConvTranspose", "ConvTranspose"], told_sizes),
    ("transposed convolutions that are told a mode", 13,
        &["ConvTranspose", "ConvTranspose"], told_modes),
    ("batch norm behind a depthwise transposed convolution", 13, &["ConvTranspose"], depthwise),
    ("several transposed filters for each channel", 13,
        &["ConvTranspose", "ConvTranspose", "Concat", "Gather"], multiplier),
];

fn up<const N: usize>(
    b: &mut GraphBuilder,
    x: ValueId,
    attributes: [(&'static str, Attribute); N],
) -> ValueId {
    let w = b.weights("w", &[4, 4, 3, 4]);
    b.op("ConvTranspose", "up", &[x, w], attributes)
}

/// Without cropping or adding, outputs have 13 × 14 positions, then 14 × 18.
fn told_sizes(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let sizes = [("output_shape", [12, 15].into()), ("strides", [2, 2].into())];
    let y = up(b, x, sizes);
    up(b, y, [("output_shape", [13, 15].into()), ("auto_pad", "SAME_UPPER".into())])
}

fn told_modes(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let strides = || ("strides", [2, 2].into());
    let y = up(b, x, [("auto_pad", "SAME_UPPER".into()), strides()]);
    let more = ("output_padding", [1, 0].into());
    up(b, y, [("auto_pad", "SAME_LOWER".into()), strides(), more])
}

fn depthwise(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let w = b.weights("w", &[4, 1, 3, 3]);
    let attributes = [("group", 4.into()), ("strides", [2, 2].into())];
    let y = b.op("ConvTranspose", "up", &[x, w], attributes);
    batch_norm(b, y, 4)
}

fn multiplier(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let (w, bias) = (b.weights("w", &[4, 2, 2, 2]), b.weights("b", &[8]));
    b.op("ConvTranspose", "up", &[x, w, bias], [("group", 4.into())])
}
