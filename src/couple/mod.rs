//! Coupled channels: finds the channels of different tensors that are the same channel.
//!
//! The unit that may be permuted, paired and shared is the [`ChannelGroup`]: all channels with the
//! same producers and the same consumers. Groups follow from the rules of operators
//! ([`crate::ops`]); no architecture is described by hand. A residual stream is one group with
//! several producers, which generalises the permuted shortcuts of the paper's sec. 3.7.

mod aside;
mod atoms;
mod beside;
mod both_axes;
mod common;
mod constants;
mod head_flow;
mod heads;
mod inputs;
mod mixing;
mod outputs;
mod outside;
mod regrouped;
mod repeats;
mod resolve;
mod rows;
mod scores;
mod spread;
mod summed;
mod tied;
mod trace;
mod unlearned;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::error::Result;
use crate::ir::{Graph, NodeId, ValueId};
use crate::ops::{Flow, Layer};

pub use outside::{Outside, outside};

/// Names a channel group of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub usize);

/// Names a layer of one model, counted in topological order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(pub usize);

/// One channel of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel {
    /// The group.
    pub group: GroupId,
    /// Index inside the group.
    pub index: usize,
}

/// The channels along the tracked axis of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelAxis {
    /// The axis, counted from the front.
    pub axis: usize,
    /// The channel of every index along the axis.
    pub channels: Vec<Channel>,
    /// The second axis of channels that lie on two ([`crate::ops::Labels::within`]).
    pub within: Option<usize>,
}

/// Channels that are permuted in blocks, such as those of attention heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nest {
    /// The group that consists of heads.
    pub channels: GroupId,
    /// The group with one channel per head. Groups with the same heads move together.
    pub heads: GroupId,
    /// The head of each channel, as an index in `heads`.
    pub head_of: Vec<usize>,
    /// Whether the channels of a head keep their order, for example because of rotary embeddings.
    pub is_fixed: bool,
    /// Whether all heads have one order of channels, since all of them meet the same values.
    pub is_common: bool,
    /// The channels of the only head that all heads meet, in the order of each head, if they are a group.
    pub depths: Option<GroupId>,
}

impl Nest {
    /// The channels of each head, in order.
    pub fn blocks(&self) -> Vec<Vec<usize>> {
        let heads = self.head_of.iter().max().map_or(0, |most| most + 1);
        let mut blocks = vec![Vec::new(); heads];
        self.head_of.iter().enumerate().for_each(|(channel, head)| blocks[*head].push(channel));
        blocks
    }

    /// The place of each channel in its head.
    pub fn places(&self) -> Vec<usize> {
        let mut places = vec![0; self.head_of.len()];
        for block in self.blocks() {
            block.into_iter().enumerate().for_each(|(place, channel)| places[channel] = place);
        }
        places
    }

    /// Number of channels in a head.
    pub fn width(&self) -> usize {
        self.head_of.iter().filter(|head| **head == 0).count()
    }
}

/// The reason why the channels of a group cannot be shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// The reason, as a noun phrase.
    pub reason: String,
    /// The node that is the reason; empty for model inputs, and for outputs unless a node with sub-graphs
    /// is before them.
    pub node: String,
    /// Set for channels of a model input, which are shared in their order, and of a model output, which
    /// are shared on request.
    pub end: Option<End>,
}

/// An end of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An input.
    Input,
    /// An output.
    Output,
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node.as_str() {
            "" => f.write_str(&self.reason),
            node => write!(f, "{} ('{node}')", self.reason),
        }
    }
}

/// Channels that move together.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelGroup {
    /// Name for messages: that of the first producer.
    pub name: String,
    /// Number of channels.
    pub size: usize,
    /// Layers whose rows are channels of the group.
    pub producers: Vec<LayerId>,
    /// Layers whose columns are channels of the group.
    pub consumers: Vec<LayerId>,
    /// Set if the channels are frozen.
    pub frozen: Option<Frozen>,
    /// Whether some of the channels reach an answer of the model without passing another layer.
    pub reaches_answer: bool,
}

impl ChannelGroup {
    /// The end of the model for which the channels are frozen, if there is one.
    pub fn end(&self) -> Option<End> {
        self.frozen.as_ref()?.end
    }
}

/// A layer with the channels that it consumes and produces.
#[derive(Debug, Clone, PartialEq)]
pub struct CoupledLayer {
    /// The layer.
    pub layer: Layer,
    /// Name of its node, with the name of the gate in a recurrent node. If the node's rows belong to
    /// several groups, each group has a layer, and a number is appended.
    pub name: String,
    /// Channels of the weight's columns; `None` if the input has no tracked channels.
    pub inputs: Option<Vec<Channel>>,
    /// Channels of the weight's rows.
    pub outputs: Vec<Channel>,
    /// Whether every row consumes its own channel only (depthwise).
    pub per_channel: bool,
    /// The earlier layer that has the same weights, if there is one: they are stored with it.
    pub weights_of: Option<LayerId>,
    /// Whether later layers [repeat](CoupledLayer::repeats) it.
    pub is_repeated: bool,
    /// The reason why its weights stay as they are, if nodes read them in different ways.
    pub tied: Option<&'static str>,
}

impl CoupledLayer {
    /// The earlier layer that it is once more: it applies the same weights and biases to other values of the
    /// same channels.
    pub fn repeats(&self) -> Option<LayerId> {
        self.weights_of.filter(|_| self.tied.is_none())
    }
}

/// The channel structure of one graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Coupling {
    /// All groups.
    pub groups: Vec<ChannelGroup>,
    /// All layers, in topological order.
    pub layers: Vec<CoupledLayer>,
    /// The tracked axis of each value, indexed by [`ValueId::index`].
    pub axes: Vec<Option<ChannelAxis>>,
    /// How channels flow through each node that tracked channels reach.
    pub flows: BTreeMap<NodeId, Flow>,
    /// Groups that consist of heads.
    pub nests: Vec<Nest>,
    /// Nodes with several rows per channel.
    pub tied: Vec<Tied>,
    /// The first layer of each node with weights or biases.
    of_node: HashMap<NodeId, LayerId>,
}

/// Nodes at which channels begin, whatever their rules say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    /// The nodes.
    pub(crate) nodes: &'a BTreeSet<NodeId>,
    /// Whether no other channels are followed than those that begin there, or behind them.
    pub(crate) alone: bool,
}

/// A node with several rows per channel, such as the halves of a gated unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tied {
    /// The node.
    pub node: NodeId,
    /// All rows, in parts without repeated channels.
    pub rows: Vec<Vec<usize>>,
}

impl Coupling {
    /// Derives the channel structure of a canonical graph.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
    pub fn of(graph: &Graph) -> Result<Coupling> {
        trace::trace(graph, None)
    }

    /// The channel structure of a view.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
    pub(crate) fn viewed(graph: &Graph, view: View<'_>) -> Result<Coupling> {
        trace::trace(graph, Some(view))
    }

    /// The group named by `id`.
    pub fn group(&self, id: GroupId) -> &ChannelGroup {
        &self.groups[id.0]
    }

    /// The heads of a group, if it has heads.
    pub fn nest(&self, group: GroupId) -> Option<&Nest> {
        self.nests.iter().find(|nest| nest.channels == group)
    }

    /// Groups whose channels are pairs of a head and a depth that other layers make, as behind values that all heads
    /// read.
    pub fn pairs_of_heads_and_depths(&self) -> impl Iterator<Item = (&Nest, GroupId)> {
        let all = self.nests.iter().filter(|nest| self.is_of_pairs(nest));
        all.filter_map(|nest| Some((nest, nest.depths?)))
    }

    /// Whether the channels of a nest are such pairs.
    pub fn is_of_pairs(&self, nest: &Nest) -> bool {
        nest.depths.is_some() && self.group(nest.channels).producers.is_empty()
    }

    /// Whether the channels of a group are the depths of such pairs, so that all of them are paired or none. A residual
    /// stream is paired for its other readers, too.
    pub fn are_depths(&self, group: GroupId) -> bool {
        let is_stream = self.group(group).producers.len() > 1;
        !is_stream && self.pairs_of_heads_and_depths().any(|(_, depths)| depths == group)
    }

    /// The channel that represents the head of `channel`.
    pub fn head(&self, channel: Channel) -> Option<Channel> {
        let nest = self.nest(channel.group)?;
        Some(Channel { group: nest.heads, index: *nest.head_of.get(channel.index)? })
    }

    /// The layer named by `id`.
    pub fn layer(&self, id: LayerId) -> &CoupledLayer {
        &self.layers[id.0]
    }

    /// The layer that a layer [repeats](CoupledLayer::repeats), or itself.
    pub fn first_use(&self, id: LayerId) -> LayerId {
        self.layer(id).repeats().unwrap_or(id)
    }

    /// The later layers that [repeat](CoupledLayer::repeats) a layer.
    pub fn later_uses(&self, first: LayerId) -> impl Iterator<Item = LayerId> {
        let layers = (0..).map(LayerId).zip(&self.layers);
        layers.filter(move |(_, layer)| layer.repeats() == Some(first)).map(|(id, _)| id)
    }

    /// The tracked axis of a value.
    pub fn axis(&self, value: ValueId) -> Option<&ChannelAxis> {
        self.axes.get(value.index())?.as_ref()
    }

    /// All groups with their ids.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &ChannelGroup)> {
        self.groups.iter().enumerate().map(|(i, g)| (GroupId(i), g))
    }

    /// The layer of node `node` whose rows are channels of `group`.
    pub fn layer_making(&self, node: NodeId, group: GroupId) -> Option<LayerId> {
        let mut makers = self.group(group).producers.iter().copied();
        makers.find(|l| self.layer(*l).layer.node == node)
    }

    /// The first layer whose weights or biases node `node` holds.
    pub fn layer_of(&self, node: NodeId) -> Option<LayerId> {
        self.of_node.get(&node).copied()
    }
}

#[cfg(test)]
mod tests;
