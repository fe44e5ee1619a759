//! Strings.

use crate::ir::{DataType, Dim, TensorType};

use super::super::NodeView;
use super::{Rows, of_input, one, open};

pub(super) const RULES: Rows = &[
    (&["StringNormalizer"], normalised),
    (&["StringSplit"], split),
    (&["TfIdfVectorizer"], vectors),
];

/// Stop words are dropped from the last axis.
fn normalised(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = node.shape(0).and_then(|mut shape| {
        if node.node.attributes.contains_key("stopwords") {
            *shape.last_mut()? = Dim::Unknown;
        }
        Some(shape)
    });
    of_input(node, 0, shape)
}

fn split(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let pieces = node.shape(0).map(|shape| [shape, open(1)].concat());
    let counts = TensorType { dtype: DataType::I64, shape: node.shape(0) };
    [of_input(node, 0, pieces), vec![Some(counts)]].concat()
}

/// The length is the largest index plus 1.
fn vectors(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let largest = node.node.ints("ngram_indexes").and_then(|indices| indices.iter().max());
    let length = largest.map_or(Dim::Unknown, |largest| super::extent(largest.saturating_add(1)));
    let shape = node.shape(0).and_then(|shape| match shape.as_slice() {
        [] | [_] => Some(vec![length]),
        [rows, _] => Some(vec![rows.clone(), length]),
        _ => None,
    });
    one(DataType::F32, shape)
}
