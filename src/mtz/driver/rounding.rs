//! Chooses how corresponding layers are rounded, so that their common weights stay the same numbers.

use std::collections::BTreeMap;

use crate::mtz::joint::{JointModel, Rounding};
use crate::mtz::site::{CommonInputs, SiteLayer};

/// How each of these layers is rounded. Where their columns have different orders, the blocks of all are those of the
/// first. Layers that are stored in different ways, or have columns of their own in blocks, are not rounded.
pub(super) fn of(
    joint: &JointModel,
    members: &[SiteLayer],
    columns: &CommonInputs,
) -> Vec<Rounding> {
    let all = |rounding: Rounding| vec![rounding; members.len()];
    if !joint.round_alike(members.iter().map(SiteLayer::place)) {
        return all(Rounding::Nothing);
    }
    let places = members.first().and_then(|first| joint.places(first.place()));
    let (Some(places), Some((first, others))) = (places, columns.of.split_first()) else {
        return all(Rounding::Own);
    };
    // Inputs that are not followed have one order in all nets.
    if members.iter().all(|member| member.layer.inputs.is_none()) {
        return all(Rounding::Own);
    }
    let place_of: BTreeMap<usize, usize> =
        first.iter().filter_map(|(name, at)| Some((*name, *places.get(*at)?))).collect();
    let moved = |own: &Vec<(usize, usize)>| {
        let mut all: Vec<(usize, usize)> =
            own.iter().filter_map(|(name, at)| Some((*at, *place_of.get(name)?))).collect();
        all.sort_unstable();
        let is_whole = all.len() == places.len() && all.iter().map(|(at, _)| *at).eq(0..all.len());
        is_whole.then(|| all.into_iter().map(|(_, place)| place).collect())
    };
    let others: Option<Vec<Vec<usize>>> = others.iter().map(moved).collect();
    match others.filter(|_| place_of.len() == places.len()) {
        Some(others) => [places]
            .into_iter()
            .chain(others)
            .map(|own| match own.iter().copied().eq(0..own.len()) {
                true => Rounding::Own,
                false => Rounding::Places(own),
            })
            .collect(),
        None => all(Rounding::Nothing),
    }
}
