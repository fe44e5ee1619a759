//! Leaves out an `Expand` whose reader repeats its operands anyway.
//!
//! Exporters expand norms to the shape of what they divide. Before that they are the same for all channels;
//! behind it they have one entry per channel, in an order of their own.

use crate::error::Result;
use crate::ir::{Graph, Model, NodeId, ValueId};

use super::{CanonOptions, types};

/// Operators that repeat their operands along axes of extent 1.
const REPEATING: &[&str] = &[
    "Add",
    "And",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
];

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        while let Some((slot, source)) = idle(graph, id) {
            graph.edit_node(id, |node| node.inputs[slot] = Some(source));
            modified = true;
        }
    }
    Ok(modified)
}

/// An operand of a node that is expanded to the shape of another operand, and what it is expanded from.
fn idle(graph: &Graph, id: NodeId) -> Option<(usize, ValueId)> {
    let node = graph.node(id);
    if !REPEATING.iter().any(|op| node.is(op)) {
        return None;
    }
    let inputs = || node.inputs.iter().copied().enumerate();
    inputs().find_map(|(slot, value)| {
        let value = value?;
        let expand = graph.node(graph.producer(value)?);
        let source = expand.input(0).filter(|_| expand.is("Expand"))?;
        let has_shape = |other: ValueId| types::same_shape(graph, other, value);
        let mut others = inputs().filter(|(at, _)| *at != slot).filter_map(|(_, other)| other);
        (others.any(has_shape) && !is_in_doubt(graph, value)).then_some((slot, source))
    })
}

/// Whether a value may be what brings a single example to the number of others.
fn is_in_doubt(graph: &Graph, value: ValueId) -> bool {
    let assumed = graph.inputs.iter().filter(|input| types::has_assumed_batch(graph, **input));
    types::has_assumed_batch(graph, value) && assumed.count() > 1
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;

    /// The operators of a net that divides `x` by its norm, expanded to the shape of `like`.
    fn ops(inputs: [&str; 2], like_other: bool) -> Vec<String> {
        let mut b = GraphBuilder::new("net", 17);
        let [x, other] = [("x", inputs[0]), ("other", inputs[1])].map(|(n, dims)| b.input(n, dims));
        let norm = b.op("ReduceL2", "norm", &[x], [("axes", [1].into())]);
        let like = if like_other { other } else { x };
        let shape = b.op("Shape", "shape", &[like], []);
        let wide = b.op("Expand", "wide", &[norm, shape], []);
        let y = b.op("Div", "y", &[x, wide], []);
        let z = b.op("Relu", "z", &[other], []);
        let model = canonicalise(b.build(&[y, z]), &CanonOptions::default()).unwrap();
        model.graph.nodes().map(|(_, node)| node.op.clone()).collect()
    }

    #[test]
    fn a_norm_that_is_expanded_to_its_operand_is_repeated_by_the_division() {
        assert!(!ops(["n,6,4", "n,6,4"], false).contains(&"Expand".to_owned()));
        assert!(!ops(["n,6,4", "n,6,4"], true).contains(&"Expand".to_owned()));
    }

    #[test]
    fn what_an_expansion_makes_larger_stays() {
        assert!(ops(["n,6,1", "n,6,4"], true).contains(&"Expand".to_owned()));
        // The batches of both inputs are assumed to be equal.
        assert!(ops(["?,6,4", "?,6,4"], true).contains(&"Expand".to_owned()));
    }
}
