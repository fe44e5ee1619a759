//! Finds heads of queries that share heads of keys and values, with all constants that have an entry for each.

use std::collections::BTreeSet;

use crate::couple::{ChannelAxis, CoupledLayer, Coupling, LayerId};
use crate::error::Result;
use crate::ir::{Consumers, Graph, Node, NodeId, ValueId};
use crate::ops::{Expand, Flow, LayerKind, Operand};

/// Limit of nodes around one product of queries and keys.
const MOST_NODES: usize = 256;

/// An axis of a constant that runs over heads, each with as many entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) value: ValueId,
    pub(super) axis: usize,
    /// Entries of each head.
    pub(super) width: usize,
}

/// Heads of queries in groups, each of which shares a head of keys.
#[derive(Debug, Clone)]
pub(super) struct Family {
    pub(super) queries: LayerId,
    pub(super) keys: LayerId,
    /// The group of each head of queries.
    pub(super) group_of: Vec<usize>,
    /// Number of depths.
    pub(super) width: usize,
    /// Whether the depths of a group may stand in any order.
    pub(super) has_free_depths: bool,
    /// Weights and biases of queries.
    pub(super) of_queries: Vec<Place>,
    /// Weights and biases of keys.
    pub(super) of_keys: Vec<Place>,
    /// Other constants with entries for each head of queries.
    pub(super) others: Vec<Place>,
}

impl Family {
    /// The heads of each group.
    pub(super) fn groups(&self) -> Vec<Vec<usize>> {
        let count = self.group_of.iter().max().map_or(0, |most| most + 1);
        let mut groups = vec![Vec::new(); count];
        self.group_of.iter().enumerate().for_each(|(head, group)| groups[*group].push(head));
        groups
    }
}

/// All families of a net.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn families(graph: &Graph, coupling: &Coupling) -> Result<Vec<Family>> {
    let search = Search { graph, coupling, readers: graph.consumers() };
    let order = graph.topological_order()?;
    Ok(order.into_iter().filter_map(|id| search.family(id)).collect())
}

/// The layer that a value comes from through nodes that treat each channel alone.
struct Origin {
    layer: LayerId,
    /// Copies of each channel that these nodes make.
    copies: usize,
    nodes: BTreeSet<NodeId>,
    /// Whether a constant among their operands has entries for heads.
    has_heads: bool,
    /// Whether one has entries for depths.
    has_depths: bool,
}

struct Search<'a> {
    graph: &'a Graph,
    coupling: &'a Coupling,
    readers: Consumers,
}

impl Search<'_> {
    /// The family whose scores a node computes.
    fn family(&self, id: NodeId) -> Option<Family> {
        let node = self.graph.node(id);
        let sides = [node.input(0).filter(|_| node.is("MatMul"))?, node.input(1)?];
        let axes = [self.coupling.axis(sides[0])?, self.coupling.axis(sides[1])?];
        let [first, second] = [self.origin(sides[0])?, self.origin(sides[1])?];
        let (at, queries, keys) = match (first.copies, second.copies) {
            (1, 2..) => (0, first, second),
            (2.., 1) => (1, second, first),
            _ => return None,
        };
        let [rows, own] = [&queries, &keys].map(|origin| self.layer(origin.layer).outputs.len());
        let wide = axes[1 - at];
        let heads = self.extent(sides[1 - at], wide.axis)?;
        let group_of = groups(wide, heads)?;
        let count = group_of.last()? + 1;
        let width = rows.checked_div(heads)?;
        let is_even = heads == count * keys.copies
            && own == count * width
            && rows == heads * width
            && group_of.is_sorted();
        if !is_even || queries.layer == keys.layer || keys.has_heads {
            return None;
        }
        let others = self.behind(&queries, heads)?;
        let is_within = |axis: &ChannelAxis| axis.within.is_some();
        let has_free_depths = axes.into_iter().all(is_within)
            && ![&queries, &keys].iter().any(|origin| origin.has_heads || origin.has_depths)
            && self.is_alone(&queries, id)
            && self.is_alone(&keys, id);
        let [of_queries, of_keys] = [(&queries, width), (&keys, width)]
            .map(|(origin, width)| self.rows(origin.layer, width));
        let (queries, keys) = (queries.layer, keys.layer);
        let (of_queries, of_keys) = (of_queries?, of_keys?);
        Some(Family {
            queries,
            keys,
            group_of,
            width,
            has_free_depths,
            of_queries,
            of_keys,
            others,
        })
    }

    fn layer(&self, id: LayerId) -> &CoupledLayer {
        self.coupling.layer(id)
    }

    fn extent(&self, value: ValueId, axis: usize) -> Option<usize> {
        self.graph.value(value).ty.as_ref()?.shape.as_ref()?.get(axis)?.known()
    }

    /// The only layer that a value comes from; `None` if other nodes than those that treat each channel alone are on
    /// the way.
    fn origin(&self, value: ValueId) -> Option<Origin> {
        let (mut open, mut nodes) = (vec![value], BTreeSet::new());
        let (mut layer, mut copies) = (None, 1);
        let (mut has_heads, mut has_depths) = (false, false);
        while let Some(value) = open.pop() {
            let id = self.graph.producer(value)?;
            if let Some(own) = self.coupling.layer_of(id) {
                let is_whole =
                    self.layer(own).layer.rows.is_none() && layer.is_none_or(|l| l == own);
                layer = Some(own).filter(|_| is_whole && self.layer(own).layer.output == value);
                layer?;
                continue;
            }
            if !nodes.insert(id) {
                continue;
            }
            let Some(Flow::Partwise(flow)) = self.coupling.flows.get(&id) else { return None };
            copies *= flow.expand.copies();
            let node = self.graph.node(id);
            for (input, role) in node.inputs.iter().zip(&flow.operands) {
                match role {
                    Operand::Channels => open.extend(*input),
                    Operand::Plain | Operand::Shape { .. } => {}
                    Operand::Depths { .. } => has_depths = true,
                    _ => has_heads = true,
                }
            }
            (nodes.len() <= MOST_NODES).then_some(())?;
        }
        Some(Origin { layer: layer?, copies, nodes, has_heads, has_depths })
    }

    /// Whether nothing but a product and the nodes on the way reads the values on it.
    fn is_alone(&self, origin: &Origin, product: NodeId) -> bool {
        let made = origin.nodes.iter().filter_map(|id| self.graph.node(*id).output(0));
        let mut values = made.chain([self.layer(origin.layer).layer.output]);
        values.all(|value| {
            let is_known = |id: &NodeId| {
                *id == product || origin.nodes.contains(id) || counts(self.graph.node(*id))
            };
            !self.graph.outputs.contains(&value) && self.readers[value.index()].iter().all(is_known)
        })
    }

    /// The places of the rows of a layer, with `width` rows for each head.
    fn rows(&self, id: LayerId, width: usize) -> Option<Vec<Place>> {
        let layer = &self.layer(id).layer;
        let is_plain =
            matches!(layer.kind, LayerKind::Gemm | LayerKind::MatMul | LayerKind::Conv(_));
        let axis = usize::from(layer.in_first());
        let weight = Place { value: layer.weight, axis, width };
        let bias = layer.bias.map(|value| Place { value, axis: 0, width });
        let places: Vec<Place> = [weight].into_iter().chain(bias).collect();
        let are_free = places.iter().all(|place| self.is_own(place.value));
        (is_plain && are_free && self.layer(id).repeats().is_none()).then_some(places)
    }

    /// Whether only one node reads a constant, which is stored as floats.
    fn is_own(&self, value: ValueId) -> bool {
        self.readers[value.index()].len() == 1
            && self.graph.codes(value).is_none()
            && !self.graph.outputs.contains(&value)
    }

    /// The constants behind queries that have entries for each of their heads, up to the layers that read them; `None` if
    /// something else than its place tells a head from others of its group.
    fn behind(&self, queries: &Origin, heads: usize) -> Option<Vec<Place>> {
        let mut open = vec![self.layer(queries.layer).layer.output];
        let mut seen: BTreeSet<ValueId> = open.iter().copied().collect();
        let (mut places, mut met, mut nodes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        while let Some(value) = open.pop() {
            (!self.graph.outputs.contains(&value) && nodes.len() <= MOST_NODES).then_some(())?;
            for id in &self.readers[value.index()] {
                let node = self.graph.node(*id);
                if !nodes.insert(*id) || counts(node) {
                    continue;
                }
                match self.coupling.flows.get(id)? {
                    Flow::Layer(_) => places.extend([self.columns(*id, value, heads)?]),
                    Flow::Partwise(flow) if flow.expand == Expand::NONE => {
                        for (input, role) in node.inputs.iter().zip(&flow.operands) {
                            let Some(input) = *input else { continue };
                            match role {
                                Operand::Channels => _ = met.insert(input),
                                Operand::Param { axis } | Operand::Entries { heads: axis, .. } => {
                                    places.extend([self.entries(input, *axis, heads)?]);
                                }
                                Operand::Plain if seen.contains(&input) => return None,
                                Operand::Heads { .. } => return None,
                                _ => {}
                            }
                        }
                        let output = node.output(0)?;
                        if seen.insert(output) {
                            open.push(output);
                        }
                    }
                    _ => return None,
                }
            }
        }
        let others = met.into_iter().filter(|value| !seen.contains(value));
        let are_copies =
            |value| self.origin(value).is_some_and(|own| own.copies > 1 && !own.has_heads);
        others.into_iter().all(are_copies).then(|| places.into_iter().collect())
    }

    /// The columns of a layer that reads the channels of all heads.
    fn columns(&self, id: NodeId, value: ValueId, heads: usize) -> Option<Place> {
        let layer = &self.layer(self.coupling.layer_of(id)?).layer;
        let axis = self.coupling.axis(value)?;
        let is_plain =
            matches!(layer.kind, LayerKind::Gemm | LayerKind::MatMul | LayerKind::Conv(_));
        let fits = layer.input == value && axis.axis == layer.in_axis && axis.within.is_none();
        (is_plain && fits).then_some(())?;
        self.entries(layer.weight, usize::from(!layer.in_first()), heads)
    }

    /// The entries of heads in a constant.
    fn entries(&self, value: ValueId, axis: usize, heads: usize) -> Option<Place> {
        let extent = *self.graph.initializer(value)?.dims.get(axis)?;
        let fits = heads > 0 && extent % heads == 0 && self.is_own(value);
        fits.then(|| Place { value, axis, width: extent / heads })
    }
}

/// The group of each of so many heads on the axis of a value: those with the same channels are one.
fn groups(axis: &ChannelAxis, heads: usize) -> Option<Vec<usize>> {
    let each = axis.channels.len() / heads.max(1);
    let (mut seen, mut group_of) = (Vec::new(), Vec::new());
    for head in 0..heads {
        let channel = axis.channels.get(head * each)?;
        let known = seen.iter().position(|other| other == channel);
        group_of.push(known.unwrap_or(seen.len()));
        if known.is_none() {
            seen.push(*channel);
        }
    }
    Some(group_of)
}

/// Whether a node reads nothing but the extents of a value.
fn counts(node: &Node) -> bool {
    node.is("Shape") || node.is("Size")
}
