//! Values that are zero for all inputs.
//!
//! Exporters compute initial states of recurrent layers from the number of samples: they fill one with zeros,
//! and bring it to the shape that the layer needs.

use std::collections::HashSet;

use crate::ir::{Attribute, Graph, Node, Tensor, ValueId};

/// Operators that return zeros for a first input of zeros.
const OF_FIRST: &[&str] = &[
    "Abs",
    "Cast",
    "CumSum",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Neg",
    "ReduceSum",
    "Relu",
    "Reshape",
    "ReverseSequence",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tanh",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Operators that return zeros if all their inputs are zeros.
const OF_ALL: &[&str] = &["Add", "Concat", "Max", "Mean", "Min", "Sub", "Sum"];

/// Whether a value is surely zero.
pub(super) fn is_zero(graph: &Graph, value: ValueId) -> bool {
    let (mut seen, mut left) = (HashSet::new(), vec![value]);
    while let Some(value) = left.pop() {
        if seen.insert(value) {
            match needed(graph, value) {
                Some(more) => left.extend(more),
                None => return false,
            }
        }
    }
    true
}

/// The values that must be zero for `value` to be zero; `None` if it may be something else.
fn needed(graph: &Graph, value: ValueId) -> Option<Vec<ValueId>> {
    let Some(node) = graph.producer(value).map(|id| graph.node(id)) else {
        return graph.initializer(value).is_some_and(holds_zeros).then(Vec::new);
    };
    let inputs = node.inputs.iter().flatten().copied();
    match node.op.as_str() {
        _ if !node.domain.is_empty() => None,
        "ConstantOfShape" => fills_zeros(node).then(Vec::new),
        "Mul" => factors(graph, node),
        // The value of the padding may be left out.
        "Pad" => Some([0, 2].into_iter().filter_map(|slot| node.input(slot)).collect()),
        "Where" => Some(inputs.skip(1).collect()),
        op if OF_ALL.contains(&op) => Some(inputs.collect()),
        op if OF_FIRST.contains(&op) => Some(vec![node.input(0)?]),
        _ => None,
    }
}

fn fills_zeros(node: &Node) -> bool {
    match node.attributes.get("value") {
        Some(Attribute::Tensor(filled)) => holds_zeros(filled),
        _ => true,
    }
}

/// The other factor of a product with a finite constant. A computed factor may be infinite.
fn factors(graph: &Graph, node: &Node) -> Option<Vec<ValueId>> {
    let (left, right) = (node.input(0)?, node.input(1)?);
    let is_finite = |value: ValueId| {
        let numbers = graph.initializer(value).and_then(|tensor| tensor.to_f64().ok());
        numbers.is_some_and(|numbers| numbers.iter().all(|number| number.is_finite()))
    };
    match (is_finite(left), is_finite(right)) {
        (_, true) => Some(vec![left]),
        (true, _) => Some(vec![right]),
        _ => Some(vec![left, right]),
    }
}

fn holds_zeros(tensor: &Tensor) -> bool {
    match tensor.to_i64() {
        Some(numbers) => numbers.iter().all(|number| *number == 0),
        None => tensor.to_f64().is_ok_and(|numbers| numbers.iter().all(|number| *number == 0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    /// Zeros of a computed shape, `[n, 5]`.
    fn zeros(b: &mut GraphBuilder) -> ValueId {
        let x = b.input("x", "n,5");
        let shape = b.op("Shape", "shape", &[x], []);
        b.op("ConstantOfShape", "zeros", &[shape], [])
    }

    #[test]
    fn zeros_stay_zeros_when_they_are_joined_cut_and_moved() {
        let mut b = GraphBuilder::new("net", 17);
        let zeros = zeros(&mut b);
        let axis = b.ints("axis", &[0]);
        let one = b.op("Unsqueeze", "one", &[zeros, axis], []);
        let two = b.op("Concat", "two", &[one, one], [("axis", 0.into())]);
        let widths = b.ints("widths", &[0, 0, 0, 0, 1, 0]);
        let padded = b.op("Pad", "padded", &[two, widths], []);
        let factor = b.weights("factor", &[5]);
        let scaled = b.op("Mul", "scaled", &[factor, two], []);
        let condition = b.op("Mystery", "condition", &[zeros], []);
        let chosen = b.op("Where", "chosen", &[condition, two, scaled], []);
        let graph = b.build(&[padded, chosen]).graph;
        for value in [one, two, padded, scaled, chosen] {
            assert!(is_zero(&graph, value), "{}", graph.value(value).name);
        }
        assert!(!is_zero(&graph, condition));
    }

    #[test]
    fn what_may_be_another_number_is_not_zero() {
        let mut b = GraphBuilder::new("net", 17);
        let zeros = zeros(&mut b);
        let (weights, given) = (b.weights("weights", &[1, 5]), b.input("given", "n,5"));
        let joined = b.op("Concat", "joined", &[zeros, weights], [("axis", 0.into())]);
        let (widths, value) = (b.ints("widths", &[0, 0, 1, 0]), b.scalar("value", 1.0));
        let padded = b.op("Pad", "padded", &[zeros, widths, value], []);
        // Infinite numbers make it NaN.
        let scaled = b.op("Mul", "scaled", &[zeros, given], []);
        let cosine = b.op("Cos", "cosine", &[zeros], []);
        let graph = b.build(&[joined, padded, scaled, cosine]).graph;
        for value in [joined, padded, scaled, cosine, given, weights] {
            assert!(!is_zero(&graph, value), "{}", graph.value(value).name);
        }
    }

    #[test]
    fn values_that_are_joined_with_themselves_are_looked_at_once() {
        let mut b = GraphBuilder::new("net", 17);
        let mut value = zeros(&mut b);
        for _ in 0..60 {
            value = b.op("Add", "sum", &[value, value], []);
        }
        let graph = b.build(&[value]).graph;
        assert!(is_zero(&graph, value));
    }
}
