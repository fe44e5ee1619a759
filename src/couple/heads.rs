//! Attention heads and other blocks of channels that are paired as a whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::atoms::{Atoms, Mark};
use super::{Channel, ChannelGroup, GroupId, Nest};
use crate::ir::NodeId;
use crate::ops::{Atom, Labels};

/// Heads with the channels of each.
#[derive(Debug)]
struct HeadSet {
    /// The channels of all heads, one head after the other.
    members: Vec<Atom>,
    /// The channel that represents each head, on axes with one index per head.
    heads: Vec<Atom>,
    /// Whether the channels of a head keep their order.
    is_fixed: bool,
    /// Whether all heads have one order of channels.
    is_common: bool,
    /// The channels of the only head that all heads meet.
    depths: Option<Vec<Atom>>,
    /// Whether an operator needs the heads themselves.
    is_used: bool,
}

impl HeadSet {
    fn width(&self) -> usize {
        self.members.len() / self.heads.len().max(1)
    }
}

/// The state of heads during a walk through the graph.
#[derive(Debug, Default)]
pub(super) struct Heads {
    sets: Vec<HeadSet>,
    /// Reshapes that put channels on two axes, with these channels.
    splits: Vec<(NodeId, Vec<Atom>)>,
    /// Channels, on two axes, that an operator needs whole.
    spoilt: Vec<Atom>,
}

impl Heads {
    /// Notes a reshape that puts channels on two axes.
    pub(super) fn enter(&mut self, node: NodeId, labels: &Labels) {
        self.splits.push((node, labels.atoms.clone()));
    }

    /// Notes channels on two axes that cannot be followed further.
    pub(super) fn spoil(&mut self, labels: &Labels) {
        self.spoilt.extend(labels.atoms.first());
    }

    /// The channels that represent the heads of `labels`; creates new ones if there are none yet.
    pub(super) fn of(
        &mut self,
        atoms: &mut Atoms,
        node: NodeId,
        labels: &Labels,
        width: usize,
        kept: Kept,
    ) -> Vec<Atom> {
        let blocks: Vec<&[Atom]> = labels.atoms.chunks(width.max(1)).collect();
        let root = |block: &[Atom]| block.first().map(|atom| atoms.root(*atom));
        let firsts: Vec<Option<Atom>> = blocks.iter().map(|block| root(block)).collect();
        for set in self.sets.iter_mut().filter(|set| set.width() == width) {
            let known: HashMap<Atom, Atom> = set
                .members
                .chunks(width.max(1))
                .zip(&set.heads)
                .filter_map(|(block, head)| Some((root(block)?, *head)))
                .collect();
            let found: Option<Vec<Atom>> =
                firsts.iter().map(|first| known.get(first.as_ref()?).copied()).collect();
            if let Some(found) = found {
                kept.note(set);
                return found;
            }
        }
        let mut seen: HashMap<Option<Atom>, usize> = HashMap::new();
        let mut members = Vec::new();
        let places: Vec<usize> = blocks
            .iter()
            .zip(&firsts)
            .map(|(block, first)| {
                let next = seen.len();
                *seen.entry(*first).or_insert_with(|| {
                    members.extend_from_slice(block);
                    next
                })
            })
            .collect();
        let heads = atoms.fresh(seen.len(), Mark::Made(node.index() as u32));
        let mut set = HeadSet {
            members,
            heads: heads.clone(),
            is_fixed: false,
            is_common: false,
            depths: None,
            is_used: false,
        };
        kept.note(&mut set);
        self.sets.push(set);
        places.into_iter().map(|place| heads[place]).collect()
    }

    /// Whether an operator before needs the heads of `labels` themselves.
    pub(super) fn are_used(&self, atoms: &Atoms, labels: &Labels, width: usize) -> bool {
        let root = |members: &[Atom]| members.first().map(|atom| atoms.root(*atom));
        let mut used = self.sets.iter().filter(|set| set.is_used && set.width() == width);
        used.any(|set| root(&set.members) == root(&labels.atoms))
    }

    /// Notes the only head that all heads of `labels` meet. Returns the one that they meet already, if any.
    pub(super) fn meet(
        &mut self,
        atoms: &Atoms,
        labels: &Labels,
        width: usize,
        depths: &[Atom],
    ) -> Option<Vec<Atom>> {
        let root = |members: &[Atom]| members.first().map(|atom| atoms.root(*atom));
        let is_own =
            |set: &&mut HeadSet| set.width() == width && root(&set.members) == root(&labels.atoms);
        let set = self.sets.iter_mut().find(is_own)?;
        match &set.depths {
            Some(known) => Some(known.clone()),
            None => {
                set.depths = Some(depths.to_vec());
                None
            }
        }
    }

    /// Whether channels are the heads of others, and an operator needs them.
    pub(super) fn are_heads(&self, atoms: &Atoms, found: &[Atom]) -> bool {
        let roots = |all: &[Atom]| all.iter().map(|atom| atoms.root(*atom)).collect::<Vec<_>>();
        let wanted = roots(found);
        let mut used = self.sets.iter().filter(|set| set.is_used);
        used.any(|set| roots(&set.heads) == wanted)
    }

    /// Notes channels that are pairs of a head and a depth, at a node that makes them.
    pub(super) fn pairs(
        &mut self,
        node: NodeId,
        members: &Labels,
        heads: &[Atom],
        depths: &[Atom],
    ) {
        self.enter(node, members);
        self.sets.push(HeadSet {
            members: members.atoms.clone(),
            heads: heads.to_vec(),
            is_fixed: false,
            is_common: true,
            depths: Some(depths.to_vec()),
            is_used: true,
        });
    }

    /// Unites heads whose channels are united.
    pub(super) fn unite(&self, atoms: &mut Atoms) {
        let mut first: HashMap<(Atom, usize), Vec<Atom>> = HashMap::new();
        for set in &self.sets {
            let Some(member) = set.members.first() else { continue };
            let key = (atoms.root(*member), set.width());
            let known = first.entry(key).or_insert_with(|| set.heads.clone()).clone();
            known.iter().zip(&set.heads).for_each(|(a, b)| atoms.unite(*a, *b));
        }
    }

    /// The nests, and the reshapes whose heads cannot be paired.
    pub(super) fn resolve(
        &self,
        channel: &dyn Fn(&Atom) -> Channel,
        groups: &[ChannelGroup],
    ) -> (Vec<Nest>, BTreeSet<NodeId>) {
        let mut nests: BTreeMap<GroupId, Nest> = BTreeMap::new();
        let used: BTreeSet<GroupId> = self
            .sets
            .iter()
            .filter(|set| set.is_used)
            .flat_map(|set| set.heads.iter().map(|head| channel(head).group))
            .collect();
        let mut bad: BTreeSet<GroupId> = self.spoilt.iter().map(|a| channel(a).group).collect();
        for set in &self.sets {
            let members: Vec<Channel> = set.members.iter().map(channel).collect();
            let heads: Vec<Channel> = set.heads.iter().map(channel).collect();
            let (Some(first), Some(head)) = (members.first(), heads.first()) else { continue };
            let nest = nests.entry(first.group).or_insert_with(|| Nest {
                channels: first.group,
                heads: head.group,
                head_of: vec![usize::MAX; groups[first.group.0].size],
                is_fixed: set.is_fixed,
                is_common: set.is_common,
                depths: None,
            });
            nest.is_fixed |= set.is_fixed;
            nest.is_common |= set.is_common;
            let depths: Option<Vec<Channel>> =
                set.depths.as_ref().map(|depths| depths.iter().map(channel).collect());
            let own = depths.as_ref().and_then(|depths| whole_group(depths, groups));
            nest.depths = nest.depths.or(own);
            let mut is_sound = used.contains(&head.group) && nest.heads == head.group;
            for (place, member) in members.iter().enumerate() {
                let head = &heads[place / set.width().max(1)];
                is_sound &= member.group == first.group && head.group == nest.heads;
                if member.group == first.group {
                    let own = &mut nest.head_of[member.index];
                    is_sound &= *own == usize::MAX || *own == head.index;
                    *own = head.index;
                }
            }
            let is_made = groups[first.group.0].producers.is_empty();
            if !is_sound || is_made && depths.is_some() && own.is_none() {
                bad.extend(members.iter().chain(&heads).map(|c| c.group));
            }
        }
        bad.extend(nests.values().filter(|n| !n.is_even(groups)).map(|n| n.channels));
        bad.extend(heads_of_heads(&nests));
        let nested: BTreeSet<GroupId> = nests.keys().copied().collect();
        for nest in nests.values_mut().filter(|n| n.depths.is_some_and(|d| nested.contains(&d))) {
            // Depths that have heads of their own are paired by these.
            match groups[nest.channels.0].producers.is_empty() {
                true => bad.extend([nest.channels]),
                false => nest.depths = None,
            }
        }
        spread(&nests, &mut bad);
        let is_bad = |found: &[Atom]| {
            found
                .iter()
                .map(channel)
                .any(|c| bad.contains(&c.group) || !nests.contains_key(&c.group))
        };
        let closed = self.splits.iter().filter(|(_, found)| is_bad(found)).map(|(id, _)| *id);
        (nests.values().cloned().collect(), closed.collect())
    }
}

/// Depths of heads that are rows of a value, whose columns are other channels.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    /// The channels, as in the operand that they come from.
    pub(super) labels: Labels,
    /// Number of depths per head.
    pub(super) width: usize,
    /// The axis of rows.
    pub(super) axis: usize,
}

/// The use of heads by a node.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    /// The node needs the channels of each head in their order.
    pub(super) order: bool,
    /// The node needs the channels of all heads in one order.
    pub(super) common: bool,
    /// The node needs the heads themselves: as a batched product with one matrix per head, or as channels.
    pub(super) leads: bool,
}

impl Kept {
    fn note(self, set: &mut HeadSet) {
        set.is_fixed |= self.order;
        set.is_common |= self.common;
        set.is_used |= self.leads;
    }
}

/// The group that consists of these channels, in their order.
fn whole_group(channels: &[Channel], groups: &[ChannelGroup]) -> Option<GroupId> {
    let first = channels.first()?.group;
    let mut places = channels.iter().enumerate();
    let are_all = places.all(|(place, own)| own.group == first && own.index == place);
    (are_all && groups.get(first.0)?.size == channels.len()).then_some(first)
}

/// The heads that have heads of their own. Pairs follow one level only.
fn heads_of_heads(nests: &BTreeMap<GroupId, Nest>) -> impl Iterator<Item = GroupId> {
    nests.values().map(|outer| outer.heads).filter(|heads| nests.contains_key(heads))
}

/// Marks all nests that share heads with a bad one as bad, too.
fn spread(nests: &BTreeMap<GroupId, Nest>, bad: &mut BTreeSet<GroupId>) {
    loop {
        let before = bad.len();
        for nest in nests.values() {
            if bad.contains(&nest.channels) || bad.contains(&nest.heads) {
                bad.extend([nest.channels, nest.heads]);
            }
        }
        if bad.len() == before {
            return;
        }
    }
}

impl Nest {
    /// Whether all channels belong to heads of equal size.
    fn is_even(&self, groups: &[ChannelGroup]) -> bool {
        let heads = groups[self.heads.0].size;
        let mut count = vec![0usize; heads];
        for head in &self.head_of {
            match count.get_mut(*head) {
                Some(count) => *count += 1,
                None => return false,
            }
        }
        self.heads != self.channels && count.iter().all(|n| *n == count[0])
    }
}
