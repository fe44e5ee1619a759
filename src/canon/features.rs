//! Features of a layer in another order.
//!
//! Some operators give features places: by their order they become rows, columns and channels. If the layer computes
//! them in another order, other operators can do the same.

use std::collections::BTreeSet;

use crate::ir::{Codes, Consumers, Graph, NodeId, Tensor, ValueId};
use crate::ops::{Flow, Labels, Layer, LayerKind, Operand};

use super::reach::{atoms, flow, is_each_alone};
use super::rewire::store;

/// Limit of nodes between a layer and a reader of its features.
const LONGEST_WAY: usize = 64;

/// The features of a layer that only one node reads in their order.
pub(super) struct Features {
    /// Constants with one entry per feature, or row of the layer.
    constants: Vec<Constant>,
}

impl Features {
    /// The features that node `reader` has along axis `axis` of its first operand, if a layer computes them, and
    /// they go nowhere else.
    pub(super) fn before(
        graph: &Graph,
        readers: &Consumers,
        order: &[NodeId],
        (reader, axis): (NodeId, usize),
    ) -> Option<Features> {
        let layer = layer_before(graph, graph.node(reader).input(0)?)?;
        let constants = constants(graph, readers, order, &layer, (reader, axis))?;
        Some(Features { constants })
    }

    /// The constants with the features in another order: for each place, the old one.
    pub(super) fn moved(&self, graph: &Graph, order: &[usize]) -> Option<Vec<Moved>> {
        let moved = |own: &Constant| {
            let value = graph.node(own.node).input(own.slot)?;
            let codes = match graph.codes(value) {
                Some(codes) => Some(codes.select(own.axis, order)?),
                None => None,
            };
            let tensor = graph.initializer(value)?.select(own.axis, order)?;
            Some(Moved { node: own.node, slot: own.slot, tensor, codes })
        };
        self.constants.iter().map(moved).collect()
    }
}

/// The old place of each feature, where those of a channel come to stand side by side.
pub(super) fn by_channel(positions: usize, channels: usize) -> Vec<usize> {
    let of_channel = |channel| (0..positions).map(move |at| at * channels + channel);
    (0..channels).flat_map(of_channel).collect()
}

/// A constant operand with one entry per feature along an axis.
struct Constant {
    node: NodeId,
    slot: usize,
    axis: usize,
}

/// A constant operand with its entries in another order.
pub(super) struct Moved {
    node: NodeId,
    slot: usize,
    tensor: Tensor,
    codes: Option<Codes>,
}

impl Moved {
    /// Replaces the operand.
    pub(super) fn store(self, graph: &mut Graph, readers: &Consumers, name: &str) {
        store(graph, readers, self.node, self.slot, name, self.tensor);
        if let (Some(codes), Some(value)) = (self.codes, graph.node(self.node).input(self.slot)) {
            graph.set_codes(value, codes);
        }
    }
}

/// The layer from which nodes with one computed operand lead to `value`. If a node has several operands, the
/// first one counts.
fn layer_before(graph: &Graph, mut value: ValueId) -> Option<Layer> {
    for _ in 0..LONGEST_WAY {
        let id = graph.producer(value)?;
        let node = graph.node(id);
        if let Flow::Layer(layer) = flow(graph, id, &[])? {
            return is_free(graph, &layer).then_some(layer);
        }
        value = node.reads().find(|read| graph.initializer(*read).is_none())?;
    }
    None
}

/// Whether no other node has the weights of a layer. Nodes with equal weights keep them equal.
fn is_free(graph: &Graph, layer: &Layer) -> bool {
    let Some(weight) = graph.initializer(layer.weight) else { return false };
    let is_equal = |id: ValueId| {
        let other = graph.initializer(id).filter(|_| id != layer.weight);
        other.is_some_and(|other| other.dims == weight.dims && other.data == weight.data)
    };
    !matches!(layer.kind, LayerKind::Gate(_))
        && graph.only_use(layer.weight).is_some()
        && !graph.values().any(|(id, _)| is_equal(id) && graph.is_used(id))
}

/// The constants with one entry per feature between a layer and a reader, and those of the layer; `None` if the
/// features go elsewhere, or their order matters to a node between.
fn constants(
    graph: &Graph,
    readers: &Consumers,
    order: &[NodeId],
    layer: &Layer,
    (reader, axis): (NodeId, usize),
) -> Option<Vec<Constant>> {
    let (rows, ..) = layer.sizes(graph).ok()?;
    let features = atoms(rows);
    let mut found = of_layer(graph, layer)?;
    let mut labels: Vec<Option<Labels>> = vec![None; graph.value_count()];
    labels[layer.output.index()] = Some(Labels::along(layer.out_axis, features.clone()));
    let mut left = uses(graph, readers, layer.output)?;
    let start = order.iter().position(|id| *id == layer.last_node())?;
    for id in order.get(start + 1..)? {
        let node = graph.node(*id);
        let read: BTreeSet<ValueId> =
            node.reads().filter(|value| labels[value.index()].is_some()).collect();
        if read.is_empty() {
            continue;
        }
        left = left.checked_sub(read.len())?;
        if *id == reader {
            let flat = labels[node.input(0)?.index()].as_ref()?;
            return (left == 0 && flat.axis == axis).then_some(found);
        }
        let [Some(output)] = node.outputs[..] else { return None };
        let (operands, own) = in_any_order(flow(graph, *id, &labels)?)?;
        if own.atoms != features {
            return None;
        }
        for (slot, operand) in operands.into_iter().enumerate() {
            if let Operand::Param { axis } = operand {
                found.push(Constant { node: *id, slot, axis });
            }
        }
        left += uses(graph, readers, output)?;
        labels[output.index()] = Some(own);
    }
    None
}

/// The operands and the labels of a node that computes the same for features in any order, each by itself or all of
/// them together.
fn in_any_order(flow: Flow) -> Option<(Vec<Operand>, Labels)> {
    match flow {
        Flow::Partwise(own) if is_each_alone(&own) => Some((own.operands, own.output)),
        Flow::Together(own) if own.coupled.is_none() => {
            Some((own.operands, own.outputs.into_iter().next()??))
        }
        _ => None,
    }
}

/// The weight of a layer, and its bias if it has one.
fn of_layer(graph: &Graph, layer: &Layer) -> Option<Vec<Constant>> {
    let constant = |node: NodeId, value: ValueId, axis: usize| {
        let slot = graph.node(node).inputs.iter().position(|read| *read == Some(value))?;
        Some(Constant { node, slot, axis })
    };
    let weight = constant(layer.node, layer.weight, usize::from(layer.in_first()));
    let bias = layer.bias.map(|bias| constant(layer.last_node(), bias, 0));
    std::iter::once(weight).chain(bias).collect()
}

/// The number of nodes that read a value; `None` for outputs.
fn uses(graph: &Graph, readers: &Consumers, value: ValueId) -> Option<usize> {
    let all = readers.get(value.index()).filter(|_| !graph.outputs.contains(&value))?;
    Some(all.len())
}
