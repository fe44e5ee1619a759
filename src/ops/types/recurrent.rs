//! Recurrent layers.

use crate::ir::{Dim, TensorType};

use super::super::NodeView;
use super::{Rows, agreed, extent, typed_as};

pub(super) const RULES: Rows = &[(&["GRU", "LSTM", "RNN"], recurrent)];

fn recurrent(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let at = |index: usize, axis: usize| {
        node.shape(index).and_then(|s| s.get(axis).cloned()).unwrap_or(Dim::Unknown)
    };
    let units = match node.node.attributes.contains_key("hidden_size") {
        true => extent(node.node.int("hidden_size", -1)),
        false => Dim::Unknown,
    };
    let units = agreed(&units, &at(2, 2));
    let two = node.node.str("direction") == Some("bidirectional");
    let directions = Dim::Known(if two { 2 } else { 1 });
    let (first, second) = (at(0, 0), at(0, 1));
    let (steps, last) = if node.node.int("layout", 0) != 0 {
        (
            vec![first.clone(), second, directions.clone(), units.clone()],
            vec![first, directions, units],
        )
    } else {
        (
            vec![first, directions.clone(), second.clone(), units.clone()],
            vec![directions, second, units],
        )
    };
    [steps, last.clone(), last].map(|shape| typed_as(node, 0, Some(shape))).to_vec()
}
