//! Depthwise layers. A channel's weights are shared exactly if the channel is shared.

use std::time::Instant;

use ndarray::Array2;

use crate::calib::gram::Moments;
use crate::error::{Context, Result};
use crate::mtz::joint::Rounding;
use crate::mtz::site::{SiteLayer, SiteRecord, common_neurons};
use crate::mtz::solver::shared_channels::{ChannelLayer, share_channels};
use crate::mtz::statistics::ChannelStats;

use super::Driver;
use super::site::Fused;

impl Driver<'_> {
    /// Fuses the rows of corresponding depthwise layers, whose channels are paired already. If they
    /// keep their `own` weights, only computes the cost.
    pub(super) fn depthwise(
        &mut self,
        members: &[SiteLayer],
        own: bool,
        record: &mut SiteRecord,
    ) -> Result<()> {
        let start = Instant::now();
        let alpha = self.options.task_weights(self.joint.tasks().len());
        let mut all_stats = Vec::new();
        for member in members {
            all_stats.push(self.statistics.of_channels(self.joint, member.place())?);
        }
        let gathered = start.elapsed().as_secs_f64();
        let layer = |(member, stats): (&SiteLayer, &ChannelStats)| {
            let hessians = stats.hessians(alpha[member.task.0])?;
            let importance = self.weighting.of_channels(member.place(), stats)?;
            let keeps_bias = self.options.budget.keeps_bias(&member.layer);
            let weights = stats.weights.clone();
            let mut layer = ChannelLayer::new(hessians, weights, importance, keeps_bias);
            layer.wish = self.wish(member);
            Ok(layer)
        };
        let mut layers: Vec<ChannelLayer> =
            members.iter().zip(&all_stats).map(layer).collect::<Result<_>>()?;
        let neurons = common_neurons(self.joint, members);
        let name = &members[0].layer.name;
        share_channels(&mut layers, &neurons, self.options.damping).at_node(name)?;
        record.shared = neurons.len();
        record.shared_inputs = neurons.len();
        record.rows =
            all_stats.iter().map(|s| s.moments.first().map_or(0, Moments::count)).collect();
        // The Hessians contain α already.
        layers.iter().for_each(|layer| record.add_error(1.0, layer.error, layer.total));
        let rounding = match self.joint.round_alike(members.iter().map(SiteLayer::place)) {
            true => &Rounding::Own,
            false => &Rounding::Nothing,
        };
        for ((member, stats), layer) in members.iter().zip(&all_stats).zip(&layers) {
            let single = |weights: &Array2<f64>| weights.mapv(|w| w as f32);
            let (fitted, weights) = (single(&stats.weights), single(&layer.weights));
            let fused = Fused { weights: weights.view(), shares: layer.shares, rounding };
            let loss = self.replace(member, fitted.view(), fused, own)?;
            record.loss += loss.map_or(layer.loss, |loss| alpha[member.task.0] * loss);
        }
        for (member, layer) in members.iter().zip(layers) {
            if !layer.gains.is_empty() {
                record.gains.push((member.task.0, layer.gains));
            }
            if let Some(corrected) = layer.corrected.filter(|_| !own) {
                self.corrects(member, corrected, record);
            }
        }
        record.seconds = (gathered, start.elapsed().as_secs_f64() - gathered);
        Ok(())
    }
}
