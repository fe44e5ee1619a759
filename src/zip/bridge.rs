//! Inputs of corresponding layers that layers without a counterpart make.
//!
//! Weights are shared where rows and columns are. Where two nets differ before a layer, by another kernel
//! or by a layer more, its inputs are made by each net's own weights, and these nets could not share
//! anything from there on. But any order does for channels with weights of their own: to pair them
//! changes nothing, it only says which columns of the layers behind stand for each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ndarray::{Array2, Array3};

use crate::align::{Alignment, Site};
use crate::couple::{Channel, End, GroupId};
use crate::error::{Context, Result};

use super::joint::{JointModel, Neuron};
use super::likeness::{paired, unlikeness};
use super::members::{Member, class_members};
use super::paired::Paired;
use super::run::Zip;

/// Channels that a layer reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shore {
    /// Which of a site's members reads them.
    pub(super) member: usize,
    pub(super) group: GroupId,
    /// Indices in the group.
    pub(super) channels: Vec<usize>,
}

/// Channels of two tasks that may become the same inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    /// Those that are neurons already, if any are.
    pub(super) known: Shore,
    /// Those that nothing has paired.
    pub(super) open: Shore,
}

/// What is known of a group that a layer reads.
struct Facts {
    /// Whether no corresponding layers make its channels, so that nothing else pairs them.
    is_open: bool,
    /// The shared neurons among its channels.
    neurons: BTreeMap<Neuron, usize>,
    /// The other channels.
    free: Vec<usize>,
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

/// The first inputs of corresponding layers that can be paired but are not: what is open becomes the
/// neurons that others share already; what is left over, new ones.
pub(super) fn gap(joint: &JointModel, alignment: &Alignment, members: &[Member]) -> Option<Gap> {
    let count = members.len();
    let pairs = || (0..count).flat_map(move |h| (0..count).map(move |n| (h, n)));
    let adopted = pairs().filter(|(h, n)| h != n).find_map(|(h, n)| {
        between(joint, alignment, [h, n], members, |known, open| {
            // Blocks of weights are stored once where their inputs are the same to the last one.
            let channels = adoptable(joint, known, members[n].task);
            let fits = open.is_open
                && open.neurons.is_empty()
                && (1..=open.free.len()).contains(&channels.len());
            fits.then(|| (channels, open.free.clone()))
        })
    });
    adopted.or_else(|| {
        pairs().filter(|(h, n)| h < n).find_map(|(h, n)| {
            between(joint, alignment, [h, n], members, |a, b| {
                let alike = a.neurons.is_empty() && b.neurons.is_empty()
                    || a.neurons.keys().any(|n| b.neurons.contains_key(n));
                let fits = a.is_open && b.is_open && alike;
                let left = fits && !a.free.is_empty() && !b.free.is_empty();
                left.then(|| (a.free.clone(), b.free.clone()))
            })
        })
    })
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

/// The first groups of two members' inputs, in their order, of which `choose` picks channels.
fn between(
    joint: &JointModel,
    alignment: &Alignment,
    [h, n]: [usize; 2],
    members: &[Member],
    choose: impl Fn(&Facts, &Facts) -> Option<(Vec<usize>, Vec<usize>)>,
) -> Option<Gap> {
    let (groups, others) = (read_groups(&members[h]), read_groups(&members[n]));
    groups.into_iter().zip(others).find_map(|(mine, theirs)| {
        let known = facts(joint, alignment, (members[h].task, mine))?;
        let open = facts(joint, alignment, (members[n].task, theirs))?;
        let (left, right) = choose(&known, &open)?;
        let fits = pixels(&members[h], mine) == pixels(&members[n], theirs)
            && !reads_beside(joint, (members[n].task, theirs), &known.neurons);
        fits.then_some(Gap {
            known: Shore { member: h, group: mine, channels: left },
            open: Shore { member: n, group: theirs, channels: right },
        })
    })
}

fn facts(
    joint: &JointModel,
    alignment: &Alignment,
    (task, group): (usize, GroupId),
) -> Option<Facts> {
    let own = joint.tasks[task].coupling.group(group);
    let channels = &joint.sharing(task)[group.0];
    let shared = channels.iter().enumerate().filter_map(|(at, n)| Some(((*n)?, at)));
    let free = channels.iter().enumerate().filter(|(_, n)| n.is_none()).map(|(at, _)| at);
    (own.end() != Some(End::Input)).then(|| Facts {
        is_open: own.frozen.is_none() && alignment.class(task, group).is_none(),
        neurons: shared.collect(),
        free: free.collect(),
    })
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
fn pixels(member: &Member, group: GroupId) -> Option<usize> {
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

/// Makes the channels of a gap the same neurons, pair by pair.
pub(super) fn close(
    joint: &mut JointModel,
    settled: &mut Paired,
    members: &[Member],
    gap: &Gap,
    pairs: &[(usize, usize)],
) {
    let place = |shore: &Shore| (members[shore.member].task, shore.group);
    let channel = |shore: &Shore, at: usize| {
        let (task, group) = place(shore);
        (task, Channel { group, index: shore.channels[at] })
    };
    for (i, j) in pairs {
        joint.share(channel(&gap.known, *i), channel(&gap.open, *j));
    }
    settled.join(&[place(&gap.known), place(&gap.open)]);
}

/// Where corresponding channels are read before any corresponding layers make them, as a residual stream
/// behind different first layers: by the number of their correspondence, the places of the site that
/// reads them first and of the one that makes them first.
pub(super) fn read_before_made(
    joint: &JointModel,
    alignment: &Alignment,
) -> BTreeMap<usize, (usize, usize)> {
    let mut read: BTreeMap<usize, usize> = BTreeMap::new();
    let mut made: BTreeSet<usize> = BTreeSet::new();
    let mut early = BTreeMap::new();
    for (place, site) in alignment.sites.iter().enumerate().filter(|(_, s)| s.is_common()) {
        let members = class_members(joint, alignment, site);
        let Some(class) = members.first().and_then(|m| alignment.class(m.task, m.group()?)) else {
            continue;
        };
        if let (true, Some(reader)) = (made.insert(class), read.get(&class)) {
            early.insert(class, (*reader, place));
        }
        for class in classes_read(alignment, &members) {
            read.entry(class).or_insert(place);
        }
    }
    early
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

impl Zip<'_> {
    /// Pairs the inputs of a site's layers that nothing else pairs.
    pub(super) fn bridge(&mut self, site: &Site) -> Result<()> {
        let members = readers(self.joint, self.alignment, site);
        if !members.iter().all(|m| self.fits(m.task, &m.layer)) {
            return Ok(());
        }
        while let Some(gap) = gap(self.joint, self.alignment, &members) {
            let pairs = self.alike(&members, &gap).at_node(&members[0].layer.name)?;
            close(self.joint, &mut self.paired, &members, &gap, &pairs);
        }
        Ok(())
    }

    /// Pairs the channels of a correspondence that are read before they are made by what reads them, as
    /// something to begin with.
    pub(super) fn pair_by_readers(
        &mut self,
        groups: &[(usize, GroupId)],
        reader: usize,
    ) -> Result<()> {
        let members = class_members(self.joint, self.alignment, &self.alignment.sites[reader]);
        let shore = |(task, group): &(usize, GroupId)| {
            let member = members.iter().position(|m| m.task == *task)?;
            let size = self.joint.tasks[*task].coupling.group(*group).size;
            let reads = pixels(&members[member], *group)?;
            Some((Shore { member, group: *group, channels: (0..size).collect() }, reads))
        };
        let shores: Vec<(Shore, usize)> = groups.iter().filter_map(shore).collect();
        let Some(((known, reads), others)) = shores.split_first() else { return Ok(()) };
        for (open, _) in others.iter().filter(|(_, own)| own == reads) {
            let place = |shore: &Shore| (members[shore.member].task, shore.group);
            if self.paired.together(place(known), place(open)) {
                continue;
            }
            let gap = Gap { known: known.clone(), open: open.clone() };
            for (i, j) in self.alike(&members, &gap)? {
                let channel = |group, index| Channel { group, index };
                let (a, b) = (channel(known.group, i), channel(open.group, j));
                self.joint.share((place(known).0, a), (place(open).0, b));
            }
        }
        Ok(())
    }

    /// The channels of a gap, pair by pair, that do the most similar work in the layers that read them.
    fn alike(&self, members: &[Member], gap: &Gap) -> Result<Vec<(usize, usize)>> {
        let shores = [&gap.known, &gap.open];
        let [a, b] = shores.map(|shore| self.read_weights(&members[shore.member], shore));
        let [x, y] = shores.map(|shore| &members[shore.member]);
        let mut rows = Vec::new();
        for (i, channel) in x.layer.outputs.iter().enumerate() {
            let neuron = self.joint.neuron(x.task, *channel);
            let same = |c: &Channel| neuron.is_some() && self.joint.neuron(y.task, *c) == neuron;
            rows.extend(y.layer.outputs.iter().position(same).map(|j| (i, j)));
        }
        let rows = (!rows.is_empty()).then_some(rows.as_slice());
        paired(&unlikeness(&a?, &b?, rows)?)
    }

    /// The weights of a layer for channels that it reads: [channels, rows, weights of each].
    fn read_weights(&self, member: &Member, shore: &Shore) -> Result<Array3<f32>> {
        let matrix: Array2<f64> = self.weights(member.task, &member.layer)?;
        let inputs = member.layer.inputs.as_deref().unwrap_or_default();
        let taps = (matrix.ncols() - 1) / inputs.len().max(1);
        let mut columns: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, channel) in inputs.iter().enumerate().filter(|(_, c)| c.group == shore.group) {
            columns.entry(channel.index).or_default().extend(at * taps..(at + 1) * taps);
        }
        let of = |channel: &usize| columns.get(channel).map_or(&[][..], Vec::as_slice);
        let each = shore.channels.iter().map(|c| of(c).len()).max().unwrap_or(0);
        let shape = (shore.channels.len(), matrix.nrows(), each);
        Ok(Array3::from_shape_fn(shape, |(channel, row, n)| {
            of(&shore.channels[channel]).get(n).map_or(0.0, |column| matrix[(row, *column)] as f32)
        }))
    }
}
