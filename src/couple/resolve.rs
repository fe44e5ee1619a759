//! Converts sets of atoms to groups of channels and layers.

use std::collections::{BTreeSet, HashMap};

use super::atoms::Mark;
use super::repeats;
use super::rows::by_group;
use super::tied;
use super::trace::Tracer;
use super::{Channel, ChannelAxis, ChannelGroup, CoupledLayer, Coupling, GroupId, LayerId};
use crate::ir::{NodeId, ValueId};
use crate::ops::{Atom, Layer, LayerKind};

impl Tracer<'_> {
    /// Turns sets of atoms into groups of channels with the same producers and consumers.
    pub(super) fn resolve(self) -> (Coupling, BTreeSet<NodeId>) {
        let mut ids: HashMap<(Vec<Mark>, Option<u32>), GroupId> = HashMap::new();
        let mut groups: Vec<ChannelGroup> = Vec::new();
        // Large nets have millions of labels, so atoms are indices here.
        let unset = Channel { group: GroupId(usize::MAX), index: 0 };
        let mut channels: Vec<Channel> = vec![unset; self.atoms.len()];
        for (atom, marks, frozen) in self.atoms.channels() {
            let group = *ids.entry((marks.clone(), frozen)).or_insert_with(|| {
                groups.push(self.describe(&marks, frozen));
                GroupId(groups.len() - 1)
            });
            channels[atom.0 as usize] = Channel { group, index: groups[group.0].size };
            groups[group.0].size += 1;
            groups[group.0].reaches_answer |= self.answered[atom.0 as usize];
        }
        let channel = |atom: &Atom| channels[self.atoms.root(*atom).0 as usize];
        let axes: Vec<Option<ChannelAxis>> = self
            .labels
            .iter()
            .map(|labels| {
                labels.as_ref().map(|l| ChannelAxis {
                    axis: l.axis,
                    within: l.within,
                    channels: l.atoms.iter().map(channel).collect(),
                })
            })
            .collect();
        let (nests, open) = self.heads.resolve(&channel, &groups);
        for nest in &nests {
            let name = format!("heads of {}", groups[nest.channels.0].name);
            let heads = &mut groups[nest.heads.0];
            if heads.name.is_empty() {
                heads.name = name;
            }
        }
        let mut layers = self.number_layers(&axes, &mut groups);
        repeats::mark(self.graph, &mut layers);
        tied::mark(self.graph, &mut layers);
        let of_node = first_of_nodes(&layers);
        let (flows, tied) = (self.flows, Vec::new());
        (Coupling { groups, layers, axes, flows, nests, tied, of_node }, open)
    }

    /// The layers with their final numbers: one for each group that rows of a node belong to.
    fn number_layers(
        &self,
        axes: &[Option<ChannelAxis>],
        groups: &mut [ChannelGroup],
    ) -> Vec<CoupledLayer> {
        let mut layers: Vec<CoupledLayer> = Vec::new();
        let mut of_node: Vec<Vec<LayerId>> = Vec::new();
        for (layer, per_channel) in &self.layers {
            let parts = by_group(self.coupled(layer, *per_channel, axes));
            of_node.push((layers.len()..layers.len() + parts.len()).map(LayerId).collect());
            layers.extend(parts);
        }
        for (id, group) in groups.iter_mut().enumerate() {
            let numbered = |ids: &[LayerId], keep: &dyn Fn(&CoupledLayer) -> bool| {
                let all = ids.iter().flat_map(|l| of_node[l.0].iter().copied());
                all.filter(|l| keep(&layers[l.0])).collect::<Vec<LayerId>>()
            };
            let makes = |l: &CoupledLayer| l.outputs.iter().any(|c| c.group == GroupId(id));
            group.producers = numbered(&group.producers, &makes);
            group.consumers = numbered(&group.consumers, &|_| true);
        }
        layers
    }

    fn describe(&self, marks: &[Mark], frozen: Option<u32>) -> ChannelGroup {
        let pick = |f: fn(&Mark) -> Option<u32>| -> Vec<LayerId> {
            marks.iter().filter_map(f).map(|i| LayerId(i as usize)).collect()
        };
        let producers = pick(|m| if let Mark::Produced(l) = m { Some(*l) } else { None });
        let consumers = pick(|m| if let Mark::Consumed(l) = m { Some(*l) } else { None });
        let begins = |m: &&Mark| matches!(m, Mark::Input(_) | Mark::Unlearned(_) | Mark::Made(_));
        let name = match (producers.first(), marks.iter().find(begins)) {
            (Some(layer), _) => self.graph.node(self.layers[layer.0].0.node).name.clone(),
            (None, Some(Mark::Input(i))) => {
                self.graph.value(self.graph.inputs[*i as usize]).name.clone()
            }
            (None, Some(Mark::Unlearned(i))) => self.graph.value(*i).name.clone(),
            (None, Some(Mark::Made(i))) => {
                let maker = self.makers.get(i).map(|id| self.graph.node(*id));
                maker.map(|node| node.name.clone()).unwrap_or_default()
            }
            _ => String::new(),
        };
        let frozen = frozen.map(|i| self.reasons[i as usize].clone());
        ChannelGroup { name, size: 0, producers, consumers, frozen, reaches_answer: false }
    }

    fn coupled(
        &self,
        layer: &Layer,
        per_channel: bool,
        axes: &[Option<ChannelAxis>],
    ) -> CoupledLayer {
        let channels = |value: ValueId, axis: usize| {
            let own = axes[value.index()].as_ref();
            own.filter(|a| a.axis == axis && a.within.is_none()).map(|a| a.channels.clone())
        };
        let outputs = channels(layer.output, layer.out_axis).unwrap_or_default();
        let node = &self.graph.node(layer.node).name;
        let input = || channels(layer.input, layer.in_axis);
        let (name, inputs) = match &layer.kind {
            LayerKind::Gate(gate) => {
                let input = if gate.reads_input() { input() } else { Some(Vec::new()) };
                let hidden = outputs.iter().copied().filter(|_| gate.reads_hidden());
                let inputs = input.map(|read| read.into_iter().chain(hidden).collect());
                (format!("{node}.{}", gate.name), inputs)
            }
            _ => (node.clone(), input()),
        };
        let inputs: Option<Vec<Channel>> = inputs;
        let fits = |c: &Vec<Channel>| {
            layer.sizes(self.graph).is_ok_and(|(_, n, _)| per_channel || n == c.len())
        };
        CoupledLayer {
            layer: layer.clone(),
            name,
            inputs: inputs.filter(fits),
            outputs,
            per_channel,
            weights_of: None,
            is_repeated: false,
            tied: None,
        }
    }
}

/// The first layer of each node that holds weights or biases.
fn first_of_nodes(layers: &[CoupledLayer]) -> HashMap<NodeId, LayerId> {
    let mut first = HashMap::new();
    for (id, layer) in (0..).map(LayerId).zip(layers) {
        for node in [layer.layer.node, layer.layer.last_node()] {
            first.entry(node).or_insert(id);
        }
    }
    first
}
