//! Statistics of layers, of the nets as they are at this point of the walk.

use ndarray::Axis;

use crate::calib::gram::Moments;
use crate::calib::stream::Stream;
use crate::calib::taps::{RowLimit, Running, collect, collect_channels};
use crate::couple::CoupledLayer;
use crate::error::{Context, Result};
use crate::mtz::options::Passes;
use crate::mtz::site::SiteLayer;
use crate::mtz::solver::memory::{Extent, Plan};
use crate::mtz::solver::observations::Observations;
use crate::mtz::solver::refit::{connections, refit, refit_sparse};
use crate::mtz::statistics::{ChannelStats, LayerStats, extent};

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
    /// Whether the work at a layer fits into memory.
    pub(super) fn fits(&self, task: usize, layer: &CoupledLayer) -> bool {
        extent(self.joint, task, layer)
            .is_ok_and(|extent| extent.is_none_or(|e| self.plan(e).is_some()))
    }

    fn plan(&self, extent: Extent) -> Option<Plan> {
        extent.plan(self.rows, self.options.memory)
    }

    /// Why nothing can be done about corresponding layers, where the work does not fit into memory.
    pub(super) fn too_large(&self, members: &[SiteLayer]) -> Result<Option<String>> {
        let mut reason = None;
        for member in members {
            let extent = extent(self.joint, member.task, &member.layer)?;
            let large = extent.filter(|extent| self.plan(*extent).is_none());
            reason = reason.or(large.map(|extent| {
                let mib = |bytes: u64| bytes.div_ceil(1 << 20);
                format!(
                    "the work at it would take {} MiB, and there are {} MiB (--memory)",
                    mib(extent.least(self.rows)),
                    mib(self.options.memory)
                )
            }));
        }
        Ok(reason)
    }

    /// How many rows of a layer's inputs are taken, and how.
    fn limit(&self, task: usize, layer: &CoupledLayer) -> Result<RowLimit> {
        let plan = extent(self.joint, task, layer)?.and_then(|extent| self.plan(extent));
        let (rows, kept) = plan.map_or((self.rows, 0), |plan| (plan.rows, plan.kept));
        Ok(RowLimit { rows, kept, seed: self.options.seed })
    }

    /// Keeps of the values at the cuts as much as fits beside the work at a layer.
    fn make_room(&mut self, task: usize, layer: &CoupledLayer) -> Result<()> {
        let plan = extent(self.joint, task, layer)?.and_then(|extent| self.plan(extent));
        let work = plan.map_or(0, |plan| plan.bytes);
        let cuts = 2 * self.streams.len() as u64;
        let room = self.options.memory.saturating_sub(work) / cuts.max(1);
        let streams = &mut self.streams[task];
        streams.original.allow(room);
        streams.zipped.iter_mut().for_each(|zipped| zipped.allow(room));
        Ok(())
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
            let weights = self.weights(task, layer)?.into_shared();
            return Ok(LayerStats { observed: moments.try_into()?, weights });
        }
        let limit = self.limit(task, layer)?;
        self.make_room(task, layer)?;
        let adjusts = self.adjusts(task, layer);
        let progress = self.progress;
        let (inputs, targets) = self.running(task, adjusts);
        let mut observed: Observations = collect(layer, inputs, targets, limit, progress)
            .and_then(Observations::try_from)
            .in_model(&self.joint.tasks[task].name)?;
        let mut weights = self.weights(task, layer)?;
        if adjusts {
            let damping = self.options.damping;
            let fitted = match connections(weights.view()) {
                None => refit(&observed, weights.view_mut(), damping),
                Some(kept) => refit_sparse(&observed, weights.view_mut(), &kept, true, damping),
            };
            fitted.at_node(&layer.name).in_model(&self.joint.tasks[task].name)?;
            observed.drop_targets();
        }
        Ok(LayerStats { observed, weights: weights.into_shared() })
    }

    /// Statistics of a depthwise layer and its weights, refitted where the net has changed before.
    pub(super) fn channel_stats(
        &mut self,
        task: usize,
        layer: &CoupledLayer,
    ) -> Result<ChannelStats> {
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
