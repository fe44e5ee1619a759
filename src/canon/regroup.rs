//! Finds convolutions that [`super::ungroup`] has split by group, and joins them again.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::ir::{Attribute, Codes, Consumers, Graph, Model, Node, NodeId, Tensor, ValueId};

/// Convolutions that differ only in their weights, between a split and a concatenation of channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerGroup {
    /// The split; the convolutions read its outputs in order.
    pub split: NodeId,
    /// The convolutions; the concatenation is their only consumer.
    pub convs: Vec<NodeId>,
    /// The concatenation.
    pub concat: NodeId,
}

/// All grouped convolutions of a graph that are written as one convolution per group.
pub fn per_group(graph: &Graph) -> Vec<PerGroup> {
    let readers = graph.consumers();
    let concats = graph.nodes().filter(|(_, node)| node.is("Concat") && node.int("axis", 0) == 1);
    concats.filter_map(|(id, node)| PerGroup::at(graph, &readers, id, node)).collect()
}

/// Writes them as grouped convolutions again.
pub fn regroup(model: &mut Model) {
    let graph = &mut model.graph;
    for found in per_group(graph) {
        // Nothing changes if the weights cannot be joined.
        let _ = found.join(graph);
    }
    graph.remove_dead_nodes();
}

impl PerGroup {
    fn at(graph: &Graph, readers: &Consumers, concat: NodeId, node: &Node) -> Option<PerGroup> {
        let convs =
            node.inputs.iter().map(|v| graph.producer((*v)?)).collect::<Option<Vec<_>>>()?;
        let split = graph.producer(graph.node(*convs.first()?).input(0)?)?;
        let reads = |id: &NodeId| graph.node(*id).input(0);
        let cut = graph.node(split);
        let is_alone = |id: &NodeId| {
            let output = graph.node(*id).output(0);
            output.is_some_and(|v| readers[v.index()].len() == 1 && !graph.outputs.contains(&v))
        };
        let distinct: BTreeSet<&NodeId> = convs.iter().collect();
        let fits = cut.is("Split")
            && cut.int("axis", 0) == 1
            && convs.len() > 1
            && distinct.len() == convs.len()
            && convs.iter().map(reads).eq(cut.outputs.iter().copied())
            && convs.iter().all(is_alone)
            && are_alike(graph, &convs);
        fits.then_some(PerGroup { split, convs, concat })
    }

    /// Turns the concatenation into the grouped convolution.
    fn join(&self, graph: &mut Graph) -> Option<()> {
        let first = graph.node(*self.convs.first()?).clone();
        let name = graph.node(self.concat).name.clone();
        let mut inputs = vec![graph.node(self.split).input(0)];
        for (slot, suffix) in (1..first.inputs.len()).zip(["weight", "bias"]) {
            let values = self.convs.iter().map(|id| graph.node(*id).input(slot));
            let values: Vec<ValueId> = values.collect::<Option<_>>()?;
            let parts = values.iter().map(|value| graph.initializer(*value));
            let parts: Vec<&Tensor> = parts.collect::<Option<_>>()?;
            let codes = values
                .iter()
                .zip(&parts)
                .map(|(value, part)| Some((graph.codes(*value)?, *part.dims.first()?)));
            let codes: Option<Vec<(&Codes, usize)>> = codes.collect();
            let codes = codes.and_then(|codes| Codes::joined(&codes, 0));
            let whole = behind_each_other(&parts)?;
            inputs.push(Some(graph.add_stored(&format!("{name}.{suffix}"), whole, codes)));
        }
        graph.edit_node(self.concat, |node| {
            node.op.clone_from(&first.op);
            node.inputs = inputs;
            node.attributes.clone_from(&first.attributes);
            let groups = Attribute::Int(self.convs.len() as i64);
            node.attributes.insert("group".to_owned(), groups);
        });
        Some(())
    }
}

/// Whether convolutions of one group each differ only in the values of their constants.
fn are_alike(graph: &Graph, convs: &[NodeId]) -> bool {
    let shape = |value: &Option<ValueId>| {
        let tensor = graph.initializer((*value)?)?;
        Some((tensor.dtype, &tensor.dims))
    };
    let look = |id: &NodeId| {
        let node = graph.node(*id);
        let is_conv = (node.is("Conv") || node.is("ConvTranspose")) && node.int("group", 1) == 1;
        let constants: Option<Vec<_>> = node.inputs.iter().skip(1).map(shape).collect();
        let constants = constants.filter(|c| is_conv && matches!(c.len(), 1 | 2))?;
        Some((&node.op, &node.attributes, constants))
    };
    let first = convs.first().and_then(look);
    first.is_some() && convs.iter().all(|id| look(id) == first)
}

/// Concatenates tensors along the first axis.
fn behind_each_other(parts: &[&Tensor]) -> Option<Tensor> {
    let first = parts.first()?;
    let mut dims = first.dims.clone();
    *dims.first_mut()? = dims.first()?.checked_mul(parts.len())?;
    let data: Vec<u8> = parts.iter().flat_map(|part| part.data.iter().copied()).collect();
    Some(Tensor { dtype: first.dtype, dims, data: Bytes::from(data) })
}
