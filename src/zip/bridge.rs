//! Inputs of corresponding layers that layers without a counterpart make.
//!
//! Weights are shared where rows and columns are. Where two nets differ before a layer, by another kernel
//! or by a layer more, its inputs are made by each net's own weights, and these nets could not share
//! anything from there on. But any order does for channels with weights of their own: to pair them
//! changes nothing, it only says which columns of the layers behind stand for each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::align::{Alignment, Site};
use crate::couple::{Channel, End, GroupId};

use super::columns::Columns;
use super::joint::{JointModel, Neuron};
use super::matcher::Share;
use super::members::{Member, class_members};
use super::options::Budget;
use super::paired::Paired;

/// Channels that a layer reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shore {
    /// Which of a site's members reads them.
    pub(super) member: usize,
    pub(super) group: GroupId,
    /// Indices in the group.
    pub(super) channels: Vec<usize>,
}

impl Shore {
    /// The task and the group.
    pub(super) fn place(&self, members: &[Member]) -> (usize, GroupId) {
        (members[self.member].task, self.group)
    }
}

/// Channels of two tasks that may become the same inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    /// Those that are neurons already, if any are.
    pub(super) known: Shore,
    /// Those that nothing has paired.
    pub(super) open: Shore,
    /// How many pairs there may be.
    pub(super) most: usize,
}

/// Which layers make the channels of each correspondence: the places of their sites, ascending, and
/// the names that budgets go by.
pub(super) struct Making(BTreeMap<usize, Vec<(usize, String)>>);

impl Making {
    pub(super) fn of(joint: &JointModel, alignment: &Alignment) -> Making {
        let mut making: BTreeMap<usize, Vec<(usize, String)>> = BTreeMap::new();
        for (place, site) in alignment.sites.iter().enumerate().filter(|(_, s)| s.is_common()) {
            let members = class_members(joint, alignment, site);
            let Some(first) = members.first() else { continue };
            let class = first.group().and_then(|group| alignment.class(first.task, group));
            let hopeless = reads_unlike_inputs(joint, alignment, &members);
            if let Some(class) = class.filter(|_| !hopeless) {
                making.entry(class).or_default().push((place, first.layer.name.clone()));
            }
        }
        Making(making)
    }

    /// The name of the first layer that makes channels of `class`.
    fn first(&self, class: usize) -> Option<&str> {
        self.0.get(&class)?.first().map(|(_, name)| name.as_str())
    }

    /// Whether a layer at `place` or behind it makes channels of `class`.
    fn goes_on(&self, class: usize, place: usize) -> bool {
        self.0.get(&class).is_some_and(|makers| makers.iter().any(|(at, _)| *at >= place))
    }
}

/// Where a walk through the layers stands.
#[derive(Clone, Copy)]
pub(super) struct Standing<'a> {
    pub(super) joint: &'a JointModel,
    pub(super) alignment: &'a Alignment,
    pub(super) settled: &'a Paired,
    pub(super) making: &'a Making,
    pub(super) budget: &'a Budget,
    /// The place of the next site.
    pub(super) place: usize,
}

/// What else may pair the channels of a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Makers {
    /// Nothing: no corresponding layers make them, or none that could.
    None,
    /// Corresponding layers that are still to come.
    ToCome,
    /// They are paired, or must stay as they are.
    Settled,
}

/// What is known of a group that a layer reads.
struct Facts {
    makers: Makers,
    class: Option<usize>,
    /// The shared neurons among its channels, with their channels.
    neurons: BTreeMap<Neuron, usize>,
    /// The other channels.
    free: Vec<usize>,
}

/// Channels of two groups that may be paired, and how many pairs there may be.
struct Choice {
    known: Vec<usize>,
    open: Vec<usize>,
    most: usize,
}

/// The layers of a site that read what others make.
pub(super) fn readers(joint: &JointModel, alignment: &Alignment, site: &Site) -> Vec<Member> {
    if alignment.is_duplicate(site) {
        return Vec::new();
    }
    let mut members = class_members(joint, alignment, site);
    members.retain(|m| !m.layer.per_channel);
    members
}

impl Standing<'_> {
    /// The first inputs of corresponding layers that can be paired but are not: what is open becomes
    /// the neurons that others share already; what is left over, new ones.
    pub(super) fn gap(&self, members: &[Member]) -> Option<Gap> {
        let count = members.len();
        let pairs = || (0..count).flat_map(move |h| (0..count).map(move |n| (h, n)));
        let adopt = |(h, n): (usize, usize)| {
            let task = members[n].task;
            self.between([h, n], members, |known, open| self.adopted(known, open, task))
        };
        let join =
            |(h, n): (usize, usize)| self.between([h, n], members, |a, b| self.new_neurons(a, b));
        let adopted = pairs().filter(|(h, n)| h != n).find_map(adopt);
        adopted.or_else(|| pairs().filter(|(h, n)| h < n).find_map(join))
    }

    /// The neurons of `known` that the open channels of a task may become.
    fn adopted(&self, known: &Facts, open: &Facts, task: usize) -> Option<Choice> {
        // Blocks of weights are stored once where their inputs are the same to the last one.
        let channels = adoptable(self.joint, known, task);
        let fits = open.makers == Makers::None
            && open.neurons.is_empty()
            && (1..=open.free.len()).contains(&channels.len());
        fits.then(|| Choice { most: channels.len(), known: channels, open: open.free.clone() })
    }

    /// The channels of two groups that may become new neurons.
    fn new_neurons(&self, a: &Facts, b: &Facts) -> Option<Choice> {
        let none = a.neurons.is_empty() && b.neurons.is_empty();
        let alike = match (a.makers, b.makers) {
            (Makers::None, Makers::None) => {
                let no_class = a.class.is_none() && b.class.is_none();
                none || no_class && a.neurons.keys().any(|n| b.neurons.contains_key(n))
            }
            (Makers::ToCome, Makers::ToCome) => none && a.class == b.class,
            _ => false,
        };
        let most = self.quota(b, self.quota(a, a.free.len().min(b.free.len()))?)?;
        // What is not to be shared where it is made is settled all the same.
        let fits = alike && (most > 0 || a.makers == Makers::ToCome);
        fits.then(|| Choice { known: a.free.clone(), open: b.free.clone(), most })
    }

    /// The first groups of two members' inputs, in their order, of which `choose` picks channels.
    fn between(
        &self,
        [h, n]: [usize; 2],
        members: &[Member],
        choose: impl Fn(&Facts, &Facts) -> Option<Choice>,
    ) -> Option<Gap> {
        let (groups, others) = (read_groups(&members[h]), read_groups(&members[n]));
        groups.into_iter().zip(others).find_map(|(mine, theirs)| {
            let known = self.facts((members[h].task, mine))?;
            let open = self.facts((members[n].task, theirs))?;
            let Choice { known: left, open: right, most } = choose(&known, &open)?;
            let each = pixels(&members[h], mine);
            let fits = each.is_some()
                && each == pixels(&members[n], theirs)
                && !reads_beside(self.joint, (members[n].task, theirs), &known.neurons);
            fits.then_some(Gap {
                known: Shore { member: h, group: mine, channels: left },
                open: Shore { member: n, group: theirs, channels: right },
                most,
            })
        })
    }

    fn facts(&self, (task, group): (usize, GroupId)) -> Option<Facts> {
        let own = self.joint.tasks[task].coupling.group(group);
        let channels = &self.joint.sharing(task)[group.0];
        let shared = channels.iter().enumerate().filter_map(|(at, n)| Some(((*n)?, at)));
        let free = channels.iter().enumerate().filter(|(_, n)| n.is_none()).map(|(at, _)| at);
        let class = self.alignment.class(task, group);
        let makers = match class {
            _ if own.frozen.is_some() => Makers::Settled,
            None => Makers::None,
            Some(_) if self.settled.is_known((task, group)) => Makers::Settled,
            Some(class) if self.making.goes_on(class, self.place) => Makers::ToCome,
            Some(_) => Makers::None,
        };
        (own.end() != Some(End::Input)).then(|| Facts {
            makers,
            class,
            neurons: shared.collect(),
            free: free.collect(),
        })
    }

    /// How many of `most` pairs there may be: as many as the layers that make the channels are to share,
    /// if there are any that correspond. `None` where that depends on what the pairs will cost there.
    fn quota(&self, facts: &Facts, most: usize) -> Option<usize> {
        let Some(name) = facts.class.and_then(|class| self.making.first(class)) else {
            return Some(most);
        };
        match self.budget.share(name, most) {
            Share::Count(count) => Some(count.min(most)),
            Share::Fraction(part) => Some((part * most as f64).round() as usize),
            Share::MaxCost(_) => (facts.makers == Makers::None).then_some(most),
        }
    }
}

/// The channels of a group that another task's may become: those that the task has elsewhere, or where
/// there are none, all that are shared neurons. So blocks of neurons with the same owners stay whole.
fn adoptable(joint: &JointModel, known: &Facts, adopter: usize) -> Vec<usize> {
    let all = joint.sharing(adopter).iter().flatten().flatten();
    let own: BTreeSet<Neuron> = all.filter(|n| known.neurons.contains_key(n)).copied().collect();
    let is_wanted = |n: &Neuron| own.is_empty() || own.contains(n);
    let mut channels: Vec<usize> =
        known.neurons.iter().filter(|(n, _)| is_wanted(n)).map(|(_, channel)| *channel).collect();
    channels.sort_unstable();
    channels
}

/// The groups that a layer reads, in the order of its columns.
fn read_groups(member: &Member) -> Vec<GroupId> {
    let mut groups: Vec<GroupId> = Vec::new();
    for channel in member.layer.inputs.iter().flatten() {
        if !groups.contains(&channel.group) {
            groups.push(channel.group);
        }
    }
    groups
}

/// How many columns each channel of a group has; `None` where they have not equally many.
pub(super) fn pixels(member: &Member, group: GroupId) -> Option<usize> {
    let mut columns: HashMap<usize, usize> = HashMap::new();
    let read = member.layer.inputs.iter().flatten().filter(|c| c.group == group);
    read.for_each(|c| *columns.entry(c.index).or_default() += 1);
    let mut counts = columns.into_values();
    let first = counts.next()?;
    counts.all(|n| n == first).then_some(first)
}

/// Whether a layer that reads a group also reads some of `neurons` from another one: it could not tell
/// them apart.
fn reads_beside(
    joint: &JointModel,
    (task, group): (usize, GroupId),
    neurons: &BTreeMap<Neuron, usize>,
) -> bool {
    let coupling = &joint.tasks[task].coupling;
    let mut layers = coupling.group(group).consumers.iter().map(|l| coupling.layer(*l));
    layers.any(|layer| {
        let mut others = layer.inputs.iter().flatten().filter(|c| c.group != group);
        others.any(|c| joint.neuron(task, *c).is_some_and(|n| neurons.contains_key(&n)))
    })
}

/// Makes the channels of a gap the same neurons, pair by pair, and settles them.
pub(super) fn close(
    joint: &mut JointModel,
    settled: &mut Paired,
    members: &[Member],
    gap: &Gap,
    pairs: &[(usize, usize)],
) {
    connect(joint, members, gap, pairs);
    settled.join(&[gap.known.place(members), gap.open.place(members)]);
}

/// Makes the channels of a gap the same neurons, pair by pair.
pub(super) fn connect(
    joint: &mut JointModel,
    members: &[Member],
    gap: &Gap,
    pairs: &[(usize, usize)],
) {
    let channel = |shore: &Shore, at: usize| {
        let (task, group) = shore.place(members);
        (task, Channel { group, index: shore.channels[at] })
    };
    for (i, j) in pairs {
        joint.share(channel(&gap.known, *i), channel(&gap.open, *j));
    }
}

/// Where corresponding channels are read before any corresponding layers make them, as a residual stream
/// behind different first layers, or by the first that make them, which are depthwise then: by the number
/// of their correspondence, the places of the site that reads them first and of the one that makes them
/// first.
pub(super) fn read_before_made(
    joint: &JointModel,
    alignment: &Alignment,
    making: &Making,
) -> BTreeMap<usize, (usize, usize)> {
    let mut early = BTreeMap::new();
    for (place, site) in alignment.sites.iter().enumerate().filter(|(_, s)| s.is_common()) {
        let members = class_members(joint, alignment, site);
        let depthwise = members.iter().all(|m| m.layer.per_channel);
        for class in classes_read(alignment, &members) {
            let first = making.0.get(&class).and_then(|makers| makers.first());
            let is_early = |made: usize| made > place || (depthwise && made == place);
            if let Some((made, _)) = first.filter(|(made, _)| is_early(*made)) {
                early.entry(class).or_insert((place, *made));
            }
        }
    }
    early
}

/// Whether layers read model inputs that have nothing in common, so that they can never share anything.
fn reads_unlike_inputs(joint: &JointModel, alignment: &Alignment, members: &[Member]) -> bool {
    let reads_inputs = |m: &Member| {
        let groups = read_groups(m);
        let coupling = &joint.tasks[m.task].coupling;
        !groups.is_empty() && groups.iter().all(|g| coupling.group(*g).end() == Some(End::Input))
    };
    let per_channel = members.iter().any(|m| m.layer.per_channel);
    let common = Columns::of(joint, alignment, members, 1).count;
    !per_channel && common == 0 && members.iter().all(reads_inputs)
}

/// The correspondences of which several layers read channels.
fn classes_read(alignment: &Alignment, members: &[Member]) -> Vec<usize> {
    let mut readers: BTreeMap<usize, usize> = BTreeMap::new();
    for member in members {
        let groups = read_groups(member).into_iter();
        let classes: BTreeSet<usize> =
            groups.filter_map(|group| alignment.class(member.task, group)).collect();
        classes.into_iter().for_each(|class| *readers.entry(class).or_default() += 1);
    }
    readers.into_iter().filter(|(_, n)| *n > 1).map(|(class, _)| class).collect()
}
