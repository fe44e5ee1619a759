//! Zips two nets layer by layer (Algorithm 1 of the paper).

use std::collections::BTreeMap;

use ndarray::{Array1, Array2};

use crate::align::Alignment;
use crate::calib::gram::Moments;
use crate::calib::store::LayerMoments;
use crate::calib::stream::{Source, Stream};
use crate::calib::taps::{RowLimit, Running, collect};
use crate::couple::{CoupledLayer, LayerId};
use crate::error::{Context, Result};
use crate::ir::Model;
use crate::progress::Progress;

use super::joint::JointModel;
use super::matcher::Matcher;
use super::options::{Method, Passes, ZipOptions};
use super::refit::refit;
pub use super::site::SiteRecord;
use super::site::{Side, has_rows};

/// Sensitivities of a task's layers: E[(∂outputs/∂z)²] per row.
pub type Sensitivities = BTreeMap<LayerId, Array1<f64>>;

/// One task's nets on their way through the data.
struct Progressing<'a> {
    original: Stream<'a>,
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
    streams: Vec<Progressing<'a>>,
    pub(super) progress: &'a dyn Progress,
}

impl<'a> Zip<'a> {
    /// Prepares to zip tasks 0 and 1 of `joint`, each with its calibration data. `stored` statistics
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
        Ok(Zip {
            joint,
            alignment,
            options,
            matcher,
            sensitivities,
            stored,
            originals,
            streams,
            progress,
        })
    }

    /// Zips all layers; afterwards the joint model's nets have their final weights.
    ///
    /// # Errors
    /// As the stages it runs: calibration, solving, matching.
    pub fn run(mut self) -> Result<Vec<SiteRecord>> {
        let steps = self.steps();
        let batches: u64 = self.streams.iter().map(|s| s.original.source().batches() as u64).sum();
        self.progress.begin("zipping", batches * steps.len() as u64);
        let mut records = Vec::new();
        for step in steps {
            match step {
                Step::Pair(a, b) => records.push(self.site(a, b)?),
                Step::Single(task, layer) => self.refit_alone(task, layer)?,
            }
        }
        Ok(records)
    }

    /// All layers in topological order of both nets, corresponding ones together.
    fn steps(&self) -> Vec<Step> {
        let counts: Vec<usize> = self.joint.tasks.iter().map(|t| t.coupling.layers.len()).collect();
        let mut next = [0, 0];
        let mut steps = Vec::new();
        let ends = (LayerId(counts[0]), LayerId(counts[1]));
        for (a, b) in self.alignment.layers.iter().copied().chain([ends]) {
            steps.extend((next[0]..a.0).map(|i| Step::Single(0, LayerId(i))));
            steps.extend((next[1]..b.0).map(|i| Step::Single(1, LayerId(i))));
            if (a, b) != ends {
                steps.push(Step::Pair(a, b));
            }
            next = [a.0 + 1, b.0 + 1];
        }
        steps
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
            true => self.channels(task, &layer)?.weights,
            false => self.side(task, &layer)?.weights,
        };
        self.write(task, &layer, &weights)
    }

    /// Whether refitting a layer can change it.
    pub(super) fn adjusts(&self, task: usize, layer: &CoupledLayer) -> bool {
        self.options.method == Method::Refit
            && self.options.passes == Passes::PerLayer
            && self.streams[task].zipped.is_some()
            && has_rows(layer)
            && layer.layer.bias.is_some()
            && self.statistics_bytes(task, layer) <= self.options.memory
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
            return Ok(Side::new(moments, self.weights(task, layer)?));
        }
        let limit = RowLimit { rows: self.options.max_rows, seed: self.options.seed };
        let adjusts = self.adjusts(task, layer);
        let progress = self.progress;
        let (inputs, targets) = self.running(task, adjusts);
        let moments = collect(layer, inputs, targets, limit, progress)
            .in_model(&self.joint.tasks[task].name)?;
        let mut weights = self.weights(task, layer)?;
        if adjusts {
            weights = refit(&moments, weights.view(), self.options.damping)
                .at_node(&layer.name)
                .in_model(&self.joint.tasks[task].name)?;
        }
        Ok(Side::new(moments, weights))
    }

    /// The rows of two layers whose channels were paired at an earlier layer of the same group.
    pub(super) fn known_pairs(&self, layers: &[CoupledLayer; 2]) -> Option<Vec<(usize, usize)>> {
        let group = crate::align::only_group(&layers[0].outputs)?;
        let first = self.joint.tasks[0].coupling.group(group).producers.first()?;
        if self.joint.tasks[0].coupling.layer(*first).layer.node == layers[0].layer.node {
            return None;
        }
        let row_of: BTreeMap<_, usize> = layers[1]
            .outputs
            .iter()
            .enumerate()
            .filter_map(|(row, c)| Some((self.joint.neuron(1, *c)?, row)))
            .collect();
        let pairs: Vec<(usize, usize)> = layers[0]
            .outputs
            .iter()
            .enumerate()
            .filter_map(|(row, c)| Some((row, *row_of.get(&self.joint.neuron(0, *c)?)?)))
            .collect();
        Some(pairs)
    }

    /// From here on the task's zipped net differs from the original.
    pub(super) fn diverge(&mut self, task: usize) {
        let streams = &mut self.streams[task];
        if streams.zipped.is_none() && self.options.passes == Passes::PerLayer {
            streams.zipped = Some(streams.original.clone());
        }
    }

    /// A layer's weight as [out × (inputs·taps + 1)], the bias (or zero) last.
    pub(super) fn weights(&self, task: usize, layer: &CoupledLayer) -> Result<Array2<f64>> {
        let graph = &self.joint.tasks[task].model.graph;
        let w = layer.layer.read(graph)?;
        let (out, inputs, taps) = w.dim();
        let mut matrix = Array2::zeros((out, inputs * taps + 1));
        for (mut row, source) in matrix.outer_iter_mut().zip(w.outer_iter()) {
            for (to, from) in row.iter_mut().zip(source) {
                *to = f64::from(*from);
            }
        }
        if let Some(bias) = layer.layer.read_bias(graph)? {
            matrix.column_mut(inputs * taps).assign(&bias.mapv(f64::from));
        }
        Ok(matrix)
    }

    pub(super) fn write(
        &mut self,
        task: usize,
        layer: &CoupledLayer,
        weights: &Array2<f64>,
    ) -> Result<()> {
        let graph = &mut self.joint.tasks[task].model.graph;
        let (out, inputs, taps) = layer.layer.sizes(graph)?;
        let w = ndarray::Array3::from_shape_fn((out, inputs, taps), |(o, i, t)| {
            weights[[o, i * taps + t]] as f32
        });
        let bias = weights.column(inputs * taps).mapv(|v| v as f32);
        layer.layer.write(graph, &w, Some(&bias))
    }
}

/// One step through the layers.
enum Step {
    Pair(LayerId, LayerId),
    Single(usize, LayerId),
}
