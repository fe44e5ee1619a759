//! Which groups have been paired with each other already.

use std::collections::BTreeMap;

use crate::couple::GroupId;

use super::joint::JointModel;
use super::members::Member;

/// Sets of groups whose neurons are settled among each other.
///
/// A group is paired at the first site that makes it; at its other sites the pairs are given.
#[derive(Debug, Clone, Default)]
pub(super) struct Paired {
    set: BTreeMap<(usize, GroupId), usize>,
    sets: usize,
}

impl Paired {
    /// What a joint model has paired before.
    pub(super) fn of(joint: &JointModel) -> Paired {
        let mut first: BTreeMap<_, (usize, GroupId)> = BTreeMap::new();
        let mut paired = Paired::default();
        for task in 0..joint.tasks.len() {
            for (group, channels) in joint.sharing(task).iter().enumerate() {
                let own = (task, GroupId(group));
                for neuron in channels.iter().flatten() {
                    let other = *first.entry(*neuron).or_insert(own);
                    if !paired.together(other, own) {
                        paired.join(&[other, own]);
                    }
                }
            }
        }
        paired
    }

    /// Notes in `joint` and here that the weights of corresponding layers are fused.
    pub(super) fn fuse(&mut self, joint: &mut JointModel, members: &[Member]) {
        joint.fuse(&members.iter().map(|m| (m.task, m.id)).collect::<Vec<_>>());
        self.join_groups(members);
    }

    /// Settles the groups of corresponding layers among each other.
    pub(super) fn join_groups(&mut self, members: &[Member]) {
        let groups: Vec<_> = members.iter().filter_map(|m| Some((m.task, m.group()?))).collect();
        self.join(&groups);
    }

    /// Settles groups among each other.
    pub(super) fn join(&mut self, groups: &[(usize, GroupId)]) {
        let known: Vec<usize> = groups.iter().filter_map(|g| self.set.get(g).copied()).collect();
        self.sets += 1;
        let set = self.sets;
        self.set.values_mut().filter(|s| known.contains(s)).for_each(|s| *s = set);
        self.set.extend(groups.iter().map(|group| (*group, set)));
    }

    /// Whether a group is settled with any other.
    pub(super) fn is_known(&self, group: (usize, GroupId)) -> bool {
        self.set.contains_key(&group)
    }

    /// Whether two groups are settled with each other.
    pub(super) fn together(&self, a: (usize, GroupId), b: (usize, GroupId)) -> bool {
        self.set.get(&a).is_some_and(|set| self.set.get(&b) == Some(set))
    }
}
