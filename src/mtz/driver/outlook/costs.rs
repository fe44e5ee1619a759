//! Costs of pairs at the producers of a group.

use ndarray::{Array1, Array2, Axis};

use crate::error::Result;
use crate::mtz::driver::pairing::known_pairs;
use crate::mtz::site::{CommonInputs, SiteLayer, taps};
use crate::mtz::solver::channelwise::ChannelwiseProblem;
use crate::mtz::solver::neuron_set::join_sets;
use crate::mtz::statistics::OriginalStats;

use super::producer::{KnownNeurons, Producer};
use super::search::GroupSearch;

impl GroupSearch<'_> {
    /// Adds the costs at one layer to `total`, neurons × channels of the next net.
    pub(super) fn add_cost(
        &mut self,
        producer: &Producer<'_>,
        neurons: &KnownNeurons,
        total: &mut Array2<f64>,
    ) -> Result<()> {
        match producer.members[producer.next_net].layer.per_channel {
            true => self.add_depthwise(producer, neurons, total),
            false => self.add_layer(producer, neurons, total),
        }
    }

    fn add_layer(
        &self,
        producer: &Producer<'_>,
        neurons: &KnownNeurons,
        total: &mut Array2<f64>,
    ) -> Result<()> {
        let members = producer.members;
        let taps = taps(&self.joint, members)?;
        let columns = CommonInputs::of(&self.joint, self.alignment, members, taps);
        if columns.count == 0 {
            return Ok(());
        }
        let options = self.options.solver();
        let alpha = self.options.task_weights(self.joint.tasks().len());
        let (mut sets, mut importance) = (Vec::new(), Vec::new());
        for (at, member) in members.iter().enumerate() {
            let Some(stats) = self.statistics.layers.get(&member.place()) else { return Ok(()) };
            let keeps_bias = self.options.budget.keeps_bias(&member.layer);
            let inputs = columns.of_layer(at, &member.layer, stats, keeps_bias);
            sets.push(inputs.neuron_set(at, stats, alpha[member.task.0], options)?.0);
            importance.push(self.weighting.of_rows(member.place(), stats));
        }
        let last = sets.remove(producer.next_net);
        let settled = join_sets(sets, true, options, |here, next_net, _| {
            Ok(known_pairs(&self.joint, members, here, next_net))
        });
        for set in settled? {
            let cost = set.pair_problem(&last, options)?.cost(options)?;
            let first = set.members[0];
            for (n, rows) in set.rows.iter().enumerate() {
                let channel = members[first].task.channel(members[first].layer.outputs[rows[0]]);
                let Some(neuron) = neurons.places.get(&channel) else { continue };
                let row = Row { neuron: *neuron, importance: importance[first][rows[0]] };
                row.add(producer, &importance[producer.next_net], &cost.row(n).to_owned(), total);
            }
        }
        Ok(())
    }

    /// Adds the costs at a depthwise layer. Neurons that tasks already share count with their first task.
    fn add_depthwise(
        &mut self,
        producer: &Producer<'_>,
        neurons: &KnownNeurons,
        total: &mut Array2<f64>,
    ) -> Result<()> {
        let member = &producer.members[producer.next_net];
        let (options, weighting, room) = (self.options, self.weighting, self.room);
        let alpha = options.task_weights(self.joint.tasks().len());
        let OriginalStats { depthwise, costs, .. } = &mut *self.statistics;
        let Some(theirs) = depthwise.get(&member.place()) else { return Ok(()) };
        let s_b = weighting.of_channels(member.place(), theirs)?;
        for other in producer.members.iter().filter(|m| m.task != member.task) {
            let Some(own) = depthwise.get(&other.place()) else { continue };
            let (rows, places) = first_owned(other, neurons);
            if rows.is_empty() {
                continue;
            }
            let compute = |rows: &[usize]| {
                let problem = ChannelwiseProblem {
                    h_a: own.hessians(alpha[other.task.0])?.select(Axis(0), rows),
                    h_b: theirs.hessians(alpha[member.task.0])?,
                    w_a: own.weights.select(Axis(0), rows),
                    w_b: theirs.weights.clone(),
                    s_a: None,
                    s_b: None,
                };
                let keep_biases = options.budget.keeps_bias(&member.layer)
                    && options.budget.keeps_bias(&other.layer);
                let problem = if keep_biases { problem.without_biases() } else { problem };
                problem.cost(options.metric, options.damping)
            };
            let cost = costs.of((other.place(), member.place()), &rows, room, compute)?;
            let s_a = weighting.of_channels(other.place(), own)?;
            for ((i, neuron), cost) in rows.iter().zip(places).zip(cost.rows()) {
                let row = Row { neuron, importance: s_a[*i] };
                row.add(producer, &s_b, &cost.to_owned(), total);
            }
        }
        Ok(())
    }
}

/// The rows of a layer whose neurons its task was the first to have, and these neurons.
fn first_owned(layer: &SiteLayer, neurons: &KnownNeurons) -> (Vec<usize>, Vec<usize>) {
    let rows = layer.layer.outputs.iter().enumerate().filter_map(|(row, channel)| {
        let own = layer.task.channel(*channel);
        let neuron = *neurons.places.get(&own)?;
        let is_first = neurons.owners.get(neuron)?.first() == Some(&own);
        is_first.then_some((row, neuron))
    });
    rows.unzip()
}

/// A neuron and its weight at a layer.
struct Row {
    neuron: usize,
    importance: f64,
}

impl Row {
    /// Adds the costs of pairs with the next net's rows, weighted by both neurons' weights.
    fn add(
        &self,
        producer: &Producer<'_>,
        theirs: &Array1<f64>,
        cost: &Array1<f64>,
        total: &mut Array2<f64>,
    ) {
        let channels = &producer.members[producer.next_net].layer.outputs;
        for (j, channel) in channels.iter().enumerate() {
            total[(self.neuron, channel.index)] += (self.importance * theirs[j]).sqrt() * cost[j];
        }
    }
}
