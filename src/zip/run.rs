//! Zips nets layer by layer (Algorithm 1 of the paper).

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView2};

use crate::align::{Alignment, Site};
use crate::calib::gram::Moments;
use crate::calib::store::LayerMoments;
use crate::calib::stream::{Source, Stream};
use crate::calib::taps::{RowLimit, Running, collect};
use crate::couple::{CoupledLayer, LayerId};
use crate::error::{Context, Result};
use crate::ir::Model;
use crate::progress::Progress;

use super::bridge::Making;
use super::group::Later;
use super::joint::JointModel;
use super::matcher::Matcher;
use super::matrix;
use super::members::{Chosen, Member, extent};
use super::memory::{Extent, Plan};
use super::observations::Observations;
use super::options::{Method, Passes, ZipOptions};
use super::paired::Paired;
use super::refit::{connections, refit, refit_sparse};
use super::site::Side;
pub use super::site::SiteRecord;

/// Sensitivities of a task's layers: E[(∂outputs/∂z)²] per row.
pub type Sensitivities = BTreeMap<LayerId, Array1<f64>>;

/// Is handed the joint model between two layers that are zipped (line 10 of Algorithm 1), and says
/// whether it has changed weights.
pub type Between<'a> = dyn FnMut(&mut JointModel) -> Result<bool> + 'a;

/// One task's nets on their way through the data.
pub(super) struct Progressing<'a> {
    pub(super) original: Stream<'a>,
    /// The net as zipped so far; `None` while it is still the original.
    zipped: Option<Stream<'a>>,
}

/// The state of a zip.
pub struct Zip<'a> {
    pub(super) joint: &'a mut JointModel,
    pub(super) alignment: &'a Alignment,
    pub(super) options: &'a ZipOptions,
    pub(super) matcher: Box<dyn Matcher>,
    pub(super) sensitivities: &'a [Sensitivities],
    /// Statistics of the original nets' layers that are there already, per task.
    stored: &'a [LayerMoments],
    originals: Vec<Model>,
    pub(super) streams: Vec<Progressing<'a>>,
    pub(super) paired: Paired,
    pub(super) making: Making,
    /// Rows per layer and task at most.
    pub(super) rows: usize,
    /// What later layers of a group cost, by the task and layer at which it is paired.
    pub(super) later: BTreeMap<(usize, LayerId), Later>,
    pub(super) progress: &'a dyn Progress,
}

impl<'a> Zip<'a> {
    /// Prepares to zip the tasks of `joint`, each with its calibration data. `stored` statistics
    /// are used in place of a pass over the original nets ([`Passes::One`]); it may be empty.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Usage`] if the matcher is not known.
    pub fn new(
        joint: &'a mut JointModel,
        alignment: &'a Alignment,
        sources: Vec<Source<'a>>,
        sensitivities: &'a [Sensitivities],
        stored: &'a [LayerMoments],
        options: &'a ZipOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let originals: Vec<Model> = joint.tasks.iter().map(|t| t.model.clone()).collect();
        let mut streams = Vec::new();
        for (model, source) in originals.iter().zip(sources) {
            streams.push(Progressing { original: Stream::new(model, source)?, zipped: None });
        }
        let matcher = options.matcher()?;
        let paired = Paired::of(joint);
        let making = Making::of(joint, alignment);
        Ok(Zip {
            joint,
            alignment,
            options,
            matcher,
            sensitivities,
            stored,
            originals,
            streams,
            paired,
            making,
            rows: options.max_rows,
            later: BTreeMap::new(),
            progress,
        })
    }

    /// Zips all layers, and calls `between` before each layer that is zipped but the first;
    /// afterwards the joint model's nets have their final weights.
    ///
    /// # Errors
    /// As the stages it runs: calibration, solving, matching; as `between`.
    pub fn run(mut self, between: &mut Between<'_>) -> Result<Vec<SiteRecord>> {
        self.look_ahead()?;
        self.begin(0);
        let mut records: Vec<SiteRecord> = Vec::new();
        for (place, site) in self.alignment.sites.iter().enumerate() {
            if site.is_common() {
                self.bridge(place)?;
                let has_zipped = records.iter().any(SiteRecord::is_zipped);
                if has_zipped && self.zips(site)? && between(self.joint)? {
                    self.restart();
                    self.begin(place);
                }
                records.push(self.site(site)?);
            } else {
                site.members().try_for_each(|(task, layer)| self.refit_alone(task, layer))?;
            }
            self.repeat_gates(place)?;
        }
        Ok(records)
    }

    /// Tells how much is left to do from a site on.
    fn begin(&self, site: usize) {
        let batches: usize = self.streams.iter().map(|s| s.original.source().batches()).sum();
        let left = self.alignment.sites.len() - site;
        self.progress.begin("zipping", (batches * left) as u64);
    }

    /// Whether layers of a site can share neurons that they do not share yet.
    fn zips(&self, site: &Site) -> Result<bool> {
        let chosen = Chosen::at(self.joint, self.alignment, site)?;
        Ok(chosen.reason.is_none() && !chosen.duplicates)
    }

    /// The nets have other weights everywhere: their streams begin anew.
    fn restart(&mut self) {
        for task in 0..self.streams.len() {
            self.diverge(task);
            self.streams[task].zipped.iter_mut().for_each(Stream::restart);
        }
    }

    pub(super) fn layer(&self, task: usize, id: LayerId) -> CoupledLayer {
        self.joint.tasks[task].coupling.layer(id).clone()
    }

    /// A layer that has no counterpart still makes up for what changed before it.
    pub(super) fn refit_alone(&mut self, task: usize, id: LayerId) -> Result<()> {
        let layer = self.layer(task, id);
        if !self.adjusts(task, &layer) {
            return Ok(());
        }
        let weights = match layer.per_channel {
            true => self.channels(task, &layer)?.weights.mapv(|w| w as f32),
            false => self.side(task, &layer)?.weights.into_owned(),
        };
        self.joint.unfuse(task, id);
        self.write(task, &layer, weights.view()).map(drop)
    }

    /// Whether refitting a layer can change it.
    pub(super) fn adjusts(&self, task: usize, layer: &CoupledLayer) -> bool {
        self.options.method == Method::Refit
            && self.options.passes == Passes::PerLayer
            && self.streams[task].zipped.is_some()
            && layer.layer.bias.is_some()
            && self.fits(task, layer)
    }

    /// Whether the work at a layer fits into memory.
    pub(super) fn fits(&self, task: usize, layer: &CoupledLayer) -> bool {
        extent(self.joint, task, layer)
            .is_ok_and(|extent| extent.is_none_or(|e| self.plan(e).is_some()))
    }

    fn plan(&self, extent: Extent) -> Option<Plan> {
        extent.plan(self.rows, self.options.memory)
    }

    /// Why nothing can be done about corresponding layers, where the work does not fit into memory.
    pub(super) fn too_large(&self, members: &[Member]) -> Result<Option<String>> {
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
        let extent = extent(self.joint, task, layer)?;
        let plan = extent.and_then(|extent| self.plan(extent));
        let (rows, kept) = plan.map_or((self.rows, 0), |plan| (plan.rows, plan.kept));
        Ok(RowLimit { rows, kept, seed: self.options.seed })
    }

    /// Keeps of the values at the cuts as much as fits beside the work at a layer.
    fn make_room(&mut self, task: usize, layer: &CoupledLayer) -> Result<()> {
        let extent = extent(self.joint, task, layer)?;
        let work = extent.and_then(|extent| self.plan(extent)).map_or(0, |plan| plan.bytes);
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
    pub(super) fn side(&mut self, task: usize, layer: &CoupledLayer) -> Result<Side> {
        if let Some(moments) = self.stored(task, layer) {
            let weights = self.weights(task, layer)?.into_shared();
            return Ok(Side { observed: moments.try_into()?, weights });
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
        Ok(Side { observed, weights: weights.into_shared() })
    }

    /// Whether a layer's neurons are settled with those of another layer anywhere.
    pub(super) fn is_settled(&self, member: &Member) -> bool {
        member.group().is_some_and(|group| self.paired.is_known((member.task, group)))
    }

    /// Whether two layers' neurons are settled with each other.
    pub(super) fn are_settled(&self, a: &Member, b: &Member) -> bool {
        let (Some(x), Some(y)) = (a.group(), b.group()) else { return false };
        self.paired.together((a.task, x), (b.task, y))
    }

    /// From here on the task's zipped net differs from the original.
    pub(super) fn diverge(&mut self, task: usize) {
        let streams = &mut self.streams[task];
        if streams.zipped.is_none() && self.options.passes == Passes::PerLayer {
            streams.zipped = Some(streams.original.clone());
        }
    }

    /// A layer's [matrix].
    pub(super) fn weights(&self, task: usize, layer: &CoupledLayer) -> Result<Array2<f32>> {
        matrix::read(layer, &self.joint.tasks[task].model.graph)
    }

    pub(super) fn write(
        &mut self,
        task: usize,
        layer: &CoupledLayer,
        weights: ArrayView2<f32>,
    ) -> Result<bool> {
        matrix::write(layer, &mut self.joint.tasks[task].model.graph, weights)
    }
}
