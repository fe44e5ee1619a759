//! Removes nodes that return one of their inputs unchanged.
//!
//! They separate a layer from nodes that could be folded into it, and hide constants.

use crate::error::Result;
use crate::ir::{Consumers, DataType, Graph, Model, Node, NodeId, Tensor, ValueId};

use super::{CanonOptions, rewire, tokenwise, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let readers = graph.consumers();
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some(output) = graph.node(id).output(0) else { continue };
        if let Some(source) = unchanged_input(graph, &readers, id) {
            modified |= rewire::bypass(graph, output, source);
        }
    }
    Ok(modified)
}

/// The input that the node's first output equals, if it has no other output in use.
fn unchanged_input(graph: &Graph, readers: &Consumers, id: NodeId) -> Option<ValueId> {
    let node = graph.node(id);
    let others = node.outputs.iter().skip(1).flatten();
    if !node.domain.is_empty() || others.into_iter().any(|o| !rewire::is_unused(graph, readers, *o))
    {
        return None;
    }
    let first = node.input(0)?;
    let keeps_shape = || types::same_shape(graph, first, node.output(0)?).then_some(first);
    match node.op.as_str() {
        "Identity" => Some(first),
        "Dropout" => drops_nothing(graph, node).then_some(first),
        "Cast" => keeps_type(graph, node, first).then_some(first),
        "Transpose" => keeps_order(node).then_some(first),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => keeps_shape(),
        "Expand" => keeps_shape().filter(|_| !types::has_assumed_batch(graph, first)),
        "Slice" => forward(graph, node).then(keeps_shape)?,
        "Concat" | "Sum" | "Mean" | "Max" | "Min" => (node.inputs.len() == 1).then_some(first),
        "Pad" => pads_nothing(graph, node).then_some(first),
        "MaxPool" | "AveragePool" => looks_at_one(node).then_some(first),
        "Mul" | "Div" | "Add" | "Sub" => {
            neutral_operand(graph, node).filter(|source| !adds_bias(graph, *source, id))
        }
        _ => None,
    }
}

/// Whether a dropout passes everything on, as outside training. A computed mode may mean training.
fn drops_nothing(graph: &Graph, node: &Node) -> bool {
    node.input(2).is_none_or(|mode| graph.initializer(mode).is_some())
}

fn keeps_type(graph: &Graph, node: &Node, input: ValueId) -> bool {
    let to = i32::try_from(node.int("to", 0)).map(DataType::from_code);
    types::of(graph, input).is_some_and(|from| Ok(from.dtype) == to)
}

fn keeps_order(node: &Node) -> bool {
    node.ints("perm").is_some_and(|perm| perm.iter().copied().eq(0..perm.len() as i64))
}

/// Whether all steps of a slice are positive: a slice of the whole extent may reverse it.
fn forward(graph: &Graph, node: &Node) -> bool {
    let Some(steps) = node.input(4) else { return true };
    let steps = graph.initializer(steps).and_then(Tensor::to_i64);
    steps.is_some_and(|s| s.iter().all(|step| *step > 0))
}

fn pads_nothing(graph: &Graph, node: &Node) -> bool {
    let pads = node.input(1).and_then(|p| graph.initializer(p)?.to_i64());
    pads.is_some_and(|p| p.iter().all(|width| *width == 0))
}

/// Whether a pooling window has one position.
fn looks_at_one(node: &Node) -> bool {
    let all =
        |name: &str, value: i64| node.ints(name).is_none_or(|v| v.iter().all(|x| *x == value));
    node.ints("kernel_shape").is_some()
        && all("kernel_shape", 1)
        && all("strides", 1)
        && all("pads", 0)
}

/// Whether a node adds the bias of the product `source`. Such a node stays even if the bias is zeros,
/// since every layer has a bias.
fn adds_bias(graph: &Graph, source: ValueId, id: NodeId) -> bool {
    let product = graph.producer(source).and_then(|node| tokenwise::product(graph, node));
    product.and_then(|product| product.bias(graph)).is_some_and(|addition| addition.node == id)
}

/// The other operand of a product with 1 or a sum with 0, if that operand has the shape of the result.
fn neutral_operand(graph: &Graph, node: &Node) -> Option<ValueId> {
    let neutral = if matches!(node.op.as_str(), "Mul" | "Div") { 1.0 } else { 0.0 };
    let commutes = matches!(node.op.as_str(), "Mul" | "Add");
    let (left, right) = (node.input(0)?, node.input(1)?);
    let output = node.output(0)?;
    let is_neutral = |v: ValueId| {
        graph
            .initializer(v)
            .and_then(|t| t.to_f64().ok())
            .is_some_and(|a| a.iter().all(|e| *e == neutral))
    };
    let fits = |v: ValueId| types::same_shape(graph, v, output);
    if is_neutral(right) && fits(left) {
        return Some(left);
    }
    (commutes && is_neutral(left) && fits(right)).then_some(right)
}
