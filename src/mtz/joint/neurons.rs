//! Shared neurons of a joint model: reading and changing them.

use std::collections::{BTreeMap, BTreeSet};

use crate::align::{TaskChannel, TaskGroup, TaskId, TaskLayer};
use crate::couple::GroupId;

use super::model::{JointModel, Neuron};

impl JointModel {
    /// The shared neuron of each channel of each group of a task.
    pub fn sharing(&self, task: TaskId) -> &[Vec<Option<Neuron>>] {
        &self.sharing[task.0]
    }

    /// The shared neuron that a task's channel is, if any.
    pub fn neuron(&self, own: TaskChannel) -> Option<Neuron> {
        self.sharing[own.task.0][own.channel.group.0][own.channel.index]
    }

    /// The shared neuron of each row of a layer, and how many rows up to this one are that neuron: rows of a layer
    /// that are one channel correspond to those of other layers in their order.
    pub(crate) fn neurons_of_rows(&self, own: TaskLayer) -> Vec<Option<(Neuron, usize)>> {
        let mut met: BTreeMap<Neuron, usize> = BTreeMap::new();
        let rows = self.layer(own).outputs.iter().map(|channel| {
            let neuron = self.neuron(own.task.channel(*channel))?;
            let times = met.entry(neuron).or_default();
            *times += 1;
            Some((neuron, *times))
        });
        rows.collect()
    }

    fn neuron_mut(&mut self, own: TaskChannel) -> &mut Option<Neuron> {
        &mut self.sharing[own.task.0][own.channel.group.0][own.channel.index]
    }

    /// The neurons of some groups: the channels of each neuron, in the given order.
    pub fn neurons_of(&self, groups: &[TaskGroup]) -> Vec<Vec<TaskChannel>> {
        let mut neurons: Vec<Vec<TaskChannel>> = Vec::new();
        let mut known: BTreeMap<Neuron, usize> = BTreeMap::new();
        for group in groups {
            for (index, neuron) in self.sharing[group.task.0][group.group.0].iter().enumerate() {
                let channel = group.channel(index);
                match neuron.and_then(|n| known.get(&n)) {
                    Some(place) => neurons[*place].push(channel),
                    None => {
                        neuron.map(|n| known.insert(n, neurons.len()));
                        neurons.push(vec![channel]);
                    }
                }
            }
        }
        neurons
    }

    /// The tasks that have each neuron, ascending.
    pub(crate) fn owners(&self) -> Vec<Vec<TaskId>> {
        let mut owners = vec![Vec::new(); self.neurons as usize];
        for (task, groups) in (0..).map(TaskId).zip(&self.sharing) {
            for neuron in groups.iter().flatten().flatten() {
                let tasks: &mut Vec<TaskId> = &mut owners[neuron.0 as usize];
                if tasks.last() != Some(&task) {
                    tasks.push(task);
                }
            }
        }
        owners
    }

    /// Makes two channels one neuron, and with them all channels that share either of them already.
    /// Their attention heads are paired too, unless they are paired with others. Channels whose neurons a
    /// group has side by side stay apart.
    ///
    /// Pairs of heads and depths follow these.
    pub(crate) fn share(&mut self, a: TaskChannel, b: TaskChannel) {
        if self.follows_others(a.task.group(a.channel.group)) || !self.share_one(a, b) {
            return;
        }
        let head = |own: TaskChannel| {
            let head = self.task(own.task).coupling().head(own.channel)?;
            Some(own.task.channel(head))
        };
        let Some((a, b)) = head(a).zip(head(b)) else { return };
        if self.neuron(a).is_none() || self.neuron(b).is_none() {
            self.share_one(a, b);
        }
    }

    /// Makes two channels one neuron, and shares the pairs that they are in. Returns whether they are one neuron now.
    fn share_one(&mut self, a: TaskChannel, b: TaskChannel) -> bool {
        let is_one = self.make_one(a, b);
        let followers = self.that_follow(a.task.group(a.channel.group));
        if is_one && !followers.is_empty() {
            self.share_pairs(&followers);
        }
        is_one
    }

    /// Makes two channels one neuron, unless a group would hold that neuron twice. Returns whether they
    /// are one neuron now.
    fn make_one(&mut self, a: TaskChannel, b: TaskChannel) -> bool {
        let has = |own: TaskChannel, neuron| {
            self.sharing[own.task.0][own.channel.group.0].contains(&Some(neuron))
        };
        let neuron = match (self.neuron(a), self.neuron(b)) {
            (Some(kept), Some(given_up)) if kept == given_up => return true,
            (Some(kept), Some(given_up)) if self.meet(kept, given_up) => return false,
            (Some(neuron), None) if has(b, neuron) => return false,
            (None, Some(neuron)) if has(a, neuron) => return false,
            (Some(kept), Some(given_up)) => {
                let all = self.sharing.iter_mut().flatten().flatten();
                all.filter(|n| **n == Some(given_up)).for_each(|n| *n = Some(kept));
                kept
            }
            (Some(neuron), None) | (None, Some(neuron)) => neuron,
            (None, None) => {
                self.neurons += 1;
                Neuron(self.neurons - 1)
            }
        };
        *self.neuron_mut(a) = Some(neuron);
        *self.neuron_mut(b) = Some(neuron);
        true
    }

    /// Whether some group has both neurons.
    fn meet(&self, a: Neuron, b: Neuron) -> bool {
        let mut groups = self.sharing.iter().flatten();
        groups.any(|own| own.contains(&Some(a)) && own.contains(&Some(b)))
    }

    /// Restores neurons that [`JointModel::neurons_of`] returned.
    pub(crate) fn share_all(&mut self, neurons: &[Vec<TaskChannel>]) {
        for pair in neurons.iter().flat_map(|owners| owners.windows(2)) {
            self.share(pair[0], pair[1]);
        }
    }

    /// Unshares all channels of a group.
    pub(crate) fn unshare(&mut self, own: TaskGroup) {
        if self.follows_others(own) {
            return;
        }
        let followers = self.that_follow(own);
        self.unshare_one(own);
        if !followers.is_empty() {
            self.share_pairs(&followers);
        }
    }

    fn unshare_one(&mut self, own: TaskGroup) {
        let gone: BTreeSet<Neuron> =
            self.sharing[own.task.0][own.group.0].iter_mut().filter_map(Option::take).collect();
        let owners = self.owners();
        let alone = |n: &Neuron| gone.contains(n) && owners[n.0 as usize].len() < 2;
        let left = self.sharing.iter_mut().flatten().flatten();
        left.filter(|n| n.as_ref().is_some_and(alone)).for_each(|n| *n = None);
        let nests = &self.task(own.task).coupling().nests;
        let Some(heads) = nests.iter().find(|n| n.channels == own.group).map(|n| n.heads) else {
            return;
        };
        let sharing = &self.sharing[own.task.0];
        let coupling = self.task(own.task).coupling();
        let is_shared = |group: GroupId| sharing[group.0].iter().any(Option::is_some);
        let mut others =
            nests.iter().filter(|nest| nest.heads == heads && !coupling.is_of_pairs(nest));
        if is_shared(heads) && !others.any(|nest| is_shared(nest.channels)) {
            self.unshare(own.task.group(heads));
        }
    }

    /// Renumbers neurons from 0 without gaps, in the same order.
    pub(crate) fn renumber(&mut self) {
        let used: BTreeSet<Neuron> =
            self.sharing.iter().flatten().flatten().flatten().copied().collect();
        let numbers: BTreeMap<Neuron, Neuron> = used.into_iter().zip((0..).map(Neuron)).collect();
        let all = self.sharing.iter_mut().flatten().flatten();
        all.for_each(|n| *n = n.and_then(|n| numbers.get(&n).copied()));
        self.neurons = numbers.len() as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::couple::ChannelGroup;
    use crate::emit::{self, EmitOptions};
    use crate::error::ErrorKind;
    use crate::zipper::fixtures;

    const A: TaskId = TaskId(0);
    const B: TaskId = TaskId(1);

    /// Two nets with two pairs of neurons that are crossed, and their first hidden group.
    fn crossed() -> (JointModel, GroupId) {
        let mut joint = fixtures(&["lenet300_mnist_a", "lenet300_fashion"]).joint;
        let is_hidden = |(_, group): &(GroupId, &ChannelGroup)| group.frozen.is_none();
        let group = joint.task(A).coupling().groups().find(is_hidden).unwrap().0;
        for (a, b) in [(0, 1), (1, 0)] {
            joint.share(A.group(group).channel(a), B.group(group).channel(b));
        }
        (joint, group)
    }

    #[test]
    fn no_group_holds_a_neuron_twice() {
        let (mut joint, group) = crossed();
        let before = [A, B].map(|task| joint.sharing(task).to_vec());
        for (a, b) in [(0, 0), (2, 1), (1, 2)] {
            joint.share(A.group(group).channel(a), B.group(group).channel(b));
        }
        assert_eq!([A, B].map(|task| joint.sharing(task).to_vec()), before);
        assert!(joint.confused().is_none());
    }

    #[test]
    fn nothing_is_written_that_cannot_be_read_again() {
        let (mut joint, group) = crossed();
        assert!(emit::restore(&emit::emit(&joint, &EmitOptions::default()).unwrap()).is_ok());
        joint.sharing[0][group.0][2] = joint.sharing[0][group.0][0];
        let error = emit::emit(&joint, &EmitOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Parity);
    }
}
