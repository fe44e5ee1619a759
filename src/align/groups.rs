//! Finds corresponding groups: those of the rows of corresponding layers.

use std::collections::BTreeMap;

use crate::couple::{Channel, End, Frozen, GroupId};

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
        let read: Vec<(usize, GroupId, Vec<usize>)> =
            site.members().filter_map(|m| input(nets[m.task.0], m)).collect();
        let Some((_, _, order)) = read.first() else { continue };
        let is_known = |(groups, _): &(Correspondence, bool)| {
            read.iter().any(|(net, group, _)| groups[*net] == Some(*group))
        };
        let place = inputs.iter().position(is_known).unwrap_or_else(|| {
            inputs.push((vec![None; nets.len()], true));
            inputs.len() - 1
        });
        let (groups, alike) = &mut inputs[place];
        *alike &= read.iter().all(|(.., other)| other == order);
        for (net, group, _) in &read {
            groups[*net].get_or_insert(*group);
        }
    }
    inputs.retain(|(groups, _)| several(groups));
    let (alike, unlike): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|(_, alike)| *alike);
    let groups = |all: Vec<(Correspondence, bool)>| all.into_iter().map(|(g, _)| g).collect();
    (groups(alike), groups(unlike))
}

/// The model input that a layer consumes: its group, and the channel of each column. Hidden units of
/// a recurrent layer are left out.
fn input(own: Net<'_>, member: TaskLayer) -> Option<(usize, GroupId, Vec<usize>)> {
    let layer = own.coupling.layer(member.layer);
    let made = only_group(&layer.outputs);
    let read = layer.inputs.as_ref()?.iter().filter(|c| Some(c.group) != made);
    let channels: Vec<Channel> = read.copied().collect();
    let group = only_group(&channels)?;
    let is_input = own.coupling.group(group).end() == Some(End::Input);
    is_input.then(|| (member.task.0, group, channels.iter().map(|c| c.index).collect()))
}

fn several(groups: &Correspondence) -> bool {
    groups.iter().flatten().count() > 1
}
