//! Finds corresponding groups: those of the rows of corresponding layers.

use std::collections::{BTreeMap, BTreeSet};

use crate::couple::{End, Frozen, GroupId};
use crate::ir::ValueId;

use super::{Correspondence, Net, Site, TaskGroup, TaskLayer, only_group};

/// Reasons why groups cannot be paired.
type Refusals = BTreeMap<TaskGroup, String>;

/// Corresponding groups, and those that cannot be paired.
///
/// A group with more producers in one net than in another (a residual stream of a deeper net)
/// corresponds, too: layers without a counterpart write to its channels with their own weights.
pub(super) fn groups(nets: &[Net<'_>], sites: &[Site]) -> (Vec<Correspondence>, Refusals) {
    let mut classes: Vec<Correspondence> = Vec::new();
    let mut class_of: BTreeMap<TaskGroup, usize> = BTreeMap::new();
    let mut refused = Refusals::new();
    for site in sites.iter().filter(|s| s.is_common()) {
        let mut class: Option<usize> = None;
        for TaskLayer { task, layer } in site.members() {
            let net = task.0;
            let Some(group) = only_group(&nets[net].coupling.layer(layer).outputs) else {
                continue;
            };
            if let Some(known) = class_of.get(&task.group(group)) {
                class = class.or(Some(*known));
                continue;
            }
            if let Some(frozen) = obstacle(nets[net], group) {
                refused.insert(task.group(group), frozen.to_string());
                continue;
            }
            let class = *class.get_or_insert_with(|| {
                classes.push(vec![None; nets.len()]);
                classes.len() - 1
            });
            if classes[class][net].is_none() {
                classes[class][net] = Some(group);
                class_of.insert(task.group(group), class);
            }
        }
    }
    classes.retain(several);
    (classes, refused)
}

/// The reason why the channels of a group cannot be paired.
fn obstacle(net: Net<'_>, group: GroupId) -> Option<&Frozen> {
    let group = net.coupling.group(group);
    let is_shared = group.end() == Some(End::Output) && net.shares_outputs;
    group.frozen.as_ref().filter(|_| !is_shared)
}

/// Corresponding model inputs: first those with the same channels in the same order in all nets, then
/// the others.
pub(super) fn inputs(
    nets: &[Net<'_>],
    sites: &[Site],
) -> (Vec<Correspondence>, Vec<Correspondence>) {
    let mut inputs: Vec<(Correspondence, bool)> = Vec::new();
    for site in sites.iter().filter(|s| s.is_common()) {
        let members: Vec<(usize, Vec<Read>)> =
            site.members().map(|m| (m.task.0, read(nets[m.task.0], m))).collect();
        if members.iter().all(|(_, all)| all.len() <= 1) {
            let only = members.iter().filter_map(|(net, all)| Some((*net, all.first()?)));
            add(&mut inputs, nets.len(), &only.collect::<Vec<_>>());
            continue;
        }
        // Layers of different nets may join their inputs in another order, so that only names tell.
        let named = |net: usize, read: &Read| name(nets[net], read.0);
        let all = members.iter().flat_map(|(net, all)| all.iter().map(|read| named(*net, read)));
        for wanted in all.flatten().collect::<BTreeSet<&str>>() {
            let same = members.iter().filter_map(|(net, all)| {
                Some((*net, all.iter().find(|read| named(*net, read) == Some(wanted))?))
            });
            add(&mut inputs, nets.len(), &same.collect::<Vec<_>>());
        }
    }
    inputs.retain(|(groups, _)| several(groups));
    let (alike, unlike): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|(_, alike)| *alike);
    let groups = |all: Vec<(Correspondence, bool)>| all.into_iter().map(|(g, _)| g).collect();
    (groups(alike), groups(unlike))
}

/// A model input that a layer consumes: its group, and the channels in the order of the columns.
type Read = (GroupId, Vec<usize>);

/// Adds inputs of layers of a site that correspond, one of each net at most.
fn add(inputs: &mut Vec<(Correspondence, bool)>, nets: usize, read: &[(usize, &Read)]) {
    let Some((_, (_, order))) = read.first() else { return };
    let is_known = |(groups, _): &(Correspondence, bool)| {
        read.iter().any(|(net, (group, _))| groups[*net] == Some(*group))
    };
    let place = inputs.iter().position(is_known).unwrap_or_else(|| {
        inputs.push((vec![None; nets], true));
        inputs.len() - 1
    });
    let (groups, alike) = &mut inputs[place];
    *alike &= read.iter().all(|(_, (_, other))| other == order);
    for (net, (group, _)) in read {
        groups[*net].get_or_insert(*group);
    }
}

/// The model inputs that a layer consumes, in the order of its columns. Hidden units, also its own, are left out.
fn read(own: Net<'_>, member: TaskLayer) -> Vec<Read> {
    let layer = own.coupling.layer(member.layer);
    let mut all: Vec<Read> = Vec::new();
    for channel in layer.inputs.iter().flatten() {
        if own.coupling.group(channel.group).end() != Some(End::Input) {
            continue;
        }
        match all.iter_mut().find(|(group, _)| *group == channel.group) {
            Some((_, order)) => order.push(channel.index),
            None => all.push((channel.group, vec![channel.index])),
        }
    }
    all
}

/// The name of the model input with these channels.
fn name(net: Net<'_>, group: GroupId) -> Option<&str> {
    let holds = |value: &ValueId| {
        let axis = net.coupling.axis(*value);
        axis.is_some_and(|axis| axis.channels.iter().any(|channel| channel.group == group))
    };
    let input = net.graph.inputs.iter().copied().find(holds)?;
    Some(&net.graph.value(input).name)
}

fn several(groups: &Correspondence) -> bool {
    groups.iter().flatten().count() > 1
}
