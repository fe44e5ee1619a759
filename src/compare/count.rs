//! Counts of a graph: nodes, and multiply-adds of its layers.

use std::collections::HashMap;

use crate::canon::infer_types;
use crate::ir::{Attribute, Dim, Graph, Node, TensorType, ValueId, ValueKind};
use crate::runtime::HostArray;

/// Nodes of a graph and its sub-graphs. A `Constant` is a stored tensor and does not count.
pub fn nodes(graph: &Graph) -> u64 {
    let within = |node: &Node| node.subgraphs().map(nodes).sum::<u64>();
    graph.nodes().map(|(_, node)| u64::from(!node.is("Constant")) + within(node)).sum()
}

/// Multiply-adds of all layers (convolutions, matrix products, recurrences) in `runs` runs of a graph
/// with inputs like `fed`. An `If` takes its first branch once and the other branch in all other
/// runs, as in the switch form when each task runs once.
///
/// `None` if sizes are unknown.
pub fn multiply_adds(graph: &Graph, fed: &[(String, HostArray)], runs: u64) -> Option<u64> {
    let extents: HashMap<&str, &[usize]> =
        fed.iter().map(|(name, array)| (name.as_str(), array.shape())).collect();
    let mut graph = graph.clone();
    for id in graph.inputs.clone() {
        let value = graph.value(id);
        let (Some(ty), Some(shape)) = (&value.ty, extents.get(value.name.as_str())) else {
            continue;
        };
        let shape = Some(shape.iter().map(|size| Dim::Known(*size)).collect());
        let dtype = ty.dtype;
        graph.set_type(id, Some(TensorType { dtype, shape }));
    }
    of_runs(graph, runs)
}

fn of_runs(mut graph: Graph, runs: u64) -> Option<u64> {
    infer_types(&mut graph).ok()?;
    let of_node = |node: &Node| match node.subgraphs().any(has_layers) {
        true => of_branches(&graph, node, runs),
        false => of_layer(&graph, node)?.checked_mul(runs),
    };
    graph.nodes().map(|(_, node)| of_node(node)).try_fold(0u64, |sum, n| sum.checked_add(n?))
}

/// Multiply-adds of a node with sub-graphs.
fn of_branches(graph: &Graph, node: &Node, runs: u64) -> Option<u64> {
    let others = runs.checked_sub(1).filter(|others| *others > 0 && node.is("If"))?;
    let branch = |name: &str, runs: u64| {
        let Attribute::Graph(branch) = node.attributes.get(name)? else { return None };
        of_runs(resolved(graph, branch), runs)
    };
    branch("then_branch", 1)?.checked_add(branch("else_branch", others)?)
}

/// A sub-graph with the types of its captured values.
fn resolved(outer: &Graph, branch: &Graph) -> Graph {
    let mut branch = branch.clone();
    let captured: Vec<(ValueId, ValueId)> = branch
        .values()
        .filter_map(|(id, value)| match value.kind {
            ValueKind::Captured(outer) => Some((id, outer)),
            _ => None,
        })
        .collect();
    for (id, source) in captured {
        match outer.initializer(source) {
            Some(tensor) => branch.set_initializer(id, tensor.clone()),
            None => branch.set_type(id, outer.value(source).ty.clone()),
        }
    }
    branch
}

fn has_layers(graph: &Graph) -> bool {
    graph
        .nodes()
        .any(|(_, node)| LAYERS.contains(&node.op.as_str()) || node.subgraphs().any(has_layers))
}

/// Counted operators, by name only: fused ones of other domains compute the same.
const LAYERS: &[&str] =
    &["Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "LSTM", "GRU", "RNN"];

/// Multiply-adds of one run of a node; 0 if it is not a layer.
fn of_layer(graph: &Graph, node: &Node) -> Option<u64> {
    if !LAYERS.contains(&node.op.as_str()) {
        return Some(0);
    }
    let input = |index: usize| extents(graph, node.input(index)?);
    let output = || extents(graph, node.outputs.iter().copied().flatten().next()?);
    match node.op.as_str() {
        // Every weight is used once per position, samples included.
        "Conv" | "FusedConv" => product(&input(1)?)?.checked_mul(positions(&output()?)?),
        "ConvTranspose" => product(&input(1)?)?.checked_mul(positions(&input(0)?)?),
        "Gemm" | "FusedGemm" => product(&input(0)?)?.checked_mul(*output()?.get(1)?),
        "MatMul" => product(&output()?)?.checked_mul(*input(0)?.last()?),
        _ => {
            let weights = product(&input(1)?)?.checked_add(product(&input(2)?)?)?;
            let x = input(0)?;
            weights.checked_mul(x.first()?.checked_mul(*x.get(1)?)?)
        }
    }
}

/// Positions of a filter: samples times spatial positions.
fn positions(extents: &[u64]) -> Option<u64> {
    product(extents.get(2..)?)?.checked_mul(*extents.first()?)
}

fn product(extents: &[u64]) -> Option<u64> {
    extents.iter().try_fold(1u64, |n, extent| n.checked_mul(*extent))
}

/// The extents of a value, if all are known.
fn extents(graph: &Graph, value: ValueId) -> Option<Vec<u64>> {
    if let Some(tensor) = graph.initializer(value) {
        return Some(tensor.dims.iter().map(|d| *d as u64).collect());
    }
    let shape = graph.value(value).ty.as_ref()?.shape.as_ref()?;
    shape.iter().map(|dim| dim.known().map(|d| d as u64)).collect()
}
