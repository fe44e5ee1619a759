//! Statistics of layers, of the nets as they are at this point of the walk.

use ndarray::Axis;

use crate::calib::gram::Moments;
use crate::calib::stream::Stream;
use crate::calib::taps::{RowLimit, Running, collect, collect_channels};
use crate::couple::CoupledLayer;
use crate::error::{Context, Result};
use crate::mtz::options::Passes;
use crate::mtz::site::SiteLayer;
use crate::mtz::solver::refit::{connections, refit, refit_sparse};
use crate::mtz::statistics::{ChannelStats, LayerStats, statistics_bytes};

use super::Driver;

/// Rows that settle the dozen weights of a channel.
const ROWS: usize = 1 << 16;

/// One task's nets on their way through the data.
pub(super) struct TaskStreams<'a> {
    pub(super) original: Stream<'a>,
    /// The net as zipped so far; `None` while it is still the original.
    pub(super) zipped: Option<Stream<'a>>,
}

impl<'a> Driver<'a> {
    /// Whether a layer's statistics may be taken.
    pub(super) fn fits(&self, task: usize, layer: &CoupledLayer) -> bool {
        statistics_bytes(self.joint, task, layer, true) <= self.options.memory
    }

    /// Why the statistics of corresponding layers cannot be taken, where they do not fit.
    pub(super) fn too_large(&self, members: &[SiteLayer]) -> Option<String> {
        let bytes = |m: &SiteLayer| statistics_bytes(self.joint, m.task, &m.layer, true);
        let bytes = members.iter().map(bytes).max()?;
        (bytes > self.options.memory).then(|| {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            format!(
                "its statistics would take {} MiB, over the limit of {} MiB (--memory)",
                mib(bytes),
                mib(self.options.memory)
            )
        })
    }

    /// The nets whose layer inputs and target pre-activations count at a layer.
    pub(super) fn running<'s>(
        &'s mut self,
        task: usize,
        with_targets: bool,
    ) -> (Running<'s, 'a>, Option<Running<'s, 'a>>) {
        let original = &self.originals[task];
        let streams = &mut self.streams[task];
        match &mut streams.zipped {
            Some(zipped) if self.options.passes == Passes::PerLayer => {
                let targets = Running { model: original, stream: &mut streams.original };
                let current = &self.joint.tasks[task].model;
                (Running { model: current, stream: zipped }, with_targets.then_some(targets))
            }
            _ => (Running { model: original, stream: &mut streams.original }, None),
        }
    }

    /// Stored statistics of a layer; they are those of the original net.
    fn stored(&self, task: usize, layer: &CoupledLayer) -> Option<Moments> {
        let stored = self.stored.get(task).filter(|_| self.options.passes == Passes::One)?;
        stored.get(&layer.name).cloned()
    }

    /// Statistics of a layer and its weights, refitted where the net has changed before it.
    pub(super) fn layer_stats(&mut self, task: usize, layer: &CoupledLayer) -> Result<LayerStats> {
        if let Some(moments) = self.stored(task, layer) {
            return Ok(LayerStats { moments, weights: self.weights(task, layer)? });
        }
        let limit = RowLimit { rows: self.rows, seed: self.options.seed };
        let adjusts = self.adjusts(task, layer);
        let progress = self.progress;
        let (inputs, targets) = self.running(task, adjusts);
        let moments = collect(layer, inputs, targets, limit, progress)
            .in_model(&self.joint.tasks[task].name)?;
        let mut weights = self.weights(task, layer)?;
        if adjusts {
            let damping = self.options.damping;
            let fitted = match connections(&weights) {
                None => refit(&moments, weights.view(), damping),
                Some(kept) => refit_sparse(&moments, weights.view(), &kept, true, damping),
            };
            weights = fitted.at_node(&layer.name).in_model(&self.joint.tasks[task].name)?;
        }
        Ok(LayerStats { moments, weights })
    }

    /// Statistics of a depthwise layer and its weights, refitted where the net has changed before.
    pub(super) fn channel_stats(
        &mut self,
        task: usize,
        layer: &CoupledLayer,
    ) -> Result<ChannelStats> {
        let limit = RowLimit { rows: self.rows.min(ROWS), seed: self.options.seed };
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
        Ok(ChannelStats { moments, weights })
    }

    /// From here on the task's zipped net differs from the original.
    pub(super) fn diverge(&mut self, task: usize) {
        let streams = &mut self.streams[task];
        if streams.zipped.is_none() && self.options.passes == Passes::PerLayer {
            streams.zipped = Some(streams.original.clone());
        }
    }
}
