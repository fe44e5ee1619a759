//! Writes one task's net into the joint graph, piece by piece.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::align::TaskId;
use crate::couple::{Channel, LayerId};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Attribute, Graph, Node, NodeId, ValueId, ValueKind};
use crate::mtz::joint::{JointModel, Owner, Task};
use crate::ops::Flow;

use super::builder::Builder;
use super::forms::extents::ExtentTable;
use super::forms::masked::Sums;
use super::names::short;
use super::nodes::grouped::{GroupedConvs, grouped_convs};
use super::trainable::{PreActivations, parameters};
use super::value::partition::{Part, Partition};
use super::value::pieces::Held;
use super::value::readers::Readers;

/// The pieces and grouped convolutions of all tasks' nets, fixed before anything is written.
pub(super) struct Layouts {
    partitions: Vec<Partition>,
    grouped: Vec<GroupedConvs>,
    readers: Readers,
}

impl Layouts {
    /// The layout for inference.
    pub(super) fn of(joint: &JointModel) -> Self {
        let readers = Readers::of(joint);
        let partitions = Partition::of(joint, &readers);
        Layouts { grouped: grouped_convs(joint, &partitions, &readers), partitions, readers }
    }

    /// The layout for training, in which every layer of a task's net is a node of its own.
    pub(super) fn by_layer(joint: &JointModel) -> Self {
        let grouped = joint.tasks().iter().map(|_| GroupedConvs::default()).collect();
        let readers = Readers::of(joint);
        Layouts { partitions: Partition::of(joint, &readers), grouped, readers }
    }
}

/// Writes one task.
pub(super) struct TaskEmitter<'a> {
    pub(super) joint: &'a JointModel,
    pub(super) task: TaskId,
    pub(super) builder: &'a mut Builder,
    pub(super) sums: Option<&'a mut Sums>,
    /// The net's parameters, each with a consumer; empty unless the model is to be trained.
    pub(super) parameters: BTreeMap<ValueId, NodeId>,
    /// The layers whose biases are common to all tasks that they were fused with.
    pub(super) common_biases: BTreeSet<LayerId>,
    /// Of all tasks.
    pub(super) partitions: &'a [Partition],
    pub(super) readers: &'a Readers,
    grouped: &'a GroupedConvs,
    values: HashMap<ValueId, Held>,
    /// The extents of activations; empty unless sums run across tasks.
    pub(super) extents: ExtentTable,
}

impl<'a> TaskEmitter<'a> {
    pub(super) fn new(
        joint: &'a JointModel,
        task: TaskId,
        layouts: &'a Layouts,
        builder: &'a mut Builder,
        sums: Option<&'a mut Sums>,
    ) -> Self {
        let parameters = match builder.untied {
            true => parameters(joint.task(task).graph()),
            false => BTreeMap::new(),
        };
        TaskEmitter {
            joint,
            task,
            builder,
            sums,
            parameters,
            common_biases: BTreeSet::new(),
            partitions: &layouts.partitions,
            readers: &layouts.readers,
            grouped: &layouts.grouped[task.0],
            values: HashMap::new(),
            extents: ExtentTable::default(),
        }
    }

    /// Writes the task's nodes; `inputs` are its inputs in the joint graph. Returns its outputs.
    pub(super) fn run(&mut self, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let task = self.source();
        for id in (0..task.coupling().layers.len()).map(LayerId) {
            if self.joint.shares_bias(self.task.layer(id))? {
                self.common_biases.insert(id);
            }
        }
        if self.sums.is_some() {
            self.extents = ExtentTable::of(task.graph())?;
        }
        for (input, value) in task.model().graph.inputs.iter().zip(inputs) {
            let held = match task.coupling().axis(*input) {
                Some(axis) => {
                    let name = &task.graph().value(*input).name;
                    self.cut(axis, *value, name)
                }
                None => Held::Whole(*value),
            };
            self.values.insert(*input, held);
        }
        for id in task.model().graph.topological_order()? {
            self.emit(id).at_node(&task.graph().node(id).name).in_model(task.name())?;
        }
        task.model().graph.outputs.iter().map(|v| self.whole(*v)).collect()
    }

    /// The pre-activations of layers with shared neurons, one entry per node. Call this after `run`.
    pub(super) fn pre_activations(&self) -> Vec<PreActivations> {
        let coupling = &self.source().coupling();
        let mut found: Vec<PreActivations> = Vec::new();
        for (number, layer) in coupling.layers.iter().enumerate() {
            let output = layer.layer.output;
            let Some(Held::Pieces { axis, len, pieces }) = self.values.get(&output) else {
                continue;
            };
            let is_first = coupling.layer_of(layer.layer.node) == Some(LayerId(number));
            if is_first && pieces.iter().any(|piece| piece.owner.is_shared()) {
                let pieces = pieces.iter().map(|p| (p.value, p.positions.clone())).collect();
                let (layer, axis, channels) = (LayerId(number), *axis, *len);
                found.push(PreActivations { layer, axis, channels, pieces });
            }
        }
        found
    }

    pub(super) fn source(&self) -> &'a Task {
        self.joint.task(self.task)
    }

    pub(super) fn graph(&self) -> &'a Graph {
        &self.source().model().graph
    }

    /// The parts of an axis with these channels.
    pub(super) fn parts(&self, channels: &[Channel]) -> Vec<Part> {
        self.partitions[self.task.0].parts(channels)
    }

    /// The parts of a layer's rows with these channels.
    pub(super) fn rows(&self, channels: &[Channel]) -> Vec<Part> {
        self.partitions[self.task.0].rows(channels)
    }

    /// A name with a prefix for the owner of the weights or values.
    pub(super) fn name(&self, owner: &Owner, base: &str) -> String {
        let tasks = self.joint.tasks();
        let base = short(base);
        match owner {
            Owner::Tasks(only) if only.len() == 1 => format!("{}/{base}", tasks[only[0].0].name()),
            Owner::Tasks(some) if some.len() < tasks.len() => {
                let names: Vec<&str> = some.iter().map(|t| tasks[t.0].name()).collect();
                format!("{}/{base}", names.join("+"))
            }
            _ => format!("shared/{base}"),
        }
    }

    /// A value of the task's net as pieces or whole.
    pub(super) fn held(&mut self, value: ValueId) -> Result<Held> {
        if let Some(held) = self.values.get(&value) {
            return Ok(held.clone());
        }
        let source = self.graph().value(value);
        let ValueKind::Initializer(tensor) = &source.kind else {
            return Err(Error::new(
                ErrorKind::Format,
                format!("value '{}' is read before it is computed", source.name),
            ));
        };
        let (own, tensor) = (Owner::Tasks(vec![self.task]), tensor.clone());
        let id = self.place(value, tensor, Vec::new(), &own);
        self.values.insert(value, Held::Whole(id));
        Ok(Held::Whole(id))
    }

    /// A value of the task's net as one tensor in its original order.
    pub(super) fn whole(&mut self, value: ValueId) -> Result<ValueId> {
        let held = self.held(value)?;
        let axis = self.source().coupling().axis(value);
        if axis.is_some_and(|axis| axis.within.is_some()) {
            let message = "channels of attention heads that are stored in another order";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let name = self.name(&Owner::Tasks(vec![self.task]), &self.graph().value(value).name);
        Ok(held.whole(self.builder, &name))
    }

    /// Records a value of the task's net.
    pub(super) fn hold(&mut self, value: ValueId, held: Held) {
        self.values.insert(value, held);
    }

    fn emit(&mut self, id: NodeId) -> Result<()> {
        let task = self.source();
        if let Some(grouped) = self.grouped.at(id) {
            return self.emit_grouped(id, grouped);
        }
        match task.coupling().flows.get(&id) {
            _ if self.grouped.is_part(id) => Ok(()),
            None | Some(Flow::Untracked | Flow::Whole(_)) => self.emit_whole(id),
            Some(Flow::Layer(layer)) if layer.is_table() => self.emit_table(layer),
            Some(Flow::Layer(layer)) => self.emit_layer(layer),
            Some(Flow::Bias) => Ok(()),
            Some(Flow::PerChannel(layer)) => self.emit_per_channel(layer),
            Some(Flow::Recurrent(gates)) => self.emit_recurrent(id, gates),
            Some(Flow::Partwise(partwise)) => self.emit_partwise(id, partwise),
            Some(Flow::Together(together)) => self.emit_together(id, together),
            Some(Flow::Relabel(picks)) => self.emit_relabel(id, picks),
        }
    }

    /// Writes a node that reads whole tensors. Its outputs are cut into pieces again.
    pub(super) fn emit_whole(&mut self, id: NodeId) -> Result<()> {
        let graph = self.graph();
        let mut node = graph.node(id).clone();
        self.read_joint(&mut node)?;
        let name = node.name.clone();
        node.name = self.name(&Owner::Tasks(vec![self.task]), &name);
        let wanted: Vec<bool> = node.outputs.iter().map(Option::is_some).collect();
        let sources = std::mem::take(&mut node.outputs);
        let outputs = self.builder.node(node, &wanted);
        for (source, output) in sources.into_iter().zip(outputs) {
            let (Some(source), Some(output)) = (source, output) else { continue };
            let held = match self.source().coupling().axis(source) {
                Some(axis) => self.cut(axis, output, &name),
                None => Held::Whole(output),
            };
            self.values.insert(source, held);
        }
        Ok(())
    }

    /// Points a copied node, and its sub-graphs, at values of the joint graph.
    fn read_joint(&mut self, node: &mut Node) -> Result<()> {
        let mut wholes = HashMap::new();
        for value in node.reads().collect::<Vec<_>>() {
            wholes.insert(value, self.whole(value)?);
        }
        node.redirect(|value| wholes.get(&value).copied().unwrap_or(value));
        let prefix = self.source().name();
        for attribute in node.attributes.values_mut() {
            if let Attribute::Graph(sub) = attribute {
                sub.prefix_names(prefix);
            }
        }
        Ok(())
    }
}
