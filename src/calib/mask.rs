//! Masks of padding: which tokens of a sample attention ignores, so that they tell nothing of a layer's
//! inputs.

use std::collections::HashSet;

use crate::ir::{DataType, Graph, ValueId};
use crate::runtime::HostArray;

/// Operators through which a mask reaches the scores of attention.
const PASSES: &[&str] = &[
    "Cast",
    "Unsqueeze",
    "Squeeze",
    "Reshape",
    "Expand",
    "Transpose",
    "Slice",
    "Tile",
    "Identity",
    "Sub",
    "Mul",
    "Add",
    "Not",
    "And",
    "Or",
    "Where",
    "Equal",
    "Greater",
    "Less",
    "Neg",
    "Concat",
];

/// The input that masks tokens: numbers or flags [batch, tokens] that reach a `Softmax` by way of
/// shapes and arithmetic alone, and pick no rows of a table.
pub(super) fn mask_input(graph: &Graph) -> Option<String> {
    let readers = graph.consumers();
    let is_mask = |input: &&ValueId| {
        let ty = graph.value(**input).ty.as_ref();
        let is_flat = ty.is_some_and(|ty| {
            let is_whole = matches!(ty.dtype, DataType::I64 | DataType::I32 | DataType::Bool);
            is_whole && ty.shape.as_ref().is_some_and(|shape| shape.len() == 2)
        });
        is_flat && reaches_scores(graph, &readers, **input)
    };
    let input = graph.inputs.iter().find(is_mask)?;
    Some(graph.value(*input).name.clone())
}

fn reaches_scores(graph: &Graph, readers: &crate::ir::Consumers, input: ValueId) -> bool {
    let mut seen = HashSet::new();
    let (mut waiting, mut scores) = (vec![input], false);
    while let Some(value) = waiting.pop() {
        if !seen.insert(value) {
            continue;
        }
        for id in &readers[value.index()] {
            let node = graph.node(*id);
            if node.is("Gather") && node.input(1) == Some(value) {
                return false;
            }
            scores |= node.is("Softmax");
            if node.domain.is_empty() && PASSES.contains(&node.op.as_str()) {
                waiting.extend(node.outputs.iter().flatten());
            }
        }
    }
    scores
}

/// Which tokens of each sample count.
#[derive(Debug, Clone)]
pub(super) struct Mask {
    counts: Vec<bool>,
    samples: usize,
}

impl Mask {
    /// Of an array [samples, tokens] whose zeros are padding; `None` where nothing is padding.
    pub(super) fn of(array: HostArray) -> Option<Mask> {
        let numbers = array.integers()?;
        let samples = numbers.shape().first().copied()?;
        let counts: Vec<bool> = numbers.iter().map(|number| *number != 0).collect();
        (counts.contains(&false) && counts.contains(&true)).then_some(Mask { counts, samples })
    }

    /// Whether values of this shape have a row for each token: [samples, tokens, …], or [samples·tokens, …].
    pub(super) fn covers(&self, shape: &[usize]) -> bool {
        let tokens = self.counts.len() / self.samples.max(1);
        match shape {
            [samples, next, _, ..] if (*samples, *next) == (self.samples, tokens) => true,
            [rows, _] => *rows == self.counts.len(),
            _ => false,
        }
    }

    /// Whether a token counts, by its number among all samples' tokens.
    pub(super) fn counts(&self, token: usize) -> bool {
        self.counts.get(token).copied().unwrap_or(true)
    }

    /// Whether these are numbers of one token each.
    pub(super) fn is_over(&self, shape: &[usize]) -> bool {
        shape.first() == Some(&self.samples) && shape.iter().product::<usize>() == self.counts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;
    use ndarray::arr2;

    #[test]
    fn the_mask_is_the_input_that_is_added_to_scores() {
        let mut b = GraphBuilder::new("net", 17);
        let ids = b.typed_input("ids", DataType::I64, "n,t");
        let types = b.typed_input("types", DataType::I64, "n,t");
        let mask = b.typed_input("mask", DataType::I64, "n,t");
        let table = b.weights("table", &[9, 4]);
        let tokens = b.op("Gather", "tokens", &[table, ids], []);
        let kinds = b.op("Gather", "kinds", &[table, types], []);
        let x = b.op("Add", "x", &[tokens, kinds], []);
        let turned = b.op("Transpose", "turned", &[x], [("perm", [0, 2, 1].into())]);
        let scores = b.op("MatMul", "scores", &[x, turned], []);
        let axis = b.ints("axis", &[1]);
        let wide = b.op("Unsqueeze", "wide", &[mask, axis], []);
        let cast = b.op("Cast", "cast", &[wide], [("to", 1.into())]);
        let masked = b.op("Add", "masked", &[scores, cast], []);
        let y = b.op("Softmax", "y", &[masked], [("axis", 2.into())]);
        assert_eq!(mask_input(&b.build(&[y]).graph).as_deref(), Some("mask"));
    }

    #[test]
    fn masks_cover_values_with_a_row_per_token() {
        let mask = Mask::of(HostArray::I64(arr2(&[[1, 1, 0], [1, 0, 0]]).into_dyn())).unwrap();
        assert!(mask.covers(&[2, 3, 8]) && mask.covers(&[6, 8]) && !mask.covers(&[2, 4, 8]));
        assert!(mask.counts(3) && !mask.counts(4));
        assert!(Mask::of(HostArray::I64(arr2(&[[1, 1]]).into_dyn())).is_none());
    }
}
