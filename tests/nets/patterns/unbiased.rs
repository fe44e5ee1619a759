//! Depthwise layers without a bias behind stacks of several depths, whose values have other numbers in a joint graph.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::net::{Pattern, conv, images, relu, rest};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("depthwise layer without bias behind 1 layer", behind::<1>),
    ("depthwise layer without bias behind 2 layers", behind::<2>),
    ("depthwise layer without bias behind 3 layers", behind::<3>),
    ("depthwise layer without bias behind 4 layers", behind::<4>),
    ("depthwise layer without bias behind 5 layers", behind::<5>),
];

fn behind<const LAYERS: usize>(b: &mut GraphBuilder) -> Vec<ValueId> {
    let mut x = images(b);
    for layer in 0..LAYERS {
        x = conv(b, &format!("conv{layer}"), x, 6, if layer == 0 { 3 } else { 6 });
        x = relu(b, x);
    }
    let w = b.weights("each.w", &[6, 1, 3, 3]);
    let x = b.op("Conv", "each", &[x, w], [("group", 6.into()), ("pads", [1; 4].into())]);
    let x = relu(b, x);
    vec![rest(b, x, 6)]
}
