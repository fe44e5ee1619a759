//! Linear layers over tokens: a product of more than two axes with a constant matrix, and the `Add` of
//! its bias.

use crate::ir::{Graph, NodeId, Tensor};

use super::types;

/// A `MatMul` of a value of three or more axes with a constant matrix on its right.
pub(super) struct Product {
    /// The node.
    pub(super) node: NodeId,
    /// Rank of its output.
    pub(super) rank: usize,
    /// Columns of the matrix.
    pub(super) columns: usize,
}

/// The addition of a bias.
pub(super) struct Addition {
    /// The node.
    pub(super) node: NodeId,
    /// The input with the bias.
    pub(super) slot: usize,
}

/// Node `id` as a product, if it is one.
pub(super) fn product(graph: &Graph, id: NodeId) -> Option<Product> {
    let node = graph.node(id);
    let weight = graph.initializer(node.input(1)?).filter(|_| node.is("MatMul"))?;
    let rank = types::shape(graph, node.input(0)?)?.len();
    match weight.dims.as_slice() {
        [_, columns] if weight.dtype.is_float() && rank > 2 => {
            Some(Product { node: id, rank, columns: *columns })
        }
        _ => None,
    }
}

impl Product {
    /// The addition of a vector with one element per column, if it is the product's only consumer.
    pub(super) fn bias(&self, graph: &Graph) -> Option<Addition> {
        let node = graph.node(self.node);
        let (output, weight) = (node.output(0)?, graph.initializer(node.input(1)?)?);
        let id = graph.only_use(output)?;
        let addition = graph.node(id);
        let slot = usize::from(addition.input(0) == Some(output));
        let bias: &Tensor =
            graph.initializer(addition.input(slot).filter(|_| addition.is("Add"))?)?;
        let fits = bias.dims == [self.columns] && bias.dtype == weight.dtype;
        fits.then_some(Addition { node: id, slot })
    }
}
