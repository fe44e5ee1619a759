//! Moves channels of a net to other places, with all their numbers.
//!
//! Channels of a [view](View) may stand in any order as long as nothing else tells them apart: rows and
//! columns of layers, and entries of constants. A net with channels in another order computes the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::couple::{Channel, CoupledLayer, Coupling, View};
use crate::error::Result;
use crate::ir::{Graph, NodeId, Tensor, ValueId};
use crate::ops::{Expand, Flow, LayerKind, Operand};

/// What a channel's numbers in a constant are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A row of a layer's weight, or its bias.
    Row,
    /// A column of a layer's weight.
    Column,
    /// An entry of another constant.
    Entry,
}

/// A place of a channel: an index along an axis of a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) part: Part,
    pub(crate) value: ValueId,
    pub(crate) axis: usize,
    pub(crate) index: usize,
}

/// The places of a channel, and the inputs of nodes that it reaches.
#[derive(Debug, Clone, Default)]
struct Way {
    places: Vec<Place>,
    known: BTreeSet<Place>,
    read: BTreeSet<(NodeId, usize)>,
}

/// The places of all channels of a view.
pub(crate) struct Places {
    coupling: Coupling,
    ways: BTreeMap<Channel, Way>,
    /// Channels that keep their place.
    fixed: BTreeSet<Channel>,
    /// Values that several nodes read. Other channels may depend on their order.
    several: BTreeSet<ValueId>,
}

impl Places {
    /// Those of a view.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
    pub(crate) fn of(graph: &Graph, view: View<'_>) -> Result<Places> {
        let coupling = Coupling::viewed(graph, view)?;
        let readers = graph.consumers();
        let several = graph.values().map(|(id, _)| id).filter(|id| readers[id.index()].len() > 1);
        let mut places = Places {
            coupling,
            ways: BTreeMap::new(),
            fixed: BTreeSet::new(),
            several: several.collect(),
        };
        for layer in places.coupling.layers.clone() {
            places.add_layer(graph, &layer);
        }
        for (id, node) in graph.nodes() {
            let has_channels = places.coupling.flows.contains_key(&id);
            if has_channels || node.reads().any(|value| places.coupling.axis(value).is_some()) {
                places.add_node(graph, id);
            }
        }
        graph.outputs.iter().for_each(|output| places.fix(*output));
        Ok(places)
    }

    /// The channel structure of the view.
    pub(crate) fn coupling(&self) -> &Coupling {
        &self.coupling
    }

    /// The places of a channel; `None` if it keeps them.
    pub(crate) fn free(&self, channel: Channel) -> Option<&[Place]> {
        let group = self.coupling.group(channel.group);
        let mut nests = self.coupling.nests.iter();
        let is_nested = nests.any(|n| n.channels == channel.group || n.heads == channel.group);
        let is_fixed = group.frozen.is_some() || is_nested || self.fixed.contains(&channel);
        self.ways.get(&channel).filter(|_| !is_fixed).map(|way| way.places.as_slice())
    }

    /// Whether the same inputs of nodes read both channels.
    pub(crate) fn are_read_alike(&self, a: Channel, b: Channel) -> bool {
        let read = |channel: Channel| self.ways.get(&channel).map(|way| &way.read);
        read(a) == read(b)
    }

    /// The constants in which each channel of `moves` has the numbers of the channel it is mapped to; `None` if the two
    /// have places of different kinds.
    pub(crate) fn moved(
        &self,
        graph: &Graph,
        moves: &BTreeMap<Channel, Channel>,
    ) -> Option<Vec<(ValueId, Tensor)>> {
        let mut by_axis: BTreeMap<usize, BTreeMap<ValueId, Sources>> = BTreeMap::new();
        for (to, from) in moves {
            let (own, theirs) = (self.free(*to)?, self.free(*from)?);
            if own.len() != theirs.len() {
                return None;
            }
            for (place, source) in own.iter().zip(theirs) {
                let is_alike = place.axis == source.axis && place.part == source.part;
                let sources = by_axis.entry(place.axis).or_default().entry(place.value);
                let known = sources.or_default().insert(place.index, (source.value, source.index));
                let is_known = known.is_none_or(|at| at == (source.value, source.index));
                (is_alike && is_known).then_some(())?;
            }
        }
        let mut tensors: BTreeMap<ValueId, Tensor> = BTreeMap::new();
        for (axis, values) in by_axis {
            let before = |value: ValueId| tensors.get(&value).or_else(|| graph.initializer(value));
            let made = values.iter().map(|(value, sources)| {
                let tensor = before(*value)?;
                let own = |index| sources.get(&index).copied().unwrap_or((*value, index));
                let from: Option<Vec<(&Tensor, usize)>> = (0..*tensor.dims.get(axis)?)
                    .map(own)
                    .map(|(value, index)| Some((before(value)?, index)))
                    .collect();
                Some((*value, gathered(tensor, axis, &from?)?))
            });
            let made: Vec<(ValueId, Tensor)> = made.collect::<Option<_>>()?;
            tensors.extend(made);
        }
        Some(tensors.into_iter().collect())
    }

    fn add(&mut self, channel: Channel, place: Place) {
        if self.several.contains(&place.value) {
            self.fixed.insert(channel);
        }
        let way = self.ways.entry(channel).or_default();
        if way.known.insert(place) {
            way.places.push(place);
        }
    }

    /// Keeps all channels of a value in their places.
    fn fix(&mut self, value: ValueId) {
        let channels = self.coupling.axis(value).map(|axis| axis.channels.clone());
        self.fixed.extend(channels.into_iter().flatten());
    }

    fn read(&mut self, value: ValueId, by: (NodeId, usize)) {
        let channels = self.coupling.axis(value).map(|axis| axis.channels.clone());
        for channel in channels.into_iter().flatten() {
            self.ways.entry(channel).or_default().read.insert(by);
        }
    }

    fn add_layer(&mut self, graph: &Graph, coupled: &CoupledLayer) {
        let layer = &coupled.layer;
        let is_plain = match &layer.kind {
            LayerKind::Gemm | LayerKind::MatMul | LayerKind::Conv(_) => true,
            LayerKind::ConvTranspose(_) => true,
            LayerKind::Gate(_) | LayerKind::Table { .. } => false,
        };
        let constants = [Some(layer.weight), layer.bias];
        let is_coded = constants.iter().flatten().any(|value| graph.codes(*value).is_some());
        let is_read = coupled.per_channel || coupled.inputs.is_some();
        if !is_plain || is_coded || coupled.tied.is_some() || !is_read {
            self.fix(layer.input);
        }
        if !is_plain || is_coded || coupled.tied.is_some() {
            return self.fix(layer.output);
        }
        let rows = usize::from(layer.in_first());
        for (at, channel) in coupled.outputs.iter().enumerate() {
            let (part, index) = (Part::Row, layer.row(at));
            self.add(*channel, Place { part, value: layer.weight, axis: rows, index });
            if let Some(value) = layer.bias {
                self.add(*channel, Place { part, value, axis: 0, index });
            }
        }
        let columns = coupled.inputs.iter().flatten().filter(|_| !coupled.per_channel);
        for (index, channel) in columns.enumerate() {
            let (part, axis) = (Part::Column, 1 - rows);
            self.add(*channel, Place { part, value: layer.weight, axis, index });
        }
    }

    /// Notes a node that reads channels, and the entries of its constants.
    fn add_node(&mut self, graph: &Graph, id: NodeId) {
        let node = graph.node(id);
        match self.coupling.flows.get(&id).cloned() {
            Some(Flow::Partwise(flow)) => {
                let output = node.output(0);
                let is_cut = flow.expand != Expand::NONE;
                self.add_operands(graph, id, &flow.operands, (output, is_cut));
            }
            Some(Flow::Together(flow)) => {
                let lead = flow.operands.iter().position(|role| *role == Operand::Channels);
                let lead = lead.and_then(|slot| node.input(slot));
                self.add_operands(graph, id, &flow.operands, (lead, false));
            }
            Some(Flow::Layer(_) | Flow::PerChannel(_) | Flow::Bias) => {
                node.input(0).into_iter().for_each(|value| self.read(value, (id, 0)));
            }
            Some(Flow::Relabel(_)) => {}
            Some(Flow::Whole(_) | Flow::Recurrent(_) | Flow::Untracked) | None => {
                node.reads().for_each(|value| self.fix(value));
            }
        }
    }

    /// Notes the operands of a node. Its channels are those of `lead`.
    fn add_operands(
        &mut self,
        graph: &Graph,
        id: NodeId,
        operands: &[Operand],
        (lead, is_cut): (Option<ValueId>, bool),
    ) {
        let node = graph.node(id);
        for (slot, role) in operands.iter().enumerate() {
            let Some(value) = node.input(slot) else { continue };
            match role {
                Operand::Channels => self.read(value, (id, slot)),
                Operand::Param { axis } => {
                    let entries = self.entries(graph, value, (*axis, lead));
                    match entries.filter(|_| !is_cut) {
                        Some(places) => places.into_iter().for_each(|(c, at)| self.add(c, at)),
                        None => lead.into_iter().for_each(|lead| self.fix(lead)),
                    }
                }
                // Numbers that heads have in common, or by head and depth, stay in their order.
                Operand::Depths { .. } | Operand::Entries { .. } => {
                    lead.into_iter().chain([value]).for_each(|value| self.fix(value));
                }
                Operand::Plain | Operand::Heads { .. } | Operand::Shape { .. } => self.fix(value),
            }
        }
    }

    /// The entries of a constant with one of them for each channel of `lead`.
    fn entries(
        &self,
        graph: &Graph,
        value: ValueId,
        (axis, lead): (usize, Option<ValueId>),
    ) -> Option<Vec<(Channel, Place)>> {
        let met = self.coupling.axis(lead?).filter(|axis| axis.within.is_none())?;
        let tensor = graph.initializer(value).filter(|_| graph.codes(value).is_none())?;
        let entry = |(index, channel): (usize, &Channel)| {
            (*channel, Place { part: Part::Entry, value, axis, index })
        };
        let fits = tensor.dims.get(axis) == Some(&met.channels.len());
        fits.then(|| met.channels.iter().enumerate().map(entry).collect())
    }
}

/// For each index of an axis of a constant, the constant and the index to take the numbers from.
type Sources = BTreeMap<usize, (ValueId, usize)>;

/// A tensor with numbers of several tensors of its form: for each index along `axis`, those at an index of one of them.
fn gathered(tensor: &Tensor, axis: usize, from: &[(&Tensor, usize)]) -> Option<Tensor> {
    let alike =
        |(source, _): &(&Tensor, usize)| source.dtype == tensor.dtype && source.dims == tensor.dims;
    let (extent, size) = (*tensor.dims.get(axis)?, tensor.dtype.size()?);
    let inner = tensor.dims[axis + 1..].iter().product::<usize>() * size;
    let outer: usize = tensor.dims[..axis].iter().product();
    if !from.iter().all(alike) {
        return None;
    }
    let mut data = Vec::with_capacity(tensor.data.len());
    for o in 0..outer {
        for (source, index) in from {
            let start = (o * extent + index) * inner;
            data.extend_from_slice(source.data.get(start..start + inner)?);
        }
    }
    Some(Tensor { dtype: tensor.dtype, dims: tensor.dims.clone(), data: data.into() })
}
