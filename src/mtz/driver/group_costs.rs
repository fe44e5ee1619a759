//! What the layers that make a group cost, pair by pair.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2};

use crate::error::Result;
use crate::mtz::options::Method;
use crate::mtz::site::{CommonInputs, SiteLayer, taps};
use crate::mtz::solver::channelwise::ChannelwiseProblem;
use crate::mtz::solver::neuron_set::join_sets;
use crate::mtz::statistics::{ChannelStats, LayerStats, inverse};

use super::Driver;
use super::groups::{KnownNeurons, OriginalStats};

/// One layer that makes a group's channels, in the tasks whose pairs are looked for.
pub(super) struct Producer<'a> {
    /// The layer of each task.
    pub(super) members: &'a [SiteLayer],
    /// Which of them joins the others.
    pub(super) next_net: usize,
}

impl Driver<'_> {
    /// Adds what a layer costs to `total`, neurons × channels of the next net.
    pub(super) fn add_cost(
        &self,
        producer: &Producer<'_>,
        neurons: &KnownNeurons,
        statistics: &OriginalStats,
        total: &mut Array2<f64>,
    ) -> Result<()> {
        match producer.members[producer.next_net].layer.per_channel {
            true => self.add_depthwise(producer, neurons, statistics, total),
            false => self.add_layer(producer, neurons, statistics, total),
        }
    }

    fn add_layer(
        &self,
        producer: &Producer<'_>,
        neurons: &KnownNeurons,
        statistics: &OriginalStats,
        total: &mut Array2<f64>,
    ) -> Result<()> {
        let members = producer.members;
        let taps = taps(self.joint, members)?;
        let columns = CommonInputs::of(self.joint, self.alignment, members, taps);
        if columns.count == 0 {
            return Ok(());
        }
        let (mut sets, mut importance) = (Vec::new(), Vec::new());
        for (at, member) in members.iter().enumerate() {
            let Some(stats) = statistics.layers.get(&(member.task, member.id)) else {
                return Ok(());
            };
            sets.push(self.neuron_set(member, at, &columns, stats)?.0);
            importance.push(self.weights_of(member, stats));
        }
        let last = sets.remove(producer.next_net);
        let theirs = &importance[producer.next_net];
        let settled = join_sets(sets, true, self.options, |here, next_net, _| {
            Ok(self.known_pairs(members, here, next_net))
        });
        for set in settled? {
            let cost = set.pair_problem(&last, self.options)?.cost(self.options)?;
            let first = set.members[0];
            for (n, rows) in set.rows.iter().enumerate() {
                let channel = members[first].layer.outputs[rows[0]];
                let owner = (members[first].task, channel);
                let Some(neuron) = neurons.places.get(&owner) else { continue };
                for (j, row) in last.rows.iter().enumerate() {
                    let weight = (importance[first][rows[0]] * theirs[row[0]]).sqrt();
                    let channel = members[producer.next_net].layer.outputs[row[0]];
                    total[(*neuron, channel.index)] += weight * cost[(n, j)];
                }
            }
        }
        Ok(())
    }

    /// Of neurons that tasks share already, the first task counts.
    fn add_depthwise(
        &self,
        producer: &Producer<'_>,
        neurons: &KnownNeurons,
        statistics: &OriginalStats,
        total: &mut Array2<f64>,
    ) -> Result<()> {
        let member = &producer.members[producer.next_net];
        let alpha = self.options.task_weights(self.joint.tasks.len());
        let of = |m: &SiteLayer| statistics.depthwise.get(&(m.task, m.id));
        let Some(theirs) = of(member) else { return Ok(()) };
        let s_b = self.channel_weights(member, theirs)?;
        for other in producer.members.iter().filter(|m| m.task != member.task) {
            let Some(own) = of(other) else { continue };
            let problem = ChannelwiseProblem {
                h_a: own.hessians(alpha[other.task])?,
                h_b: theirs.hessians(alpha[member.task])?,
                w_a: own.weights.clone(),
                w_b: theirs.weights.clone(),
                s_a: None,
                s_b: None,
            };
            let cost = problem.cost(self.options.metric, self.options.damping)?;
            let s_a = self.channel_weights(other, own)?;
            for (i, channel) in other.layer.outputs.iter().enumerate() {
                let own = (other.task, *channel);
                let is_first = |n: &&usize| neurons.owners[**n].first() == Some(&own);
                let Some(neuron) = neurons.places.get(&own).filter(is_first) else { continue };
                for (j, channel) in member.layer.outputs.iter().enumerate() {
                    total[(*neuron, channel.index)] += (s_a[i] * s_b[j]).sqrt() * cost[(i, j)];
                }
            }
        }
        Ok(())
    }

    /// How much each row of a layer matters, in units that are the same for all layers of a task.
    pub(super) fn weights_of(&self, member: &SiteLayer, stats: &LayerStats) -> Array1<f64> {
        match (self.options.method, self.importance(member.task, member.id, stats)) {
            (Method::Refit, Some(own)) => own * self.layer_weight(member),
            _ => Array1::ones(stats.weights.nrows()),
        }
    }

    /// As [`Zip::weights_of`] for the channels of a depthwise layer.
    pub(super) fn channel_weights(
        &self,
        member: &SiteLayer,
        channels: &ChannelStats,
    ) -> Result<Array1<f64>> {
        let rows = channels.weights.nrows();
        if self.options.method == Method::Mtz {
            return Ok(Array1::ones(rows));
        }
        Ok(match self.sensitivity(member) {
            Some(s) => s.mapv(|v| v.max(0.0)) / self.task_scale(member.task),
            None => inverse(&channels.mean_squares()?),
        })
    }

    fn sensitivity(&self, member: &SiteLayer) -> Option<&Array1<f64>> {
        self.sensitivities.get(member.task)?.get(&member.id)
    }

    /// A layer's mean sensitivity relative to that of its task; 1 where errors are relative anyway.
    pub(super) fn layer_weight(&self, member: &SiteLayer) -> f64 {
        let mean = self.sensitivity(member).and_then(|s| s.mean());
        mean.map_or(1.0, |mean| mean / self.task_scale(member.task))
    }

    /// The mean sensitivity of a task's layers.
    fn task_scale(&self, task: usize) -> f64 {
        let all = self.sensitivities.get(task).into_iter().flat_map(BTreeMap::values);
        let means: Vec<f64> = all.filter_map(|s| s.mean()).collect();
        (means.iter().sum::<f64>() / means.len().max(1) as f64).max(f64::MIN_POSITIVE)
    }
}
