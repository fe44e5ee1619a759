//! Finds parameters that belong to no layer, with the reason.

use std::collections::HashSet;

use crate::ir::{Dim, Graph, Node, NodeId, Tensor, ValueId};
use crate::naming::shown;
use crate::ops::{self, Flow, LayerKind, Operand};

use super::Coupling;

/// Most elements of an input that could be a constant.
const FEW: usize = 64;

/// Most values that are followed from a condition to inputs.
const MOST_STEPS: usize = 4096;

/// A constant that is neither a weight nor a bias of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// Name of the constant.
    pub name: String,
    /// Number of its elements.
    pub elements: u64,
    /// The reason why it belongs to no layer, as a noun phrase.
    pub reason: String,
    /// The operator whose sub-graphs read it.
    pub sub_graphs_of: Option<String>,
    /// The inputs that decide which sub-graph runs, if nothing else does and they could be constants.
    pub decided_by: Vec<String>,
}

/// All constants with parameters that belong to no layer, in the order of the graph. Single numbers and
/// integers, such as shapes, are not parameters.
pub fn outside(graph: &Graph, coupling: &Coupling) -> Vec<Outside> {
    let mut belongs = vec![false; graph.value_count()];
    for layer in coupling.layers.iter().map(|layer| &layer.layer) {
        let gate = match &layer.kind {
            LayerKind::Gate(gate) => [Some(gate.recurrence), gate.initial],
            _ => [None, None],
        };
        let own = [Some(layer.weight), layer.bias].into_iter().chain(gate).flatten();
        own.for_each(|value| belongs[value.index()] = true);
    }
    let readers = graph.consumers();
    let mut all = Vec::new();
    for (id, value) in graph.values() {
        let Some(tensor) = graph.initializer(id) else { continue };
        if belongs[id.index()] || !is_parameter(tensor, graph, &readers[id.index()]) {
            continue;
        }
        let reader = readers[id.index()].first().copied();
        let reason = match reader {
            Some(reader) => reason(graph, coupling, reader, id),
            None => "an output of the model".to_owned(),
        };
        let reader = reader.map(|reader| graph.node(reader));
        let reader = reader.filter(|node| node.subgraphs().next().is_some());
        let sub_graphs_of = reader.map(|node| node.op.clone());
        let decided_by = reader.map(|node| deciding(graph, node)).unwrap_or_default();
        let (name, elements) = (value.name.clone(), elements(tensor));
        all.push(Outside { name, elements, reason, sub_graphs_of, decided_by });
    }
    for (_, node) in graph.nodes().filter(|(_, node)| node.subgraphs().next().is_some()) {
        let decided_by = deciding(graph, node);
        let of = (node.op.as_str(), decided_by.as_slice());
        node.subgraphs().for_each(|sub| inside(sub, of, &mut all));
    }
    all
}

fn elements(tensor: &Tensor) -> u64 {
    tensor.dims.iter().fold(1u64, |all, n| all.saturating_mul(*n as u64))
}

fn is_parameter(tensor: &Tensor, graph: &Graph, readers: &[NodeId]) -> bool {
    let quantised = || {
        let ops =
            ["DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"];
        readers.iter().any(|id| ops.iter().any(|op| graph.node(*id).is(op)))
    };
    elements(tensor) > 1 && (tensor.dtype.is_float() || quantised())
}

/// The inputs of few elements whose values alone decide which branch of an `If` runs; none if others take part.
fn deciding(graph: &Graph, node: &Node) -> Vec<String> {
    let Some(condition) = node.input(0).filter(|_| node.is("If")) else { return Vec::new() };
    let (mut open, mut seen, mut found) = (vec![condition], HashSet::new(), Vec::new());
    while let Some(value) = open.pop() {
        if seen.len() == MOST_STEPS {
            return Vec::new();
        }
        if !seen.insert(value) {
            continue;
        }
        match graph.producer(value) {
            Some(from) => open.extend(graph.node(from).reads()),
            None if graph.initializer(value).is_some() => {}
            None if is_small(graph, value) => found.push(value),
            None => return Vec::new(),
        }
    }
    let named = graph.inputs.iter().filter(|input| found.contains(input));
    named.map(|input| graph.value(*input).name.clone()).collect()
}

/// Whether a value has a fixed number of elements, and few of them.
fn is_small(graph: &Graph, value: ValueId) -> bool {
    let dims = graph.value(value).ty.as_ref().and_then(|ty| ty.shape.as_ref());
    let extents = dims.and_then(|dims| dims.iter().map(Dim::known).collect::<Option<Vec<usize>>>());
    extents.is_some_and(|all| all.iter().fold(1usize, |n, e| n.saturating_mul(*e)) <= FEW)
}

/// Constants of sub-graphs, in which no channels are followed. `of` is the operator, and the inputs that decide.
fn inside(sub: &Graph, of: (&str, &[String]), all: &mut Vec<Outside>) {
    for (id, value) in sub.values() {
        let floats = sub.initializer(id).filter(|t| t.dtype.is_float() && elements(t) > 1);
        if let Some(tensor) = floats {
            let (op, decided_by) = of;
            let reason = format!("inside a sub-graph of {op}{}", by(decided_by));
            let (name, elements) = (value.name.clone(), elements(tensor));
            let (sub_graphs_of, decided_by) = (Some(op.to_owned()), decided_by.to_vec());
            all.push(Outside { name, elements, reason, sub_graphs_of, decided_by });
        }
    }
    for (_, node) in sub.nodes() {
        node.subgraphs().for_each(|inner| inside(inner, of, all));
    }
}

fn reason(graph: &Graph, coupling: &Coupling, reader: NodeId, value: ValueId) -> String {
    let node = graph.node(reader);
    let slot = node.inputs.iter().position(|input| *input == Some(value));
    let Some(slot) = slot else {
        return format!("read inside a sub-graph of {}{}", node.op, by(&deciding(graph, node)));
    };
    if !node.domain.is_empty() {
        return format!("read by {} of {}, which no rule covers", node.op, node.domain);
    }
    let flow = coupling.flows.get(&reader);
    let operands = match flow {
        Some(Flow::Partwise(partwise)) => partwise.operands.as_slice(),
        Some(Flow::Together(together)) => together.operands.as_slice(),
        _ => &[],
    };
    if matches!(operands.get(slot), Some(Operand::Param { .. })) {
        return format!("one entry per channel ({}), which goes with the channels", node.op);
    }
    if matches!(operands.get(slot), Some(Operand::Depths { .. } | Operand::Entries { .. })) {
        return format!("one entry per depth of heads ({}), which goes with the depths", node.op);
    }
    match (node.op.as_str(), flow) {
        ("MatMul" | "Gemm", _) => product(graph, node, slot),
        ("Gather", _) if slot == 0 => {
            "rows of a constant that are picked along another axis (Gather)".to_owned()
        }
        (
            "DequantizeLinear" | "QLinearConv" | "QLinearMatMul" | "ConvInteger" | "MatMulInteger",
            _,
        ) => {
            format!("quantised ({})", node.op)
        }
        (op, Some(Flow::Whole(whole))) => format!("{} ({op})", whole.reason),
        (op, _) if ops::rule(op).is_none() => format!("read by {op}, which is no layer"),
        (op, _) => format!("a constant operand of {op}"),
    }
}

/// A clause about the inputs that decide which sub-graph runs.
fn by(inputs: &[String]) -> String {
    match inputs {
        [] => String::new(),
        [one] => format!(", which the input '{}' decides about", shown(one)),
        _ => format!(", which the inputs {} decide about", quoted(inputs)),
    }
}

/// Names in quotation marks, with commas between.
fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("'{}'", shown(name))).collect::<Vec<_>>().join(", ")
}

/// The reason why a product with a constant is not a layer.
fn product(graph: &Graph, node: &Node, slot: usize) -> String {
    let rank = |slot: usize| {
        let value = node.input(slot)?;
        match graph.initializer(value) {
            Some(tensor) => Some(tensor.dims.len()),
            None => Some(graph.value(value).ty.as_ref()?.shape.as_ref()?.len()),
        }
    };
    let text = match (slot, rank(0), rank(slot)) {
        (0, ..) => "the left operand of a product",
        (1, None, _) => "a factor of a value of unknown rank",
        (1, Some(0 | 1), _) => "a factor of a value without rows",
        (1, _, Some(2)) => "a factor of which not both axes are channels",
        (1, ..) => "a stack of matrices, or a vector",
        _ => "an addend that is not one number per column",
    };
    format!("{text} ({})", node.op)
}
