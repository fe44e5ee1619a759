//! Merges nets layer by layer (Algorithm 1 of the paper).
//!
//! The driver knows the order of the walk, and writes weights and sharing into the joint model. Other
//! modules compute: [statistics](super::statistics) of layers, [plans](super::plan) without data, and
//! [common weights](super::solver).

mod depthwise;
mod input_matching;
mod joins;
mod outlook;
mod pairing;
mod recurrent;
mod rounding;
mod site;
mod tables;

use crate::align::{Alignment, Site, TaskLayer};
use crate::calib::product::check_buffers;
use crate::calib::stream::Source;
use crate::error::Result;
use crate::mtz::joint::{Corrections, JointModel, Task};
use crate::mtz::options::MergeOptions;
use crate::mtz::plan::Producers;
use crate::mtz::site::{SettledGroups, SiteLayer, SiteRecord, SiteSelection};
use crate::mtz::statistics::{
    LayerStatistics, Originals, Probe, Sensitivities, Sharding, StatisticsSource, StoredNet,
    Streamed, Weighting,
};
use crate::progress::Progress;

use outlook::{LaterCosts, Outlook, View};
use pairing::PairChoice;

/// Called with the joint model between two merged layers (line 10 of Algorithm 1), and with the record of the
/// layer that was merged last; returns whether it changed weights.
pub type Between<'a> = dyn FnMut(&mut JointModel, &SiteRecord) -> Result<bool> + 'a;

/// Inputs of a merge besides the nets.
pub struct DriverInputs<'a> {
    /// Correspondences of layers.
    pub alignment: &'a Alignment,
    /// The calibration data of each task.
    pub sources: Vec<Source<'a>>,
    /// Sensitivities of each task's neurons; empty if they are not known.
    pub sensitivities: &'a [Sensitivities],
    /// Stored statistics of the original nets, per task, in place of a pass over them
    /// ([`crate::mtz::options::Passes::One`]); may be empty.
    pub stored: &'a [StoredNet],
    /// Shards of the samples with their workers; `None` if samples stream through this process.
    pub shards: Option<&'a Sharding>,
    /// Findings that merges of the same nets leave to each other; `None` for a single merge.
    pub originals: Option<&'a Originals>,
    /// Options of the merge.
    pub options: &'a MergeOptions,
    /// Reports stages.
    pub progress: &'a dyn Progress,
}

/// The walk through the layers of nets that are merged.
pub struct Driver<'a> {
    joint: &'a mut JointModel,
    alignment: &'a Alignment,
    options: &'a MergeOptions,
    choice: PairChoice<'a>,
    weighting: Weighting<'a>,
    statistics: LayerStatistics<'a>,
    originals: Option<&'a Originals>,
    /// Per task, measures the effect of a layer's errors on the outputs; empty if that is not
    /// measured.
    probes: Vec<Probe<'a>>,
    producers: Producers,
    settled: SettledGroups,
    /// Costs of pairs at later layers of their groups.
    later: LaterCosts,
    /// Corrections of common weights found so far.
    corrections: Corrections,
    progress: &'a dyn Progress,
}

impl<'a> Driver<'a> {
    /// Prepares to merge the tasks of `joint`.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Usage`] if the matcher is not known; as the runtime, where errors are
    /// measured ([`MergeOptions::probe`]); [`crate::error::ErrorKind::Memory`] where products find no buffers.
    pub fn new(joint: &'a mut JointModel, inputs: DriverInputs<'a>) -> Result<Self> {
        check_buffers()?;
        let DriverInputs { alignment, sensitivities, stored, options, progress, .. } = inputs;
        let DriverInputs { sources, shards, originals, .. } = inputs;
        let nets = || joint.tasks().iter().map(Task::model);
        let probe = |(model, source)| Probe::new(model, source, options.probe, options.seed);
        let probes = match options.probe {
            0 => Vec::new(),
            _ => nets().zip(&sources).map(probe).collect::<Result<_>>()?,
        };
        let source: Box<dyn StatisticsSource + 'a> = match shards {
            Some(shards) => {
                Box::new(shards.source(&nets().collect::<Vec<_>>(), &sources, progress)?)
            }
            None => Box::new(Streamed::new(nets().cloned().zip(sources))?),
        };
        let tasks = joint.tasks().len();
        let statistics =
            LayerStatistics::new(tasks, source, (stored, sensitivities), options, progress);
        let known = originals.map(Originals::pairings).unwrap_or_default();
        let settled = SettledGroups::of(joint);
        let producers = Producers::of(joint, alignment);
        Ok(Driver {
            joint,
            alignment,
            options,
            choice: PairChoice::new(options, tasks, known)?,
            weighting: Weighting { method: options.method, sensitivities },
            statistics,
            originals,
            probes,
            producers,
            settled,
            later: LaterCosts::default(),
            corrections: Corrections::new(),
            progress,
        })
    }

    /// Merges all layers, and calls `between` before each merged layer except the first. Afterwards the
    /// joint model's nets have their final weights.
    ///
    /// # Errors
    /// As the stages it runs: calibration, solving, matching; as `between`.
    pub fn run(mut self, between: &mut Between<'_>) -> Result<Vec<SiteRecord>> {
        if let Some(Outlook { joint, settled, later }) = self.look_ahead()? {
            (*self.joint, self.settled, self.later) = (joint, settled, later);
        }
        self.statistics.reserve(self.originals.map_or(0, Originals::bytes));
        self.begin(0);
        let mut records: Vec<SiteRecord> = Vec::new();
        let mut tables = self.tables()?;
        for (place, site) in self.alignment.sites.iter().enumerate() {
            if site.is_common() {
                self.match_inputs(place)?;
            }
            if self.fuse_tables(&mut tables)? {
                self.restart(place);
            }
            if site.is_common() {
                let last = records.iter().rfind(|record| record.is_zipped());
                if let Some(last) = last
                    && self.can_share(site)?
                    && between(self.joint, last)?
                {
                    self.restart(place);
                }
                records.push(self.site(site)?);
            } else {
                site.members().try_for_each(|member| self.refit_alone(member))?;
            }
            self.repeat_gates(place)?;
        }
        self.fuse_tables(&mut tables)?;
        if self.options.delta.is_some() {
            *self.joint = self.joint.clone().with_differences(&self.corrections)?;
        } else if !self.corrections.is_empty() {
            *self.joint = self.joint.with_corrections(&self.corrections)?;
        }
        Ok(records)
    }

    /// Costs of pairs at the later producers of groups with several producers; `None` if there are no
    /// such groups.
    fn look_ahead(&self) -> Result<Option<Outlook>> {
        let view = View {
            joint: self.joint,
            alignment: self.alignment,
            options: self.options,
            choice: &self.choice,
            weighting: self.weighting,
            statistics: &self.statistics,
            originals: self.originals,
            producers: &self.producers,
            settled: &self.settled,
            progress: self.progress,
        };
        view.look_ahead()
    }

    /// Begins anew with the samples, since numbers have changed before a site.
    fn restart(&mut self, place: usize) {
        self.statistics.restart();
        self.probes.iter_mut().for_each(Probe::restart);
        self.begin(place);
    }

    /// Reports the work that is left from a site on.
    fn begin(&self, site: usize) {
        let left = self.alignment.sites.len() - site;
        self.progress.begin("zipping", (self.statistics.steps() * left) as u64);
    }

    /// Whether layers of a site can share neurons that they do not share yet.
    fn can_share(&self, site: &Site) -> Result<bool> {
        let selection = SiteSelection::at(self.joint, self.alignment, site)?;
        Ok(selection.reason.is_none() && !selection.duplicates)
    }

    /// Refits a layer without a counterpart to its changed inputs.
    fn refit_alone(&mut self, layer: TaskLayer) -> Result<()> {
        if !self.statistics.adjusts(self.joint, layer) {
            return Ok(());
        }
        let weights = self.statistics.refitted(self.joint, layer)?;
        self.joint.unfuse(layer);
        self.joint.write(layer, weights.view())?;
        if let Some(probe) = self.probes.get_mut(layer.task.0) {
            let task = self.joint.task(layer.task);
            probe.changed(task.model(), &task.coupling().layer(layer.layer).layer);
        }
        Ok(())
    }

    /// Whether a layer's neurons are settled with those of any other layer.
    fn is_settled(&self, member: &SiteLayer) -> bool {
        member.group().is_some_and(|group| self.settled.is_settled(group))
    }

    /// Whether two layers' neurons are settled with each other.
    fn are_settled(&self, a: &SiteLayer, b: &SiteLayer) -> bool {
        let (Some(x), Some(y)) = (a.group(), b.group()) else { return false };
        self.settled.settled_together(x, y)
    }
}

#[cfg(test)]
mod tests;
