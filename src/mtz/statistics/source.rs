//! Where statistics of layers come from: data that stream through the nets as they are at this point of
//! the walk, or an earlier calibration.

use ndarray::{Array2, Axis};

use crate::align::{TaskId, TaskLayer};
use crate::calib::gram::Moments;
use crate::calib::store::LayerMoments;
use crate::calib::stream::{Source, Stream};
use crate::calib::taps::{RowLimit, Running, collect, collect_channels};
use crate::couple::CoupledLayer;
use crate::error::{Context, Hint, Result};
use crate::ir::Model;
use crate::mtz::joint::{JointModel, Task};
use crate::mtz::options::{MergeOptions, Method, Passes};
use crate::mtz::site::SiteLayer;
use crate::mtz::solver::layer::LayerStats;
use crate::mtz::solver::memory::{Extent, Plan};
use crate::mtz::solver::observations::Observations;
use crate::mtz::solver::refit::{connections, refit, refit_sparse};
use crate::progress::Progress;

use super::extent::extent;
use super::stats::ChannelStats;

/// Rows that settle the dozen weights of a channel.
const CHANNEL_ROWS: usize = 1 << 16;

/// Statistics of the layers of all tasks.
#[derive(Clone)]
pub(crate) struct StatisticsSource<'a> {
    tasks: Vec<TaskStreams<'a>>,
    /// Statistics of the original nets' layers that are there already, per task.
    stored: &'a [LayerMoments],
    /// Rows per layer and task at most.
    rows: usize,
    options: &'a MergeOptions,
    progress: &'a dyn Progress,
}

/// One task's nets on their way through the data.
#[derive(Clone)]
struct TaskStreams<'a> {
    model: Model,
    original: Stream<'a>,
    /// The net as merged so far; `None` while it is still the original.
    merged: Option<Stream<'a>>,
}

impl<'a> StatisticsSource<'a> {
    /// Statistics of the tasks of `joint`, each from its data. `stored` ones are used in place of a pass
    /// over the original nets ([`Passes::One`]); it may be empty.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] if a net has a cycle.
    pub(crate) fn new(
        joint: &JointModel,
        sources: Vec<Source<'a>>,
        stored: &'a [LayerMoments],
        options: &'a MergeOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let streams = joint.tasks().iter().zip(sources).map(|(task, source)| {
            let model = task.model().clone();
            Ok(TaskStreams { original: Stream::new(&model, source)?, model, merged: None })
        });
        let tasks = streams.collect::<Result<_>>()?;
        Ok(StatisticsSource { tasks, stored, rows: options.max_rows, options, progress })
    }

    /// The same source from here on, with other streams and so many rows at most.
    pub(crate) fn apart(&self, rows: usize) -> Self {
        StatisticsSource { rows, ..self.clone() }
    }

    /// Batches of all tasks.
    pub(crate) fn batches(&self) -> usize {
        self.tasks.iter().map(|streams| streams.original.source().batches()).sum()
    }

    /// The original nets.
    pub(crate) fn originals(&self) -> impl Iterator<Item = (&Model, &Source<'a>)> {
        self.tasks.iter().map(|streams| (&streams.model, streams.original.source()))
    }

    /// From here on the task's merged net differs from the original.
    pub(crate) fn diverge(&mut self, task: TaskId) {
        let streams = &mut self.tasks[task.0];
        if streams.merged.is_none() && self.options.passes == Passes::PerLayer {
            streams.merged = Some(streams.original.clone());
        }
    }

    /// The nets have other weights everywhere: their streams begin anew.
    pub(crate) fn restart(&mut self) {
        for task in (0..self.tasks.len()).map(TaskId) {
            self.diverge(task);
            self.tasks[task.0].merged.iter_mut().for_each(Stream::restart);
        }
    }

    /// Whether the work at a layer fits into memory.
    pub(crate) fn fits(&self, net: &Task, layer: &CoupledLayer) -> bool {
        extent(self.tasks.len(), net, layer)
            .is_ok_and(|extent| extent.is_none_or(|e| self.plan(e).is_some()))
    }

    /// Why nothing can be done about corresponding layers, where the work does not fit into memory.
    pub(crate) fn too_large(
        &self,
        joint: &JointModel,
        members: &[SiteLayer],
    ) -> Result<Option<(String, Hint)>> {
        let mut reason = None;
        for member in members {
            let extent = extent(self.tasks.len(), joint.task(member.task), &member.layer)?;
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

    /// Whether refitting a layer can change it.
    pub(crate) fn adjusts(&self, joint: &JointModel, own: TaskLayer) -> bool {
        let layer = joint.layer(own);
        self.options.method == Method::Refit
            && self.options.passes == Passes::PerLayer
            && self.tasks[own.task.0].merged.is_some()
            && layer.layer.bias.is_some()
            && !layer.tied
            && self.fits(joint.task(own.task), layer)
    }

    /// Statistics of a layer and its weights, refitted where the net has changed before it.
    pub(crate) fn of_layer(&mut self, joint: &JointModel, own: TaskLayer) -> Result<LayerStats> {
        let (net, layer) = (joint.task(own.task), joint.layer(own));
        if let Some(moments) = self.stored(own.task, layer) {
            let weights = joint.weights(own)?.into_shared();
            return Ok(LayerStats { observed: moments.try_into()?, weights });
        }
        let limit = self.limit(net, layer)?;
        self.make_room(own.task, net, layer)?;
        let adjusts = self.adjusts(joint, own);
        let progress = self.progress;
        let (inputs, targets) = self.running(joint, own.task, adjusts);
        let mut observed: Observations = collect(layer, inputs, targets, limit, progress)
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

    /// Statistics of a depthwise layer and its weights, refitted where the net has changed before.
    pub(crate) fn of_channels(
        &mut self,
        joint: &JointModel,
        own: TaskLayer,
    ) -> Result<ChannelStats> {
        let (net, layer) = (joint.task(own.task), joint.layer(own));
        let rows = self.rows.min(CHANNEL_ROWS);
        let limit = RowLimit { rows, kept: 0, seed: self.options.seed };
        let adjusts = self.adjusts(joint, own);
        let progress = self.progress;
        let (inputs, targets) = self.running(joint, own.task, adjusts);
        let moments =
            collect_channels(layer, inputs, targets, limit, progress).in_model(net.name())?;
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

    fn plan(&self, extent: Extent) -> Option<Plan> {
        extent.plan(self.rows, self.options.memory)
    }

    /// How many rows of a layer's inputs are taken, and how.
    fn limit(&self, net: &Task, layer: &CoupledLayer) -> Result<RowLimit> {
        let extent = extent(self.tasks.len(), net, layer)?;
        let plan = extent.and_then(|extent| self.plan(extent));
        let (rows, kept) = plan.map_or((self.rows, 0), |plan| (plan.rows, plan.kept));
        Ok(RowLimit { rows, kept, seed: self.options.seed })
    }

    /// Keeps of the values at the cuts as much as fits beside the work at a layer.
    fn make_room(&mut self, task: TaskId, net: &Task, layer: &CoupledLayer) -> Result<()> {
        let extent = extent(self.tasks.len(), net, layer)?;
        let work = extent.and_then(|extent| self.plan(extent)).map_or(0, |plan| plan.bytes);
        let cuts = 2 * self.tasks.len() as u64;
        let room = self.options.memory.saturating_sub(work) / cuts.max(1);
        let streams = &mut self.tasks[task.0];
        streams.original.allow(room);
        streams.merged.iter_mut().for_each(|merged| merged.allow(room));
        Ok(())
    }

    /// The nets whose layer inputs and target pre-activations count at a layer.
    fn running<'s>(
        &'s mut self,
        joint: &'s JointModel,
        task: TaskId,
        with_targets: bool,
    ) -> (Running<'s, 'a>, Option<Running<'s, 'a>>) {
        let TaskStreams { model, original, merged } = &mut self.tasks[task.0];
        let original = Running { model, stream: original };
        match merged {
            Some(merged) if self.options.passes == Passes::PerLayer => {
                let current = joint.task(task).model();
                let inputs = Running { model: current, stream: merged };
                (inputs, with_targets.then_some(original))
            }
            _ => (original, None),
        }
    }

    /// Stored statistics of a layer; they are those of the original net.
    fn stored(&self, task: TaskId, layer: &CoupledLayer) -> Option<Moments> {
        let stored = self.stored.get(task.0).filter(|_| self.options.passes == Passes::One)?;
        stored.get(&layer.name).cloned()
    }
}
