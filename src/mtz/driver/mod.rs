//! Zips nets layer by layer (Algorithm 1 of the paper).

mod depthwise;
mod group_costs;
mod groups;
mod input_matching;
mod joins;
mod recurrent;
mod site;
mod statistics;

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2};

use crate::align::{Alignment, Site};
use crate::calib::store::LayerMoments;
use crate::calib::stream::{Source, Stream};
use crate::couple::{CoupledLayer, LayerId};
use crate::error::Result;
use crate::ir::Model;
use crate::mtz::joint::{Corrections, JointModel, matrix};
use crate::mtz::matching::Matcher;
use crate::mtz::options::{MergeOptions, Method, Passes};
use crate::mtz::plan::Producers;
use crate::mtz::site::{SettledGroups, SiteLayer, SiteRecord, SiteSelection};
use crate::mtz::statistics::{Probe, Sensitivities};
use crate::progress::Progress;

use groups::LaterCosts;
use statistics::TaskStreams;

/// Is handed the joint model between two layers that are zipped (line 10 of Algorithm 1), and says
/// whether it has changed weights.
pub type Between<'a> = dyn FnMut(&mut JointModel) -> Result<bool> + 'a;

/// The state of a zip.
pub struct Driver<'a> {
    joint: &'a mut JointModel,
    alignment: &'a Alignment,
    options: &'a MergeOptions,
    matcher: Box<dyn Matcher>,
    sensitivities: &'a [Sensitivities],
    /// Statistics of the original nets' layers that are there already, per task.
    stored: &'a [LayerMoments],
    originals: Vec<Model>,
    streams: Vec<TaskStreams<'a>>,
    settled: SettledGroups,
    producers: Producers,
    /// Rows per layer and task at most.
    rows: usize,
    /// What later layers of a group cost, by the task and layer at which it is paired.
    later: BTreeMap<(usize, LayerId), LaterCosts>,
    /// Corrections of common weights so far.
    corrections: Corrections,
    /// What tells, task by task, what a layer's errors do to the outputs; empty where nobody asks.
    probes: Vec<Probe<'a>>,
    progress: &'a dyn Progress,
}

impl<'a> Driver<'a> {
    /// Prepares to zip the tasks of `joint`, each with its calibration data. `stored` statistics
    /// are used in place of a pass over the original nets ([`Passes::One`]); it may be empty.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Usage`] if the matcher is not known; as the runtime, where errors are
    /// measured ([`MergeOptions::probe`]).
    pub fn new(
        joint: &'a mut JointModel,
        alignment: &'a Alignment,
        sources: Vec<Source<'a>>,
        sensitivities: &'a [Sensitivities],
        stored: &'a [LayerMoments],
        options: &'a MergeOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let originals: Vec<Model> = joint.tasks.iter().map(|t| t.model.clone()).collect();
        let mut streams = Vec::new();
        let mut probes = Vec::new();
        for (model, source) in originals.iter().zip(sources) {
            if options.probe > 0 {
                probes.push(Probe::new(model, &source, options.probe, options.seed)?);
            }
            streams.push(TaskStreams { original: Stream::new(model, source)?, zipped: None });
        }
        let matcher = options.matcher()?;
        let settled = SettledGroups::of(joint);
        let producers = Producers::of(joint, alignment);
        Ok(Driver {
            joint,
            alignment,
            options,
            matcher,
            sensitivities,
            stored,
            originals,
            streams,
            settled,
            producers,
            rows: options.max_rows,
            later: BTreeMap::new(),
            corrections: Corrections::new(),
            probes,
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
                self.match_inputs(place)?;
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
        if !self.corrections.is_empty() {
            *self.joint = self.joint.clone().with_corrections(&self.corrections)?;
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
        let selection = SiteSelection::at(self.joint, self.alignment, site)?;
        Ok(selection.reason.is_none() && !selection.duplicates)
    }

    /// The nets have other weights everywhere: their streams begin anew.
    fn restart(&mut self) {
        for task in 0..self.streams.len() {
            self.diverge(task);
            self.streams[task].zipped.iter_mut().for_each(Stream::restart);
        }
    }

    fn layer(&self, task: usize, id: LayerId) -> CoupledLayer {
        self.joint.tasks[task].coupling.layer(id).clone()
    }

    /// A layer that has no counterpart still makes up for what changed before it.
    fn refit_alone(&mut self, task: usize, id: LayerId) -> Result<()> {
        let layer = self.layer(task, id);
        if !self.adjusts(task, &layer) {
            return Ok(());
        }
        let weights = match layer.per_channel {
            true => self.channel_stats(task, &layer)?.weights.mapv(|w| w as f32),
            false => self.layer_stats(task, &layer)?.weights.into_owned(),
        };
        self.joint.unfuse(task, id);
        self.write(task, &layer, weights.view()).map(drop)
    }

    /// Whether refitting a layer can change it.
    fn adjusts(&self, task: usize, layer: &CoupledLayer) -> bool {
        self.options.method == Method::Refit
            && self.options.passes == Passes::PerLayer
            && self.streams[task].zipped.is_some()
            && layer.layer.bias.is_some()
            && self.fits(task, layer)
    }

    /// Whether a layer's neurons are settled with those of another layer anywhere.
    fn is_settled(&self, member: &SiteLayer) -> bool {
        member.group().is_some_and(|group| self.settled.is_settled((member.task, group)))
    }

    /// Whether two layers' neurons are settled with each other.
    fn are_settled(&self, a: &SiteLayer, b: &SiteLayer) -> bool {
        let (Some(x), Some(y)) = (a.group(), b.group()) else { return false };
        self.settled.settled_together((a.task, x), (b.task, y))
    }

    /// A layer's [matrix].
    fn weights(&self, task: usize, layer: &CoupledLayer) -> Result<Array2<f32>> {
        matrix::read(layer, &self.joint.tasks[task].model.graph)
    }

    /// Gives a layer its weights; whether that changes any.
    fn write(
        &mut self,
        task: usize,
        layer: &CoupledLayer,
        weights: ArrayView2<f32>,
    ) -> Result<bool> {
        matrix::write(layer, &mut self.joint.tasks[task].model.graph, weights)
    }
}
