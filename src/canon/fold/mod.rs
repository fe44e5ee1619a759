//! Nodes whose inputs are all constant are computed here and now.
//!
//! Exporters leave transposes of weights, normalised weights and arithmetic on constants to the
//! runtime; a layer is a layer only if its weight is stored. Weights of few bits are remembered as such, and
//! written as such again where a merge leaves them as they are.

mod arithmetic;
mod movement;
mod quantised;
mod reduce;

use crate::error::Result;
use crate::ir::{Graph, Model, NodeId, Tensor};

use super::{CanonOptions, rewire};

/// Constants that are larger than everything they are made from are stored up to this many
/// elements: initial states and light-weight test models, but no giant tables of zeros.
const LARGEST_GROWN: usize = 1 << 24;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some(output) = graph.node(id).output(0) else { continue };
        if let Some((tensor, codes)) = quantised::value(graph, id) {
            if rewire::replace_by_constant(graph, output, tensor) {
                graph.set_codes(output, codes);
                modified = true;
            }
        } else if let Some(tensor) = value(graph, id) {
            modified |= rewire::replace_by_constant(graph, output, tensor);
        }
    }
    Ok(modified)
}

/// Makes floats of all constants that are stored in few bits. They are written in few bits again.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub fn dequantise(graph: &mut Graph) -> Result<()> {
    for id in graph.topological_order()? {
        let (Some(output), Some((tensor, codes))) =
            (graph.node(id).output(0), quantised::value(graph, id))
        else {
            continue;
        };
        if rewire::replace_by_constant(graph, output, tensor) {
            graph.set_codes(output, codes);
        }
    }
    rewire::prune(graph);
    Ok(())
}

/// What a node with one output returns, if all it reads is constant and it is among the operators
/// that are known here.
fn value(graph: &Graph, id: NodeId) -> Option<Tensor> {
    let node = graph.node(id);
    if !node.domain.is_empty() || node.outputs.len() != 1 || node.subgraphs().next().is_some() {
        return None;
    }
    let inputs: Option<Vec<&Tensor>> =
        node.inputs.iter().flatten().map(|v| graph.initializer(*v)).collect();
    let inputs = inputs.filter(|i| i.iter().all(|t| t.dtype.size().is_some()))?;
    let largest = inputs.iter().map(|t| t.len()).max().unwrap_or(0).max(LARGEST_GROWN);
    movement::value(graph, id, &inputs, largest)
        .or_else(|| reduce::value(graph, id, &inputs))
        .or_else(|| arithmetic::value(node, &inputs))
}

#[cfg(test)]
mod tests;
