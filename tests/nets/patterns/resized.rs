//! Maps that are resized to sizes which no scales hold exactly.

use ndarray::arr1;

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Tensor, ValueId};

use super::net::{Pattern, conv, images, relu, rest};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("resized to sizes with those of the batch and the channels", counted),
    ("resized to constant sizes", constant),
    ("resized to the size of other maps", alike),
    ("a part resized", cropped),
];

/// Those that need operator set 18 or newer.
pub const NEWER: &[Pattern] = &[
    ("resized to sizes, in a newer operator set", counted),
    ("a part resized, in a newer operator set", cropped),
    ("two axes resized", named),
    ("two axes resized in one ratio", in_one_ratio),
];

/// Six maps of 5 × 5.
fn maps(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let x = conv(b, "first", x, 6, 3);
    let x = relu(b, x);
    b.op("MaxPool", "largest", &[x], [("kernel_shape", [4, 4].into())])
}

/// Resizes maps to sizes, and ends the net.
fn resized<const N: usize>(
    b: &mut GraphBuilder,
    x: ValueId,
    (region, sizes): (Option<ValueId>, ValueId),
    attributes: [(&'static str, Attribute); N],
) -> Vec<ValueId> {
    let y = b.op("Resize", "resized", &[x], attributes);
    let id = b.graph().producer(y).unwrap();
    b.graph().edit_node(id, |node| node.inputs = vec![Some(x), region, None, Some(sizes)]);
    vec![rest(b, y, 6)]
}

/// The extents of a value on axes `from..to`.
fn extents(b: &mut GraphBuilder, x: ValueId, from: i64, to: i64) -> ValueId {
    let shape = b.op("Shape", "shape", &[x], []);
    let (from, to) = (b.ints("from", &[from]), b.ints("to", &[to]));
    b.op("Slice", "extents", &[shape, from, to], [])
}

fn counted(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = maps(b, x);
    let (kept, sides) = (extents(b, x, 0, 2), b.ints("sides", &[3, 4]));
    let sizes = b.op("Concat", "sizes", &[kept, sides], [("axis", 0.into())]);
    resized(b, x, (None, sizes), [("mode", "linear".into())])
}

fn constant(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "2,3,8,8");
    let x = maps(b, x);
    let sizes = b.ints("sizes", &[2, 6, 3, 4]);
    resized(b, x, (None, sizes), [])
}

/// As in feature pyramids: small maps beside large ones.
fn alike(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let small = maps(b, x);
    let large = conv(b, "large", x, 6, 3);
    let large = b.op("MaxPool", "pooled", &[large], [("kernel_shape", [3, 3].into())]);
    let (kept, sides) = (extents(b, small, 0, 2), extents(b, large, 2, 4));
    let sizes = b.op("Concat", "sizes", &[kept, sides], [("axis", 0.into())]);
    let y = b.op("Resize", "resized", &[small], []);
    let id = b.graph().producer(y).unwrap();
    b.graph().edit_node(id, |node| node.inputs = vec![Some(small), None, None, Some(sizes)]);
    let x = b.op("Add", "both", &[large, y], []);
    vec![rest(b, x, 6)]
}

fn cropped(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = maps(b, x);
    let region = arr1(&[0.0f32, 0.0, 0.25, 0.0, 1.0, 1.0, 0.75, 0.5]);
    let region = b.constant("region", Tensor::from_f32(&region.into_dyn()));
    let (kept, sides) = (extents(b, x, 0, 2), b.ints("sides", &[3, 4]));
    let sizes = b.op("Concat", "sizes", &[kept, sides], [("axis", 0.into())]);
    let crops = ("coordinate_transformation_mode", "tf_crop_and_resize".into());
    resized(b, x, (Some(region), sizes), [crops, ("mode", "linear".into())])
}

fn named(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = maps(b, x);
    let sizes = b.ints("sizes", &[3, 4]);
    resized(b, x, (None, sizes), [("axes", [2, 3].into()), ("mode", "linear".into())])
}

fn in_one_ratio(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = maps(b, x);
    let sizes = b.ints("sizes", &[3, 4]);
    let ratio = ("keep_aspect_ratio_policy", "not_larger".into());
    resized(b, x, (None, sizes), [("axes", [-2, -1].into()), ratio])
}
