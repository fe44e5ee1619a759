//! Statistics of layers with their weights, in the order of the walk.

use ndarray::{Array2, Axis};

use crate::align::{TaskId, TaskLayer};
use crate::calib::taps::RowLimit;
use crate::couple::{CoupledLayer, LayerId};
use crate::error::{Context, Hint, Result};
use crate::mtz::joint::{JointModel, Task};
use crate::mtz::options::{MergeOptions, Method, Passes, Unit};
use crate::mtz::site::SiteLayer;
use crate::mtz::solver::layer::LayerStats;
use crate::mtz::solver::memory::{Extent, Plan};
use crate::mtz::solver::observations::Observations;
use crate::mtz::solver::refit::refit;
use crate::mtz::solver::sparse::{connections, refit_sparse};
use crate::progress::Progress;

use super::channels::ChannelStats;
use super::extent::extent;
use super::source::{StatisticsSource, View, Wanted};
use super::stored::{Stored, StoredNet};
use super::uses::Uses;
use super::weighting::Sensitivities;

/// Number of rows that suffice for the dozen weights of a channel.
pub(crate) const CHANNEL_ROWS: usize = 1 << 14;

/// At most this part of the memory holds statistics for the next merge.
const PART_LEFT: u64 = 16;

/// Statistics of the layers of all tasks, with weights that are refitted to them.
pub(crate) struct LayerStatistics<'a> {
    source: Box<dyn StatisticsSource + 'a>,
    /// Sensitivities per task; empty if they are not known.
    sensitivities: &'a [Sensitivities],
    /// Per task, whether the net differs from the original by now.
    diverged: Vec<bool>,
    /// Rows per layer and task at most.
    rows: usize,
    /// Bytes that are left to the next merge.
    reserved: u64,
    options: &'a MergeOptions,
    progress: &'a dyn Progress,
}

impl<'a> LayerStatistics<'a> {
    /// Statistics of so many tasks from `source`. `stored` ones take the place of a pass over the original
    /// nets ([`Passes::One`]); it may be empty, and so may the tasks' sensitivities.
    pub(crate) fn new(
        tasks: usize,
        source: Box<dyn StatisticsSource + 'a>,
        (stored, sensitivities): (&'a [StoredNet], &'a [Sensitivities]),
        options: &'a MergeOptions,
        progress: &'a dyn Progress,
    ) -> Self {
        let source: Box<dyn StatisticsSource + 'a> = match options.passes {
            Passes::One if !stored.is_empty() => Box::new(Stored::new(stored, source)),
            _ => source,
        };
        let diverged = vec![false; tasks];
        LayerStatistics {
            source,
            sensitivities,
            diverged,
            rows: options.max_rows,
            reserved: 0,
            options,
            progress,
        }
    }

    /// The same statistics for a separate walk, from at most `rows` rows.
    pub(crate) fn apart(&self, rows: usize) -> Self {
        let (source, diverged) = (self.source.fork(), self.diverged.clone());
        LayerStatistics { source, diverged, rows, ..*self }
    }

    /// Steps of progress that one layer of each task takes together.
    pub(crate) fn steps(&self) -> usize {
        self.source.steps()
    }

    /// Records that the task's merged net now differs from the original.
    pub(crate) fn diverge(&mut self, task: TaskId) {
        self.diverged[task.0] |= self.options.passes == Passes::PerLayer;
    }

    /// Whether the task's net is still the original one.
    pub(crate) fn is_original(&self, task: TaskId) -> bool {
        self.options.passes == Passes::PerLayer && !self.diverged[task.0]
    }

    /// Restarts the streams, since weights have changed everywhere in the nets.
    pub(crate) fn restart(&mut self) {
        if self.options.passes == Passes::PerLayer {
            self.diverged.fill(true);
            self.source.restart();
        }
    }

    /// Whether the work at a layer fits into memory.
    pub(crate) fn fits(&self, net: &Task, layer: &CoupledLayer) -> bool {
        extent(self.diverged.len(), net, layer)
            .is_ok_and(|extent| extent.is_none_or(|e| self.plan(e).is_some()))
    }

    /// The reason why corresponding layers cannot be merged, if the work does not fit into memory.
    pub(crate) fn too_large(
        &self,
        joint: &JointModel,
        members: &[SiteLayer],
    ) -> Result<Option<(String, Hint)>> {
        let mut reason = None;
        for member in members {
            let extent = extent(self.diverged.len(), joint.task(member.task), &member.layer)?;
            let large = extent.filter(|extent| self.plan(*extent).is_none());
            reason = reason.or(large.map(|extent| {
                let mib = |bytes: u64| bytes.div_ceil(1 << 20);
                let (least, allowed) = (extent.least(self.rows), self.options.memory);
                let reason = format!(
                    "the work at it would take {} MiB, and {} MiB are allowed",
                    mib(least),
                    mib(allowed)
                );
                let more = format!("{}MiB more", mib(least.saturating_sub(allowed)));
                (reason, Hint::from(format!("allow {more} with ")).option("memory"))
            }));
        }
        Ok(reason)
    }

    /// Whether refitting a layer can change it. Weights that are a common part and a difference stay as
    /// they are: refitted, each task would store them whole. A layer that repeats another one has its weights.
    pub(crate) fn adjusts(&self, joint: &JointModel, own: TaskLayer) -> bool {
        let layer = joint.layer(own);
        self.options.method == Method::Refit
            && self.diverged[own.task.0]
            && layer.layer.bias.is_some()
            && layer.tied.is_none()
            && layer.repeats().is_none()
            && joint.based_layer(own).is_none()
            && self.fits(joint.task(own.task), layer)
    }

    /// Statistics of all uses of a layer, and its weights, refitted if the net has changed before it.
    pub(crate) fn of_layer(&mut self, joint: &JointModel, own: TaskLayer) -> Result<LayerStats> {
        let (net, layer) = (joint.task(own.task), joint.layer(own));
        let adjusts = self.adjusts(joint, own);
        let plan = self.plan_at(joint, own)?;
        let (rows, kept) = plan.map_or((self.rows, 0), |plan| (plan.rows, plan.kept));
        let room = Some(self.room_beside(plan.map_or(0, |plan| plan.bytes)));
        let uses = self.uses(joint, own, (rows, kept), room);
        let mut observed: Observations = uses
            .of_layer(self.source.as_mut(), self.progress)
            .and_then(Observations::try_from)
            .in_model(net.name())?;
        let mut weights = joint.weights(own)?;
        if adjusts {
            let damping = self.options.damping;
            let fitted = match connections(weights.view()) {
                None => refit(&observed, weights.view_mut(), damping),
                Some(kept) => refit_sparse(&observed, weights.view_mut(), &kept, true, damping),
            };
            fitted.at_node(&layer.name).in_model(net.name())?;
            observed.drop_targets();
        }
        Ok(LayerStats { observed, weights: weights.into_shared() })
    }

    /// Statistics of all uses of a depthwise layer, and its weights, refitted if the net has changed before
    /// it.
    pub(crate) fn of_channels(
        &mut self,
        joint: &JointModel,
        own: TaskLayer,
    ) -> Result<ChannelStats> {
        let (net, layer) = (joint.task(own.task), joint.layer(own));
        let adjusts = self.adjusts(joint, own);
        let uses = self.uses(joint, own, (self.rows.min(CHANNEL_ROWS), 0), None);
        let moments = uses.of_channels(self.source.as_mut(), self.progress).in_model(net.name())?;
        let mut weights = joint.weights(own)?.mapv(f64::from);
        if adjusts {
            for (channel, moments) in moments.iter().enumerate() {
                let mut own = weights.select(Axis(0), &[channel]).mapv(|w| w as f32);
                refit(&moments.clone().try_into()?, own.view_mut(), self.options.damping)
                    .at_node(&layer.name)
                    .in_model(net.name())?;
                weights.row_mut(channel).assign(&own.row(0).mapv(f64::from));
            }
        }
        Ok(ChannelStats { moments, weights })
    }

    /// The weights of a layer, refitted to the inputs that it gets from the net as merged so far.
    pub(crate) fn refitted(&mut self, joint: &JointModel, own: TaskLayer) -> Result<Array2<f32>> {
        Ok(match joint.layer(own).per_channel {
            true => self.of_channels(joint, own)?.weights.mapv(|w| w as f32),
            false => self.of_layer(joint, own)?.weights.into_owned(),
        })
    }

    /// Which rows of a layer count, and how.
    fn limit(&self, own: TaskLayer, rows: usize, kept: usize) -> RowLimit {
        let known = self.sensitivities.get(own.task.0).and_then(|layers| layers.get(&own.layer));
        let is_layer = self.options.unit != Unit::Neuron;
        let coherence = known.filter(|_| is_layer).map_or(1.0, |sensitivity| sensitivity.coherence);
        RowLimit { rows, kept, coherence, seed: self.options.seed, part: None }
    }

    /// The work at a layer, if it takes memory and fits.
    fn plan_at(&self, joint: &JointModel, own: TaskLayer) -> Result<Option<Plan>> {
        let extent = extent(self.diverged.len(), joint.task(own.task), joint.layer(own))?;
        Ok(extent.and_then(|extent| self.plan(extent)))
    }

    fn plan(&self, extent: Extent) -> Option<Plan> {
        extent.plan(self.rows, self.options.memory)
    }

    /// Requests for the statistics of a layer at each of its uses, which have the limits of rows and of
    /// memory in common.
    fn uses<'s>(
        &self,
        joint: &'s JointModel,
        own: TaskLayer,
        (rows, kept): (usize, usize),
        room: Option<u64>,
    ) -> Uses<'s> {
        let view = match (self.diverged[own.task.0], self.adjusts(joint, own)) {
            (false, _) => View::Original,
            (true, false) => View::Merged,
            (true, true) => View::WithTargets,
        };
        let current = joint.task(own.task).model();
        let later = joint.later_uses(own);
        let rows = (rows / (later.len() + 1)).max(1);
        // A second walk runs ahead to the later uses.
        let room = room.map(|room| if later.is_empty() { room } else { room / 2 });
        let wanted = |own: TaskLayer| {
            let limit = self.limit(own, rows, kept);
            Wanted { own, layer: joint.layer(own), current, view, limit, room }
        };
        Uses { first: wanted(own), later: later.into_iter().map(wanted).collect() }
    }

    /// The memory in bytes for kept values at each cut, beside the work at this layer.
    pub(crate) fn room_at(&self, joint: &JointModel, own: TaskLayer) -> Result<u64> {
        Ok(self.room_beside(self.plan_at(joint, own)?.map_or(0, |plan| plan.bytes)))
    }

    /// Bytes that stay free beside the work at any layer, up to a part of all.
    pub(crate) fn spare(&self, joint: &JointModel) -> Result<u64> {
        let mut spare = self.options.memory / PART_LEFT;
        for task in joint.task_ids() {
            for layer in (0..joint.task(task).coupling().layers.len()).map(LayerId) {
                let work = self.plan_at(joint, task.layer(layer))?.map_or(0, |plan| plan.bytes);
                spare = spare.min(self.options.memory.saturating_sub(work));
            }
        }
        Ok(spare)
    }

    /// Takes note that so many bytes are left to the next merge.
    pub(crate) fn reserve(&mut self, bytes: u64) {
        self.reserved = bytes;
    }

    /// The memory in bytes for kept values at each cut, beside the work at a layer.
    fn room_beside(&self, work: u64) -> u64 {
        // Of each task: the original net, the net as merged so far, and the samples of trials.
        let cuts_per_task = if self.options.probe == 0 { 2 } else { 3 };
        let cuts = cuts_per_task * self.diverged.len() as u64;
        self.options.memory.saturating_sub(work.saturating_add(self.reserved)) / cuts.max(1)
    }
}
