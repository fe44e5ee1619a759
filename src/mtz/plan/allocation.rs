//! How many neurons to share in which layer, for a joint model of a given size.
//!
//! Starts from the sharing of a trial, which measured the cost of every pair, and unshares pairs
//! until the size is reached: always the costliest pairs of the group whose pairs cost most per
//! parameter saved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::align::{Alignment, TaskLayer};
use crate::couple::End;
use crate::mtz::joint::{JointModel, Neuron};
use crate::mtz::site::SiteRecord;

/// One merge on the way to a goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Parameters, as a part of all models'.
    pub size: f64,
    /// Rise of each task's error, from 0 to 1; empty if it was not measured.
    pub drops: Vec<f64>,
    /// Mean squared error of the outputs against the originals', relative to their variance; `None` if it
    /// was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    /// Whether this merge was kept.
    pub kept: bool,
}

/// A correspondence whose number of shared neurons is to be chosen.
#[derive(Debug, Clone)]
struct Group {
    /// The layer name that rules match.
    layer: String,
    /// Costs of its pairs, ascending.
    costs: Vec<f64>,
    most: usize,
}

/// The number of shared neurons of each group.
type Counts = BTreeMap<usize, usize>;

/// Saving of one site: rows × (fixed + Σ per input neuron), for every task except the first.
#[derive(Debug, Clone)]
struct Saving {
    rows: usize,
    fixed: f64,
    columns: BTreeMap<usize, f64>,
    copies: f64,
}

/// Numbers of shared neurons, by the name of the layer that rules match.
pub type Allocation = Vec<(String, usize)>;

/// The number of neurons to share, from the records of a trial that shared all it could. `parameters`
/// are those of all nets, of the trial, and the wanted maximum; `None` if even the trial is larger.
/// Numbers are multiples of `multiple`, unless all neurons are shared.
pub fn allocate(
    joint: &JointModel,
    alignment: &Alignment,
    trial: &[SiteRecord],
    (separate, least, parameters): (u64, u64, u64),
    multiple: usize,
) -> Option<Allocation> {
    if least > parameters {
        return None;
    }
    let (groups, savings) = plan(joint, alignment, trial);
    let mut counts: Counts = groups.iter().map(|(of, group)| (*of, group.most)).collect();
    // Weights that are always shared are not the saving of any group.
    let constant = separate as f64 - least as f64 - saved(&counts, &savings);
    let size = |counts: &Counts| separate as f64 - constant - saved(counts, &savings);
    loop {
        let now = size(&counts);
        let best = groups
            .iter()
            .filter_map(|(correspondence, group)| {
                let shared = *counts.get(correspondence)?;
                let fewer = shared - step(group, shared, multiple)?;
                let mut changed = counts.clone();
                changed.insert(*correspondence, fewer);
                let then = size(&changed);
                let grown = then - now;
                let left = &group.costs[..cheapest(group, shared)];
                let gain: f64 = left[cheapest(group, fewer)..].iter().sum();
                (then <= parameters as f64 && grown > 0.0 && gain > 0.0).then_some((
                    *correspondence,
                    fewer,
                    gain / grown,
                ))
            })
            .max_by(|a, b| a.2.total_cmp(&b.2));
        let Some((correspondence, fewer, _)) = best else { break };
        counts.insert(correspondence, fewer);
    }
    Some(groups.into_values().map(|group| group.layer).zip(counts.into_values()).collect())
}

/// Pairs to unshare per step: a 64th of all, rounded to multiples.
fn step(group: &Group, shared: usize, multiple: usize) -> Option<usize> {
    let multiple = multiple.max(1);
    let step = (group.most / 64).max(1).next_multiple_of(multiple);
    let over = shared % multiple;
    let step = if over > 0 { over } else { step.min(shared) };
    (step > 0).then_some(step)
}

/// The number of recorded pairs for a number of shared neurons. With more than two tasks there are
/// several pairs per neuron.
fn cheapest(group: &Group, shared: usize) -> usize {
    (group.costs.len() * shared).checked_div(group.most).unwrap_or(0)
}

fn saved(counts: &Counts, savings: &[(usize, Saving)]) -> f64 {
    let shared = |correspondence: &usize| counts.get(correspondence).map(|count| *count as f64);
    let of = |(correspondence, saving): &(usize, Saving)| {
        let rows = shared(correspondence).unwrap_or(saving.rows as f64);
        let columns: f64 =
            saving.columns.iter().map(|(c, per)| per * shared(c).unwrap_or(0.0)).sum();
        rows * (saving.fixed + columns) * saving.copies
    };
    savings.iter().map(of).sum()
}

/// The correspondences of a trial, and the savings of its sites.
fn plan(
    joint: &JointModel,
    alignment: &Alignment,
    trial: &[SiteRecord],
) -> (BTreeMap<usize, Group>, Vec<(usize, Saving)>) {
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    let mut savings = Vec::new();
    let correspondences = correspondences(joint, alignment);
    for (site, record) in alignment.common().zip(trial) {
        let Some(own) = site.members().find(|m| record.tasks.contains(&m.task.0)) else {
            continue;
        };
        let layer = joint.layer(own);
        let group = crate::align::only_group(&layer.outputs);
        let correspondence = group.and_then(|g| alignment.correspondence(own.task.group(g)));
        let (Some(correspondence), None) = (correspondence, &record.reason) else { continue };
        if !record.pair_costs.is_empty() {
            let mut costs = record.pair_costs.clone();
            costs.sort_by(f64::total_cmp);
            let (layer, most) = (layer.name.clone(), record.shared);
            groups.entry(correspondence).or_insert(Group { layer, costs, most });
        }
        let saving = saving(joint, alignment, &correspondences, own, record);
        savings.extend(saving.map(|saving| (correspondence, saving)));
    }
    (groups, savings)
}

/// The saving of one site; `None` if its layer has no sizes.
fn saving(
    joint: &JointModel,
    alignment: &Alignment,
    correspondences: &BTreeMap<Neuron, usize>,
    own: TaskLayer,
    record: &SiteRecord,
) -> Option<Saving> {
    let (task, layer) = (own.task, joint.layer(own));
    let (_, inputs, taps) = layer.layer.sizes(joint.task(task).graph()).ok()?;
    let mut saving = Saving {
        rows: record.shared,
        fixed: if layer.layer.bias.is_some() { 1.0 } else { 0.0 },
        columns: BTreeMap::new(),
        copies: record.tasks.len() as f64 - 1.0,
    };
    let channels = match &layer.inputs {
        Some(channels) if !layer.per_channel => channels,
        _ => {
            saving.fixed += (inputs * taps) as f64;
            return Some(saving);
        }
    };
    for channel in channels {
        let group = task.group(channel.group);
        let neuron = joint.neuron(task.channel(*channel));
        let elsewhere = neuron.and_then(|neuron| correspondences.get(&neuron));
        let (correspondence, size) = match (alignment.correspondence(group), elsewhere) {
            (Some(correspondence), _) => (correspondence, joint.group(group).size),
            // Inputs are neurons of another group: as many as that group shares.
            (None, Some(correspondence)) => {
                let neurons = &joint.sharing(task)[channel.group.0];
                (*correspondence, neurons.iter().flatten().count())
            }
            (None, None) => {
                let is_common = neuron.is_some() || joint.group(group).end() == Some(End::Input);
                saving.fixed += if is_common { taps as f64 } else { 0.0 };
                continue;
            }
        };
        *saving.columns.entry(correspondence).or_default() += taps as f64 / size as f64;
    }
    Some(saving)
}

/// The correspondence that each shared neuron belongs to.
fn correspondences(joint: &JointModel, alignment: &Alignment) -> BTreeMap<Neuron, usize> {
    let mut correspondences = BTreeMap::new();
    for correspondence in 0..alignment.groups.len() {
        for group in alignment.members(correspondence) {
            let neurons = joint.sharing(group.task)[group.group.0].iter().flatten();
            correspondences.extend(neurons.map(|neuron| (*neuron, correspondence)));
        }
    }
    correspondences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mtz::matching::Share;
    use crate::mtz::options::Budget;
    use crate::mtz::plan::{Prediction, predict};
    use crate::zipper::{Prepared, fixtures};

    fn predicted(prepared: &Prepared, budget: &Budget) -> Prediction {
        predict(&prepared.joint, &prepared.alignment, budget, false).unwrap()
    }

    /// Records of a merge that shares everything, with the given cost of a pair per layer.
    fn trial(all: &Prediction, costs: [f64; 3]) -> Vec<SiteRecord> {
        let site = |(n, plan): (usize, &crate::mtz::plan::SitePlan)| SiteRecord {
            tasks: plan.tasks.clone(),
            shared: plan.shared,
            reason: plan.reason.clone(),
            pair_costs: vec![costs.get(n).copied().unwrap_or(0.0); plan.shared],
            ..SiteRecord::default()
        };
        all.sites.iter().enumerate().map(site).collect()
    }

    fn allocated(part: f64, costs: [f64; 3], multiple: usize) -> Option<(Vec<usize>, f64)> {
        let prepared = fixtures(&["lenet5_mnist_a", "lenet5_mnist_b"]);
        let all = predicted(&prepared, &Budget::uniform(Share::Fraction(1.0)));
        let (separate, least) = (all.sizes.separate(), all.sizes.joint());
        let wanted = (part * separate as f64) as u64;
        let numbers = (separate, least, wanted);
        let trial = trial(&all, costs);
        let found = allocate(&prepared.joint, &prepared.alignment, &trial, numbers, multiple)?;
        let mut budget = Budget::uniform(Share::Fraction(1.0));
        for (layer, count) in &found {
            budget.layer(layer, Share::Count(*count)).unwrap();
        }
        let size = predicted(&prepared, &budget).sizes.joint() as f64 / separate as f64;
        Some((found.into_iter().map(|(_, n)| n).collect(), size))
    }

    #[test]
    fn the_size_is_met_closely() {
        for part in [0.52, 0.6, 0.75, 0.9, 1.0] {
            let (_, size) = allocated(part, [1.0, 2.0, 3.0], 1).unwrap();
            assert!(size <= part + 1e-9 && size > part - 0.02, "{size} for {part}");
        }
        assert_eq!(allocated(0.4, [1.0; 3], 1), None);
    }

    #[test]
    fn what_costs_most_per_parameter_is_given_up_first() {
        let (counts, _) = allocated(0.6, [0.0, 0.0, 1.0], 1).unwrap();
        assert_eq!(counts[..2], [20, 50]);
        let (counts, _) = allocated(0.6, [0.0, 50.0, 0.0], 1).unwrap();
        assert!(counts[1] < 50 && counts[2] == 500, "{counts:?}");
    }

    #[test]
    fn counts_are_multiples_unless_they_are_all() {
        let (counts, _) = allocated(0.7, [1.0, 1.0, 1.0], 16).unwrap();
        for (count, all) in counts.iter().zip([20, 50, 500]) {
            assert!(count % 16 == 0 || *count == all, "{counts:?}");
        }
    }
}
