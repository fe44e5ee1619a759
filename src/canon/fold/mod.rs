//! Computes nodes whose inputs are all constant.
//!
//! Exporters leave transposes of weights, normalised weights and arithmetic on constants to the
//! runtime. A node is a layer only if its weight is stored. The quantisation of weights is recorded, also behind
//! nodes that move their elements, and the file gets integers again if a merge does not change them. So is half
//! precision, where a model widens its weights itself.

mod arithmetic;
mod budget;
mod codes;
mod convolutions;
mod functions;
mod movement;
mod normalise;
mod parts;
mod products;
mod quantised;
mod reduce;

use crate::error::Result;
use crate::ir::{Codes, Dim, Factors, Graph, Model, NodeId, Tensor, ValueId};
use crate::ops::{self, NodeView};

pub(super) use self::budget::Budget;
pub(super) use self::codes::rearranged;
use super::rewire;

/// Limit of elements of a constant that is larger than all its operands.
const LARGEST_GROWN: usize = 1 << 24;

/// The operators that are folded, family by family.
const OPS: [&[&str]; 6] =
    [movement::OPS, reduce::OPS, normalise::OPS, products::OPS, convolutions::OPS, arithmetic::OPS];

/// Runs the pass. Nodes beyond the budget stay.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, budget: &mut Budget) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some(output) = graph.node(id).output(0) else { continue };
        if let Some(parts) = parts::parts(graph, id, budget) {
            let outputs = graph.node(id).outputs.clone();
            for (output, part) in outputs.into_iter().zip(parts) {
                modified |= output.is_some_and(|output| replace(graph, output, part, None));
            }
        } else if let Some((tensor, codes)) = quantised::floats(graph, id, budget) {
            modified |= replace(graph, output, tensor, Some(codes));
        } else if let Some(tensor) = quantised::integers(graph, id, budget) {
            modified |= replace(graph, output, tensor, None);
        } else if let Some(tensor) = value(graph, id, budget) {
            let codes = codes::moved(graph, id);
            modified |= replace(graph, output, tensor, codes);
        }
    }
    Ok(modified)
}

/// Decodes the constants that the file stores in few bits, before other passes move them. It is recorded which of
/// them a product reads directly.
///
/// # Errors
/// As [`run`].
pub(super) fn decode(graph: &mut Graph, budget: &mut Budget) -> Result<()> {
    let factors = Factors::of(graph);
    for id in graph.topological_order()? {
        let Some(output) = graph.node(id).output(0) else { continue };
        if let Some((tensor, codes)) = quantised::floats(graph, id, budget) {
            let codes = quantised::marked(graph, id, &factors, codes);
            replace(graph, output, tensor, Some(codes));
        } else if let Some(tensor) = quantised::integers(graph, id, budget) {
            replace(graph, output, tensor, None);
        }
    }
    Ok(())
}

/// Replaces a computed value by a constant, which may be stored in few bits. Returns `false` for graph outputs.
fn replace(graph: &mut Graph, value: ValueId, tensor: Tensor, codes: Option<Codes>) -> bool {
    let is_replaced = rewire::replace_by_constant(graph, value, tensor);
    if let Some(codes) = codes.filter(|_| is_replaced) {
        graph.set_codes(value, codes);
    }
    is_replaced
}

/// Turns all constants in few bits into floats. How they were stored is recorded, so that the file gets the same
/// bits again.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub fn dequantise(graph: &mut Graph) -> Result<()> {
    let (mut budget, factors) = (Budget::of(graph), Factors::of(graph));
    for id in graph.topological_order()? {
        let Some(output) = graph.node(id).output(0) else { continue };
        if let Some((tensor, codes)) = quantised::floats(graph, id, &mut budget) {
            let codes = quantised::marked(graph, id, &factors, codes);
            replace(graph, output, tensor, Some(codes));
        } else if let Some((tensor, codes)) = quantised::behind(graph, id, &mut budget) {
            replace(graph, output, tensor, Some(codes));
        }
    }
    Ok(())
}

/// Computes the constants that a file stores as one number and a shape. Each of so many `readers` may copy them.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub fn compute_filled(graph: &mut Graph) -> Result<()> {
    let mut budget = Budget::of_growth(super::filled::MOST);
    for id in graph.topological_order()? {
        let node = graph.node(id);
        let output = node.output(0).filter(|_| node.is("ConstantOfShape"));
        let tensor = output.and_then(|_| value(graph, id, &mut budget));
        if let (Some(output), Some(tensor)) = (output, tensor) {
            replace(graph, output, tensor, None);
        }
    }
    Ok(())
}

/// The first result of a node, if it is the only one that is read, all inputs are constant and the
/// operator can be folded.
fn value(graph: &Graph, id: NodeId, budget: &mut Budget) -> Option<Tensor> {
    let node = graph.node(id);
    // Nodes that stay are met again in every round, so they must not cost anything.
    if !node.domain.is_empty() || !OPS.iter().any(|ops| ops.contains(&node.op.as_str())) {
        return None;
    }
    let inputs: Option<Vec<&Tensor>> =
        node.inputs.iter().flatten().map(|v| graph.initializer(*v)).collect();
    let inputs = inputs.filter(|i| i.iter().all(|t| t.dtype.size().is_some()))?;
    let has_more = node.outputs.len() != 1 && has_more_results(graph, id);
    if has_more || convolutions::is_other(node, &inputs) {
        return None;
    }
    let largest = inputs.iter().map(|t| t.len()).max().unwrap_or(0).max(LARGEST_GROWN);
    if !budget.take(&inputs, size(graph, id, &inputs), products::work(node, &inputs)) {
        return None;
    }
    movement::value(graph, id, &inputs, largest)
        .or_else(|| reduce::value(graph, id, &inputs))
        .or_else(|| normalise::value(graph, id, &inputs))
        .or_else(|| products::value(node, &inputs))
        .or_else(|| convolutions::value(graph, id, &inputs))
        .or_else(|| arithmetic::value(node, &inputs))
}

/// Whether another output than the first is read.
fn has_more_results(graph: &Graph, id: NodeId) -> bool {
    let readers = graph.consumers();
    let is_read = |v: &ValueId| !readers[v.index()].is_empty() || graph.outputs.contains(v);
    graph.node(id).outputs.iter().skip(1).flatten().any(is_read)
}

/// Bytes of a node's result, if inference knows its size; else those of its inputs.
fn size(graph: &Graph, id: NodeId, inputs: &[&Tensor]) -> u64 {
    let inferred = || {
        let ty = ops::infer(&NodeView::new(graph, id, &[])).into_iter().next()??;
        let extents = ty.shape?.iter().map(Dim::known).collect::<Option<Vec<usize>>>()?;
        let bytes = ty.dtype.size()?;
        Some(extents.iter().fold(bytes as u64, |n, extent| n.saturating_mul(*extent as u64)))
    };
    inferred().unwrap_or_else(|| inputs.iter().map(|t| t.data.len() as u64).sum())
}

#[cfg(test)]
mod tests;
