//! Blocks of groups with attention heads: all groups with the same heads are cut alike.

use std::collections::{BTreeMap, BTreeSet};

use crate::align::TaskId;
use crate::couple::{GroupId, Nest};
use crate::mtz::joint::{Block, JointModel, Owner};

/// Gives groups with the same heads blocks of the same whole heads, or one block if their neurons are
/// not shared head by head. `blocks` are the blocks of each group of a task; `touched` are the groups
/// that fused layers produce or consume.
pub(super) fn cut_in_heads(
    joint: &JointModel,
    task: TaskId,
    touched: &BTreeSet<GroupId>,
    blocks: &mut [Vec<(Block, bool)>],
) {
    let coupling = joint.task(task).coupling();
    let mut families: BTreeMap<GroupId, Vec<&Nest>> = BTreeMap::new();
    coupling.nests.iter().for_each(|nest| families.entry(nest.heads).or_default().push(nest));
    let layout = joint.layout(task);
    for (heads, nests) in families {
        let is_touched = nests.iter().any(|nest| touched.contains(&nest.channels));
        let lead = &layout[heads.0];
        let cuts: Option<Vec<Vec<Block>>> =
            nests.iter().map(|nest| cut(nest, lead, &layout[nest.channels.0])).collect();
        let cuts = cuts.filter(|_| is_touched || touched.contains(&heads));
        let groups = std::iter::once(heads).chain(nests.iter().map(|nest| nest.channels));
        let new = match cuts {
            Some(cuts) => std::iter::once(lead.clone()).chain(cuts).collect(),
            None => groups.clone().map(|g| vec![alone(task, coupling.group(g).size)]).collect(),
        };
        let new: Vec<Vec<Block>> = new;
        for (group, new) in groups.zip(new) {
            let old = std::mem::take(&mut blocks[group.0]);
            let is_apart = |block: &Block| old.iter().any(|(own, apart)| *apart && own == block);
            blocks[group.0] =
                new.into_iter().map(|b| (is_apart(&b), b)).map(|(a, b)| (b, a)).collect();
        }
    }
}

/// A whole group as one block of the task, in its own order.
fn alone(task: TaskId, size: usize) -> Block {
    Block { owner: Owner::Tasks(vec![task]), channels: (0..size).collect(), first: None }
}

/// The blocks of a group, with heads cut as in `lead`; `None` if the group's own blocks differ from that.
fn cut(nest: &Nest, lead: &[Block], own: &[Block]) -> Option<Vec<Block>> {
    let members = nest.blocks();
    if own.iter().all(|block| block.first.is_none()) {
        let follow = |block: &Block| Block {
            channels: block.channels.iter().flat_map(|h| members[*h].iter().copied()).collect(),
            ..block.clone()
        };
        return Some(lead.iter().map(follow).collect());
    }
    let places = nest.places();
    let is_alike = |(block, lead): (&Block, &Block)| {
        let order: Vec<usize> =
            block.channels.chunks(nest.width()).map(|run| nest.head_of[run[0]]).collect();
        let runs = block.channels.chunks(nest.width()).zip(&lead.channels);
        let mut whole = runs.map(|(run, head)| {
            let inside = run.iter().all(|c| nest.head_of[*c] == *head);
            inside && run.len() == nest.width() && (!nest.is_fixed || run.is_sorted())
        });
        let is_whole = whole.all(|whole| whole);
        let orders = || block.channels.chunks(nest.width()).map(|run| order_in(&places, run));
        let is_common = !nest.is_common || orders().zip(orders().skip(1)).all(|(a, b)| a == b);
        block.owner == lead.owner && order == lead.channels && is_whole && is_common
    };
    let fits = own.len() == lead.len() && own.iter().zip(lead).all(is_alike);
    fits.then(|| own.to_vec())
}

/// The places of channels in their head.
fn order_in(places: &[usize], run: &[usize]) -> Vec<usize> {
    run.iter().map(|channel| places[*channel]).collect()
}
