//! Finds layers side by side whose rows make one value, as [`super::rows`] writes them.
//!
//! Each of them reads the whole input, or, where every row reads its own channel, the channels of its rows.
//! As one layer they would compute the same, in one node.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{Attribute, Consumers, DataType, Graph, Model, Node, NodeId, Tensor, ValueId};
use crate::ops::normal_axis;

use super::types;

/// Layers of one kind whose outputs are put together along the axis of their rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowParts {
    /// The layers; the concatenation is the only consumer of each.
    pub layers: Vec<NodeId>,
    /// For depthwise convolutions, the nodes that pick the channels of each.
    pub picks: Vec<NodeId>,
    /// The concatenation of the outputs, and a node that orders the rows behind it, if there is one.
    pub join: Vec<NodeId>,
    /// What one layer with all rows would read.
    pub input: ValueId,
    /// What it would return.
    pub output: ValueId,
    /// The axis of rows of `output`.
    pub axis: usize,
    /// For each index along that axis, the number of the layer and its row.
    pub rows: Vec<(usize, usize)>,
}

/// All such layers of a graph.
pub fn row_parts(graph: &Graph) -> Vec<RowParts> {
    let readers = graph.consumers();
    let concats = graph.nodes().filter(|(_, node)| node.is("Concat"));
    concats.filter_map(|(id, node)| RowParts::at(graph, &readers, id, node)).collect()
}

/// Writes the layers that [`super::split_rows`] has split as one layer each again.
pub fn rejoin(model: &mut Model) {
    let graph = &mut model.graph;
    let mut all = row_parts(graph);
    all.retain(|found| found.is_split(graph));
    let mut known = Joined::new();
    for found in all {
        // Nothing changes if the weights cannot be joined.
        let _ = found.join_layers(graph, &mut known);
    }
    graph.remove_dead_nodes();
}

/// Constants put together of others, by these and the order of rows. Layers may be applied several times.
type Joined = BTreeMap<(Vec<ValueId>, Vec<(usize, usize)>), ValueId>;

impl RowParts {
    /// Whether canonical form gave the layers their names, so that the model has one layer.
    fn is_split(&self, graph: &Graph) -> bool {
        let name = |id: &NodeId| graph.node(*id).name.as_str();
        let whole = self.join.first().and_then(|id| name(id).strip_suffix(".rows"));
        whole.is_some_and(|whole| {
            let is_part = |id| name(id).strip_prefix(whole).is_some_and(|end| end.starts_with('.'));
            self.layers.iter().all(is_part)
        })
    }

    /// Turns the last node into one layer with all rows.
    fn join_layers(&self, graph: &mut Graph, known: &mut Joined) -> Option<()> {
        let first = graph.node(*self.layers.first()?).clone();
        let (last, name) = (*self.join.last()?, graph.node(*self.join.first()?).name.clone());
        let name = name.strip_suffix(".rows").unwrap_or(&name).to_owned();
        let is_depthwise = !self.picks.is_empty();
        let in_first = first.is("MatMul") || first.is("ConvTranspose") && !is_depthwise;
        let mut inputs = vec![Some(self.input)];
        for (slot, suffix) in (1..first.inputs.len()).zip(["weight", "bias"]) {
            let axis = usize::from(slot == 1 && in_first);
            let values = self.layers.iter().map(|id| graph.node(*id).input(slot));
            let key = (values.collect::<Option<Vec<_>>>()?, self.rows.clone());
            let value = match known.get(&key) {
                Some(value) => *value,
                None => {
                    let whole = self.constant(graph, &key.0, axis)?;
                    graph.add_initializer(&format!("{name}.{suffix}"), whole)
                }
            };
            known.insert(key, value);
            inputs.push(Some(value));
        }
        graph.edit_node(last, |node| {
            node.op.clone_from(&first.op);
            node.inputs = inputs;
            node.attributes.clone_from(&first.attributes);
            node.name = name;
            if is_depthwise {
                let groups = Attribute::Int(self.rows.len() as i64);
                node.attributes.insert("group".to_owned(), groups);
            }
        });
        Some(())
    }

    /// The constants of the layers as one, with rows on `axis`.
    fn constant(&self, graph: &Graph, values: &[ValueId], axis: usize) -> Option<Tensor> {
        let mut begin = Vec::new();
        let mut all = Vec::new();
        let mut count = 0;
        for value in values {
            let tensor = graph.initializer(*value).filter(|_| graph.codes(*value).is_none())?;
            begin.push(count);
            count += tensor.dims.get(axis)?;
            all.push(tensor);
        }
        let order = self.rows.iter().map(|(layer, row)| Some(begin.get(*layer)? + row));
        Tensor::joined(&all, axis)?.select(axis, &order.collect::<Option<Vec<_>>>()?)
    }

    fn at(graph: &Graph, readers: &Consumers, concat: NodeId, node: &Node) -> Option<RowParts> {
        let joined = node.output(0)?;
        let layers =
            node.inputs.iter().map(|v| graph.producer((*v)?)).collect::<Option<Vec<_>>>()?;
        let is_alone = |id: &NodeId| is_inner(graph, readers, graph.node(*id).output(0));
        let distinct: BTreeSet<&NodeId> = layers.iter().collect();
        if layers.len() < 2 || distinct.len() < layers.len() || !layers.iter().all(is_alone) {
            return None;
        }
        let looks = layers.iter().map(|id| Look::of(graph, graph.node(*id)));
        let looks: Vec<Look<'_>> = looks.collect::<Option<_>>()?;
        let first = looks.first()?;
        let rank = types::shape(graph, joined)?.len();
        let axis = if first.op == "MatMul" { rank.checked_sub(1)? } else { 1 };
        let is_along = |node: &Node| normal_axis(node.int("axis", 0), rank) == Some(axis);
        if !is_along(node) || !looks.iter().all(|look| look.is_like(first)) {
            return None;
        }
        let made = looks.iter().enumerate();
        let mut rows: Vec<(usize, usize)> =
            made.flat_map(|(at, look)| (0..look.rows).map(move |row| (at, row))).collect();
        let (mut join, mut output) = (vec![concat], joined);
        if let Some((id, order)) = ordered(graph, readers, joined, &is_along) {
            let picked: Option<Vec<_>> = order.iter().map(|at| rows.get(*at).copied()).collect();
            let all: BTreeSet<&usize> = order.iter().collect();
            if let Some(picked) = picked.filter(|p| p.len() == rows.len() && all.len() == p.len()) {
                rows = picked;
                join.push(id);
                output = graph.node(id).output(0)?;
            }
        }
        let (input, picks) = match first.is_depthwise {
            true => picked_channels(graph, &layers, &rows)?,
            false => (graph.node(*layers.first()?).input(0)?, Vec::new()),
        };
        let reads = |id: &NodeId| graph.node(*id).input(0) == Some(input);
        let fits = first.is_depthwise || layers.iter().all(reads);
        fits.then_some(RowParts { layers, picks, join, input, output, axis, rows })
    }
}

/// What layers must have in common.
struct Look<'a> {
    op: &'a str,
    attributes: BTreeMap<&'a str, &'a Attribute>,
    /// Type of each constant, with its extents but for that of rows.
    constants: Vec<(DataType, Vec<usize>)>,
    is_depthwise: bool,
    rows: usize,
}

impl<'a> Look<'a> {
    fn of(graph: &'a Graph, node: &'a Node) -> Option<Look<'a>> {
        let is_conv = node.is("Conv") || node.is("ConvTranspose");
        let is_plain = node.is("MatMul") || node.is("Gemm") && node.int("transB", 0) == 1;
        if !is_conv && !is_plain || node.outputs.len() != 1 {
            return None;
        }
        let groups = usize::try_from(node.int("group", 1)).ok()?;
        let is_depthwise = groups != 1;
        let in_first = node.is("MatMul") || node.is("ConvTranspose") && !is_depthwise;
        let row_axis = usize::from(in_first);
        let weight = graph.initializer(node.input(1)?)?;
        let rows = *weight.dims.get(row_axis)?;
        if is_depthwise && (rows != groups || weight.dims.get(1) != Some(&1)) {
            return None;
        }
        let mut constants = Vec::new();
        for (slot, input) in node.inputs.iter().enumerate().skip(1) {
            let tensor = graph.initializer((*input)?)?;
            let axis = if slot == 1 { row_axis } else { 0 };
            let is_bias = slot == 2 && tensor.dims == [rows];
            if slot > 1 && !is_bias {
                return None;
            }
            let mut dims = tensor.dims.clone();
            dims.remove(axis);
            constants.push((tensor.dtype, dims));
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

/// Whether one node alone reads a value, which is no output of the graph.
fn is_inner(graph: &Graph, readers: &Consumers, value: Option<ValueId>) -> bool {
    value.is_some_and(|v| readers[v.index()].len() == 1 && !graph.outputs.contains(&v))
}

/// The `Gather` that is the only reader of a value, if it is along the same axis, with its indices.
fn ordered(
    graph: &Graph,
    readers: &Consumers,
    value: ValueId,
    is_along: &dyn Fn(&Node) -> bool,
) -> Option<(NodeId, Vec<usize>)> {
    let id = *readers[value.index()].first().filter(|_| is_inner(graph, readers, Some(value)))?;
    let node = graph.node(id);
    let fits = node.is("Gather") && node.input(0) == Some(value) && is_along(node);
    Some((id, indices(graph, node).filter(|_| fits)?))
}

/// The constant indices of a `Gather`.
fn indices(graph: &Graph, node: &Node) -> Option<Vec<usize>> {
    let tensor = graph.initializer(node.input(1)?).filter(|tensor| tensor.dims.len() == 1)?;
    tensor.to_i64()?.iter().map(|index| usize::try_from(*index).ok()).collect()
}

/// The value whose channels depthwise layers read one by one in the order of all rows, and the nodes that
/// pick the channels of each.
fn picked_channels(
    graph: &Graph,
    layers: &[NodeId],
    rows: &[(usize, usize)],
) -> Option<(ValueId, Vec<NodeId>)> {
    let picks = layers.iter().map(|id| graph.producer(graph.node(*id).input(0)?));
    let picks: Vec<NodeId> = picks.collect::<Option<_>>()?;
    let input = graph.node(*picks.first()?).input(0)?;
    let mut channels: Vec<Vec<usize>> = Vec::new();
    for id in &picks {
        let node = graph.node(*id);
        let is_pick = node.is("Gather") && node.int("axis", 0) == 1 && node.input(0) == Some(input);
        channels.push(indices(graph, node).filter(|_| is_pick)?);
    }
    let all = types::shape(graph, input)?.get(1)?.known()?;
    let reads = |(at, (layer, row)): (usize, &(usize, usize))| {
        channels.get(*layer).and_then(|own| own.get(*row)) == Some(&at)
    };
    (all == rows.len() && rows.iter().enumerate().all(reads)).then_some((input, picks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::{CanonOptions, canonicalise, split_rows};
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn split_layers_are_found_with_the_order_of_their_rows() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,4,8,8");
        let (w, d) = (b.weights("w", &[4, 4, 3, 3]), b.weights("d", &[4, 1, 3, 3]));
        let y = b.op("Conv", "conv", &[x, w], []);
        let y = b.op("Relu", "first", &[y], []);
        let z = b.op("Conv", "deep", &[y, d], [("group", 4.into())]);
        let z = b.op("Relu", "relu", &[z], []);
        let model = canonicalise(b.build(&[z]), &CanonOptions::default()).unwrap();
        let node = |name: &str| model.graph.nodes().find(|(_, n)| n.name == name).unwrap().0;
        let originals = ["conv", "deep"].map(|name| {
            let weight = model.graph.node(node(name)).input(1).unwrap();
            (name, model.graph.initializer(weight).unwrap().clone())
        });
        let parts = [vec![0, 2], vec![3, 1]];
        let all = [(node("conv"), &parts[..]), (node("deep"), &parts[..])];
        let split = split_rows(model, all).unwrap();
        let found = row_parts(&split.graph);
        assert_eq!(found.len(), 2);
        for own in &found {
            assert_eq!(own.rows, [(0, 0), (1, 1), (0, 1), (1, 0)]);
            assert_eq!((own.axis, own.join.len(), own.layers.len()), (1, 2, 2));
        }
        assert_eq!(found.iter().map(|own| own.picks.len()).sum::<usize>(), 2);
        let mut model = split.into_inner();
        rejoin(&mut model);
        let nodes = model.graph.nodes().map(|(_, node)| (node.name.as_str(), node.op.as_str()));
        assert_eq!(
            nodes.collect::<BTreeSet<_>>(),
            BTreeSet::from([
                ("conv", "Conv"),
                ("first", "Relu"),
                ("deep", "Conv"),
                ("relu", "Relu")
            ])
        );
        let weights = model.graph.nodes().filter_map(|(_, node)| node.input(1));
        let weights: Vec<&Tensor> = weights.filter_map(|w| model.graph.initializer(w)).collect();
        for (name, original) in &originals {
            assert!(weights.contains(&original), "{name}");
        }
    }
}
