//! Groups whose neurons are settled with each other.

use std::collections::BTreeMap;

use crate::couple::GroupId;
use crate::mtz::joint::JointModel;

use super::layers::SiteLayer;

/// Sets of groups whose neurons are settled among each other.
///
/// A group is paired at the first site that makes it; at its other sites the pairs are given.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettledGroups {
    set: BTreeMap<(usize, GroupId), usize>,
    sets: usize,
}

impl SettledGroups {
    /// What a joint model has paired before.
    pub(crate) fn of(joint: &JointModel) -> SettledGroups {
        let mut first: BTreeMap<_, (usize, GroupId)> = BTreeMap::new();
        let mut settled = SettledGroups::default();
        for task in 0..joint.tasks.len() {
            for (group, channels) in joint.sharing(task).iter().enumerate() {
                let own = (task, GroupId(group));
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

    /// Notes in `joint` and here that the weights of corresponding layers are fused.
    pub(crate) fn fuse(&mut self, joint: &mut JointModel, members: &[SiteLayer]) {
        joint.fuse(&members.iter().map(|m| (m.task, m.id)).collect::<Vec<_>>());
        self.join_groups(members);
    }

    /// Settles the groups of corresponding layers among each other.
    pub(crate) fn join_groups(&mut self, members: &[SiteLayer]) {
        let groups: Vec<_> = members.iter().filter_map(|m| Some((m.task, m.group()?))).collect();
        self.join(&groups);
    }

    /// Settles groups among each other.
    pub(crate) fn join(&mut self, groups: &[(usize, GroupId)]) {
        let known: Vec<usize> = groups.iter().filter_map(|g| self.set.get(g).copied()).collect();
        self.sets += 1;
        let set = self.sets;
        self.set.values_mut().filter(|s| known.contains(s)).for_each(|s| *s = set);
        self.set.extend(groups.iter().map(|group| (*group, set)));
    }

    /// Whether a group is settled with any other.
    pub(crate) fn is_settled(&self, group: (usize, GroupId)) -> bool {
        self.set.contains_key(&group)
    }

    /// Whether two groups are settled with each other.
    pub(crate) fn settled_together(&self, a: (usize, GroupId), b: (usize, GroupId)) -> bool {
        self.set.get(&a).is_some_and(|set| self.set.get(&b) == Some(set))
    }
}
