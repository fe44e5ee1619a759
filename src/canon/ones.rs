//! Writes a column that pads values, so that a product sums up weights beside them, as a sum of its own.
//!
//! Linear attention divides by the sum of all weights. Some nets get it from the same products as the values, by a column
//! of ones beside their depths, and cut it off behind them. Channels cannot be followed through the wider products.

use crate::error::Result;
use crate::ir::{Attribute, Consumers, Graph, Model, NodeId, ValueId};
use crate::ops::{NodeView, pad_widths, slices};

use super::CanonOptions;
use super::rewire::{self, added, ints};
use super::types::shape;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let readers = graph.consumers();
    let mut modified = false;
    for id in graph.topological_order()? {
        if let Some(padded) = Padded::at(graph, &readers, id) {
            padded.write(graph);
            modified = true;
        }
    }
    Ok(modified)
}

/// Values beside a column of one number, in two products, and what is cut from the result.
struct Padded {
    values: ValueId,
    number: ValueId,
    /// The other operand of the first product, whose result is the context.
    keys: ValueId,
    /// The other operand of the second product.
    queries: ValueId,
    /// The place of the values in the first product, and of the context in the second one.
    slot: usize,
    /// The name of the second product.
    name: String,
    /// The cuts behind it, and whether each is that of the column.
    cuts: Vec<(ValueId, bool)>,
}

impl Padded {
    fn at(graph: &Graph, readers: &Consumers, id: NodeId) -> Option<Padded> {
        let node = graph.node(id);
        let is_constant = node.str("mode").is_none_or(|mode| mode == "constant");
        let (values, padded) =
            (node.input(0).filter(|_| node.is("Pad") && is_constant)?, node.output(0)?);
        let number = node.input(2)?;
        let is_one_number = graph.initializer(number)?.len() == 1;
        let own = shape(graph, values)?;
        let widths = pad_widths(&NodeView::new(graph, id, &[]), own.len())?;
        let mut wide = (0..own.len()).filter(|axis| widths[*axis] != (0, 0));
        let axis = wide.next().filter(|axis| widths[*axis] == (0, 1))?;
        // Depths are the rows of a left operand, or the columns of a right one.
        let slot = (axis + 2).checked_sub(own.len())?;
        let depths = own.get(axis)?.known()?;
        let first = rewire::only_reader(graph, readers, padded)?;
        let (keys, context) = product(graph, first, padded, slot)?;
        let second = rewire::only_reader(graph, readers, context)?;
        let (queries, output) = product(graph, second, context, slot)?;
        let (theirs, others) = (shape(graph, keys)?, shape(graph, queries)?);
        let stacks = own.len().checked_sub(2)?;
        let is_alike = |at: usize| own[at].is_surely(&theirs[at]) && own[at].is_surely(&others[at]);
        let fits = [&theirs, &others].iter().all(|shape| shape.len() == own.len())
            && (0..stacks).all(is_alike);
        if !is_one_number || wide.next().is_some() || !fits || graph.outputs.contains(&output) {
            return None;
        }
        let cut = |reader: &NodeId| cut(graph, *reader, output, (axis, depths));
        let cuts = readers.get(output.index())?.iter().map(cut).collect::<Option<Vec<_>>>()?;
        let name = graph.node(second).name.clone();
        Some(Padded { values, number, keys, queries, slot, name, cuts })
    }

    fn write(&self, graph: &mut Graph) {
        let Some(rank) = shape(graph, self.keys).map(|shape| shape.len()) else { return };
        let name = &self.name;
        let context = self.product(graph, "context", self.values, self.keys);
        let mixed = self.product(graph, "values", context, self.queries);
        // The product sums over the columns of a left operand, and over the rows of a right one.
        let along = if self.slot == 1 { rank - 1 } else { rank - 2 };
        let axes = ints(graph, &format!("{name}.axes"), &[along as i64]);
        let keeps = [("keepdims", Attribute::Int(1))];
        let sums = added(graph, "ReduceSum", &format!("{name}.sums"), &[self.keys, axes], keeps);
        let sums = added(graph, "Mul", &format!("{name}.column"), &[sums, self.number], []);
        let weights = self.product(graph, "weights", sums, self.queries);
        for (cut, is_column) in &self.cuts {
            rewire::bypass(graph, *cut, if *is_column { weights } else { mixed });
        }
    }

    /// A product with `own` at the place of the values.
    fn product(&self, graph: &mut Graph, what: &str, own: ValueId, other: ValueId) -> ValueId {
        let inputs = if self.slot == 1 { [other, own] } else { [own, other] };
        added(graph, "MatMul", &format!("{}.{what}", self.name), &inputs, [])
    }
}

/// The other operand and the result of a product that reads `own` at this place.
fn product(graph: &Graph, id: NodeId, own: ValueId, slot: usize) -> Option<(ValueId, ValueId)> {
    let node = graph.node(id);
    let is_there = node.is("MatMul") && node.input(slot) == Some(own);
    let other = node.input(1 - slot).filter(|other| is_there && *other != own)?;
    Some((other, node.output(0)?))
}

/// A cut of all depths or of the column behind them, and whether it is the column.
fn cut(
    graph: &Graph,
    id: NodeId,
    value: ValueId,
    (axis, depths): (usize, usize),
) -> Option<(ValueId, bool)> {
    let node = graph.node(id);
    let output = node.output(0).filter(|_| node.is("Slice") && node.input(0) == Some(value))?;
    let rank = shape(graph, value)?.len();
    let all = slices(&NodeView::new(graph, id, &[]), rank)?;
    let [(own, start, _, 1)] = all.as_slice() else { return None };
    let count = shape(graph, output)?.get(axis)?.known()?;
    let start = if *start < 0 { start + depths as i64 + 1 } else { *start };
    match (*own == axis, start, count) {
        (true, 0, count) if count == depths => Some((output, false)),
        (true, start, 1) if start == depths as i64 => Some((output, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn a_column_of_ones_becomes_a_sum() {
        for is_left in [false, true] {
            let mut b = GraphBuilder::new("net", 17);
            let [dims, turned] = ["n,2,5,4", "n,2,4,5"];
            let (own, others) = if is_left { (turned, dims) } else { (dims, turned) };
            let (v, k, q) = (b.input("v", own), b.input("k", others), b.input("q", own));
            let pads = if is_left { [0, 0, 0, 0, 0, 0, 1, 0] } else { [0, 0, 0, 0, 0, 0, 0, 1] };
            let (pads, one) = (b.ints("pads", &pads), b.scalar("one", 1.0));
            let wide = b.op("Pad", "wide", &[v, pads, one], []);
            let product = |b: &mut GraphBuilder, own, other| {
                let inputs = if is_left { [own, other] } else { [other, own] };
                b.op("MatMul", "product", &inputs, [])
            };
            let context = product(&mut b, wide, k);
            let mixed = product(&mut b, context, q);
            let axis = b.ints("axis", &[if is_left { 2 } else { 3 }]);
            let [values, weights] = [(0, 4), (4, 5)].map(|(start, end)| {
                let (start, end) = (b.ints("start", &[start]), b.ints("end", &[end]));
                b.op("Slice", "cut", &[mixed, start, end, axis], [])
            });
            let y = b.op("Div", "y", &[values, weights], []);
            let net = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
            let mut ops: Vec<&str> = net.graph.nodes().map(|(_, node)| node.op.as_str()).collect();
            ops.sort_unstable();
            ops.retain(|op| *op != "Mul");
            assert_eq!(ops, ["Div", "MatMul", "MatMul", "MatMul", "ReduceSum"], "{is_left}");
        }
    }
}
