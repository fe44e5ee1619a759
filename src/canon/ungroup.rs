//! Splits a convolution with several groups into one convolution per group.
//!
//! Each of them is an ordinary layer, whose channels are paired among themselves. A following channel
//! shuffle shows which group of the next layer reads which channel. Several filters per group of one
//! input channel become depthwise convolutions with one filter per channel.
//!
//! This runs last, after everything has been folded into the grouped convolution.

use crate::error::Result;
use crate::ir::{Attribute, Graph, Model, Node, NodeId, Tensor, ValueId, ValueKind};

use super::rewire;

/// Limit of groups; a convolution with more groups stays, since it would become too many nodes.
pub(super) const MOST_GROUPS: usize = 64;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some(grouped) = Grouped::at(graph, id) else { continue };
        modified |= if grouped.filters > 1 && grouped.inputs == 1 {
            grouped.one_filter_each(graph)
        } else {
            grouped.one_group_each(graph)
        }
        .is_some();
    }
    Ok(modified)
}

/// A convolution with constant weights and several groups.
struct Grouped {
    id: NodeId,
    groups: usize,
    /// Input channels of a group.
    inputs: usize,
    /// Output channels of a group.
    filters: usize,
    transposed: bool,
    /// Entries of the weight's first axis.
    rows: usize,
}

impl Grouped {
    fn at(graph: &Graph, id: NodeId) -> Option<Self> {
        let node = graph.node(id);
        let transposed = node.is("ConvTranspose");
        if !transposed && !node.is("Conv") {
            return None;
        }
        let groups = usize::try_from(node.int("group", 1)).ok().filter(|g| *g > 1)?;
        let weight = graph.initializer(node.input(1)?)?;
        if let Some(bias) = node.input(2) {
            graph.initializer(bias)?;
        }
        let (first, second) = (*weight.dims.first()?, *weight.dims.get(1)?);
        if first % groups != 0 || first == 0 {
            return None;
        }
        let (inputs, filters) = match transposed {
            true => (first / groups, second),
            false => (second, first / groups),
        };
        Some(Grouped { id, groups, inputs, filters, transposed, rows: first })
    }

    /// Writes one convolution per group, between a split and a concatenation.
    fn one_group_each(&self, graph: &mut Graph) -> Option<()> {
        let depthwise = self.inputs == 1 && self.filters == 1;
        if depthwise || self.groups > MOST_GROUPS {
            return None;
        }
        let node = graph.node(self.id).clone();
        let sizes = Tensor::from_i64(vec![self.groups], &vec![self.inputs as i64; self.groups]);
        let sizes = graph.add_initializer(&format!("{}.sizes", node.name), sizes);
        let parts: Vec<ValueId> = (0..self.groups)
            .map(|k| graph.add_value(&format!("{}.in.{k}", node.name), ValueKind::Detached, None))
            .collect();
        graph.add_node(Node {
            name: format!("{}.split", node.name),
            op: "Split".to_owned(),
            inputs: vec![node.input(0), Some(sizes)],
            outputs: parts.iter().copied().map(Some).collect(),
            attributes: [("axis".to_owned(), Attribute::Int(1))].into(),
            ..Node::default()
        });
        let rows = self.rows / self.groups;
        let mut outputs = Vec::new();
        for (k, part) in parts.into_iter().enumerate() {
            let own: Vec<usize> = (k * rows..(k + 1) * rows).collect();
            let filters: Vec<usize> = (k * self.filters..(k + 1) * self.filters).collect();
            let entries = (0, own.as_slice());
            let part = Part { input: part, entries, filters: &filters, groups: 1 };
            outputs.push(self.write(graph, &node, k, &part)?);
        }
        become_node(graph, self.id, "Concat", outputs);
        Some(())
    }

    /// For filters of one channel each: writes a depthwise convolution for the first filter of every
    /// channel, one for the second filter, and so on; then concatenates and reorders their channels.
    fn one_filter_each(&self, graph: &mut Graph) -> Option<()> {
        if self.filters > MOST_GROUPS {
            return None;
        }
        let node = graph.node(self.id).clone();
        let input = node.input(0)?;
        let mut outputs = Vec::new();
        for k in 0..self.filters {
            let own: Vec<usize> = (0..self.groups).map(|c| c * self.filters + k).collect();
            let second = [k];
            let entries = if self.transposed { (1, &second[..]) } else { (0, own.as_slice()) };
            let part = Part { input, entries, filters: &own, groups: self.groups };
            outputs.push(self.write(graph, &node, k, &part)?);
        }
        let axis = [("axis", Attribute::Int(1))];
        let joined = graph.add_op("Concat", &format!("{}.join", node.name), &outputs, axis);
        let order: Vec<i64> = (0..self.groups * self.filters)
            .map(|o| (o % self.filters * self.groups + o / self.filters) as i64)
            .collect();
        let order = Tensor::from_i64(vec![order.len()], &order);
        let order = graph.add_initializer(&format!("{}.order", node.name), order);
        become_node(graph, self.id, "Gather", vec![joined, order]);
        Some(())
    }

    /// Writes the `k`-th convolution and returns its output.
    fn write(&self, graph: &mut Graph, node: &Node, k: usize, part: &Part<'_>) -> Option<ValueId> {
        let Part { input, entries: (axis, entries), filters, groups } = *part;
        let name = format!("{}.{k}", node.name);
        let part = (axis, entries);
        let weight = rewire::selected(graph, &format!("{name}.weight"), node.input(1)?, part)?;
        let mut inputs = vec![input, weight];
        if let Some(bias) = node.input(2) {
            let part = (0, filters);
            inputs.push(rewire::selected(graph, &format!("{name}.bias"), bias, part)?);
        }
        let output = graph.add_value(&name, ValueKind::Detached, None);
        let mut attributes = node.attributes.clone();
        attributes.insert("group".to_owned(), Attribute::Int(groups as i64));
        graph.add_node(Node {
            name,
            op: node.op.clone(),
            inputs: inputs.into_iter().map(Some).collect(),
            outputs: vec![Some(output)],
            attributes,
            ..Node::default()
        });
        Some(output)
    }
}

/// One of the convolutions that a grouped one is split into.
struct Part<'a> {
    input: ValueId,
    /// An axis of the weight, and its entries.
    entries: (usize, &'a [usize]),
    /// Entries of the bias.
    filters: &'a [usize],
    groups: usize,
}

/// Replaces node `id` by another one along the axis of channels, with the same output.
fn become_node(graph: &mut Graph, id: NodeId, op: &str, inputs: Vec<ValueId>) {
    graph.edit_node(id, |node| {
        node.op = op.to_owned();
        node.inputs = inputs.into_iter().map(Some).collect();
        node.attributes = [("axis".to_owned(), Attribute::Int(1))].into();
    });
}
