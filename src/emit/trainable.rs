//! A joint model for training: every parameter is one initializer.
//!
//! A joint model's file stores all equal constants once: two zero biases of different layers are one
//! initializer. Training must be able to move them apart. So here, equal parameters are one initializer
//! only if the plan shares them.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::Dimension;

use crate::align::TaskId;
use crate::couple::{ChannelAxis, LayerId};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{DataType, Graph, Model, Node, NodeId, Tensor, ValueId};
use crate::mtz::joint::{JointModel, Owner};
use crate::ops::{gates, is_parameter};

use super::builder::Builder;
use super::recipe::Placed;
use super::scope::Scope;
use super::task::{Layouts, TaskEmitter};
use super::{InputMode, add_inputs, name_outputs, wrap};

/// A parameter of the joint model.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// The initializer.
    pub value: ValueId,
    /// Whether it is a matrix or filters, not a vector of biases or scales.
    pub is_weight: bool,
}

/// The pre-activations of a layer with shared neurons, in the joint model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreActivations {
    /// The layer of the task's net; the first of its node.
    pub layer: LayerId,
    /// The axis of its channels.
    pub axis: usize,
    /// Number of channels.
    pub channels: usize,
    /// Values of the joint model, with the channels that each holds.
    pub pieces: Vec<(ValueId, Vec<usize>)>,
}

/// A joint model in the `heads` form, for training.
pub struct Trainable {
    /// The model, with outputs `<task>/<output>`.
    pub model: Model,
    /// The parameters to train.
    pub parameters: Vec<Parameter>,
    /// The inputs of each task, in the order of its net: the name there, and the value of the joint model.
    pub inputs: Vec<Vec<(String, ValueId)>>,
    /// The outputs of each task, in the order of its net.
    pub outputs: Vec<Vec<ValueId>>,
    /// The layers of each task that share neurons.
    pub layers: Vec<Vec<PreActivations>>,
    placed: Vec<Placed>,
}

/// Refuses nets that training cannot change: it changes single-precision numbers only, not those of half precision.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if no net has such a parameter.
pub fn check_parameters(joint: &JointModel) -> Result<()> {
    if joint.tasks().iter().any(|task| !parameters(task.graph()).is_empty()) {
        return Ok(());
    }
    let weights = joint.tasks().iter().flat_map(|task| {
        let layers = task.coupling().layers.iter();
        layers.filter_map(|layer| task.graph().initializer(layer.layer.weight))
    });
    let types: BTreeSet<String> = weights.map(|weight| format!("{:?}", weight.dtype)).collect();
    let types: Vec<String> = types.into_iter().collect();
    let message = match types.as_slice() {
        [] => "the models have no parameter to train".to_owned(),
        types => {
            format!("the models' weights are {}, and only F32 is trained", types.join(" and "))
        }
    };
    Err(Error::new(ErrorKind::Unsupported, message))
}

/// The joint model for training; `inputs` says whether tasks are fed the same samples.
///
/// # Errors
/// As [`super::emit`].
pub fn trainable(joint: &JointModel, inputs: InputMode) -> Result<Trainable> {
    let mut builder = Builder::new("joint");
    builder.untied = true;
    let inputs = add_inputs(joint, inputs, &mut builder)?;
    let layouts = Layouts::by_layer(joint);
    let (mut outputs, mut layers) = (Vec::new(), Vec::new());
    for (task, inputs) in inputs.iter().enumerate() {
        let mut emitter = TaskEmitter::new(joint, TaskId(task), &layouts, &mut builder, None);
        outputs.push(emitter.run(inputs)?);
        layers.push(emitter.pre_activations());
    }
    name_outputs(joint, &mut builder, &outputs);
    let Builder { mut graph, placed, .. } = builder;
    graph.remove_dead_nodes();
    let parameters = parameters(&graph).into_keys().map(|value| Parameter {
        value,
        is_weight: graph.initializer(value).is_some_and(|t| t.dims.len() > 1),
    });
    let parameters = parameters.collect();
    let mut named = graph.outputs.iter().copied();
    let outputs = outputs.iter().map(|own| named.by_ref().take(own.len()).collect()).collect();
    let inputs = joint.tasks().iter().zip(inputs).map(|(task, inputs)| {
        let names = task.graph().inputs.iter().map(|own| task.graph().value(*own).name.clone());
        names.zip(inputs).collect()
    });
    let inputs = inputs.collect();
    Ok(Trainable { model: wrap(joint, graph), parameters, inputs, outputs, layers, placed })
}

impl Trainable {
    /// Writes the trained `values` of all parameters, in their order, into the tasks' nets.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if a value does not have its parameter's shape, or `joint` is not the
    /// model that this one was made from.
    pub fn store(&self, joint: &mut JointModel, values: &[Tensor]) -> Result<()> {
        let new: BTreeMap<ValueId, &Tensor> =
            self.parameters.iter().map(|p| p.value).zip(values).collect();
        for place in &self.placed {
            let Some(block) = new.get(&place.target) else { continue };
            if place.task >= joint.tasks().len() {
                return Err(other_model());
            }
            let task = TaskId(place.task);
            let mut whole = match joint.based(task, place.source) {
                Some(based) => based.base.clone(),
                None => {
                    let graph = joint.task(task).graph();
                    graph.initializer(place.source).ok_or_else(other_model)?.clone()
                }
            };
            put(&mut whole, block, &place.parts).ok_or_else(other_model)?;
            joint.renew(task, place.source, whole)?;
        }
        Ok(())
    }
}

fn other_model() -> Error {
    Error::new(ErrorKind::Format, "the trained parameters do not fit the joint model")
}

/// The trainable float constants of a graph, each with a consumer.
pub(super) fn parameters(graph: &Graph) -> BTreeMap<ValueId, NodeId> {
    let mut found = BTreeMap::new();
    for (id, node) in graph.nodes().filter(|(_, n)| n.domain.is_empty()) {
        for (index, input) in node.inputs.iter().enumerate() {
            let trains =
                |value: &ValueId| is_parameter(&node.op, index) || is_bias(graph, node, *value);
            let Some(value) = input.filter(trains) else { continue };
            for value in blocks(graph, value) {
                if graph.initializer(value).is_some_and(|t| t.dtype == DataType::F32) {
                    found.entry(value).or_insert(id);
                }
            }
        }
    }
    found
}

/// Whether a constant is the bias of products over tokens, added by a separate `Add`.
fn is_bias(graph: &Graph, node: &Node, value: ValueId) -> bool {
    let is_vector = graph.initializer(value).is_some_and(|tensor| tensor.dims.len() == 1);
    let mut others = node.reads().filter(|other| *other != value);
    is_vector && node.is("Add") && others.any(|other| is_product(graph, other))
}

/// Whether a value is a product with a constant matrix, or a sum whose last term is one.
fn is_product(graph: &Graph, value: ValueId) -> bool {
    let node = |value: ValueId| graph.producer(value).map(|id| graph.node(id));
    let last = match node(value) {
        Some(sum) if sum.is("Add") => sum.input(1).and_then(node),
        other => other,
    };
    let matrix = last.filter(|node| node.is("MatMul")).and_then(|node| node.input(1));
    matrix.is_some_and(|matrix| !blocks(graph, matrix).is_empty())
}

/// The constants that a value consists of: itself, the operands of its `Concat`, or the first term of a sum of
/// constants, whose second term is a difference that does not train.
fn blocks(graph: &Graph, value: ValueId) -> Vec<ValueId> {
    match graph.producer(value).map(|id| graph.node(id)) {
        Some(joined) if joined.is("Concat") => {
            joined.reads().flat_map(|part| blocks(graph, part)).collect()
        }
        Some(sum) if sum.is("Add") => {
            let is_constant = |value: ValueId| graph.initializer(value).is_some();
            let terms: Vec<ValueId> = sum.reads().filter(|value| is_constant(*value)).collect();
            if terms.len() == 2 { terms[..1].to_vec() } else { Vec::new() }
        }
        None if graph.initializer(value).is_some() => vec![value],
        _ => Vec::new(),
    }
}

/// Writes a block to its indices along some axes; `None` if it does not fit.
fn put(whole: &mut Tensor, block: &Tensor, parts: &[(usize, Vec<usize>)]) -> Option<()> {
    let mut target = whole.to_f32().ok()?;
    let source = block.to_f32().ok()?;
    let mut indices: Vec<Option<&Vec<usize>>> = vec![None; whole.dims.len()];
    for (axis, list) in parts {
        *indices.get_mut(*axis)? = Some(list);
    }
    let mut at = vec![0; whole.dims.len()];
    for (position, value) in source.indexed_iter() {
        for (axis, slot) in at.iter_mut().enumerate() {
            let along = position.slice().get(axis).copied()?;
            *slot = indices[axis].map_or(Some(along), |list| list.get(along).copied())?;
        }
        *target.get_mut(at.as_slice())? = *value;
    }
    *whole = Tensor::from_f32(&target);
    Some(())
}

/// The number of channels of an entry of `source`: those of a head where it has one entry for each head.
fn per_entry(
    graph: &Graph,
    axis: &ChannelAxis,
    source: ValueId,
    parts: &[(usize, Vec<usize>)],
) -> usize {
    let along = parts.first().map(|(axis, _)| *axis).filter(|_| axis.within.is_some());
    let entries = along.and_then(|along| graph.initializer(source)?.dims.get(along).copied());
    entries.map_or(1, |entries| axis.channels.len() / entries.max(1)).max(1)
}

impl TaskEmitter<'_> {
    /// The scope of a block of `source`; `None` if it is not a parameter.
    pub(super) fn scope(
        &self,
        source: ValueId,
        parts: &[(usize, Vec<usize>)],
        owner: &Owner,
    ) -> Option<Scope> {
        let (task, own) = (self.source(), Scope::Own(self.task.0, source));
        let graph = task.graph();
        let node = *self.parameters.get(&source)?;
        if !owner.is_shared() {
            return Some(own);
        }
        let first = parts.first().and_then(|(_, positions)| positions.first().copied());
        let coupling = task.coupling();
        let layer = coupling.layer_of(node).map(|layer| coupling.first_use(layer));
        // Channels of a layer with a separate addition are known behind the addition.
        let output = match layer {
            Some(layer) => Some(coupling.layer(layer).layer.output),
            None => graph.node(node).output(0),
        };
        let axis = output.and_then(|value| coupling.axis(value));
        // Rows of a recurrent layer are ordered by gate, then by unit.
        let units = axis.map_or(1, |axis| axis.channels.len().max(1));
        let (gate, first) = match gates(&graph.node(node).op).is_empty() {
            true => (String::new(), first),
            false => {
                let slot = graph.node(node).inputs.iter().position(|v| *v == Some(source));
                (format!(" {slot:?} {:?}", first.map(|f| f / units)), first.map(|f| f % units))
            }
        };
        let width = axis.map_or(1, |axis| per_entry(graph, axis, source, parts));
        let channel = first.zip(axis).and_then(|(first, axis)| axis.channels.get(first * width));
        let Some((channel, neuron)) =
            channel.and_then(|c| Some((c, self.joint.neuron(self.task.channel(*c))?)))
        else {
            return Some(own);
        };
        // Corresponding layers may have other numbers, but have the same place among their group's
        // producers. Of those that are applied several times, only the first use counts.
        let place = match layer {
            Some(layer) => {
                let producers = coupling.group(channel.group).producers.iter();
                let mut producers = producers.filter(|p| coupling.layer(**p).repeats().is_none());
                format!("layer {:?}{gate}", producers.position(|p| *p == layer))
            }
            None => {
                let op = &graph.node(node).op;
                let alike = graph.nodes().filter(|(id, n)| *id < node && n.op == *op).count();
                format!("{op} {alike}")
            }
        };
        Some(Scope::Shared(neuron, place))
    }
}
