//! Finds parameters that belong to no layer, with the reason.

use crate::ir::{Graph, Node, NodeId, Tensor, ValueId};
use crate::ops::{self, Flow, LayerKind, Operand};

use super::Coupling;

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
        let (name, elements) = (value.name.clone(), elements(tensor));
        all.push(Outside { name, elements, reason, sub_graphs_of });
    }
    for (_, node) in graph.nodes() {
        node.subgraphs().for_each(|sub| inside(sub, &node.op, &mut all));
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

/// Constants of sub-graphs, in which no channels are followed.
fn inside(sub: &Graph, op: &str, all: &mut Vec<Outside>) {
    for (id, value) in sub.values() {
        let floats = sub.initializer(id).filter(|t| t.dtype.is_float() && elements(t) > 1);
        if let Some(tensor) = floats {
            let reason = format!("inside a sub-graph of {op}");
            let (name, elements) = (value.name.clone(), elements(tensor));
            all.push(Outside { name, elements, reason, sub_graphs_of: Some(op.to_owned()) });
        }
    }
    for (_, node) in sub.nodes() {
        node.subgraphs().for_each(|inner| inside(inner, op, all));
    }
}

fn reason(graph: &Graph, coupling: &Coupling, reader: NodeId, value: ValueId) -> String {
    let node = graph.node(reader);
    let slot = node.inputs.iter().position(|input| *input == Some(value));
    let Some(slot) = slot else { return format!("read inside a sub-graph of {}", node.op) };
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
