//! Layers that repeat an earlier one: they apply its weights to other values, as the branches of siamese nets, heads
//! on all levels of a pyramid and steps of an unrolled recurrence do.
//!
//! Weights have one order of rows and one of columns. So the channels that they read are the same channels wherever
//! they are applied, and so are those that they produce.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::trace::Tracer;
use super::{CoupledLayer, LayerId};
use crate::ir::{Graph, NodeId, ValueId};
use crate::ops::{Atom, Gate, Layer, LayerKind};

/// The reason to keep weights that a merge cannot see all uses of.
const READ_OTHERWISE: &str = "other nodes read its weights, too";

impl Tracer<'_> {
    /// Unites the channels of layer number `number` with those of the first layer that has its weights, if
    /// that is another one.
    pub(super) fn unite_uses(&mut self, number: usize, layer: &Layer) {
        let first = match self.first_uses.entry(layer.weight) {
            Entry::Vacant(place) => {
                place.insert(number);
                return;
            }
            Entry::Occupied(first) => *first.get(),
        };
        let Some((first, _)) = self.layers.get(first).cloned() else { return };
        let inputs = [(first.input, first.in_axis), (layer.input, layer.in_axis)];
        let outputs = [(first.output, first.out_axis), (layer.output, layer.out_axis)];
        for ends in [inputs, outputs] {
            match ends.map(|(value, axis)| self.channels(value, axis)) {
                [Some(a), Some(b)] if a.len() == b.len() => {
                    a.into_iter().zip(b).for_each(|(x, y)| self.atoms.unite(x, y));
                }
                ends => {
                    let reason = "weights that are applied to other channels, too";
                    let reason = self.reason(reason, Some(layer.node), None);
                    ends.iter().flatten().for_each(|end| self.atoms.freeze(end, reason));
                }
            }
        }
    }

    /// The channels along an axis of a value, if they are followed there.
    fn channels(&self, value: ValueId, axis: usize) -> Option<Vec<Atom>> {
        let labels = self.labels[value.index()].as_ref();
        let labels = labels.filter(|labels| labels.axis == axis && labels.within.is_none());
        labels.map(|labels| labels.atoms.clone())
    }
}

/// Marks the layers that have the weights of an earlier one. If not all nodes that read the weights are such layers,
/// none of them may change them.
pub(super) fn mark(graph: &Graph, layers: &mut [CoupledLayer]) {
    let mut holders: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
    for (at, layer) in layers.iter().enumerate() {
        holders.entry(layer.layer.weight).or_default().push(at);
    }
    let readers = graph.consumers();
    for (weight, all) in holders {
        let nodes: BTreeSet<NodeId> = all.iter().map(|at| layers[*at].layer.node).collect();
        let count = readers[weight.index()].len();
        if count < 2 {
            continue;
        }
        let node = layers[all[0]].layer.node;
        let (own, later): (Vec<usize>, Vec<usize>) =
            all.iter().partition(|at| layers[**at].layer.node == node);
        let first = |at: usize| {
            let is_part = |first: &&usize| part(&layers[**first].layer) == part(&layers[at].layer);
            own.iter().find(is_part).copied()
        };
        let firsts: Vec<Option<usize>> = later.iter().map(|at| first(*at)).collect();
        let mut pairs = later.iter().zip(&firsts);
        let is_known = count == nodes.len()
            && pairs.all(|(at, first)| first.is_some_and(|f| repeats(&layers[f], &layers[*at])));
        for (at, first) in later.iter().zip(firsts) {
            layers[*at].weights_of = first.map(LayerId);
            first.into_iter().for_each(|first| layers[first].is_repeated = is_known);
        }
        if !is_known {
            all.iter().for_each(|at| layers[*at].tied = Some(READ_OTHERWISE));
        }
    }
}

/// What tells the layers of one node apart: their rows, and the gate.
fn part(layer: &Layer) -> (&Option<Vec<usize>>, Option<Gate>) {
    let gate = match &layer.kind {
        LayerKind::Gate(gate) => Some(Gate { initial: None, ..gate.clone() }),
        _ => None,
    };
    (&layer.rows, gate)
}

/// Whether a layer applies the same weights and biases as an earlier one, to the same channels.
fn repeats(first: &CoupledLayer, layer: &CoupledLayer) -> bool {
    let kinds = [first, layer].map(|own| std::mem::discriminant(&own.layer.kind));
    kinds[0] == kinds[1]
        && first.layer.bias == layer.layer.bias
        && first.per_channel == layer.per_channel
        && first.inputs == layer.inputs
        && first.outputs == layer.outputs
}
