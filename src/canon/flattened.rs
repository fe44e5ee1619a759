//! Writes products of flattened tokens as products along the last axis.
//!
//! Some exporters and simplifiers flatten all axes but the last before a `Gemm`, and restore them behind it. Others
//! write a `MatMul` of more axes. Layers correspond only in the same form.

use std::collections::{HashMap, HashSet};

use crate::error::Result;
use crate::ir::{Consumers, Dim, Graph, Model, Node, NodeId, Tensor, ValueId};

use super::CanonOptions;
use super::types::shape;

/// Operators that treat each element alone and have one operand.
const UNARY: [&str; 13] = [
    "Relu",
    "Sigmoid",
    "Tanh",
    "Gelu",
    "Erf",
    "LeakyRelu",
    "Elu",
    "HardSigmoid",
    "HardSwish",
    "Softplus",
    "Identity",
    "Neg",
    "Sqrt",
];

/// Operators that treat each pair of elements alone.
const BINARY: [&str; 5] = ["Add", "Sub", "Mul", "Div", "Pow"];

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let order = graph.topological_order()?;
    let readers = graph.consumers();
    let mut modified = false;
    for place in 0..order.len() {
        let Some(region) = Region::of(graph, &readers, &order[place..]) else { continue };
        modified |= region.rewrite(graph).is_some();
    }
    Ok(modified)
}

/// Nodes behind a flattening that compute the same without it, up to views that end it.
struct Region {
    /// The flat value, and the value before it was flattened.
    flat: ValueId,
    data: ValueId,
    /// Sizes that give the data back its positions, if the view joins channels, too, as of heads.
    positions: Option<Vec<i64>>,
    /// In topological order.
    nodes: Vec<NodeId>,
    /// Views of flat values.
    ends: Vec<NodeId>,
}

impl Region {
    /// The region of the first of these nodes, if it joins axes of positions; `None` if it ends in other nodes than
    /// views, or has no layer.
    fn of(graph: &Graph, readers: &Consumers, order: &[NodeId]) -> Option<Region> {
        let node = graph.node(*order.first()?);
        let (data, flat) = (is_view(node).then(|| node.input(0))??, node.output(0)?);
        let (before, matrix) = (shape(graph, data)?, shape(graph, flat)?);
        if before.len() < 3 || matrix.len() != 2 {
            return None;
        }
        let (nodes, ends) = (Vec::new(), Vec::new());
        let mut region = Region { flat, data, positions: None, nodes, ends };
        let mut inside = HashSet::from([flat]);
        let mut left = readers.get(flat.index())?.len();
        for id in &order[1..] {
            if left == 0 {
                break;
            }
            let node = graph.node(*id);
            let read: HashSet<ValueId> =
                node.reads().filter(|value| inside.contains(value)).collect();
            let read = read.len();
            if read == 0 {
                continue;
            }
            left = left.checked_sub(read)?;
            if is_view(node) && shape(graph, node.output(0)?)?.len() > 2 {
                region.ends.push(*id);
                continue;
            }
            let output = node.output(0).filter(|output| !graph.outputs.contains(output))?;
            if !treats_rows_alone(graph, node, &inside) {
                return None;
            }
            left += readers.get(output.index())?.len();
            inside.insert(output);
            region.nodes.push(*id);
        }
        let has_layer = region.nodes.iter().any(|id| graph.node(*id).is("Gemm"));
        if left > 0 || !has_layer || graph.outputs.contains(&flat) {
            return None;
        }
        if !flattens(&before, &matrix) {
            region.positions = Some(region.restored(graph, matrix.last()?)?);
        }
        Some(region)
    }

    /// The sizes of the data with the positions that all views at the end give back, and these columns.
    fn restored(&self, graph: &Graph, columns: &Dim) -> Option<Vec<i64>> {
        let mut positions: Option<Vec<Dim>> = None;
        for end in &self.ends {
            let node = graph.node(*end);
            let (flat, mut after) = (shape(graph, node.input(0)?)?, shape(graph, node.output(0)?)?);
            let keeps_columns = after.pop()?.is_surely(flat.last()?);
            let is_same = positions.as_ref().is_none_or(|positions| *positions == after);
            if !keeps_columns || !is_same {
                return None;
            }
            positions = Some(after);
        }
        let positions = positions?;
        let is_one = positions.iter().skip(1).all(|dim| *dim == Dim::Known(1));
        let open = positions.iter().filter(|dim| dim.known().is_none()).count();
        let size = |dim: &Dim| dim.known().map_or(-1, |size| size as i64);
        (open <= 1 && !is_one).then(|| positions.iter().chain([columns]).map(size).collect())
    }

    fn rewrite(&self, graph: &mut Graph) -> Option<()> {
        let mut data = self.data;
        if let Some(positions) = &self.positions {
            let name = graph.value(self.flat).name.clone();
            let target = Tensor::from_i64(vec![positions.len()], positions);
            let target = graph.add_initializer(&format!("{name}.positions"), target);
            data = graph.add_op("Reshape", &name, &[data, target], []);
        }
        let mut known = HashMap::from([(self.flat, data)]);
        for id in &self.nodes {
            let node = graph.node(*id).clone();
            let output = node.output(0)?;
            let value = match node.is("Gemm") {
                true => product(graph, &node, *known.get(&node.input(0)?)?)?,
                false => {
                    let inputs: Vec<ValueId> =
                        node.reads().map(|value| *known.get(&value).unwrap_or(&value)).collect();
                    let value = graph.add_op(&node.op, &node.name, &inputs, []);
                    let copy = graph.producer(value)?;
                    graph.edit_node(copy, |copy| copy.attributes = node.attributes);
                    value
                }
            };
            known.insert(output, value);
        }
        for end in &self.ends {
            let view = graph.node(*end).clone();
            let flat = view.input(0)?;
            let columns = shape(graph, flat)?.last()?.known()?;
            let target = Tensor::from_i64(vec![2], &[-1, columns as i64]);
            let target = graph.add_initializer(&format!("{}.rows", view.name), target);
            let name = format!("{}.flat", view.name);
            let flat = graph.add_op("Reshape", &name, &[*known.get(&flat)?, target], []);
            graph.edit_node(*end, |node| node.inputs[0] = Some(flat));
        }
        Some(())
    }
}

/// Whether a view to this shape joins several axes of positions, and keeps the last axis.
fn flattens(before: &[Dim], flat: &[Dim]) -> bool {
    let (Some(last), Some(columns)) = (before.last(), flat.last()) else { return false };
    let positions = before.iter().skip(1).rev().skip(1);
    let has_several = positions.into_iter().any(|dim| *dim != Dim::Known(1));
    before.len() > 2 && flat.len() == 2 && has_several && last.is_surely(columns)
}

/// Whether a node computes each row of its flat operands from that row alone, and constants.
fn treats_rows_alone(graph: &Graph, node: &Node, inside: &HashSet<ValueId>) -> bool {
    let is_flat = |value: &Option<ValueId>| value.is_some_and(|value| inside.contains(&value));
    let is_constant = |value: &Option<ValueId>| {
        let dims = value.and_then(|value| graph.initializer(value)).map(|tensor| &tensor.dims);
        dims.is_some_and(|dims| dims.iter().rev().skip(1).all(|size| *size == 1))
    };
    if node.is("Gemm") {
        return is_layer(graph, node) && node.inputs.first().is_some_and(is_flat);
    }
    let is_one_of = |ops: &[&str]| ops.iter().any(|op| node.is(op));
    match node.inputs.as_slice() {
        [only] => is_one_of(&UNARY) && is_flat(only),
        pair @ [_, _] => {
            is_one_of(&BINARY) && pair.iter().all(|value| is_flat(value) || is_constant(value))
        }
        _ => false,
    }
}

fn is_view(node: &Node) -> bool {
    node.is("Reshape") || node.is("Flatten")
}

/// Whether a node is a `Gemm` in the form that layers have.
fn is_layer(graph: &Graph, node: &Node) -> bool {
    let weight = node.input(1).and_then(|value| graph.initializer(value));
    let bias = node.input(2).map(|value| graph.initializer(value));
    let is_weight = |w: &Tensor| {
        w.dims.len() == 2 && bias.is_none_or(|bias| bias.is_some_and(|b| b.dims == w.dims[..1]))
    };
    let plain = node.int("transA", 0) == 0 && node.int("transB", 0) == 1;
    let factors = ["alpha", "beta"].map(|name| node.float(name, 1.0));
    node.is("Gemm") && plain && factors == [1.0; 2] && weight.is_some_and(is_weight)
}

/// Adds a product along the last axis, and the bias behind it.
fn product(graph: &mut Graph, gemm: &Node, data: ValueId) -> Option<ValueId> {
    let weight = gemm.input(1)?;
    let turned = graph.initializer(weight)?.transposed()?;
    let codes = graph.codes(weight).cloned();
    let name = graph.value(weight).name.clone();
    let turned = graph.add_initializer(&name, turned);
    if let Some(codes) = codes.and_then(|codes| codes.along(1 - codes.axis.min(1))) {
        graph.set_codes(turned, codes);
    }
    let product = graph.add_op("MatMul", &gemm.name, &[data, turned], []);
    Some(match gemm.input(2) {
        Some(bias) => graph.add_op("Add", &format!("{}.add", gemm.name), &[product, bias], []),
        None => product,
    })
}
