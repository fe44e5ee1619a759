//! Layers that several nets have in common as they are: a backbone that was frozen in training.
//!
//! A layer is a duplicate if its weights are bit for bit those of the corresponding layer of another
//! net, and everything before it is a duplicate too. Sharing it changes nothing, whatever stands
//! between the layers, so frozen groups and outputs may be shared as well.

use std::collections::{BTreeMap, BTreeSet};

use crate::couple::{Channel, CoupledLayer, GroupId, LayerId};
use crate::ir::{NodeId, Tensor, ValueId};
use crate::ops::LayerKind;

use super::{Correspondence, Net, Site, only_group};

/// The nets, itself included, that have a layer as it is, by net and layer; only where there are two
/// or more.
pub type Duplicates = BTreeMap<(usize, LayerId), BTreeSet<usize>>;

/// Finds the duplicates among corresponding layers.
pub(super) fn duplicates(nets: &[Net<'_>], sites: &[Site]) -> Duplicates {
    let mut found = Duplicates::new();
    for site in sites.iter().filter(|s| s.is_common()) {
        for (net, layer) in site.members() {
            let same = |(other, id): (usize, LayerId)| {
                let (own, others) = (weights(nets[net], layer), weights(nets[other], id));
                (own.is_some() && own == others).then_some(other)
            };
            let all: BTreeSet<usize> = site.members().filter_map(same).collect();
            if all.len() > 1 {
                found.insert((net, layer), all);
            }
        }
    }
    let before: Vec<Vec<BTreeSet<LayerId>>> = nets.iter().map(|net| requirements(*net)).collect();
    shrink(&mut found, sites, &before);
    found
}

/// Takes nets from duplicates where they lack what the duplicates need, until none does.
fn shrink(found: &mut Duplicates, sites: &[Site], before: &[Vec<BTreeSet<LayerId>>]) {
    let mut needing: BTreeMap<(usize, LayerId), Vec<LayerId>> = BTreeMap::new();
    for (net, layers) in before.iter().enumerate() {
        for (layer, needed) in layers.iter().enumerate() {
            for needed in needed {
                needing.entry((net, *needed)).or_default().push(LayerId(layer));
            }
        }
    }
    let site_of: BTreeMap<(usize, LayerId), &Site> =
        sites.iter().flat_map(|site| site.members().map(move |member| (member, site))).collect();
    let mut waiting: Vec<(usize, LayerId)> = found.keys().copied().collect();
    while let Some((net, layer)) = waiting.pop() {
        let lacks = |other: &usize| {
            let has =
                |needed: &LayerId| found.get(&(net, *needed)).is_some_and(|s| s.contains(other));
            !before[net][layer.0].iter().all(has)
        };
        let all = found.get(&(net, layer)).into_iter().flatten();
        let lost: Vec<usize> = all.copied().filter(lacks).collect();
        for other in lost {
            let theirs = site_of.get(&(net, layer)).and_then(|site| site.layers[other]);
            let both = [(Some((net, layer)), other), (theirs.map(|l| (other, l)), net)];
            for (key, gone) in both.into_iter().filter_map(|(key, gone)| Some((key?, gone))) {
                leave(found, key, gone);
                let others = needing.get(&key).into_iter().flatten();
                waiting.extend(others.map(|layer| (key.0, *layer)));
            }
        }
    }
}

/// Takes a net from a duplicate, which takes two.
fn leave(found: &mut Duplicates, key: (usize, LayerId), net: usize) {
    if let Some(all) = found.get_mut(&key) {
        all.remove(&net);
        if all.len() < 2 {
            found.remove(&key);
        }
    }
}

/// The weight and bias of a layer; of a gate, those of the node.
fn weights<'a>(net: Net<'a>, id: LayerId) -> Option<(&'a Tensor, [Option<&'a Tensor>; 2])> {
    let layer = &net.coupling.layer(id).layer;
    let constant = |value: ValueId| net.graph.initializer(value);
    let recurrence = match &layer.kind {
        LayerKind::Gate(gate) => constant(gate.recurrence),
        _ => None,
    };
    Some((constant(layer.weight)?, [layer.bias.and_then(constant), recurrence]))
}

/// Per layer, the layers of the same net that must be duplicates for it to be one: those before it,
/// and those that write to or make the same channels.
fn requirements(net: Net<'_>) -> Vec<BTreeSet<LayerId>> {
    let before = layers_before(net);
    let groups =
        |channels: &[Channel]| -> BTreeSet<GroupId> { channels.iter().map(|c| c.group).collect() };
    let needs = |(layer, before): (&CoupledLayer, BTreeSet<LayerId>)| {
        let inputs = layer.inputs.as_deref().unwrap_or_default();
        let groups = groups(&layer.outputs).into_iter().chain(groups(inputs));
        let makers = groups.flat_map(|g| net.coupling.group(g).producers.iter().copied());
        before.iter().copied().chain(makers).collect()
    };
    net.coupling.layers.iter().zip(before).map(needs).collect()
}

/// Per layer, the nearest layers before it.
fn layers_before(net: Net<'_>) -> Vec<BTreeSet<LayerId>> {
    let mut before = vec![BTreeSet::new(); net.coupling.layers.len()];
    let mut of_value: BTreeMap<usize, BTreeSet<LayerId>> = BTreeMap::new();
    let layers = net.coupling.layers.iter().enumerate().rev();
    let of_node: BTreeMap<NodeId, LayerId> =
        layers.map(|(id, layer)| (layer.layer.node, LayerId(id))).collect();
    for id in net.graph.topological_order().unwrap_or_default() {
        let node = net.graph.node(id);
        let reads: BTreeSet<LayerId> =
            node.reads().filter_map(|v| of_value.get(&v.index())).flatten().copied().collect();
        let after = match of_node.get(&id).copied() {
            Some(layer) => {
                before[layer.0] = reads;
                BTreeSet::from([layer])
            }
            None => reads,
        };
        for output in node.outputs.iter().flatten() {
            of_value.insert(output.index(), after.clone());
        }
    }
    before
}

/// Groups of duplicates that correspond although they must stay as they are.
pub(super) fn groups(
    nets: &[Net<'_>],
    sites: &[Site],
    found: &Duplicates,
    known: &[Correspondence],
) -> Vec<Correspondence> {
    let mut added: Vec<Correspondence> = Vec::new();
    for site in sites.iter().filter(|s| s.is_common()) {
        let mut groups: Correspondence = vec![None; nets.len()];
        let first = site.members().find_map(|(net, layer)| found.get(&(net, layer)));
        for net in first.into_iter().flatten() {
            let layer = site.layers[*net].map(|id| nets[*net].coupling.layer(id));
            groups[*net] = layer.and_then(|layer| only_group(&layer.outputs));
        }
        let is_known = known
            .iter()
            .chain(&added)
            .any(|old| old.iter().zip(&groups).any(|(old, new)| old.is_some() && old == new));
        if !is_known && groups.iter().flatten().count() > 1 {
            added.push(groups);
        }
    }
    added
}
