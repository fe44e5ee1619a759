//! Writes an `Einsum` as the operators that it stands for: sums, transposes, products of elements and of
//! matrices, and layers.
//!
//! Libraries with named axes write attention, gates and layers this way. Channels are followed through these
//! operators only.

mod factor;
mod layer;
mod terms;
mod values;

use crate::error::Result;
use crate::ir::{Graph, Model, NodeId, ValueId};

use super::{CanonOptions, rewire};
use factor::Factor;
use terms::{Letters, Terms};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        modified |= rewrite(graph, id).is_some();
    }
    Ok(modified)
}

fn rewrite(graph: &mut Graph, id: NodeId) -> Option<()> {
    let Terms { operands, result } = Terms::of(graph, id)?;
    let node = graph.node(id);
    let (name, output) = (node.name.clone(), node.output(0)?);
    let values: Vec<ValueId> = node.inputs.iter().copied().collect::<Option<_>>()?;
    let factors = values.into_iter().zip(operands);
    let mut factors: Vec<Factor> =
        factors.map(|(value, letters)| Factor { value, letters }).collect();
    factors.sort_by_key(|factor| graph.initializer(factor.value).is_some());
    let (end, y) = match <[Factor; 2]>::try_from(factors) {
        Ok(pair) => product(graph, &name, pair, &result, output)?,
        Err(lone) => {
            let own = lone.into_iter().next()?;
            (output, values::alone(graph, &name, own, &result))
        }
    };
    rewire::bypass(graph, end, y).then_some(())
}

/// The product of two factors, a constant behind the other, and the value that it stands for: `output`, or
/// the sum of that and a bias. Nothing is written for a product that has no other form.
fn product(
    graph: &mut Graph,
    name: &str,
    [a, b]: [Factor; 2],
    result: &[char],
    output: ValueId,
) -> Option<(ValueId, ValueId)> {
    let letters = Letters::of(&a.letters, &b.letters, result);
    let has_constant = graph.initializer(b.value).is_some();
    let is_layer = has_constant && layer::fits(graph, [&a, &b], &letters);
    let is_free = letters.has_empty();
    // A constant is a stack of matrices only if the value has the letters of the stack, too.
    let shared = if has_constant { letters.shared.as_slice() } else { &[] };
    let is_stack = !has_constant || !shared.is_empty();
    let alike = [&letters.summed[..], shared].concat();
    if !(is_layer || is_free || is_stack && terms::agree(graph, [&a, &b], &alike)) {
        return None;
    }
    let kept = letters.kept();
    let [a, b] = [a, b].map(|own| own.summed(graph, name, |c| kept.contains(c)));
    if is_layer {
        return layer::write(graph, name, [a, b], &letters, (result, output));
    }
    let y = match is_free {
        true => values::multiplied(graph, name, [a, b], result),
        false => values::matrices(graph, name, [a, b], &letters, result)?,
    };
    Some((output, y))
}

#[cfg(test)]
mod tests;
