//! Finds layers side by side whose rows make one value, as [`super::rows`] writes them.
//!
//! Each of them reads the whole input, or, where every row reads its own channel, the channels of its rows.
//! As one layer they would compute the same, in one node.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{Attribute, Consumers, DataType, Graph, Node, NodeId, Tensor, ValueId};
use crate::ops::normal_axis;

use super::types;

/// Layers of one kind whose outputs are put together along the axis of their rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowParts {
    /// The layers. The concatenation is the only consumer of each, or of what adds its bias.
    pub(super) layers: Vec<NodeId>,
    /// The nodes behind products that add biases, with these, one per layer; empty if there are none.
    pub(super) added: Vec<(NodeId, ValueId)>,
    /// Whether each row reads its own channel only.
    pub(super) is_depthwise: bool,
    /// The concatenation of the outputs, and a node that orders the rows behind it, if there is one.
    pub(super) join: Vec<NodeId>,
    /// What one layer with all rows would read.
    pub(super) input: ValueId,
    /// For each row of that layer, the number of the layer and its row.
    pub(super) rows: Vec<(usize, usize)>,
}

/// All such layers of a graph. Shapes are those of `typed`, which has the same values.
pub(super) fn row_parts(graph: &Graph, typed: &Graph) -> Vec<RowParts> {
    let look = View { graph, typed, readers: graph.consumers() };
    let concats = graph.nodes().filter(|(_, node)| node.is("Concat"));
    concats.filter_map(|(id, node)| look.at(id, node)).collect()
}

/// A graph with the shapes and the readers of its values.
struct View<'a> {
    graph: &'a Graph,
    typed: &'a Graph,
    readers: Consumers,
}

impl View<'_> {
    fn at(&self, concat: NodeId, node: &Node) -> Option<RowParts> {
        let graph = self.graph;
        let joined = node.output(0)?;
        let ends = node.inputs.iter().map(|value| self.layer_before((*value)?));
        let (layers, added): (Vec<NodeId>, Vec<Option<(NodeId, ValueId)>>) =
            ends.collect::<Option<Vec<_>>>()?.into_iter().unzip();
        let distinct: BTreeSet<&NodeId> = layers.iter().collect();
        if layers.len() < 2 || distinct.len() < layers.len() {
            return None;
        }
        let looks = layers.iter().zip(&added);
        let looks =
            looks.map(|(id, added)| Look::of(graph, graph.node(*id), added.map(|(_, bias)| bias)));
        let looks: Vec<Look<'_>> = looks.collect::<Option<_>>()?;
        let first = looks.first()?;
        let rank = types::shape(self.typed, joined)?.len();
        let axis = if first.op == "MatMul" { rank.checked_sub(1)? } else { 1 };
        let is_along = |node: &Node| normal_axis(node.int("axis", 0), rank) == Some(axis);
        if !is_along(node) || !looks.iter().all(|look| look.is_like(first)) {
            return None;
        }
        let made = looks.iter().enumerate();
        let mut rows: Vec<(usize, usize)> =
            made.flat_map(|(at, look)| (0..look.rows).map(move |row| (at, row))).collect();
        let mut join = vec![concat];
        if let Some((id, order)) = self.ordered(joined, &is_along) {
            let picked: Option<Vec<_>> = order.iter().map(|at| rows.get(*at).copied()).collect();
            let all: BTreeSet<&usize> = order.iter().collect();
            if let Some(picked) = picked.filter(|p| p.len() == rows.len() && all.len() == p.len()) {
                rows = picked;
                join.push(id);
            }
        }
        let is_depthwise = first.is_depthwise;
        let input = match is_depthwise {
            true => self.picked_channels(&layers, &rows)?,
            false => graph.node(*layers.first()?).input(0)?,
        };
        let reads = |id: &NodeId| graph.node(*id).input(0) == Some(input);
        let fits = is_depthwise || layers.iter().all(reads);
        let added = added.into_iter().flatten().collect();
        fits.then_some(RowParts { layers, added, is_depthwise, join, input, rows })
    }

    /// The layer that makes a value for one reader, and a node behind it that adds a bias.
    fn layer_before(&self, value: ValueId) -> Option<(NodeId, Option<(NodeId, ValueId)>)> {
        let graph = self.graph;
        let id = graph.producer(value).filter(|_| self.is_inner(Some(value)))?;
        let node = graph.node(id);
        if !node.is("Add") {
            return Some((id, None));
        }
        let is_constant = |value: &&ValueId| graph.initializer(**value).is_some();
        let bias = node.inputs.iter().flatten().find(is_constant)?;
        let product = node.inputs.iter().flatten().find(|value| *value != bias)?;
        let layer = graph.producer(*product)?;
        graph.node(layer).is("MatMul").then_some((layer, Some((id, *bias))))
    }

    /// Whether one node alone reads a value, which is no output of the graph.
    fn is_inner(&self, value: Option<ValueId>) -> bool {
        value
            .is_some_and(|v| self.readers[v.index()].len() == 1 && !self.graph.outputs.contains(&v))
    }

    /// The `Gather` that is the only reader of a value, if it is along the same axis, with its indices.
    fn ordered(
        &self,
        value: ValueId,
        is_along: &dyn Fn(&Node) -> bool,
    ) -> Option<(NodeId, Vec<usize>)> {
        let id = *self.readers[value.index()].first().filter(|_| self.is_inner(Some(value)))?;
        let node = self.graph.node(id);
        let fits = node.is("Gather") && node.input(0) == Some(value) && is_along(node);
        Some((id, self.gathered(node).filter(|_| fits)?))
    }

    /// The constant indices of a `Gather`.
    fn gathered(&self, node: &Node) -> Option<Vec<usize>> {
        let tensor = self.graph.initializer(node.input(1)?).filter(|t| t.dims.len() == 1)?;
        tensor.to_i64()?.iter().map(|index| usize::try_from(*index).ok()).collect()
    }

    /// The channels that a node picks of its input, which has `all` of them.
    fn picked(&self, node: &Node, all: usize) -> Option<Vec<usize>> {
        if node.is("Gather") {
            return self.gathered(node).filter(|_| node.int("axis", 0) == 1);
        }
        let number = |slot: usize| {
            let tensor = self.graph.initializer(node.input(slot)?)?.to_i64()?;
            usize::try_from(*tensor.first().filter(|_| tensor.len() == 1)?).ok()
        };
        let is_plain = node.is("Slice") && node.input(4).is_none() && number(3)? == 1;
        is_plain
            .then_some((number(1)?, number(2)?.min(all)))
            .map(|(start, end)| (start..end).collect())
    }

    /// The value whose channels depthwise layers read one by one in the order of all rows.
    fn picked_channels(&self, layers: &[NodeId], rows: &[(usize, usize)]) -> Option<ValueId> {
        let graph = self.graph;
        let picks = layers.iter().map(|id| graph.producer(graph.node(*id).input(0)?));
        let picks: Vec<&Node> = picks.map(|id| Some(graph.node(id?))).collect::<Option<_>>()?;
        let input = picks.first()?.input(0)?;
        let all = types::shape(self.typed, input)?.get(1)?.known()?;
        let mut channels: Vec<Vec<usize>> = Vec::new();
        for node in picks {
            channels.push(self.picked(node, all).filter(|_| node.input(0) == Some(input))?);
        }
        let reads = |(at, (layer, row)): (usize, &(usize, usize))| {
            channels.get(*layer).and_then(|own| own.get(*row)) == Some(&at)
        };
        (all == rows.len() && rows.iter().enumerate().all(reads)).then_some(input)
    }
}

/// What layers must have in common.
struct Look<'a> {
    op: &'a str,
    attributes: BTreeMap<&'a str, &'a Attribute>,
    /// Type of each constant, with its extents but for that of rows, and whether it is a sum.
    constants: Vec<(DataType, Vec<usize>, bool)>,
    is_depthwise: bool,
    rows: usize,
}

impl<'a> Look<'a> {
    fn of(graph: &'a Graph, node: &'a Node, added: Option<ValueId>) -> Option<Look<'a>> {
        let is_conv = node.is("Conv") || node.is("ConvTranspose");
        let is_plain = node.is("MatMul") || node.is("Gemm") && node.int("transB", 0) == 1;
        if !is_conv && !is_plain || node.outputs.len() != 1 {
            return None;
        }
        let groups = usize::try_from(node.int("group", 1)).ok()?;
        let is_depthwise = groups != 1;
        let row_axis = row_axis(node, is_depthwise);
        let (weight, _) = constant(graph, node.input(1)?)?;
        if !is_conv && weight.dims.len() != 2 {
            return None;
        }
        let rows = *weight.dims.get(row_axis)?;
        if is_depthwise && (rows != groups || weight.dims.get(1) != Some(&1)) {
            return None;
        }
        let mut constants = Vec::new();
        let inputs = node.inputs.iter().copied().chain(added.map(Some));
        for (slot, input) in inputs.enumerate().skip(1) {
            let (tensor, is_sum) = constant(graph, input?)?;
            let axis = if slot == 1 { row_axis } else { 0 };
            let is_bias = slot == 2 && tensor.dims == [rows];
            if slot > 1 && !is_bias {
                return None;
            }
            // Numbers of fewer than 8 bits cannot be joined byte by byte.
            tensor.dtype.size()?;
            let mut dims = tensor.dims.clone();
            dims.remove(axis);
            constants.push((tensor.dtype, dims, is_sum));
        }
        let attributes = node.attributes.iter().map(|(name, value)| (name.as_str(), value));
        let attributes = attributes.filter(|(name, _)| *name != "group").collect();
        Some(Look { op: &node.op, attributes, constants, is_depthwise, rows })
    }

    fn is_like(&self, other: &Look<'_>) -> bool {
        self.op == other.op
            && self.attributes == other.attributes
            && self.constants == other.constants
            && self.is_depthwise == other.is_depthwise
    }
}

/// The axis of rows in a layer's weight.
pub(super) fn row_axis(node: &Node, is_depthwise: bool) -> usize {
    usize::from(node.is("MatMul") || node.is("ConvTranspose") && !is_depthwise)
}

/// An initializer, or the first operand of a sum of two, and whether it is one.
fn constant(graph: &Graph, value: ValueId) -> Option<(&Tensor, bool)> {
    let summed = addends(graph, value);
    let first = summed.map_or(value, |(_, [first, _])| first);
    Some((graph.initializer(first)?, summed.is_some()))
}

/// The node that adds two initializers of equal shape, and these, if `sum` is its output.
pub(super) fn addends(graph: &Graph, sum: ValueId) -> Option<(NodeId, [ValueId; 2])> {
    let id = graph.producer(sum)?;
    let node = graph.node(id);
    let pair = [node.input(0)?, node.input(1)?];
    let [first, second] = pair.map(|value| graph.initializer(value));
    let fits = node.is("Add") && pair[0] != pair[1] && first?.dims == second?.dims;
    fits.then_some((id, pair))
}
