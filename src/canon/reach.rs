//! Follows an axis of a value to the layers that read it as their channels.

use std::collections::VecDeque;

use crate::ir::{Consumers, Graph, Node, NodeId, ValueId};
use crate::ops::{self, Atom, Expand, Flow, Labels, Layer, NodeView, Partwise};

use super::types::shape;

/// Limit of values between a value and a layer.
const LONGEST_WAY: usize = 256;

/// Whether layers read an axis of a value as their channels, and no product of two computed values, as of attention
/// heads, reads it.
pub(super) fn is_contracted(
    graph: &Graph,
    readers: &Consumers,
    value: ValueId,
    axis: usize,
) -> bool {
    any_reader(graph, readers, (value, axis), |node, flow, labels| {
        (!is_of_computed_values(graph, node)).then(|| reads_axis(flow, labels))
    })
}

/// Whether nodes add up the indices along an axis of a value, or reduce them otherwise, and neither layers nor products
/// of two computed values read it.
pub(super) fn is_reduced(graph: &Graph, readers: &Consumers, value: ValueId, axis: usize) -> bool {
    any_reader(graph, readers, (value, axis), |node, flow, labels| {
        let is_free = !is_of_computed_values(graph, node) && !reads_axis(flow, labels);
        is_free.then(|| node.op.starts_with("Reduce") && ends(flow))
    })
}

/// Whether products of two computed values have a matrix for each index along an axis of a value, as those of attention
/// heads.
pub(super) fn is_stacked(graph: &Graph, readers: &Consumers, value: ValueId, axis: usize) -> bool {
    any_reader(graph, readers, (value, axis), |node, _, labels| {
        let is_in_front = |operand: &ValueId| {
            let rank = shape(graph, *operand).map_or(0, |extents| extents.len());
            let own = labels.get(operand.index()).and_then(Option::as_ref);
            own.is_some_and(|own| own.axis + 2 < rank)
        };
        let mut operands = node.inputs.iter().flatten();
        Some(is_of_computed_values(graph, node) && operands.any(is_in_front))
    })
}

/// Follows an axis of a value through the nodes behind it. Returns whether one of them is what is looked for; `false` as
/// soon as `judge` returns `None`.
fn any_reader(
    graph: &Graph,
    readers: &Consumers,
    (value, axis): (ValueId, usize),
    judge: impl Fn(&Node, &Flow, &[Option<Labels>]) -> Option<bool>,
) -> bool {
    let extent = shape(graph, value).and_then(|extents| extents.get(axis)?.known());
    let Some(extent) = extent else { return false };
    let mut labels: Vec<Option<Labels>> = vec![None; graph.value_count()];
    labels[value.index()] = Some(Labels::along(axis, atoms(extent)));
    let mut next = VecDeque::from([value]);
    let mut found = false;
    for _ in 0..LONGEST_WAY {
        let Some(value) = next.pop_front() else { break };
        for id in readers.get(value.index()).into_iter().flatten() {
            let Some(flow) = flow(graph, *id, &labels) else { continue };
            let Some(is_found) = judge(graph.node(*id), &flow, &labels) else { return false };
            found |= is_found;
            for (output, own) in behind(graph.node(*id), flow) {
                if labels[output.index()].is_none() {
                    labels[output.index()] = Some(own);
                    next.push_back(output);
                }
            }
        }
    }
    found
}

/// The flow of channels with these labels through a node; `None` for operators without a rule.
pub(super) fn flow(graph: &Graph, id: NodeId, labels: &[Option<Labels>]) -> Option<Flow> {
    let node = graph.node(id);
    let rule = ops::rule(&node.op).filter(|_| node.domain.is_empty())?;
    Some(rule.flow(&NodeView::new(graph, id, labels)))
}

/// So many channels.
pub(super) fn atoms(count: usize) -> Vec<Atom> {
    (0..).map(Atom).take(count).collect()
}

/// Whether a node returns one index for each channel that it reads.
pub(super) fn is_each_alone(own: &Partwise) -> bool {
    own.expand == Expand::NONE && own.output.within.is_none()
}

fn is_of_computed_values(graph: &Graph, node: &Node) -> bool {
    node.is("MatMul") && node.reads().all(|value| graph.initializer(value).is_none())
}

/// Whether a node leaves one number of all channels.
fn ends(flow: &Flow) -> bool {
    matches!(flow, Flow::Together(own) if own.outputs.iter().all(Option::is_none))
}

/// Whether a layer reads channels along the axis of their labels.
fn reads_axis(flow: &Flow, labels: &[Option<Labels>]) -> bool {
    let reads = |layer: &Layer| {
        let own = labels.get(layer.input.index()).and_then(Option::as_ref);
        own.is_some_and(|own| own.axis == layer.in_axis)
    };
    match flow {
        Flow::Layer(layer) | Flow::PerChannel(layer) => reads(layer),
        Flow::Recurrent(gates) => gates.iter().any(reads),
        _ => false,
    }
}

/// The labels of a node's outputs.
fn behind(node: &Node, flow: Flow) -> Vec<(ValueId, Labels)> {
    let labels: Vec<Option<Labels>> = match flow {
        Flow::Partwise(own) if is_each_alone(&own) => vec![Some(own.output); node.outputs.len()],
        Flow::Together(own) => own.outputs,
        Flow::Whole(own) => own.outputs,
        Flow::Relabel(picks) => {
            let along = |pick: &ops::Pick| Labels::along(pick.axis, atoms(pick.from.len()));
            picks.iter().map(|pick| Some(along(pick))).collect()
        }
        _ => Vec::new(),
    };
    let outputs = node.outputs.iter().zip(labels);
    outputs.filter_map(|(output, own)| Some(((*output)?, own?))).collect()
}
