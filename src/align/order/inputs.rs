//! The order of a net's inputs, if another net has inputs of the same names in another order.

use crate::ir::{Graph, ValueId};
use crate::naming::counterparts;

/// The inputs of `graph`, those that `other` has, too, in its order; `None` if they are so already, or
/// if the nets take different numbers of inputs.
pub fn inputs_like(other: &Graph, graph: &Graph) -> Option<Vec<ValueId>> {
    let mut placed: Vec<(usize, ValueId)> = counterparts(&names(other), &names(graph))?
        .into_iter()
        .zip(graph.inputs.iter().copied())
        .collect();
    if placed.is_sorted() {
        return None;
    }
    placed.sort_unstable();
    Some(placed.into_iter().map(|(_, input)| input).collect())
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.inputs.iter().map(|input| graph.value(*input).name.as_str()).collect()
}
