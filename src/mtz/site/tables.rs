//! Corresponding tables: constants with several numbers for each channel, or for all channels alike, that are no
//! weights of a layer.
//!
//! Scales and shifts of a normalisation over maps, learned positions, biases of each pixel, slopes of each pixel, and
//! the products of mixers, which run over tokens beside the channels. Tables correspond by the channels they meet.
//! Vectors with one number per channel stay each task's own, as biases per task do.

use std::collections::{BTreeMap, HashMap, HashSet};

use ndarray::{ArrayD, Axis};

use crate::align::{Alignment, TaskChannel, TaskId};
use crate::couple::{ChannelAxis, Coupling};
use crate::error::Result;
use crate::ir::{Graph, Node, NodeId, ValueId};
use crate::mtz::joint::{JointModel, Neuron};
use crate::ops::{Expand, Flow, Operand, is_parameter};

/// Operators that combine a table with channels, beside those with parameters.
const ARITHMETIC: &[&str] = &["Add", "Sub", "Mul"];

/// Tables stay each task's own if what differs from their mean is more than this part of their energy. Independent
/// numbers around zero have half of it, scales near one a small part.
const FAR: f64 = 0.1;

/// A table of one task.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// The constant.
    pub(crate) value: ValueId,
    /// Its axis of channels; `None` if it is the same for all channels.
    pub(crate) axis: Option<usize>,
    /// The channels that it meets: one per entry of the axis.
    channels: Vec<TaskChannel>,
}

/// What corresponding tables have in common: operator, input, extents, axis, and the channels' correspondences.
type Role = (String, usize, Vec<usize>, Option<usize>, Vec<usize>);

/// Corresponding tables, with the task of each.
pub(crate) type Tables = Vec<(TaskId, Table)>;

/// The numbers of one task's table, with the place of each entry's neuron in the first task's table.
pub(crate) struct Numbers {
    all: ArrayD<f64>,
    pub(crate) places: Vec<usize>,
}

/// What corresponding tables have in common.
pub(crate) enum Agreement {
    /// They are equal.
    Same,
    /// This is their mean, in the order of the first task's channels.
    Near(ArrayD<f64>),
    /// Their mean is far from them.
    None,
}

/// All corresponding tables of several tasks. Tables of one role correspond in their order, if all tasks have equally
/// many of them.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a graph has a cycle.
pub(crate) fn corresponding_tables(
    joint: &JointModel,
    alignment: &Alignment,
) -> Result<Vec<Tables>> {
    let mut roles: BTreeMap<Role, Vec<Vec<Table>>> = BTreeMap::new();
    for task in joint.task_ids() {
        for (role, table) in tables_of(joint, alignment, task)? {
            let of_tasks =
                roles.entry(role).or_insert_with(|| vec![Vec::new(); joint.tasks().len()]);
            of_tasks[task.0].push(table);
        }
    }
    let mut all = Vec::new();
    for of_tasks in roles.into_values() {
        let count = of_tasks.first().map_or(0, Vec::len);
        if of_tasks.iter().any(|own| own.len() != count) {
            continue;
        }
        let at = |n: usize| {
            let tables = (0..).map(TaskId).zip(&of_tasks);
            tables.map(|(task, own)| (task, own[n].clone())).collect::<Tables>()
        };
        all.extend((0..count).map(at));
    }
    Ok(all)
}

/// The tables of a task in topological order, each with its role. A constant that several nodes read is none.
fn tables_of(
    joint: &JointModel,
    alignment: &Alignment,
    task: TaskId,
) -> Result<Vec<(Role, Table)>> {
    let (graph, coupling) = (joint.task(task).graph(), joint.task(task).coupling());
    let readers = graph.consumers();
    let mut found = Vec::new();
    for id in graph.topological_order()? {
        let Some((operands, axis)) = met(graph, coupling, id) else { continue };
        let node = graph.node(id);
        let Some(met) = correspondences(alignment, task, axis) else { continue };
        for (slot, operand) in operands.iter().enumerate() {
            let Some(value) = node.input(slot) else { continue };
            let is_lone = readers[value.index()].len() == 1 && !graph.outputs.contains(&value);
            let along = along(graph, value, operand, axis)
                .filter(|along| is_lone && may_hold(graph, node, (slot, value), along.is_some()));
            let Some(along) = along else { continue };
            let dims = graph.initializer(value).map(|t| t.dims.clone()).unwrap_or_default();
            let channels = axis.channels.iter().map(|c| task.channel(*c)).collect();
            let role = (node.op.clone(), slot, dims, along, met.clone());
            found.push((role, Table { value, axis: along, channels }));
        }
    }
    Ok(found)
}

/// Whether an input of a node may be a table. A mask is none, nor is the matrix of a graph: the mean of two masks hides
/// what either hides. `BatchNormalization` keeps its numbers beside its statistics.
fn may_hold(
    graph: &Graph,
    node: &Node,
    (slot, value): (usize, ValueId),
    has_channels: bool,
) -> bool {
    let is_parameter = is_parameter(&node.op, slot);
    let is_arithmetic = ARITHMETIC.iter().any(|op| node.is(op));
    let is_given = is_parameter && has_channels;
    node.domain.is_empty()
        && !node.is("BatchNormalization")
        && (is_parameter || is_arithmetic)
        && (is_given || is_learned(graph, value))
}

/// Whether most of a constant's numbers differ from each other, as learned ones do.
fn is_learned(graph: &Graph, value: ValueId) -> bool {
    let Some((tensor, size)) =
        graph.initializer(value).and_then(|tensor| Some((tensor, tensor.dtype.size()?)))
    else {
        return false;
    };
    let distinct: HashSet<&[u8]> = tensor.data.chunks(size.max(1)).collect();
    2 * distinct.len() > tensor.len()
}

/// The roles of a node's inputs, and the channels that flow through it on one axis.
fn met<'a>(
    graph: &Graph,
    coupling: &'a Coupling,
    id: NodeId,
) -> Option<(&'a [Operand], &'a ChannelAxis)> {
    let node = graph.node(id);
    let (operands, value) = match coupling.flows.get(&id)? {
        Flow::Partwise(flow) if flow.expand == Expand::NONE => (&flow.operands, node.output(0)?),
        Flow::Together(flow) => {
            let slot = flow.operands.iter().position(|role| *role == Operand::Channels)?;
            (&flow.operands, node.input(slot)?)
        }
        _ => return None,
    };
    Some((operands, coupling.axis(value).filter(|axis| axis.within.is_none())?))
}

/// The correspondences of the channels, in their order, without repetitions; `None` if some have none.
fn correspondences(alignment: &Alignment, task: TaskId, axis: &ChannelAxis) -> Option<Vec<usize>> {
    let mut all: Vec<usize> = Vec::new();
    for channel in &axis.channels {
        let own = alignment.correspondence(task.group(channel.group))?;
        if all.last() != Some(&own) {
            all.push(own);
        }
    }
    (!all.is_empty()).then_some(all)
}

/// The axis of channels of an operand that is a table; `Some(None)` for one that is the same for all channels.
fn along(
    graph: &Graph,
    value: ValueId,
    operand: &Operand,
    met: &ChannelAxis,
) -> Option<Option<usize>> {
    let is_plain = graph.codes(value).is_none();
    let tensor = graph.initializer(value).filter(|t| is_plain && t.dtype.is_float())?;
    match operand {
        Operand::Param { axis } => {
            let count = *tensor.dims.get(*axis)?;
            (count == met.channels.len() && tensor.len() > count).then_some(Some(*axis))
        }
        Operand::Plain => (tensor.len() > 1).then_some(None),
        _ => None,
    }
}

impl Table {
    /// The shared neuron of each channel; `None` where one is not shared.
    pub(crate) fn neurons(&self, joint: &JointModel) -> Option<Vec<Neuron>> {
        self.channels.iter().map(|channel| joint.neuron(*channel)).collect()
    }
}

/// The numbers of corresponding tables; `None` if their channels are not all paired with each other.
///
/// # Errors
/// As [`crate::ir::Tensor::to_f64`].
pub(crate) fn numbers(joint: &JointModel, tables: &Tables) -> Result<Option<Vec<Numbers>>> {
    let mut first: HashMap<Neuron, usize> = HashMap::new();
    let mut found = Vec::new();
    for (task, table) in tables {
        let Some(neurons) = table.neurons(joint) else { return Ok(None) };
        if first.is_empty() {
            first = neurons.iter().copied().zip(0..).collect();
        }
        let places = neurons.iter().map(|neuron| first.get(neuron).copied()).collect();
        let places: Option<Vec<usize>> = places;
        let tensor = joint.task(*task).graph().initializer(table.value);
        let (Some(places), Some(tensor)) = (places, tensor) else { return Ok(None) };
        // Channels that stand on the axis several times have no single place.
        if first.len() != places.len() {
            return Ok(None);
        }
        found.push(Numbers { all: tensor.to_f64()?, places });
    }
    Ok(Some(found))
}

/// What corresponding tables have in common; `weight` is the part of each task in the mean.
pub(crate) fn agreement(
    tables: &Tables,
    numbers: &[Numbers],
    weight: impl Fn(TaskId) -> f64,
) -> Agreement {
    let ordered: Vec<ArrayD<f64>> =
        tables.iter().zip(numbers).map(|((_, table), own)| in_order(own, table.axis)).collect();
    if ordered.windows(2).all(|pair| pair[0] == pair[1]) {
        return Agreement::Same;
    }
    let total: f64 = tables.iter().map(|(task, _)| weight(*task)).sum();
    let Some(shape) = ordered.first().map(|own| own.raw_dim()).filter(|_| total > 0.0) else {
        return Agreement::None;
    };
    let mut mean = ArrayD::zeros(shape);
    for ((task, _), own) in tables.iter().zip(&ordered) {
        mean.scaled_add(weight(*task) / total, own);
    }
    let energy = |numbers: &ArrayD<f64>| numbers.iter().map(|v| v * v).sum::<f64>();
    let differs: f64 = ordered.iter().map(|own| energy(&(own - &mean))).sum();
    match differs > FAR * ordered.iter().map(energy).sum::<f64>() {
        true => Agreement::None,
        false => Agreement::Near(mean),
    }
}

/// The numbers in the order of the first task's channels.
fn in_order(numbers: &Numbers, axis: Option<usize>) -> ArrayD<f64> {
    let Some(axis) = axis else { return numbers.all.clone() };
    let mut order = vec![0; numbers.places.len()];
    numbers.places.iter().enumerate().for_each(|(own, place)| order[*place] = own);
    numbers.all.select(Axis(axis), &order)
}
