//! How many neurons to share in which layer, for a joint model of a given size.
//!
//! Starts from the sharing of a trial, which measured the cost of every pair, and unshares pairs
//! until the size is reached: always the costliest pairs of the group whose pairs cost most per
//! parameter saved.

use std::collections::BTreeMap;

use crate::align::{Alignment, TaskLayer};
use crate::couple::End;
use crate::mtz::joint::{JointModel, Neuron};
use crate::mtz::site::SiteRecord;

use super::savings::{Saving, Savings};
use super::unsharing::{Group, unshare};

/// Numbers of shared neurons, by the name of the layer that rules match.
pub type Allocation = Vec<(String, usize)>;

/// The costs of all pairs of a trial that shared all it could, and what they save.
pub struct PairCosts {
    groups: BTreeMap<usize, Group>,
    savings: Savings,
}

impl PairCosts {
    /// Those of a trial, from its joint model and records.
    pub fn of(joint: &JointModel, alignment: &Alignment, trial: &[SiteRecord]) -> PairCosts {
        let (groups, savings) = plan(joint, alignment, trial);
        PairCosts { groups, savings: Savings::new(savings) }
    }

    /// The number of neurons to share. `parameters` are those of all nets, of the trial, and the wanted
    /// maximum; `None` if even the trial is larger. Numbers are multiples of `multiple`, unless all neurons
    /// are shared.
    pub fn allocate(
        &self,
        (separate, least, parameters): (u64, u64, u64),
        multiple: usize,
    ) -> Option<Allocation> {
        if least > parameters {
            return None;
        }
        let numbers = (separate, least, parameters);
        let counts = unshare(&self.groups, &self.savings, numbers, multiple);
        let layers = self.groups.values().map(|group| group.layer.clone());
        Some(layers.zip(counts.into_values()).collect())
    }
}

/// The correspondences of a trial, and the savings of its sites.
fn plan(
    joint: &JointModel,
    alignment: &Alignment,
    trial: &[SiteRecord],
) -> (BTreeMap<usize, Group>, Vec<Saving>) {
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
        let saving = saving(joint, alignment, &correspondences, (correspondence, own), record);
        savings.extend(saving);
    }
    (groups, savings)
}

/// The saving of one site, whose rows are of a correspondence; `None` if its layer has no sizes.
fn saving(
    joint: &JointModel,
    alignment: &Alignment,
    correspondences: &BTreeMap<Neuron, usize>,
    (rows, own): (usize, TaskLayer),
    record: &SiteRecord,
) -> Option<Saving> {
    let (task, layer) = (own.task, joint.layer(own));
    let (_, inputs, taps) = layer.layer.sizes(joint.task(task).graph()).ok()?;
    let mut saving = Saving {
        correspondence: rows,
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
        let pairs = PairCosts::of(&prepared.joint, &prepared.alignment, &trial);
        let found = pairs.allocate(numbers, multiple)?;
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
