//! Pooling, over windows, whole images and regions.

use crate::ir::{DataType, Dim, TensorType};

use super::super::NodeView;
use super::window::Windows;
use super::{Rows, agreed, extent, of_input, typed_as};

pub(super) const RULES: Rows = &[
    (&["AveragePool", "LpPool", "MaxPool"], pooled),
    (&["GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"], global),
    (&["MaxUnpool"], unpooled),
    (&["MaxRoiPool", "RoiAlign"], regions),
];

fn pooled(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = node.shape(0).and_then(|shape| {
        let windows = Windows::new(node, node.node.ints("kernel_shape")?.to_vec());
        Some([shape.get(..2)?.to_vec(), windows.positions(shape.get(2..)?)].concat())
    });
    let indices = TensorType { dtype: DataType::I64, shape: shape.clone() };
    vec![typed_as(node, 0, shape), Some(indices)]
}

fn global(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = node.shape(0).map(|mut shape| {
        shape.iter_mut().skip(2).for_each(|dim| *dim = Dim::Known(1));
        shape
    });
    of_input(node, 0, shape)
}

fn unpooled(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let given = node.elements(2).map(|sizes| {
        sizes.into_iter().map(|size| size.map_or(Dim::Unknown, crate::ir::Size::dim)).collect()
    });
    let shape = given.or_else(|| {
        let shape = node.shape(0)?;
        let windows = Windows::new(node, node.node.ints("kernel_shape")?.to_vec());
        Some([shape.get(..2)?.to_vec(), windows.spread(shape.get(2..)?)].concat())
    });
    of_input(node, 0, shape)
}

/// One small image for each region.
fn regions(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let sides = match node.node.ints("pooled_shape") {
        Some(sides) => sides.to_vec(),
        None => ["output_height", "output_width"].map(|side| node.node.int(side, 1)).to_vec(),
    };
    let first = |shape: Option<Vec<Dim>>, axis| {
        shape.and_then(|shape: Vec<Dim>| shape.get(axis).cloned()).unwrap_or(Dim::Unknown)
    };
    // Regions hold the number of their image; `RoiAlign` reads it from a separate input.
    let count = agreed(&first(node.shape(1), 0), &first(node.shape(2), 0));
    let mut shape = vec![count, first(node.shape(0), 1)];
    shape.extend(sides.iter().map(|side| extent(*side)));
    of_input(node, 0, Some(shape))
}
