//! Convolutions.

use crate::ir::{DataType, Dim, TensorType};

use super::super::NodeView;
use super::window::Windows;
use super::{Rows, agreed, of_input, one, typed_as};

pub(super) const RULES: Rows = &[
    (&["Conv", "DeformConv"], conv),
    (&["ConvInteger"], |node| one(DataType::I32, convolved(node, 1))),
    (&["QLinearConv"], |node| vec![typed_as(node, 7, convolved(node, 3))]),
    (&["ConvTranspose"], transposed),
    (&["CausalConvWithState"], causal),
    (&["Col2Im"], col2im),
];

fn conv(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    of_input(node, 0, convolved(node, 1))
}

/// Extents of the windows: an attribute, or those of the weight.
fn kernel(node: &NodeView<'_>, weight: usize) -> Option<Vec<i64>> {
    if let Some(kernel) = node.node.ints("kernel_shape") {
        return Some(kernel.to_vec());
    }
    let extents = node.shape(weight)?;
    extents.get(2..)?.iter().map(|dim| i64::try_from(dim.known()?).ok()).collect()
}

/// The shape of a convolution by the weight at input `weight`.
fn convolved(node: &NodeView<'_>, weight: usize) -> Option<Vec<Dim>> {
    let weights = node.shape(weight);
    // The weight has as many axes as the data.
    let rank = node.shape(0).as_ref().or(weights.as_ref()).map(Vec::len)?;
    let shape = node.shape(0).unwrap_or_else(|| super::open(rank));
    let channels = weights.and_then(|w| w.first().cloned()).unwrap_or(Dim::Unknown);
    let mut dims = vec![shape.first()?.clone(), channels];
    match kernel(node, weight) {
        Some(kernel) => dims.extend(Windows::new(node, kernel).positions(shape.get(2..)?)),
        None => dims.resize(rank, Dim::Unknown),
    }
    Some(dims)
}

fn transposed(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = node.shape(0).or_else(|| Some(super::open(node.shape(1)?.len()))).and_then(|x| {
        let per_group = node.shape(1).and_then(|w| w.get(1).cloned()).unwrap_or(Dim::Unknown);
        let mut dims = vec![x.first()?.clone(), per_group.times(node.node.int("group", 1))];
        match kernel(node, 1) {
            Some(kernel) => dims.extend(Windows::new(node, kernel).spread(x.get(2..)?)),
            None => dims.resize(x.len(), Dim::Unknown),
        }
        Some(dims)
    });
    of_input(node, 0, shape)
}

/// The state holds one position less than the window has.
fn causal(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let at = |input: usize, axis: usize| {
        node.shape(input).and_then(|shape| shape.get(axis).cloned()).unwrap_or(Dim::Unknown)
    };
    let channels = [at(0, 1), at(1, 0), at(2, 0), at(3, 1)];
    let channels = channels.iter().fold(Dim::Unknown, |all, own| agreed(&all, own));
    let positions = agreed(&at(1, 2).plus(-1), &at(3, 2));
    let state = vec![agreed(&at(0, 0), &at(3, 0)), channels, positions];
    vec![node.ty(0), typed_as(node, 0, Some(state))]
}

fn col2im(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let extents = |index| -> Option<Vec<Dim>> {
        let known = |size: &Option<_>| size.clone().map_or(Dim::Unknown, crate::ir::Size::dim);
        Some(node.elements(index)?.iter().map(known).collect())
    };
    let sides = extents(1).or_else(|| Some(super::open(extents(2)?.len())));
    let shape = sides.map(|sides| {
        let columns = node.shape(0).unwrap_or_else(|| super::open(3));
        let block = extents(2).map_or(Dim::Unknown, |block| Dim::product(&block));
        let channels =
            columns.get(1).and_then(|c| Some(c.over(i64::try_from(block.known()?).ok()?)));
        let batch = columns.first().cloned().unwrap_or(Dim::Unknown);
        [vec![batch, channels.unwrap_or(Dim::Unknown)], sides].concat()
    });
    of_input(node, 0, shape)
}
