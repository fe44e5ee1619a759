//! Predicts the result of a merge from structure alone.
//!
//! The budget decides how many neurons are shared. Which ones are shared changes no size, so the
//! first channels of each group stand in for those that data would choose.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::align::{Alignment, TaskChannel};
use crate::couple::GroupId;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::mtz::joint::JointModel;
use crate::mtz::options::Budget;
use crate::mtz::site::{
    OWN_WEIGHTS, SettledGroups, SiteLayer, SiteSelection, SiteShape, common_neurons,
    corresponding_layers,
};
use crate::mtz::statistics::statistics_bytes;
use crate::ops::LayerKind;

use super::input_matching::{PlanState, settle_inputs};
use super::producers::{Producers, consumed_before_produced, consumers};
use super::sizes::{Sizes, sizes_by};

/// The prediction for a site of several nets. Lists follow `tasks`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SitePlan {
    /// The tasks of the layers that can be zipped, or all tasks if none can.
    pub tasks: Vec<usize>,
    /// Names of the layers.
    pub layers: Vec<String>,
    /// Neurons.
    pub neurons: Vec<usize>,
    /// Shared neurons; an upper bound if the budget is a limit of cost.
    pub shared: usize,
    /// Inputs.
    pub inputs: Vec<usize>,
    /// Shared inputs.
    pub shared_inputs: usize,
    /// Parameters that are stored once instead of once per task.
    pub saved: u64,
    /// Bytes of the layers' statistics, all of these tasks together.
    pub statistics: u64,
    /// The reason why nothing can be shared, if so.
    pub reason: Option<String>,
}

/// The predicted result of a merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    /// The prediction for each site of several nets.
    pub sites: Vec<SitePlan>,
    /// Parameters before and after.
    pub sizes: Sizes,
}

impl Prediction {
    /// The number of layers to zip.
    pub fn zipped(&self) -> usize {
        self.sites.iter().filter(|site| site.shared > 0 && site.reason.is_none()).count()
    }
}

/// Predicts the result of merging the tasks of `joint`. `targets` says whether statistics hold
/// pre-activations too. With more than two tasks, the sets of tasks that share each neuron are an
/// estimate.
///
/// # Errors
/// [`ErrorKind::Usage`] if more neurons are to be shared than there are; [`ErrorKind::Format`] if a
/// layer's weight is not a matrix.
pub fn predict(
    joint: &JointModel,
    alignment: &Alignment,
    budget: &Budget,
    targets: bool,
) -> Result<Prediction> {
    predict_sharing(joint, alignment, budget, targets).map(|(prediction, _)| prediction)
}

/// [`predict`], and the joint model with the predicted sharing.
///
/// # Errors
/// As [`predict`].
pub fn predict_sharing(
    joint: &JointModel,
    alignment: &Alignment,
    budget: &Budget,
    targets: bool,
) -> Result<(Prediction, JointModel)> {
    let mut joint = joint.clone();
    let mut settled = SettledGroups::of(&joint);
    let mut sites = Vec::new();
    let producers = Producers::of(&joint, alignment);
    for (_, made) in consumed_before_produced(&joint, alignment, &producers).into_values() {
        let members = corresponding_layers(&joint, alignment, &alignment.sites[made]);
        share(&mut joint, &settled, &members, budget)?;
        settled.join_groups(&joint, &members);
    }
    for (place, site) in alignment.sites.iter().enumerate().filter(|(_, s)| s.is_common()) {
        let consumers = consumers(&joint, alignment, site);
        let unmatched = |joint: &JointModel, settled: &SettledGroups| {
            let producers = &producers;
            PlanState { joint, alignment, settled, producers, budget, place }.unmatched(&consumers)
        };
        let mut before = None;
        while let Some(found) = unmatched(&joint, &settled).filter(|f| before.as_ref() != Some(f)) {
            let pairs: Vec<(usize, usize)> = (0..found.most).map(|i| (i, i)).collect();
            settle_inputs(&mut joint, &mut settled, &consumers, &found, &pairs);
            before = Some(found);
        }
        let mut selection = SiteSelection::at(&joint, alignment, site)?;
        if selection.reason.is_none() {
            let members = selection.members();
            if !members[0].layer.per_channel {
                share(&mut joint, &settled, &members, budget)?;
                if members.iter().any(SiteLayer::consumes_own_outputs) {
                    selection = SiteSelection::at(&joint, alignment, site)?;
                }
            }
            if site.own_weights || selection.leaves_alone(&joint, (alignment, site), budget) {
                settled.join_groups(&joint, &members);
                selection.reason = Some(OWN_WEIGHTS.to_owned());
            } else {
                settled.fuse(&mut joint, alignment, &members);
            }
        }
        sites.push(plan(&joint, &selection, budget, targets)?);
    }
    let sizes = sizes_by(&joint, |layer| {
        let keeps = budget.keeps_bias(joint.layer(layer));
        Ok(!keeps || joint.shares_bias(layer)?)
    })?;
    Ok((Prediction { sites, sizes }, joint))
}

/// Pairs the first channels of each layer with those of the layers before. Pairs from another layer
/// of the same group stay.
fn share(
    joint: &mut JointModel,
    settled: &SettledGroups,
    members: &[SiteLayer],
    budget: &Budget,
) -> Result<()> {
    let name = &members[0].layer.name;
    let mut order: Vec<&SiteLayer> = members.iter().collect();
    order.sort_by_key(|m| !m.group().is_some_and(|g| settled.is_settled(g)));
    let mut neurons: Vec<TaskChannel> = Vec::new();
    for (at, member) in order.iter().enumerate() {
        let is_settled = order[..at].iter().any(|other| match (other.group(), member.group()) {
            (Some(a), Some(b)) => settled.settled_together(a, b),
            _ => false,
        });
        let own: Vec<TaskChannel> =
            member.layer.outputs.iter().map(|c| member.task.channel(*c)).collect();
        let count = match at > 0 && !is_settled {
            true => {
                let most = neurons.len().min(own.len());
                quota(budget, name, most, joint.tasks().len()).at_node(name)?
            }
            false => 0,
        };
        let count = match (neurons.first(), own.first()) {
            (Some(a), Some(b)) => in_heads(joint, *a, *b, count),
            _ => count,
        };
        neurons.iter().zip(&own).take(count).for_each(|(a, b)| joint.share(*a, *b));
        let known: BTreeSet<_> = neurons.iter().filter_map(|c| joint.neuron(*c)).collect();
        let is_new = |c: &&TaskChannel| joint.neuron(**c).is_none_or(|n| !known.contains(&n));
        neurons.extend(own.iter().filter(is_new));
    }
    Ok(())
}

/// The number of channels, of at most `count`, that whole attention heads of two groups have. If
/// other channels have paired the heads already, those pairs count.
fn in_heads(joint: &JointModel, a: TaskChannel, b: TaskChannel, count: usize) -> usize {
    let nest = |own: TaskChannel| joint.task(own.task).coupling().nest(own.channel.group);
    match (nest(a), nest(b)) {
        (None, None) if are_depths(joint, a) || are_depths(joint, b) => {
            let size = |own: TaskChannel| joint.group(own.task.group(own.channel.group)).size;
            if count == size(a) && count == size(b) { count } else { 0 }
        }
        (None, None) => count,
        (Some(x), Some(y)) if x.width() == y.width() => {
            let neurons = |own: TaskChannel, heads: GroupId| {
                let all = joint.sharing(own.task)[heads.0].iter().flatten();
                all.copied().collect::<BTreeSet<_>>()
            };
            let theirs = neurons(b, y.heads);
            let known = neurons(a, x.heads).intersection(&theirs).count();
            match known {
                0 => count / x.width() * x.width(),
                known => known * x.width(),
            }
        }
        _ => 0,
    }
}

/// Whether a channel is a depth of heads elsewhere, which are paired with all their depths.
fn are_depths(joint: &JointModel, own: TaskChannel) -> bool {
    joint.task(own.task).coupling().are_depths(own.channel.group)
}

fn quota(budget: &Budget, name: &str, most: usize, nets: usize) -> Result<usize> {
    let count = budget.share_of_join(name, most, nets).pairs(most).unwrap_or(most);
    if count > most {
        let message = format!("{count} neurons cannot be shared by a layer of {most}");
        return Err(Error::new(ErrorKind::Usage, message));
    }
    Ok(count)
}

fn plan(
    joint: &JointModel,
    selection: &SiteSelection,
    budget: &Budget,
    targets: bool,
) -> Result<SitePlan> {
    let members = selection.recorded();
    let neurons = match selection.reason {
        Some(_) => Vec::new(),
        None => common_neurons(joint, &members),
    };
    let depthwise = members.iter().all(|m| m.layer.per_channel);
    let statistics = |m: &SiteLayer| statistics_bytes(joint.task(m.task), &m.layer, targets);
    let SiteShape { tasks, layers, neurons: rows, inputs } = SiteShape::of(joint, &members)?;
    Ok(SitePlan {
        tasks,
        layers,
        neurons: rows,
        inputs,
        shared: neurons.len(),
        shared_inputs: if depthwise {
            neurons.len()
        } else {
            selection.columns.count / selection.taps
        },
        saved: saved(selection, budget, &members, &neurons),
        statistics: members.iter().map(statistics).fold(0, u64::saturating_add),
        reason: selection.reason.clone(),
    })
}

/// Parameters of shared neurons that are stored once instead of several times.
fn saved(
    selection: &SiteSelection,
    budget: &Budget,
    members: &[SiteLayer],
    neurons: &[Vec<(usize, usize)>],
) -> u64 {
    let mut sets: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
    for neuron in neurons {
        *sets.entry(neuron.iter().map(|(member, _)| *member).collect()).or_default() += 1;
    }
    let inputs = members.first().map_or(0, |m| match m.layer.layer.kind {
        LayerKind::Table { rows } => rows,
        _ => m.layer.inputs.as_ref().map_or(0, Vec::len),
    });
    let of_neuron = |set: &[usize]| -> usize {
        let copies = set.len() - 1;
        let first = &members[set[0]].layer;
        let keeps_bias = budget.keeps_bias(first) && !selection.duplicates;
        let bias = if first.layer.bias.is_some() && !keeps_bias { copies } else { 0 };
        let weights = match first.per_channel {
            true => selection.taps * copies,
            false if selection.duplicates => inputs * selection.taps * copies,
            false => selection.columns.holders(set).iter().map(|n| n.saturating_sub(1)).sum(),
        };
        bias + weights
    };
    sets.iter().map(|(set, count)| (count * of_neuron(set)) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mtz::matching::Share;
    use crate::zipper::fixtures;

    fn predicted(share: Share) -> Prediction {
        let prepared = fixtures(&["lenet300_mnist_a", "lenet300_fashion"]);
        predict(&prepared.joint, &prepared.alignment, &Budget::uniform(share), true).unwrap()
    }

    #[test]
    fn sizes_are_those_of_the_arithmetic() {
        let nothing = predicted(Share::Fraction(0.0));
        assert_eq!(nothing.sizes.joint(), nothing.sizes.separate());
        let all = predicted(Share::Fraction(1.0));
        let hidden = 300 * 785 + 100 * 301;
        assert_eq!(all.sizes.shared, hidden);
        assert_eq!(all.sizes.specific, [1010, 1010]);
        assert_eq!(all.sites.iter().map(|s| s.saved).sum::<u64>(), hidden);
    }

    #[test]
    fn outputs_say_why_they_are_not_shared() {
        let sites = predicted(Share::MaxCost(1.0)).sites;
        assert_eq!(sites.iter().map(|s| s.shared).collect::<Vec<_>>(), [300, 100, 0]);
        assert!(sites[2].reason.is_some());
    }

    #[test]
    fn more_than_there_are_cannot_be_shared() {
        let prepared = fixtures(&["lenet300_mnist_a", "lenet300_fashion"]);
        let budget = Budget::uniform(Share::Count(200));
        let error = predict(&prepared.joint, &prepared.alignment, &budget, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("200 neurons"), "{error}");
    }
}
