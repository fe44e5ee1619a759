//! Scores: the operand of a classifier's final activation.

use crate::ir::{Graph, ValueId};
use crate::ops::normal_axis;

/// The scores of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scores {
    /// The scores, or the output itself if it ends in no activation.
    pub(super) value: ValueId,
    /// The axis that runs over classes, from the front; the last or, for images, the second one.
    pub(super) axis: i64,
    /// Whether the output ends in a softmax.
    pub(super) softmax: bool,
}

/// The outputs that can be learnt. Numbers that are no floats, such as indices of classes, have no gradient.
pub(super) fn learnable(graph: &Graph) -> Vec<ValueId> {
    let outputs = graph.outputs.iter().copied();
    outputs.filter(|output| is_learnable(graph, *output)).collect()
}

/// Whether an output holds floats, as far as its type is known.
pub(super) fn is_learnable(graph: &Graph, output: ValueId) -> bool {
    graph.value(output).ty.as_ref().is_none_or(|ty| ty.dtype.is_float())
}

/// Finds the operand of the final softmax or sigmoid of an output. `rank` returns the rank of a value,
/// if it is known.
pub(super) fn scores(
    graph: &Graph,
    output: ValueId,
    rank: impl Fn(ValueId) -> Option<usize>,
) -> Scores {
    let by_rank = |value| if rank(value).is_some_and(|r| r > 3) { 1 } else { -1 };
    let mut at = output;
    while let Some(node) = graph.producer(at).map(|id| graph.node(id)) {
        let Some(input) = node.input(0).filter(|_| node.domain.is_empty()) else { break };
        match node.op.as_str() {
            "Identity" => at = input,
            "Softmax" | "LogSoftmax" => {
                let axis = node.int("axis", -1);
                let axis =
                    rank(input).and_then(|r| normal_axis(axis, r)).map_or(axis, |a| a as i64);
                return Scores { value: input, axis, softmax: true };
            }
            "Sigmoid" => return Scores { value: input, axis: by_rank(input), softmax: false },
            _ => break,
        }
    }
    Scores { value: output, axis: by_rank(output), softmax: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn final_activations_are_taken_off() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "batch,4");
        let z = b.op("Neg", "z", &[x], []);
        let y = b.op("Softmax", "y", &[z], [("axis", 1.into())]);
        let named = b.op("Identity", "named", &[y], []);
        let graph = b.build(&[named]).graph;
        let rank = |_| Some(2);
        let wanted = Scores { value: z, axis: 1, softmax: true };
        assert_eq!(scores(&graph, named, rank), wanted);
        let wanted = Scores { axis: -1, softmax: false, ..wanted };
        assert_eq!(scores(&graph, z, rank), wanted);
    }
}
