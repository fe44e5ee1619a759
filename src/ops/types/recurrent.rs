//! Recurrent layers.

use crate::ir::{Dim, TensorType};

use super::super::NodeView;
use super::{Rows, agreed, extent, typed_as};

pub(super) const RULES: Rows = &[(&["GRU", "LSTM", "RNN"], recurrent)];

/// The inputs with one entry per sample: lengths of sequences, and initial states.
const PER_SAMPLE: [usize; 3] = [4, 5, 6];

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
    let batch_first = node.node.int("layout", 0) != 0;
    let given = |own: Dim| {
        let axis = |index: usize| if index == 4 || batch_first { 0 } else { 1 };
        // Constant states are those of an export: zeros, which hold for any number of samples, are left out later.
        let all = PER_SAMPLE.iter().filter(|index| node.constant(**index).is_none());
        all.fold(own, |dim, index| agreed(&dim, &at(*index, axis(*index))))
    };
    let (first, second) = (at(0, 0), at(0, 1));
    let (steps, last) = if batch_first {
        let batch = given(first);
        (
            vec![batch.clone(), second, directions.clone(), units.clone()],
            vec![batch, directions, units],
        )
    } else {
        let batch = given(second);
        (
            vec![first, directions.clone(), batch.clone(), units.clone()],
            vec![directions, batch, units],
        )
    };
    [steps, last.clone(), last].map(|shape| typed_as(node, 0, Some(shape))).to_vec()
}

#[cfg(test)]
mod tests {
    use crate::ir::builder::GraphBuilder;
    use crate::ir::{Dim, Tensor};
    use crate::ops::{self, NodeView};

    #[test]
    fn an_initial_state_tells_the_number_of_samples() {
        let mut b = GraphBuilder::new("net", 13);
        let (x, state) = (b.input("x", "steps,n,4"), b.input("state", "1,2,3"));
        let (w, r) = (b.weights("w", &[1, 9, 4]), b.weights("r", &[1, 9, 3]));
        let bias = b.weights("bias", &[1, 18]);
        let lengths = b.constant("lengths", Tensor::from_i64(vec![2], &[5, 5]));
        let y = b.op("GRU", "y", &[x, w, r, bias, lengths, state], [("hidden_size", 3.into())]);
        let node = b.graph().producer(y).unwrap();
        let types = ops::infer(&NodeView::new(b.graph(), node, &[]));
        let shape = types[0].clone().and_then(|ty| ty.shape).unwrap();
        let known: Vec<Option<usize>> = shape.iter().map(Dim::known).collect();
        assert_eq!(known, [None, Some(1), Some(2), Some(3)]);
    }
}
