//! Channels that are pairs of a head and a depth, which other layers make: values of one head that all heads read.
//!
//! No layer decides about such a channel. It is shared where its head and its depth are.

use std::collections::{BTreeMap, BTreeSet};

use crate::align::{TaskChannel, TaskGroup, TaskId};
use crate::couple::{GroupId, Nest};

use super::model::{JointModel, Neuron};

/// The places of nests in the coupling of each task.
type Found = BTreeSet<(TaskId, GroupId)>;

impl JointModel {
    /// Whether the channels of a group are shared where their heads and depths are.
    pub(crate) fn follows_others(&self, own: TaskGroup) -> bool {
        self.pairs(own.task).any(|(nest, _)| nest.channels == own.group)
    }

    /// The groups of pairs of all tasks whose sharing depends on that of a group.
    pub(super) fn that_follow(&self, own: TaskGroup) -> Found {
        let depends =
            |(nest, depths): &(&Nest, GroupId)| nest.heads == own.group || *depths == own.group;
        let first = self.pairs(own.task).filter(depends);
        let mut found: Found = first.map(|(nest, _)| (own.task, nest.channels)).collect();
        let mut known: BTreeSet<Neuron> = BTreeSet::new();
        let mut before = 0;
        while before < found.len() {
            before = found.len();
            for task in self.task_ids() {
                for (nest, depths) in self.pairs(task) {
                    let sharing = &self.sharing[task.0];
                    let all = [nest.channels, nest.heads, depths];
                    let neurons = || all.iter().flat_map(|g| &sharing[g.0]).flatten().copied();
                    let place = (task, nest.channels);
                    if found.contains(&place) || neurons().any(|neuron| known.contains(&neuron)) {
                        found.insert(place);
                        known.extend(neurons());
                    }
                }
            }
        }
        found
    }

    /// Shares pairs whose heads and depths are shared, in the order of both, and no others.
    pub(super) fn share_pairs(&mut self, found: &Found) {
        let mut wanted: BTreeMap<(usize, Neuron, Neuron), Vec<TaskChannel>> = BTreeMap::new();
        let mut numbers: BTreeSet<Neuron> = BTreeSet::new();
        for task in self.task_ids() {
            let mut seen: BTreeMap<(GroupId, GroupId), usize> = BTreeMap::new();
            for (nest, depths) in self.pairs(task) {
                let nth = seen.entry((nest.heads, depths)).or_default();
                let number = *nth;
                *nth += 1;
                if !found.contains(&(task, nest.channels)) {
                    continue;
                }
                let sharing = &self.sharing[task.0];
                numbers.extend(sharing[nest.channels.0].iter().flatten());
                let places = nest.head_of.iter().zip(nest.places()).enumerate();
                for (index, (head, depth)) in places {
                    let own = sharing[nest.heads.0].get(*head).copied().flatten();
                    let other = sharing[depths.0].get(depth).copied().flatten();
                    let Some((head, depth)) = own.zip(other) else { continue };
                    let channel = task.group(nest.channels).channel(index);
                    wanted.entry((number, head, depth)).or_default().push(channel);
                }
            }
        }
        for (task, group) in found {
            self.sharing[task.0][group.0].fill(None);
        }
        wanted.retain(|_, channels| channels.len() > 1);
        while numbers.len() < wanted.len() {
            numbers.insert(Neuron(self.neurons));
            self.neurons += 1;
        }
        for (neuron, channels) in numbers.into_iter().zip(wanted.into_values()) {
            for TaskChannel { task, channel } in channels {
                self.sharing[task.0][channel.group.0][channel.index] = Some(neuron);
            }
        }
    }

    fn pairs(&self, task: TaskId) -> impl Iterator<Item = (&Nest, GroupId)> {
        self.task(task).coupling().pairs_of_heads_and_depths()
    }
}
