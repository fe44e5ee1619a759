//! Writes the steps of a loop with layers one after the other.
//!
//! Channels are not followed inside sub-graphs. A loop of a fixed number of steps is a net that applies its layers
//! several times, such as cells with convolutions. So its steps are written out, if their nodes take less than the
//! weights. All nodes of a model then count, so that neither several loops nor several passes multiply. Loops with
//! loops inside stay, and loops that are recurrent layers have become these before.

use std::collections::BTreeSet;

use ndarray::arr0;

use crate::error::Result;
use crate::ir::{Attribute, DataType, Graph, Model, Node, NodeId, Tensor, ValueId, ValueKind};
use crate::naming::UniqueNames;

use super::super::splice::{deliver, node_names, splice};
use super::super::{CanonOptions, types};
use super::repeated::{self, Outside, Repeated};

/// Most steps that are written out.
const MOST_STEPS: i64 = 64;

/// Most bytes that a node usually takes in a file.
const NODE_BYTES: usize = 256;

/// Most nodes that a model has when loops are written out.
const MOST_NODES: usize = 4096;

/// Most values that these have, per node.
const MOST_NODE_VALUES: usize = 16;

/// Operators that are layers, if a weight is constant.
const LAYERS: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"];

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a graph has a cycle.
pub(in super::super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let loops = graph.nodes().filter(|(_, node)| node.is("Loop") || node.is("Scan"));
    let loops: Vec<NodeId> = loops.map(|(id, _)| id).collect();
    if loops.is_empty() {
        return Ok(false);
    }
    let sizes = types::follow(graph)?;
    let scalars = repeated::scalars(graph, &sizes)?;
    let (mut names, mut modified) = (node_names(graph), false);
    let room = MOST_NODES.min(all_weight_bytes(graph) / NODE_BYTES);
    let mut nodes = extent(graph).0;
    for id in loops {
        let found = steps(&Outside { graph: &*graph, sizes: &sizes, scalars: &scalars }, id);
        let Some((steps, more)) = found.filter(|(_, more)| *more <= room.saturating_sub(nodes))
        else {
            continue;
        };
        if unroll(graph, &mut names, id, steps).is_some() {
            nodes += more;
            modified = true;
        }
    }
    Ok(modified)
}

/// The number of steps of a loop that is worth writing out, and of the nodes that are added.
fn steps(outside: &Outside<'_>, id: NodeId) -> Option<(i64, usize)> {
    let repeated = Repeated::of(outside.graph.node(id))?;
    let weights = weight_bytes(outside.graph, repeated.body);
    let has_layers = repeated.body.nodes().any(|(_, node)| LAYERS.iter().any(|op| node.is(op)));
    let (nodes, values) = extent(repeated.body);
    let is_nested = repeated.body.nodes().any(|(_, node)| node.is("Loop") || node.is("Scan"));
    if !has_layers || is_nested || weights < nodes.saturating_mul(NODE_BYTES) {
        return None;
    }
    let steps = repeated.steps(outside).filter(|steps| *steps <= MOST_STEPS)?;
    let times = usize::try_from(steps).ok()?;
    let (all, values) = (nodes.checked_mul(times)?, values.checked_mul(times)?);
    let fits = all <= MOST_NODES && values <= MOST_NODES * MOST_NODE_VALUES;
    (fits && weights >= all.checked_mul(NODE_BYTES)?).then_some((steps, all.saturating_sub(nodes)))
}

/// The number of nodes and of values of a graph and its sub-graphs.
fn extent(graph: &Graph) -> (usize, usize) {
    let inner = graph.nodes().flat_map(|(_, node)| node.subgraphs()).map(extent);
    let own = (graph.nodes().count(), graph.value_count());
    inner.fold(own, |sum, more| (sum.0.saturating_add(more.0), sum.1.saturating_add(more.1)))
}

/// Bytes of the matrices and filters that a body reads.
fn weight_bytes(graph: &Graph, body: &Graph) -> usize {
    let mut outer = BTreeSet::new();
    let constants = body.values().filter_map(|(id, value)| match value.kind {
        ValueKind::Captured(from) => graph.initializer(from).filter(|_| outer.insert(from)),
        _ => body.initializer(id),
    });
    let bytes = constants.filter(|tensor| is_matrix(tensor)).map(|tensor| tensor.data.len());
    bytes.fold(0, usize::saturating_add)
}

/// Bytes of the matrices and filters of a graph and its sub-graphs.
fn all_weight_bytes(graph: &Graph) -> usize {
    let own = graph.values().filter_map(|(id, _)| graph.initializer(id));
    let bytes = own.filter(|tensor| is_matrix(tensor)).map(|tensor| tensor.data.len());
    let inner = graph.nodes().flat_map(|(_, node)| node.subgraphs()).map(all_weight_bytes);
    bytes.chain(inner).fold(0, usize::saturating_add)
}

fn is_matrix(tensor: &Tensor) -> bool {
    tensor.dtype.is_float() && tensor.dims.iter().filter(|extent| **extent > 1).count() > 1
}

/// Replaces a loop by its steps.
fn unroll(graph: &mut Graph, names: &mut UniqueNames, id: NodeId, steps: i64) -> Option<()> {
    let node = graph.node(id).clone();
    let repeated = Repeated::of(&node)?;
    let (count, [_, leading]) = (repeated.states, repeated.leading);
    let scanned: Vec<(ValueId, usize, ValueId)> =
        repeated.scanned().into_iter().collect::<Option<_>>()?;
    let initial = (0..count).map(|place| repeated.initial(place));
    let mut states: Vec<ValueId> = initial.collect::<Option<_>>()?;
    let mut body = repeated.body.clone();
    let truth = Tensor::from_ints(DataType::Bool, &arr0(1i64).into_dyn())?;
    let (finals, collections) = node.outputs.split_at(count.min(node.outputs.len()));
    graph.remove_node(id);
    lift(graph, names, &mut body);
    let goes_on = graph.add_initializer("goes_on", truth);
    let mut copies = BTreeSet::new();
    let mut collected: Vec<Vec<ValueId>> = vec![Vec::new(); collections.len()];
    for step in 0..steps {
        let number = graph.add_initializer("count", Tensor::from_i64(Vec::new(), &[step]));
        let mut feeds = if node.is("Loop") { vec![number, goes_on] } else { Vec::new() };
        feeds.extend(&states);
        for (sequence, axis, _) in &scanned {
            let axis = [("axis", Attribute::Int(i64::try_from(*axis).ok()?))];
            feeds.push(graph.add_op("Gather", "entry", &[*sequence, number], axis));
        }
        let copied = splice(graph, names, &body, &feeds);
        copies.extend(copied.nodes);
        let mut results = copied.outputs.into_iter().skip(leading);
        states = results.by_ref().take(count).collect();
        collected.iter_mut().zip(results).for_each(|(all, result)| all.push(result));
    }
    for (output, all) in collections.iter().zip(collected) {
        output.iter().for_each(|output| stack(graph, &all, *output));
    }
    let pairs = states.into_iter().zip(finals.iter().copied());
    deliver(graph, &copies, pairs.filter_map(|(source, target)| Some((source, target?))));
    Some(())
}

/// Makes `output` the values of all steps along a first axis.
fn stack(graph: &mut Graph, all: &[ValueId], output: ValueId) {
    let name = graph.value(output).name.clone();
    let first = graph.add_initializer("axes", Tensor::from_i64(vec![1], &[0]));
    let rows = all.iter().map(|value| graph.add_op("Unsqueeze", &name, &[*value, first], []));
    let rows: Vec<ValueId> = rows.collect();
    let node = Node::standard("Concat", &name, &rows, [("axis", Attribute::Int(0))]);
    graph.add_node(Node { outputs: vec![Some(output)], ..node });
}

/// Moves the nodes of a body out of it that compute the same in every step, such as those that split weights.
fn lift(graph: &mut Graph, names: &mut UniqueNames, body: &mut Graph) {
    for id in body.topological_order().unwrap_or_default() {
        let node = body.node(id).clone();
        let draws = ["Bernoulli", "Multinomial"].contains(&node.op.as_str());
        if draws || node.op.starts_with("Random") || node.subgraphs().next().is_some() {
            continue;
        }
        let mut inputs = Vec::new();
        for input in &node.inputs {
            inputs.push(input.map(|value| outer(graph, body, value)));
        }
        if inputs.contains(&Some(None)) {
            continue;
        }
        body.remove_node(id);
        let mut outputs = Vec::new();
        for output in &node.outputs {
            outputs.push(output.map(|inner| {
                let name = body.value(inner).name.clone();
                let value = graph.add_value(&name, ValueKind::Detached, None);
                graph.set_type_like(value, body, inner);
                body.set_captured(inner, value);
                value
            }));
        }
        let inputs = inputs.into_iter().map(Option::flatten).collect();
        let name = names.claim(&node.name);
        graph.add_node(Node { name, inputs, outputs, ..node });
    }
}

/// The value outside that a value of a body is, if it is the same in every step.
fn outer(graph: &mut Graph, body: &mut Graph, value: ValueId) -> Option<ValueId> {
    if let ValueKind::Captured(outer) = body.value(value).kind {
        return Some(outer);
    }
    let tensor = body.initializer(value)?.clone();
    let outer = graph.add_initializer(&body.value(value).name.clone(), tensor);
    body.set_captured(value, outer);
    Some(outer)
}
