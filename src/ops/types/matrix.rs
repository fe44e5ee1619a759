//! Products of matrices.

use crate::ir::{DataType, Dim, TensorType};

use super::super::NodeView;
use super::elementwise::broadcast;
use super::{Rows, of_input, one, typed_as};

pub(super) const RULES: Rows = &[
    (&["Gemm"], gemm),
    (&["MatMul"], |node| of_input(node, 0, product(node, 0, 1))),
    (&["MatMulInteger"], |node| one(DataType::I32, product(node, 0, 1))),
    (&["QLinearMatMul"], |node| vec![typed_as(node, 7, product(node, 0, 3))]),
];

fn gemm(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let pick = |input: usize, transposed: &str, outer: usize| {
        let index = usize::from((node.node.int(transposed, 0) != 0) == (outer == 0));
        node.shape(input).and_then(|shape| shape.get(index).cloned()).unwrap_or(Dim::Unknown)
    };
    of_input(node, 0, Some(vec![pick(0, "transA", 0), pick(1, "transB", 1)]))
}

/// The shape of a product of stacked matrices, or of vectors.
fn product(node: &NodeView<'_>, left: usize, right: usize) -> Option<Vec<Dim>> {
    let (left, right) = (node.shape(left)?, node.shape(right)?);
    if left.is_empty() || right.is_empty() {
        return None;
    }
    let stack =
        |shape: &[Dim]| shape.get(..shape.len().saturating_sub(2)).unwrap_or_default().to_vec();
    let mut dims = broadcast(&[stack(&left), stack(&right)]);
    if left.len() > 1 {
        dims.extend(left.get(left.len() - 2).cloned());
    }
    if right.len() > 1 {
        dims.extend(right.last().cloned());
    }
    Some(dims)
}
