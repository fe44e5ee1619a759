//! Groups whose pairs of neurons are fixed.

use std::collections::{BTreeMap, BTreeSet};

use crate::align::{Alignment, TaskGroup, TaskLayer};
use crate::couple::GroupId;
use crate::mtz::joint::JointModel;

use super::layers::SiteLayer;

/// Sets of groups whose pairs are fixed (settled).
///
/// A group is paired at its first producing site. At its other sites, the pairs are given.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettledGroups {
    set: BTreeMap<TaskGroup, usize>,
    members: BTreeMap<usize, Vec<TaskGroup>>,
    sets: usize,
}

impl SettledGroups {
    /// The pairs that a joint model has from an earlier merge.
    pub(crate) fn of(joint: &JointModel) -> SettledGroups {
        let mut first: BTreeMap<_, TaskGroup> = BTreeMap::new();
        let mut settled = SettledGroups::default();
        for task in joint.task_ids() {
            for (group, channels) in joint.sharing(task).iter().enumerate() {
                let own = task.group(GroupId(group));
                for neuron in channels.iter().flatten() {
                    let other = *first.entry(*neuron).or_insert(own);
                    if !settled.settled_together(other, own) {
                        settled.join(&[other, own]);
                    }
                }
            }
        }
        settled
    }

    /// Marks corresponding layers as fused in `joint`, and settles their groups.
    pub(crate) fn fuse(
        &mut self,
        joint: &mut JointModel,
        alignment: &Alignment,
        members: &[SiteLayer],
    ) {
        let layers: Vec<TaskLayer> = members.iter().map(SiteLayer::place).collect();
        joint.fuse_uses(alignment, &layers);
        self.join_groups(joint, members);
    }

    /// Settles the groups of corresponding layers among each other, and the attention heads that they
    /// have in common: a layer may have heads as its rows, such as a table of relative positions.
    pub(crate) fn join_groups(&mut self, joint: &JointModel, members: &[SiteLayer]) {
        let groups: Vec<_> = members.iter().filter_map(SiteLayer::group).collect();
        self.join(&groups);
        let heads = |own: &TaskGroup| {
            let nest = joint.task(own.task).coupling().nest(own.group)?;
            Some(own.task.group(nest.heads))
        };
        let heads: Vec<TaskGroup> = groups.iter().filter_map(heads).collect();
        let neurons = |own: &TaskGroup| joint.sharing(own.task)[own.group.0].iter().flatten();
        let mut holders: BTreeMap<_, Vec<TaskGroup>> = BTreeMap::new();
        for own in heads {
            neurons(&own).for_each(|neuron| holders.entry(*neuron).or_default().push(own));
        }
        holders.values().filter(|own| own.len() > 1).for_each(|own| self.join(own));
    }

    /// Settles groups among each other.
    pub(crate) fn join(&mut self, groups: &[TaskGroup]) {
        let known: BTreeSet<usize> =
            groups.iter().filter_map(|g| self.set.get(g).copied()).collect();
        // The largest set absorbs the others, so a group seldom moves.
        let size = |set: &usize| self.members.get(set).map_or(0, Vec::len);
        let into = known.iter().copied().max_by_key(size).unwrap_or_else(|| {
            self.sets += 1;
            self.sets
        });
        let mut moved: Vec<TaskGroup> =
            groups.iter().copied().filter(|group| !self.set.contains_key(group)).collect();
        for set in known.into_iter().filter(|set| *set != into) {
            moved.extend(self.members.remove(&set).unwrap_or_default());
        }
        for group in moved {
            if self.set.insert(group, into) != Some(into) {
                self.members.entry(into).or_default().push(group);
            }
        }
    }

    /// Whether a group is settled with any other.
    pub(crate) fn is_settled(&self, group: TaskGroup) -> bool {
        self.set.contains_key(&group)
    }

    /// Whether two groups are settled with each other.
    pub(crate) fn settled_together(&self, a: TaskGroup, b: TaskGroup) -> bool {
        self.set.get(&a).is_some_and(|set| self.set.get(&b) == Some(set))
    }
}
