//! Reductions.

use crate::ir::{DataType, Dim, TensorType};

use super::super::{NodeView, normal_axis};
use super::{Rows, of_input, one};

/// The operators that reduce axes, which they read as input 1 or as an attribute.
pub const REDUCTIONS: &[&str] = &[
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
];

pub(super) const RULES: Rows = &[
    (REDUCTIONS, reduced),
    (&["ArgMax", "ArgMin"], place),
    (&["Det"], determinant),
    (&["NegativeLogLikelihoodLoss"], loss),
    (&["SoftmaxCrossEntropyLoss"], loss_and_scores),
];

fn reduced(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let keeps = node.node.int("keepdims", 1) != 0;
    let shape = node.shape(0).and_then(|shape| {
        match reduced_axes(node, shape.len()) {
            Some(axes) => Some(without(&shape, &axes, keeps)),
            None if keeps => Some(super::open(shape.len())),
            // The rank follows from the number of named axes.
            None => Some(super::open(shape.len().checked_sub(node.elements(1)?.len())?)),
        }
    });
    of_input(node, 0, shape)
}

/// The axes that a reduction of an operand of rank `rank` runs over; `None` if they are computed.
pub fn reduced_axes(node: &NodeView<'_>, rank: usize) -> Option<Vec<usize>> {
    let given = node.node.input(1).is_some() || node.node.ints("axes").is_some();
    let axes = if given { node.axes(1, rank)? } else { Vec::new() };
    let all = axes.is_empty() && node.node.int("noop_with_empty_axes", 0) == 0;
    Some(if all { (0..rank).collect() } else { axes })
}

fn without(shape: &[Dim], axes: &[usize], keeps: bool) -> Vec<Dim> {
    let dim = |(axis, dim): (usize, &Dim)| match (axes.contains(&axis), keeps) {
        (true, true) => Some(Dim::Known(1)),
        (true, false) => None,
        (false, _) => Some(dim.clone()),
    };
    shape.iter().enumerate().filter_map(dim).collect()
}

fn place(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = node.shape(0).and_then(|shape| {
        let axis = normal_axis(node.node.int("axis", 0), shape.len())?;
        Some(without(&shape, &[axis], node.node.int("keepdims", 1) != 0))
    });
    one(DataType::I64, shape)
}

fn determinant(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = node.shape(0).and_then(|s| Some(s.get(..s.len().checked_sub(2)?)?.to_vec()));
    of_input(node, 0, shape)
}

/// A scalar, or one number per target.
fn loss_shape(node: &NodeView<'_>) -> Option<Vec<Dim>> {
    match node.node.str("reduction") {
        Some("none") => node.shape(1),
        _ => Some(Vec::new()),
    }
}

fn loss(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    of_input(node, 0, loss_shape(node))
}

fn loss_and_scores(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    [loss(node), vec![node.ty(0)]].concat()
}
