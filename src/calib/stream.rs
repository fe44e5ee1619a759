//! Runs a net layer by layer over the calibration data.
//!
//! A [`Stream`] holds, for every batch, the values at a cut through the net, and moves the cut forward.
//! So all of calibration costs one forward pass, although weights after the cut change while it
//! advances. If the values at the cut do not fit into memory, each step starts again from the data.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::cut::{Cut, bytes_of, types_of_inputs, types_of_kept};
use super::data::Dataset;
use super::mask::{Mask, MaskInput};
use crate::canon::with_branches_taken;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Graph, Model, NodeId, TensorType, ValueId};
use crate::runtime::{Backend, HostArray, ModelSource, Session};

/// Calibration data and how to run over it.
#[derive(Clone)]
pub struct Source<'a> {
    /// Runs the pieces of the net.
    pub backend: &'a dyn Backend,
    /// Samples for all inputs of the net.
    pub data: &'a Dataset,
    /// Samples per batch.
    pub batch: usize,
    /// Bytes that the values at the cut may take.
    pub memory: u64,
}

impl Source<'_> {
    /// Number of batches.
    pub fn batches(&self) -> usize {
        self.data.len().div_ceil(self.batch.max(1))
    }

    /// The samples of one batch.
    pub fn range(&self, batch: usize) -> std::ops::Range<usize> {
        let start = batch * self.batch;
        start..(start + self.batch).min(self.data.len())
    }
}

/// A net that is being run over its data, up to some node.
#[derive(Clone)]
pub struct Stream<'a> {
    source: Source<'a>,
    order: Vec<NodeId>,
    /// Nodes of `order` before this position have been passed by the cut.
    position: usize,
    /// One cut per batch; empty if nothing is kept.
    kept: Vec<Cut>,
    /// The input that marks padding, if there is one.
    mask: Option<MaskInput>,
    /// The masks of batches, as far as they were asked for.
    masks: BTreeMap<usize, Option<Arc<Mask>>>,
}

/// The state of a stream, without its data and its runtime.
#[derive(Clone, Default)]
pub(crate) struct Paused {
    batch: usize,
    memory: u64,
    order: Vec<NodeId>,
    position: usize,
    kept: Vec<Cut>,
    mask: Option<MaskInput>,
    masks: BTreeMap<usize, Option<Arc<Mask>>>,
}

impl Paused {
    /// Continues the stream.
    pub(crate) fn resume<'a>(self, backend: &'a dyn Backend, data: &'a Dataset) -> Stream<'a> {
        let Paused { batch, memory, order, position, kept, mask, masks } = self;
        let source = Source { backend, data, batch, memory };
        Stream { source, order, position, kept, mask, masks }
    }
}

/// A prepared step of a stream: the part of the net between two cuts.
pub struct Step {
    session: Option<Box<dyn Session>>,
    /// The values that the part reads, with their input names.
    feeds: Vec<(ValueId, String)>,
    /// The values that the part computes, in the session's order.
    outputs: Vec<ValueId>,
    taps: Vec<ValueId>,
    next: Vec<ValueId>,
    upto: usize,
    cuts: Vec<Cut>,
    bytes: u64,
}

impl<'a> Stream<'a> {
    /// A stream at the inputs of `model`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the graph has a cycle.
    pub fn new(model: &Model, source: Source<'a>) -> Result<Self> {
        let order = model.graph.topological_order()?;
        let mask = MaskInput::of(&model.graph);
        Ok(Stream { source, order, position: 0, kept: Vec::new(), mask, masks: BTreeMap::new() })
    }

    /// Pauses the stream.
    pub(crate) fn pause(self) -> Paused {
        let Stream { source, order, position, kept, mask, masks } = self;
        let Source { batch, memory, .. } = source;
        Paused { batch, memory, order, position, kept, mask, masks }
    }

    /// The mask of padding of a batch; `None` without padding.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] if the data cannot be read.
    pub(super) fn mask(&mut self, batch: usize) -> Result<Option<Arc<Mask>>> {
        let Some(input) = &self.mask else { return Ok(None) };
        if let Some(known) = self.masks.get(&batch) {
            return Ok(known.clone());
        }
        let array = self.source.data.input(&input.name, self.source.range(batch))?;
        let mask = array.and_then(|array| input.mask(array)).map(Arc::new);
        self.masks.insert(batch, mask.clone());
        Ok(mask)
    }

    /// Sets the limit of bytes of the values at the cut, from the next step on.
    pub fn allow(&mut self, bytes: u64) {
        self.source.memory = bytes;
    }

    /// The data and how to run over it.
    pub fn source(&self) -> &Source<'a> {
        &self.source
    }

    /// The position of `node` in the order of the stream.
    pub fn position_of(&self, node: NodeId) -> usize {
        self.order.iter().position(|n| *n == node).unwrap_or(self.order.len())
    }

    /// Prepares to run all nodes before position `upto` and to read the values `taps`.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] if the runtime refuses the part of the net in between.
    pub fn prepare(&mut self, model: &Model, upto: usize, taps: &[ValueId]) -> Result<Step> {
        let graph = &model.graph;
        // What depends on constants only comes before the cut, but may be visited after it. Outputs may have
        // been computed before it.
        if self.position > 0 && !self.is_within_reach(graph, taps) {
            self.restart();
        }
        let upto = upto.max(self.position);
        let next = self.frontier(model, upto);
        let first = self.cut(model, 0)?;
        let mut wanted: Vec<ValueId> = taps.iter().chain(&next).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let outputs: Vec<ValueId> = wanted.into_iter().filter(|v| !first.contains_key(v)).collect();
        let mut step = Step {
            session: None,
            feeds: Vec::new(),
            outputs,
            taps: taps.to_vec(),
            next,
            upto,
            cuts: Vec::new(),
            bytes: 0,
        };
        if step.outputs.is_empty() {
            return Ok(step);
        }
        let part = graph.between(&self.types(graph, &first), &step.outputs);
        step.feeds = part.inputs.iter().map(|v| (*v, part.value(*v).name.clone())).collect();
        let part = with_branches_taken(Model { graph: part, ..model.without_graph() });
        let session = self.source.backend.load(ModelSource::Graph(&part)).in_model(&model.name)?;
        step.session = Some(session);
        Ok(step)
    }

    /// Runs one batch; batches must come in order. Returns the values of the taps.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] if the runtime fails, [`ErrorKind::Calibration`] if the data does.
    pub fn run(
        &mut self,
        model: &Model,
        step: &mut Step,
        batch: usize,
    ) -> Result<Vec<Arc<HostArray>>> {
        let mut values = self.cut(model, batch)?;
        // The old cut of this batch is no longer needed.
        self.kept.get_mut(batch).map(std::mem::take);
        if let Some(session) = &mut step.session {
            let feeds: Vec<(&str, &HostArray)> = step
                .feeds
                .iter()
                .filter_map(|(id, name)| Some((name.as_str(), values.get(id)?.as_ref())))
                .collect();
            let results = session.run(&feeds).in_model(&model.name)?;
            values.extend(step.outputs.iter().copied().zip(results.into_iter().map(Arc::new)));
        }
        let taps: Option<Vec<_>> = step.taps.iter().map(|v| values.get(v).cloned()).collect();
        values.retain(|id, _| step.next.contains(id));
        step.bytes += values.values().map(|a| bytes_of(a)).sum::<u64>();
        if step.bytes <= self.source.memory {
            step.cuts.push(values);
        }
        taps.ok_or_else(|| {
            Error::new(ErrorKind::Backend, "the runtime did not compute a layer's input")
                .in_model(&model.name)
        })
    }

    /// Moves the cut to where the step leads, if its values fit into memory.
    pub fn finish(&mut self, step: Step) {
        if step.cuts.len() == self.source.batches() {
            self.position = step.upto;
            self.kept = step.cuts;
        } else {
            self.position = 0;
            self.kept = Vec::new();
        }
    }

    /// Moves the cut to the first node that reads one of `values`; from the data, if it has passed that
    /// node. It stays at the data if the values at the cut do not fit into memory.
    ///
    /// # Errors
    /// As [`Stream::prepare`] and [`Stream::run`].
    pub(crate) fn advance(&mut self, model: &Model, values: &[ValueId]) -> Result<()> {
        let upto = self.first_reader(&model.graph, values);
        self.changed(&model.graph, values);
        let mut step = self.prepare(model, upto, &[])?;
        let batches = self.source.batches() as u64;
        for batch in 0..self.source.batches() {
            self.run(model, &mut step, batch)?;
            let expected = (step.bytes / (batch as u64 + 1)).saturating_mul(batches);
            if expected > self.source.memory {
                self.restart();
                return Ok(());
            }
        }
        self.finish(step);
        Ok(())
    }

    /// The outputs of the net, batch by batch, from the cut on.
    ///
    /// # Errors
    /// As [`Stream::prepare`] and [`Stream::run`].
    pub(crate) fn outputs(mut self, model: &Model) -> Result<Vec<Vec<Arc<HostArray>>>> {
        let mut step = self.prepare(model, self.order.len(), &model.graph.outputs)?;
        (0..self.source.batches()).map(|batch| self.run(model, &mut step, batch)).collect()
    }

    /// Goes back to the data if the cut has passed a node that reads one of `values`, which have changed.
    pub(crate) fn changed(&mut self, graph: &Graph, values: &[ValueId]) {
        if self.first_reader(graph, values) < self.position {
            self.restart();
        }
    }

    /// The position of the first node that reads one of `values`.
    fn first_reader(&self, graph: &Graph, values: &[ValueId]) -> usize {
        let reads = |node: &NodeId| graph.node(*node).reads().any(|read| values.contains(&read));
        self.order.iter().position(reads).unwrap_or(self.order.len())
    }

    /// Goes back to the data. Needed if weights of nodes that the cut has passed have changed.
    pub fn restart(&mut self) {
        self.position = 0;
        self.kept = Vec::new();
    }

    /// Whether values can be computed from the cut.
    fn is_within_reach(&self, graph: &Graph, values: &[ValueId]) -> bool {
        let Some(cut) = self.kept.first() else { return false };
        let mut stack = values.to_vec();
        let mut seen = HashSet::new();
        while let Some(value) = stack.pop() {
            if cut.contains_key(&value) || !seen.insert(value) {
                continue;
            }
            match graph.producer(value) {
                Some(node) => stack.extend(graph.node(node).reads()),
                None if graph.initializer(value).is_none() => return false,
                None => {}
            }
        }
        true
    }

    /// Values computed or fed before position `upto` that later nodes read.
    fn frontier(&self, model: &Model, upto: usize) -> Vec<ValueId> {
        let graph = &model.graph;
        let mut before: Vec<ValueId> = graph.inputs.clone();
        for node in &self.order[..upto] {
            before.extend(graph.node(*node).outputs.iter().flatten());
        }
        let mut read: Vec<ValueId> =
            self.order[upto..].iter().flat_map(|n| graph.node(*n).reads()).collect();
        read.sort_unstable();
        before.sort_unstable();
        before.retain(|v| read.binary_search(v).is_ok());
        before
    }

    /// The types of the values at the cut, of which the first batch has the values `first`.
    fn types(&self, graph: &Graph, first: &Cut) -> Vec<(ValueId, TensorType)> {
        let source = &self.source;
        let samples = |batch: usize| source.range(batch).len();
        if self.position == 0 {
            return types_of_inputs(graph, first, samples(0));
        }
        let samples: Vec<usize> = (0..source.batches()).map(samples).collect();
        types_of_kept(graph, &self.kept, &samples)
    }

    /// The values at the cut for one batch.
    fn cut(&self, model: &Model, batch: usize) -> Result<Cut> {
        if self.position > 0 {
            return self.kept.get(batch).cloned().ok_or_else(|| {
                Error::new(ErrorKind::Calibration, format!("there is no batch {batch}"))
            });
        }
        let graph = &model.graph;
        let named = self.source.data.batch(self.source.range(batch)).in_model(&model.name)?;
        let by_name = named.into_iter().filter_map(|(name, array)| {
            let id = graph.inputs.iter().find(|i| graph.value(**i).name == name)?;
            Some((*id, Arc::new(array)))
        });
        Ok(by_name.collect())
    }
}
