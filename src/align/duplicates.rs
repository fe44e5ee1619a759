//! Finds layers that are identical in several nets, such as a frozen backbone.
//!
//! A layer is a duplicate if its weights are bit-identical to those of the corresponding layer of
//! another net, and all layers before it are duplicates too. Sharing a duplicate changes nothing, so
//! even frozen groups and outputs may be shared.

use std::collections::{BTreeMap, BTreeSet};

use crate::couple::{CoupledLayer, GroupId, LayerId};
use crate::ir::{NodeId, Tensor, ValueId};
use crate::ops::LayerKind;

use super::{Correspondence, Net, Site, TaskGroup, TaskId, TaskLayer, members, only_group};

/// The nets with a layer identical to this one, its own included. Only layers of at least two nets
/// are listed.
pub type Duplicates = BTreeMap<TaskLayer, BTreeSet<TaskId>>;

/// Finds the duplicates among corresponding layers.
pub(super) fn duplicates(nets: &[Net<'_>], sites: &[Site]) -> Duplicates {
    let mut found = Duplicates::new();
    for site in sites.iter().filter(|s| s.is_common()) {
        for member in site.members() {
            let same = |other: TaskLayer| {
                let [own, others] = [member, other].map(|m| weights(nets[m.task.0], m.layer));
                (own.is_some() && own == others).then_some(other.task)
            };
            let all: BTreeSet<TaskId> = site.members().filter_map(same).collect();
            if all.len() > 1 {
                found.insert(member, all);
            }
        }
    }
    if !found.is_empty() {
        Shrinking::new(nets, sites, &mut found).run();
    }
    found
}

/// The conditions for a layer to be a duplicate.
struct Needs {
    /// The nearest layers before it, which must be duplicates.
    before: BTreeSet<LayerId>,
    /// Its input and output groups, whose producers must all be duplicates.
    groups: BTreeSet<GroupId>,
}

/// Removes nets from duplicates whose conditions they do not meet, until all do.
struct Shrinking<'a> {
    found: &'a mut Duplicates,
    nets: &'a [Net<'a>],
    site_of: BTreeMap<TaskLayer, &'a Site>,
    /// Per net and layer.
    needs: Vec<Vec<Needs>>,
    /// Layers of a net that depend on another layer or a group.
    behind: BTreeMap<TaskLayer, Vec<TaskLayer>>,
    around: BTreeMap<TaskGroup, Vec<TaskLayer>>,
    /// Groups of a net with a producer that is not a duplicate of another net's.
    lost: BTreeSet<(TaskGroup, TaskId)>,
    waiting: Vec<TaskLayer>,
}

impl<'a> Shrinking<'a> {
    fn new(nets: &'a [Net<'a>], sites: &'a [Site], found: &'a mut Duplicates) -> Self {
        let needs: Vec<Vec<Needs>> = nets.iter().map(|net| needs(*net)).collect();
        let members = sites.iter().flat_map(|site| site.members().map(move |m| (m, site)));
        let waiting = found.keys().copied().collect();
        let mut shrinking = Shrinking {
            nets,
            site_of: members.collect(),
            behind: BTreeMap::new(),
            around: BTreeMap::new(),
            lost: BTreeSet::new(),
            waiting,
            found,
            needs,
        };
        for (task, layers) in (0..).map(TaskId).zip(&shrinking.needs) {
            for (layer, needs) in (0..).map(LayerId).zip(layers) {
                let own = task.layer(layer);
                for needed in &needs.before {
                    shrinking.behind.entry(task.layer(*needed)).or_default().push(own);
                }
                for group in &needs.groups {
                    shrinking.around.entry(task.group(*group)).or_default().push(own);
                }
            }
        }
        for (task, own) in (0..).map(TaskId).zip(nets) {
            for (id, group) in own.coupling.groups() {
                for producer in &group.producers {
                    let producer = own.coupling.first_use(*producer);
                    let has = shrinking.found.get(&task.layer(producer));
                    let lacks = |other: &TaskId| !has.is_some_and(|all| all.contains(other));
                    let others = (0..nets.len()).map(TaskId);
                    let lost = others.filter(lacks).map(|other| (task.group(id), other));
                    shrinking.lost.extend(lost);
                }
            }
        }
        shrinking
    }

    fn run(mut self) {
        while let Some(own) = self.waiting.pop() {
            let all = self.found.get(&own).into_iter().flatten().copied();
            let gone: Vec<TaskId> = all.filter(|other| self.lacks(own, *other)).collect();
            for other in gone {
                let theirs = self.site_of.get(&own).and_then(|site| site.layer_of(other));
                self.take(own, other);
                if let Some(theirs) = theirs {
                    self.take(other.layer(theirs), own.task);
                }
            }
        }
    }

    /// Whether a layer fails a condition for being a duplicate of another net's.
    fn lacks(&self, TaskLayer { task, layer }: TaskLayer, other: TaskId) -> bool {
        let needs = &self.needs[task.0][layer.0];
        let found = |needed: &LayerId| self.found.get(&task.layer(*needed));
        let has = |needed: &LayerId| found(needed).is_some_and(|all| all.contains(&other));
        !needs.before.iter().all(has)
            || needs.groups.iter().any(|group| self.lost.contains(&(task.group(*group), other)))
    }

    /// Removes a net from a duplicate, which needs at least two nets, and checks the dependent layers
    /// again.
    fn take(&mut self, own: TaskLayer, other: TaskId) {
        let Some(all) = self.found.get_mut(&own) else { return };
        let mut gone = vec![other];
        all.remove(&other);
        if all.len() < 2 {
            gone.extend(all.iter().copied());
            self.found.remove(&own);
        }
        self.waiting.extend(self.behind.get(&own).into_iter().flatten());
        let layer = self.nets[own.task.0].coupling.layer(own.layer);
        let made: BTreeSet<TaskGroup> =
            layer.outputs.iter().map(|c| own.task.group(c.group)).collect();
        for (group, other) in made.iter().flat_map(|group| gone.iter().map(move |o| (*group, *o))) {
            if self.lost.insert((group, other)) {
                self.waiting.extend(self.around.get(&group).into_iter().flatten());
            }
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

/// The conditions of each layer: the layers before it, and the producers of its channels. Those before a layer that
/// repeats another one are conditions of that one.
fn needs(net: Net<'_>) -> Vec<Needs> {
    let groups = |layer: &CoupledLayer| -> BTreeSet<GroupId> {
        layer.outputs.iter().chain(layer.inputs.iter().flatten()).map(|c| c.group).collect()
    };
    let layers = net.coupling.layers.iter();
    let mut needs: Vec<Needs> =
        layers.map(|layer| Needs { before: BTreeSet::new(), groups: groups(layer) }).collect();
    for (id, before) in (0..).map(LayerId).zip(layers_before(net)) {
        let first = net.coupling.first_use(id);
        let others = before.into_iter().map(|id| net.coupling.first_use(id));
        needs[first.0].before.extend(others.filter(|other| *other != first));
    }
    needs
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

/// Corresponding groups of duplicates, although they are frozen.
pub(super) fn groups(
    nets: &[Net<'_>],
    sites: &[Site],
    found: &Duplicates,
    known: &[Correspondence],
) -> Vec<Correspondence> {
    let mut added: Vec<Correspondence> = Vec::new();
    let mut taken: BTreeSet<TaskGroup> = known.iter().flat_map(members).collect();
    for site in sites.iter().filter(|s| s.is_common()) {
        let mut groups: Correspondence = vec![None; nets.len()];
        let first = site.members().find_map(|member| found.get(&member));
        for task in first.into_iter().flatten() {
            let layer = site.layer_of(*task).map(|id| nets[task.0].coupling.layer(id));
            groups[task.0] = layer.and_then(|layer| only_group(&layer.outputs));
        }
        let is_known = members(&groups).any(|own| taken.contains(&own));
        if !is_known && members(&groups).count() > 1 {
            taken.extend(members(&groups));
            added.push(groups);
        }
    }
    added
}
