//! Writes products of flattened tokens as products along the last axis.
//!
//! Some exporters and simplifiers flatten all axes but the last before a `Gemm`, and restore them behind it. Others
//! write a `MatMul` of more axes. Layers correspond only in the same form.

use std::collections::{HashMap, HashSet};

use crate::error::Result;
use crate::ir::{Codes, Consumers, Dim, Graph, Model, Node, NodeId, Tensor, ValueId};

use super::types::shape;
use super::{CanonOptions, requantised};

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
    ends: Vec<End>,
}

/// A view of a flat value with this number of columns.
struct End {
    view: NodeId,
    flat: ValueId,
    columns: usize,
}

impl Region {
    /// The region of the first of these nodes, if it joins axes of positions; `None` if it ends in other nodes than
    /// views, or has no layer.
    fn of(graph: &Graph, readers: &Consumers, order: &[NodeId]) -> Option<Region> {
        let (first, behind) = order.split_first()?;
        let node = graph.node(*first);
        let (data, flat) = (is_view(node).then(|| node.input(0))??, node.output(0)?);
        let (before, matrix) = (shape(graph, data)?, shape(graph, flat)?);
        if before.len() < 3 || matrix.len() != 2 || graph.outputs.contains(&flat) {
            return None;
        }
        let (nodes, ends) = (Vec::new(), Vec::new());
        let mut region = Region { flat, data, positions: None, nodes, ends };
        region.grow(graph, readers, behind)?;
        if !flattens(&before, &matrix) {
            region.positions = Some(region.restored(graph, matrix.last()?.known()?)?);
        }
        let has_layer = region.nodes.iter().any(|id| graph.node(*id).is("Gemm"));
        has_layer.then_some(region)
    }

    /// Adds the nodes that read the flat value, and those that read their results; `None` where one of them
    /// needs flat values.
    fn grow(&mut self, graph: &Graph, readers: &Consumers, behind: &[NodeId]) -> Option<()> {
        let mut inside = HashSet::from([self.flat]);
        let mut left = readers.get(self.flat.index())?.len();
        for id in behind {
            if left == 0 {
                break;
            }
            let node = graph.node(*id);
            let read: HashSet<ValueId> = node.reads().filter(|v| inside.contains(v)).collect();
            if read.is_empty() {
                continue;
            }
            left = left.checked_sub(read.len())?;
            let output = node.output(0)?;
            if is_view(node) && shape(graph, output)?.len() > 2 {
                let flat = node.input(0)?;
                let columns = shape(graph, flat)?.last()?.known()?;
                self.ends.push(End { view: *id, flat, columns });
                continue;
            }
            if graph.outputs.contains(&output) || !treats_rows_alone(graph, node, &inside) {
                return None;
            }
            left += readers.get(output.index())?.len();
            inside.insert(output);
            self.nodes.push(*id);
        }
        (left == 0).then_some(())
    }

    /// The sizes of the data with the positions that all views at the end give back, and so many columns.
    fn restored(&self, graph: &Graph, columns: usize) -> Option<Vec<i64>> {
        let mut positions: Option<Vec<Dim>> = None;
        for end in &self.ends {
            let mut after = shape(graph, graph.node(end.view).output(0)?)?;
            let keeps_columns = after.pop()? == Dim::Known(end.columns);
            let is_same = positions.as_ref().is_none_or(|positions| *positions == after);
            if !keeps_columns || !is_same {
                return None;
            }
            positions = Some(after);
        }
        let positions = positions?;
        let is_one = positions.iter().skip(1).all(|dim| *dim == Dim::Known(1));
        let open = positions.iter().filter(|dim| dim.known().is_none()).count();
        let sizes = positions.iter().map(|dim| dim.known().map_or(-1, |size| size as i64));
        (open <= 1 && !is_one).then(|| sizes.chain([columns as i64]).collect())
    }

    fn rewrite(&self, graph: &mut Graph) -> Option<()> {
        let mut data = self.data;
        if let Some(positions) = &self.positions {
            let name = graph.value(self.flat).name.clone();
            data = reshaped(graph, &name, data, positions);
        }
        let mut known = HashMap::from([(self.flat, data)]);
        for id in &self.nodes {
            let node = graph.node(*id).clone();
            let value = match node.is("Gemm") {
                true => product(graph, &node, *known.get(&node.input(0)?)?)?,
                false => {
                    let inputs: Vec<ValueId> =
                        node.reads().map(|value| *known.get(&value).unwrap_or(&value)).collect();
                    let value = graph.add_op(&node.op, &node.name, &inputs, []);
                    let copy = graph.producer(value)?;
                    graph.edit_node(copy, |copy| copy.attributes.clone_from(&node.attributes));
                    value
                }
            };
            known.insert(node.output(0)?, value);
        }
        for End { view, flat, columns } in &self.ends {
            let name = format!("{}.flat", graph.node(*view).name);
            let flat = reshaped(graph, &name, *known.get(flat)?, &[-1, *columns as i64]);
            graph.edit_node(*view, |node| node.inputs[0] = Some(flat));
        }
        Some(())
    }
}

/// The value with these sizes.
fn reshaped(graph: &mut Graph, name: &str, value: ValueId, sizes: &[i64]) -> ValueId {
    let sizes = Tensor::from_i64(vec![sizes.len()], sizes);
    let sizes = graph.add_initializer(&format!("{name}.sizes"), sizes);
    graph.add_op("Reshape", name, &[value, sizes], [])
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
        dims.is_some_and(|dims| matches!(dims.as_slice(), [] | [_] | [1, _]))
    };
    if node.is("Gemm") {
        return is_layer(graph, node) && node.inputs.first().is_some_and(is_flat);
    }
    if requantised::has_one_scale(graph, node) {
        return node.inputs.first().is_some_and(is_flat);
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
pub(super) fn is_layer(graph: &Graph, node: &Node) -> bool {
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
    let codes = graph.codes(weight).and_then(Codes::turned);
    let name = graph.value(weight).name.clone();
    let turned = graph.add_stored(&name, turned, codes);
    let product = graph.add_op("MatMul", &gemm.name, &[data, turned], []);
    Some(match gemm.input(2) {
        Some(bias) => graph.add_op("Add", &format!("{}.add", gemm.name), &[product, bias], []),
        None => product,
    })
}
