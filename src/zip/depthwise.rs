//! Depthwise layers: every channel has weights of its own, shared exactly if the channel is.

use std::time::Instant;

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis};

use crate::calib::gram::Moments;
use crate::calib::taps::{RowLimit, collect_channels};
use crate::couple::CoupledLayer;
use crate::error::{Context, Result};

use super::channelwise::{ChannelNeuron, common_weights};
use super::members::{Member, common_neurons};
use super::refit::refit;
use super::run::Zip;
use super::site::SiteRecord;

/// Rows that settle the dozen weights of a channel.
const ROWS: usize = 1 << 16;

/// A depthwise layer of one task: statistics and weights of each channel, the bias last.
pub(super) struct Channels {
    moments: Vec<Moments>,
    pub(super) weights: Array2<f64>,
}

impl Channels {
    /// The channels' Hessians, n × k × k.
    pub(super) fn hessians(&self, alpha: f64) -> Result<Array3<f64>> {
        let (n, k) = self.weights.dim();
        let mut all = Array3::zeros((n, k, k));
        for (mut hessian, moments) in all.axis_iter_mut(Axis(0)).zip(&self.moments) {
            hessian.assign(&moments.scaled(alpha)?);
        }
        Ok(all)
    }

    /// The channels' mean squared pre-activations.
    pub(super) fn energies(&self) -> Result<Array1<f64>> {
        let hessians = self.hessians(1.0)?;
        let energy = |(h, w): (ArrayView2<'_, f64>, ArrayView1<'_, f64>)| h.dot(&w).dot(&w);
        Ok(hessians.outer_iter().zip(self.weights.outer_iter()).map(energy).collect())
    }
}

impl Zip<'_> {
    /// Statistics of a depthwise layer and its weights, refitted where the net has changed before.
    pub(super) fn channels(&mut self, task: usize, layer: &CoupledLayer) -> Result<Channels> {
        let limit = RowLimit { rows: self.rows.min(ROWS), kept: 0, seed: self.options.seed };
        let adjusts = self.adjusts(task, layer);
        let progress = self.progress;
        let (inputs, targets) = self.running(task, adjusts);
        let moments = collect_channels(layer, inputs, targets, limit, progress)
            .in_model(&self.joint.tasks[task].name)?;
        let mut weights = self.weights(task, layer)?.mapv(f64::from);
        if adjusts {
            for (channel, moments) in moments.iter().enumerate() {
                let mut own = weights.select(Axis(0), &[channel]).mapv(|w| w as f32);
                refit(&moments.clone().try_into()?, own.view_mut(), self.options.damping)
                    .at_node(&layer.name)
                    .in_model(&self.joint.tasks[task].name)?;
                weights.row_mut(channel).assign(&own.row(0).mapv(f64::from));
            }
        }
        Ok(Channels { moments, weights })
    }

    /// Fuses the rows of corresponding depthwise layers, whose channels are paired already.
    pub(super) fn depthwise(&mut self, members: &[Member], record: &mut SiteRecord) -> Result<()> {
        let start = Instant::now();
        let mut sides = Vec::new();
        for member in members {
            sides.push(self.channels(member.task, &member.layer)?);
        }
        let gathered = start.elapsed().as_secs_f64();
        let alpha = self.options.weights(self.joint.tasks.len());
        let hessians: Vec<Array3<f64>> = members
            .iter()
            .zip(&sides)
            .map(|(member, side)| side.hessians(alpha[member.task]))
            .collect::<Result<_>>()?;
        let name = &members[0].layer.name;
        let neurons = common_neurons(self.joint, members);
        let mut errors = vec![(0.0, 0.0); members.len()];
        for rows in &neurons {
            let channels: Vec<ChannelNeuron<'_>> = rows
                .iter()
                .map(|(at, row)| ChannelNeuron {
                    hessian: hessians[*at].index_axis(Axis(0), *row),
                    weights: sides[*at].weights.row(*row),
                    importance: 1.0,
                })
                .collect();
            let common = common_weights(&channels, self.options.damping).at_node(name)?;
            for ((at, _), channel) in rows.iter().zip(&channels) {
                let form = |w: &Array1<f64>| channel.hessian.dot(w).dot(w).max(0.0);
                errors[*at].0 += form(&(&common - &channel.weights));
                errors[*at].1 += form(&channel.weights.to_owned());
            }
            for (at, row) in rows {
                sides[*at].weights.row_mut(*row).assign(&common);
            }
        }
        record.shared = neurons.len();
        record.shared_inputs = neurons.len();
        record.rows = sides.iter().map(|s| s.moments.first().map_or(0, Moments::count)).collect();
        // The Hessians carry α already.
        errors.iter().for_each(|(error, total)| record.add_error(1.0, *error, *total));
        for (at, (member, side)) in members.iter().zip(&sides).enumerate() {
            let shares = neurons.iter().flatten().any(|(other, _)| *other == at);
            self.update(member, side.weights.mapv(|w| w as f32).view(), shares)?;
        }
        record.seconds = (gathered, start.elapsed().as_secs_f64() - gathered);
        Ok(())
    }
}
