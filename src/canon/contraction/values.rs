//! Sums and products of values.

use crate::ir::{Graph, ValueId};

use super::factor::Factor;
use super::terms::Letters;

/// A factor with the letters of the result only, in its order.
pub(super) fn alone(graph: &mut Graph, name: &str, own: Factor, result: &[char]) -> ValueId {
    own.summed(graph, name, |c| result.contains(c)).ordered(graph, name, result).value
}

/// A product of elements, and the sum over letters that the result lacks.
pub(super) fn multiplied(
    graph: &mut Graph,
    name: &str,
    [a, b]: [Factor; 2],
    result: &[char],
) -> ValueId {
    let holds =
        |own: &Factor, other: &Factor| other.letters.iter().all(|c| own.letters.contains(c));
    // A factor with all letters needs no transpose.
    let letters = match (holds(&a, &b), holds(&b, &a)) {
        (true, _) => a.letters.clone(),
        (_, true) => b.letters.clone(),
        _ => result.to_vec(),
    };
    let factors = [a, b].map(|own| own.spread(graph, name, &letters).value);
    let value = graph.add_op("Mul", &format!("{name}.product"), &factors, []);
    alone(graph, name, Factor { value, letters }, result)
}

/// A product of stacked matrices. Each factor has letters of its own, and some are summed.
pub(super) fn matrices(
    graph: &mut Graph,
    name: &str,
    factors: [Factor; 2],
    letters: &Letters,
    result: &[char],
) -> Option<ValueId> {
    let summed = *letters.summed.first()?;
    let (row, rows) = letters.rows.split_last()?;
    let (column, columns) = letters.columns.split_last()?;
    // Stacks in the order of the result, so that they need no transpose there.
    let stacks = [&letters.shared[..], rows, columns].concat();
    let stacks: Vec<char> = result.iter().copied().filter(|c| stacks.contains(c)).collect();
    let [a, b] = factors.map(|own| own.merged(graph, name, &letters.summed));
    let a = a.spread(graph, name, &[&stacks[..], &[*row, summed]].concat());
    let b = b.spread(graph, name, &[&stacks[..], &[summed, *column]].concat());
    let value = graph.add_op("MatMul", &format!("{name}.product"), &[a.value, b.value], []);
    let product = Factor { value, letters: [&stacks[..], &[*row, *column]].concat() };
    Some(product.ordered(graph, name, result).value)
}
