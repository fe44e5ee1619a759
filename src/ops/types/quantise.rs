//! Quantisation.

use crate::ir::{DataType, TensorType};

use super::super::NodeView;
use super::{Rows, named_dtype, one, typed_as};

pub(super) const RULES: Rows = &[
    (&["QuantizeLinear"], quantised),
    (&["DequantizeLinear"], dequantised),
    (&["DynamicQuantizeLinear"], dynamic),
];

fn quantised(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = node.shape(0);
    match (node.ty(2), named_dtype(node, "output_dtype")) {
        (Some(zero_point), _) => one(zero_point.dtype, shape),
        (None, Some(dtype)) => one(dtype, shape),
        (None, None) if node.node.input(2).is_none() => one(DataType::U8, shape),
        (None, None) => Vec::new(),
    }
}

fn dequantised(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    match named_dtype(node, "output_dtype") {
        Some(dtype) => one(dtype, node.shape(0)),
        None => vec![typed_as(node, 1, node.shape(0))],
    }
}

fn dynamic(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let scalar = |dtype| Some(TensorType { dtype, shape: Some(Vec::new()) });
    let values = TensorType { dtype: DataType::U8, shape: node.shape(0) };
    vec![Some(values), scalar(DataType::F32), scalar(DataType::U8)]
}
