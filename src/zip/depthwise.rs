//! Depthwise layers: every channel has weights of its own, shared exactly if the channel is.

use std::time::Instant;

use ndarray::{Array1, Array2, Array3, Axis};

use crate::calib::gram::Moments;
use crate::calib::taps::{RowLimit, collect_channels};
use crate::couple::CoupledLayer;
use crate::error::{Context, Result};

use super::channelwise::ChannelwiseProblem;
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
    fn hessians(&self, alpha: f64) -> Result<Array3<f64>> {
        let (n, k) = self.weights.dim();
        let mut all = Array3::zeros((n, k, k));
        for (mut hessian, moments) in all.axis_iter_mut(Axis(0)).zip(&self.moments) {
            hessian.assign(&moments.scaled(alpha)?);
        }
        Ok(all)
    }
}

impl Zip<'_> {
    /// Statistics of a depthwise layer and its weights, refitted where the net has changed before.
    pub(super) fn channels(&mut self, task: usize, layer: &CoupledLayer) -> Result<Channels> {
        let limit = RowLimit { rows: self.options.max_rows.min(ROWS), seed: self.options.seed };
        let adjusts = self.adjusts(task, layer);
        let progress = self.progress;
        let (inputs, targets) = self.running(task, adjusts);
        let moments = collect_channels(layer, inputs, targets, limit, progress)
            .in_model(&self.joint.tasks[task].name)?;
        let mut weights = self.weights(task, layer)?;
        if adjusts {
            for (channel, moments) in moments.iter().enumerate() {
                let own = weights.select(Axis(0), &[channel]);
                let fitted = refit(moments, own.view(), self.options.damping)
                    .at_node(&layer.name)
                    .in_model(&self.joint.tasks[task].name)?;
                weights.row_mut(channel).assign(&fitted.row(0));
            }
        }
        Ok(Channels { moments, weights })
    }

    /// Fuses the rows of two corresponding depthwise layers, whose channels are paired already.
    pub(super) fn depthwise(
        &mut self,
        layers: &[CoupledLayer; 2],
        record: &mut SiteRecord,
    ) -> Result<()> {
        let start = Instant::now();
        let mut sides = [self.channels(0, &layers[0])?, self.channels(1, &layers[1])?];
        let gathered = start.elapsed().as_secs_f64();
        let pairs = self.known_pairs(layers).unwrap_or_default();
        let alpha = self.options.weights(2);
        let problem = ChannelwiseProblem {
            h_a: sides[0].hessians(alpha[0])?,
            h_b: sides[1].hessians(alpha[1])?,
            w_a: sides[0].weights.clone(),
            w_b: sides[1].weights.clone(),
            s_a: None,
            s_b: None,
        };
        let fused = problem.fuse(&pairs, self.options.damping).at_node(&layers[0].name)?;
        record.shared = pairs.len();
        record.shared_inputs = pairs.len();
        record.rows = sides.iter().map(|s| s.moments.first().map_or(0, Moments::count)).collect();
        record.cost = (fused.errors_a.sum() + fused.errors_b.sum()) / 2.0;
        record.relative_errors = vec![
            relative(&problem.h_a, &problem.w_a, pairs.iter().map(|p| p.0), &fused.errors_a),
            relative(&problem.h_b, &problem.w_b, pairs.iter().map(|p| p.1), &fused.errors_b),
        ];
        for (n, (i, j)) in pairs.iter().enumerate() {
            sides[0].weights.row_mut(*i).assign(&fused.weights.row(n));
            sides[1].weights.row_mut(*j).assign(&fused.weights.row(n));
        }
        for (task, side) in sides.iter().enumerate() {
            if !pairs.is_empty() || self.adjusts(task, &layers[task]) {
                self.write(task, &layers[task], &side.weights)?;
            }
            if !pairs.is_empty() {
                self.diverge(task);
            }
        }
        record.seconds = (gathered, start.elapsed().as_secs_f64() - gathered);
        Ok(())
    }
}

/// Error of the fused channels relative to their energy.
fn relative(
    h: &Array3<f64>,
    w: &Array2<f64>,
    rows: impl Iterator<Item = usize>,
    errors: &Array1<f64>,
) -> f64 {
    let energy: f64 = rows.map(|i| w.row(i).dot(&h.index_axis(Axis(0), i).dot(&w.row(i)))).sum();
    if energy > 0.0 { errors.sum() / energy } else { 0.0 }
}
