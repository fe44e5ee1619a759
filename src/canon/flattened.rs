//! Writes products of flattened tokens as products along the last axis.
//!
//! Some exporters and simplifiers flatten all axes but the last before a `Gemm`, and restore them behind it. Others
//! write a `MatMul` of more axes. Layers correspond only in the same form.

use crate::error::Result;
use crate::ir::{Consumers, Dim, Graph, Model, Node, NodeId, Tensor, ValueId};

use super::types::shape;
use super::{CanonOptions, rewire};

/// Operators that treat each element alone and have one operand.
const ELEMENTWISE: [&str; 12] = [
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
];

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let readers = graph.consumers();
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some(chain) = Chain::of(graph, &readers, id) else { continue };
        modified |= chain.rewrite(graph).is_some();
    }
    Ok(modified)
}

/// Nodes between a flattening and its reversal.
struct Chain {
    /// The value before it is flattened.
    data: ValueId,
    nodes: Vec<NodeId>,
    /// The value with its axes restored.
    output: ValueId,
}

impl Chain {
    /// The chain that begins with a flattening of all axes but the last.
    fn of(graph: &Graph, readers: &Consumers, id: NodeId) -> Option<Chain> {
        let node = graph.node(id);
        let (data, mut value) = (is_view(node).then(|| node.input(0))??, node.output(0)?);
        let (before, flat) = (shape(graph, data)?, shape(graph, value)?);
        let keeps_last = before.last()?.is_surely(flat.last()?);
        if before.len() < 3 || flat.len() != 2 || !keeps_last {
            return None;
        }
        let mut nodes = Vec::new();
        loop {
            let next = rewire::only_reader(graph, readers, value)?;
            let node = graph.node(next);
            let output = node.output(0).filter(|_| node.input(0) == Some(value))?;
            if is_view(node) {
                let has_layer = nodes.iter().any(|id| graph.node(*id).is("Gemm"));
                let is_restored = restores(graph, &before, value, output);
                return (has_layer && is_restored).then_some(Chain { data, nodes, output });
            }
            let is_elementwise = ELEMENTWISE.iter().any(|op| node.is(op));
            if !is_elementwise && !is_layer(graph, node) {
                return None;
            }
            nodes.push(next);
            value = output;
        }
    }

    fn rewrite(&self, graph: &mut Graph) -> Option<()> {
        let mut value = self.data;
        for id in &self.nodes {
            let node = graph.node(*id).clone();
            if node.is("Gemm") {
                value = product(graph, &node, value)?;
                continue;
            }
            value = graph.add_op(&node.op, &node.name, &[value], []);
            if let Some(copy) = graph.producer(value) {
                graph.edit_node(copy, |copy| copy.attributes = node.attributes);
            }
        }
        rewire::bypass(graph, self.output, value).then_some(())
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

/// Whether a view gives a matrix the axes that the data had before it was flattened. Since the number of rows is
/// the same, one extent may be unknown.
fn restores(graph: &Graph, before: &[Dim], matrix: ValueId, restored: ValueId) -> bool {
    let (Some(matrix), Some(after)) = (shape(graph, matrix), shape(graph, restored)) else {
        return false;
    };
    let (Some(columns), Some((last, leading))) = (matrix.last(), after.split_last()) else {
        return false;
    };
    let same_rank = after.len() == before.len();
    let pairs = leading.iter().zip(before);
    same_rank && last.is_surely(columns) && pairs.filter(|(a, b)| !a.is_surely(b)).count() <= 1
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
