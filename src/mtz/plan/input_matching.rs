//! Pairs inputs of corresponding layers whose producers have no counterpart.
//!
//! A weight can be shared only if its row and its column are shared. If two nets differ before a
//! layer, by another kernel or an additional layer, the layer's inputs have different producers, and
//! no later layer could be shared. Channels with separate weights can be paired in any way without
//! changing outputs: a pair only says which columns of later layers correspond.

use std::collections::{BTreeMap, BTreeSet};

use crate::align::{Alignment, TaskChannel, TaskGroup, TaskId};
use crate::couple::{End, GroupId};
use crate::mtz::joint::{JointModel, Neuron};
use crate::mtz::options::Budget;
use crate::mtz::site::{SettledGroups, SiteLayer};

use super::producers::Producers;

/// Channels that a layer reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InputGroup {
    /// The member of the site that reads them.
    pub(crate) member: usize,
    pub(crate) group: GroupId,
    /// Indices in the group.
    pub(crate) channels: Vec<usize>,
}

impl InputGroup {
    /// The task and the group.
    pub(crate) fn place(&self, members: &[SiteLayer]) -> TaskGroup {
        members[self.member].task.group(self.group)
    }

    /// The channels, with the task of the layer that reads them.
    pub(crate) fn all(&self, reader: &SiteLayer) -> Vec<TaskChannel> {
        let group = reader.task.group(self.group);
        self.channels.iter().map(|index| group.channel(*index)).collect()
    }
}

/// Channels of two tasks that may become the same inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnmatchedInputs {
    /// Channels that are shared neurons already, if any are.
    pub(crate) known: InputGroup,
    /// Channels that are not paired yet.
    pub(crate) open: InputGroup,
    /// The number of pairs at most.
    pub(crate) most: usize,
}

/// The position of a walk through the layers.
#[derive(Clone, Copy)]
pub(crate) struct PlanState<'a> {
    pub(crate) joint: &'a JointModel,
    pub(crate) alignment: &'a Alignment,
    pub(crate) settled: &'a SettledGroups,
    pub(crate) producers: &'a Producers,
    pub(crate) budget: &'a Budget,
    /// The place of the next site.
    pub(crate) place: usize,
}

/// Whether another step pairs the channels of a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ProducerState {
    /// None does: the group has no corresponding producers that could share.
    None,
    /// Corresponding producers follow in the walk.
    ToCome,
    /// The channels are paired, or must stay as they are.
    Settled,
}

/// The state of a group that a layer reads.
struct GroupFacts {
    producers: ProducerState,
    correspondence: Option<usize>,
    /// The shared neurons among its channels, with their channels.
    neurons: BTreeMap<Neuron, usize>,
    /// The other channels.
    free: Vec<usize>,
}

/// Channels of two groups to pair, and the number of pairs at most.
struct Choice {
    known: Vec<usize>,
    open: Vec<usize>,
    most: usize,
}

impl PlanState<'_> {
    /// The first inputs of corresponding layers that can be paired but are not. Open channels join
    /// neurons that other tasks share already; the rest become new neurons.
    pub(crate) fn unmatched(&self, members: &[SiteLayer]) -> Option<UnmatchedInputs> {
        let count = members.len();
        let facts = |m: &SiteLayer| -> Vec<(GroupId, Option<GroupFacts>)> {
            let groups = m.input_groups().into_iter();
            groups.map(|group| (group, self.facts(m.task.group(group)))).collect()
        };
        let facts: Vec<_> = members.iter().map(facts).collect();
        let pairs = || (0..count).flat_map(move |h| (0..count).map(move |n| (h, n)));
        let adopt = |(h, n): (usize, usize)| {
            let task = members[n].task;
            self.between([h, n], members, &facts, |known, open| self.adopted(known, open, task))
        };
        let join = |(h, n): (usize, usize)| {
            self.between([h, n], members, &facts, |a, b| self.new_neurons(a, b))
        };
        let adopted = pairs().filter(|(h, n)| h != n).find_map(adopt);
        adopted.or_else(|| pairs().filter(|(h, n)| h < n).find_map(join))
    }

    /// The neurons of `known` that the open channels of a task may join.
    fn adopted(&self, known: &GroupFacts, open: &GroupFacts, task: TaskId) -> Option<Choice> {
        if open.producers != ProducerState::None || !open.neurons.is_empty() {
            return None;
        }
        // A block of weights is stored once only if all its inputs are the same.
        let channels = adoptable(self.joint, known, task);
        let fits = (1..=open.free.len()).contains(&channels.len());
        fits.then(|| Choice { most: channels.len(), known: channels, open: open.free.clone() })
    }

    /// The channels of two groups that may become new neurons.
    fn new_neurons(&self, a: &GroupFacts, b: &GroupFacts) -> Option<Choice> {
        let none = a.neurons.is_empty() && b.neurons.is_empty();
        let alike = match (a.producers, b.producers) {
            (ProducerState::None, ProducerState::None) => {
                let none_corresponds = a.correspondence.is_none() && b.correspondence.is_none();
                none || none_corresponds && a.neurons.keys().any(|n| b.neurons.contains_key(n))
            }
            (ProducerState::ToCome, ProducerState::ToCome) => {
                none && a.correspondence == b.correspondence
            }
            _ => false,
        };
        let most = self.quota(b, self.quota(a, a.free.len().min(b.free.len()))?)?;
        // A group is settled even if it shares nothing at its producers.
        let fits = alike && (most > 0 || a.producers == ProducerState::ToCome);
        fits.then(|| Choice { known: a.free.clone(), open: b.free.clone(), most })
    }

    /// The first pair of groups, in the order of the members' inputs, for which `choose` returns
    /// channels.
    fn between(
        &self,
        [h, n]: [usize; 2],
        members: &[SiteLayer],
        facts: &[Vec<(GroupId, Option<GroupFacts>)>],
        choose: impl Fn(&GroupFacts, &GroupFacts) -> Option<Choice>,
    ) -> Option<UnmatchedInputs> {
        facts[h].iter().zip(&facts[n]).find_map(|((mine, known), (theirs, open))| {
            let (mine, theirs, known, open) = (*mine, *theirs, known.as_ref()?, open.as_ref()?);
            let Choice { known: left, open: right, most } = choose(known, open)?;
            let each = members[h].pixels(mine);
            let fits = each.is_some()
                && each == members[n].pixels(theirs)
                && !consumed_beside(self.joint, members[n].task.group(theirs), &known.neurons);
            fits.then_some(UnmatchedInputs {
                known: InputGroup { member: h, group: mine, channels: left },
                open: InputGroup { member: n, group: theirs, channels: right },
                most,
            })
        })
    }

    fn facts(&self, place: TaskGroup) -> Option<GroupFacts> {
        let own = self.joint.group(place);
        let channels = &self.joint.sharing(place.task)[place.group.0];
        let shared = channels.iter().enumerate().filter_map(|(at, n)| Some(((*n)?, at)));
        let free = channels.iter().enumerate().filter(|(_, n)| n.is_none()).map(|(at, _)| at);
        let correspondence = self.alignment.correspondence(place);
        let producers = match correspondence {
            _ if own.frozen.is_some() => ProducerState::Settled,
            None => ProducerState::None,
            Some(_) if self.settled.is_settled(place) => ProducerState::Settled,
            Some(correspondence) if self.producers.produced_from(correspondence, self.place) => {
                ProducerState::ToCome
            }
            Some(_) => ProducerState::None,
        };
        let is_free = own.end() != Some(End::Input) && !self.joint.follows_others(place);
        is_free.then(|| GroupFacts {
            producers,
            correspondence,
            neurons: shared.collect(),
            free: free.collect(),
        })
    }

    /// The number of pairs, of at most `most`: as many as corresponding producers of the channels
    /// share, if there are any. `None` if that depends on the pairs' costs there.
    fn quota(&self, facts: &GroupFacts, most: usize) -> Option<usize> {
        let Some(name) =
            facts.correspondence.and_then(|correspondence| self.producers.first(correspondence))
        else {
            return Some(most);
        };
        let told = self.budget.share(name, most).pairs(most).map(|count| count.min(most));
        told.or((facts.producers == ProducerState::None).then_some(most))
    }
}

/// The channels of a group that another task may share: neurons that this task has elsewhere, or, if
/// there are none, all shared neurons. So blocks of neurons with the same owners stay whole.
fn adoptable(joint: &JointModel, known: &GroupFacts, adopter: TaskId) -> Vec<usize> {
    let all = joint.sharing(adopter).iter().flatten().flatten();
    let own: BTreeSet<Neuron> = all.filter(|n| known.neurons.contains_key(n)).copied().collect();
    let is_wanted = |n: &Neuron| own.is_empty() || own.contains(n);
    let mut channels: Vec<usize> =
        known.neurons.iter().filter(|(n, _)| is_wanted(n)).map(|(_, channel)| *channel).collect();
    channels.sort_unstable();
    channels
}

/// Whether a layer that reads the group also reads some of `neurons` from another group. It could not
/// tell them apart.
fn consumed_beside(
    joint: &JointModel,
    TaskGroup { task, group }: TaskGroup,
    neurons: &BTreeMap<Neuron, usize>,
) -> bool {
    let coupling = joint.task(task).coupling();
    let mut layers = coupling.group(group).consumers.iter().map(|l| coupling.layer(*l));
    layers.any(|layer| {
        let mut others = layer.inputs.iter().flatten().filter(|c| c.group != group);
        others.any(|c| joint.neuron(task.channel(*c)).is_some_and(|n| neurons.contains_key(&n)))
    })
}

/// Pairs unmatched inputs and settles their groups.
pub(crate) fn settle_inputs(
    joint: &mut JointModel,
    settled: &mut SettledGroups,
    members: &[SiteLayer],
    unmatched: &UnmatchedInputs,
    pairs: &[(usize, usize)],
) {
    share_inputs(joint, members, unmatched, pairs);
    settled.join(&[unmatched.known.place(members), unmatched.open.place(members)]);
}

/// Pairs unmatched inputs.
pub(crate) fn share_inputs(
    joint: &mut JointModel,
    members: &[SiteLayer],
    unmatched: &UnmatchedInputs,
    pairs: &[(usize, usize)],
) {
    let channel = |input_group: &InputGroup, at: usize| {
        input_group.place(members).channel(input_group.channels[at])
    };
    for (i, j) in pairs {
        joint.share(channel(&unmatched.known, *i), channel(&unmatched.open, *j));
    }
}
