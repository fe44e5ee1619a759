//! Depthwise layers: every channel has weights of its own, shared exactly if the channel is.

use std::time::Instant;

use ndarray::{Array1, Array2, Array3, Axis};

use crate::calib::gram::Moments;
use crate::error::{Context, Result};
use crate::mtz::site::{SiteLayer, SiteRecord, common_neurons};
use crate::mtz::solver::channelwise::{ChannelNeuron, common_weights};

use super::Driver;
use super::site::Fused;

impl Driver<'_> {
    /// Fuses the rows of corresponding depthwise layers, whose channels are paired already; where they keep
    /// their `own` weights, only tells what that would cost.
    pub(super) fn depthwise(
        &mut self,
        members: &[SiteLayer],
        own: bool,
        record: &mut SiteRecord,
    ) -> Result<()> {
        let start = Instant::now();
        let mut all_stats = Vec::new();
        for member in members {
            all_stats.push(self.channel_stats(member.task, &member.layer)?);
        }
        let gathered = start.elapsed().as_secs_f64();
        let alpha = self.options.task_weights(self.joint.tasks.len());
        let hessians: Vec<Array3<f64>> = members
            .iter()
            .zip(&all_stats)
            .map(|(member, stats)| stats.hessians(alpha[member.task]))
            .collect::<Result<_>>()?;
        let name = &members[0].layer.name;
        let neurons = common_neurons(self.joint, members);
        let fitted: Vec<Array2<f64>> = all_stats.iter().map(|s| s.weights.clone()).collect();
        let (mut errors, mut losses) = (vec![(0.0, 0.0); members.len()], vec![0.0; members.len()]);
        let weights: Vec<Array1<f64>> = members
            .iter()
            .zip(&all_stats)
            .map(|(member, stats)| self.channel_weights(member, stats))
            .collect::<Result<_>>()?;
        for rows in &neurons {
            let channels: Vec<ChannelNeuron<'_>> = rows
                .iter()
                .map(|(at, row)| ChannelNeuron {
                    hessian: hessians[*at].index_axis(Axis(0), *row),
                    weights: all_stats[*at].weights.row(*row),
                    importance: 1.0,
                })
                .collect();
            let common = common_weights(&channels, self.options.damping).at_node(name)?;
            for ((at, row), channel) in rows.iter().zip(&channels) {
                let form = |w: &Array1<f64>| channel.hessian.dot(w).dot(w).max(0.0);
                let error = form(&(&common - &channel.weights));
                errors[*at].0 += error;
                errors[*at].1 += form(&channel.weights.to_owned());
                losses[*at] += weights[*at][*row] * error;
            }
            for (at, row) in rows {
                all_stats[*at].weights.row_mut(*row).assign(&common);
            }
        }
        record.shared = neurons.len();
        record.shared_inputs = neurons.len();
        record.rows =
            all_stats.iter().map(|s| s.moments.first().map_or(0, Moments::count)).collect();
        // The Hessians carry α already.
        errors.iter().for_each(|(error, total)| record.add_error(1.0, *error, *total));
        for (at, (member, stats)) in members.iter().zip(&all_stats).enumerate() {
            let shares = neurons.iter().flatten().any(|(other, _)| *other == at);
            let [fitted, weights] = [&fitted[at], &stats.weights].map(|w| w.mapv(|w| w as f32));
            let fused = Fused { weights: weights.view(), shares };
            let loss = self.replace(member, fitted.view(), fused, own)?;
            record.loss += loss.map_or(losses[at], |loss| alpha[member.task] * loss);
        }
        record.seconds = (gathered, start.elapsed().as_secs_f64() - gathered);
        Ok(())
    }
}
