//! The view of a rule: one node with the types, constants and labels of its operands.

use crate::ir::{Dim, Graph, Node, NodeId, Size, Tensor, TensorType, ValueId};

use super::sizes::constant_sizes;
use super::{Labels, Sizes};

/// Limit of axes of a value.
const LONGEST_SHAPE: usize = 64;

/// A node with the types, constants and labels of its operands.
pub struct NodeView<'a> {
    /// The graph around the node.
    pub graph: &'a Graph,
    /// The node's id.
    pub id: NodeId,
    /// The node.
    pub node: &'a Node,
    /// Labels per value; empty during shape inference.
    pub labels: &'a [Option<Labels>],
    /// Values that are sizes, as far as they are known; may be empty.
    pub known: &'a [Option<Sizes>],
}

impl<'a> NodeView<'a> {
    /// The view of node `id`.
    pub fn new(graph: &'a Graph, id: NodeId, labels: &'a [Option<Labels>]) -> Self {
        NodeView { graph, id, node: graph.node(id), labels, known: &[] }
    }

    /// The view of node `id`, with the values `known` that are sizes.
    pub fn knowing(graph: &'a Graph, id: NodeId, known: &'a [Option<Sizes>]) -> Self {
        NodeView { known, ..NodeView::new(graph, id, &[]) }
    }

    /// The type of input `index`.
    pub fn ty(&self, index: usize) -> Option<TensorType> {
        self.type_of(self.node.input(index)?)
    }

    /// The type of any value: that of its tensor for an initializer.
    pub fn type_of(&self, value: ValueId) -> Option<TensorType> {
        if let Some(tensor) = self.graph.initializer(value) {
            let shape = Some(tensor.dims.iter().map(|d| Dim::Known(*d)).collect());
            return Some(TensorType { dtype: tensor.dtype, shape });
        }
        self.graph.value(value).ty.clone()
    }

    /// The shape of input `index`.
    pub fn shape(&self, index: usize) -> Option<Vec<Dim>> {
        self.ty(index)?.shape
    }

    /// The shape of output `index`, if it has been inferred.
    pub fn output_shape(&self, index: usize) -> Option<Vec<Dim>> {
        self.type_of(self.node.output(index)?)?.shape
    }

    /// The constant behind input `index`.
    pub fn constant(&self, index: usize) -> Option<&'a Tensor> {
        self.graph.initializer(self.node.input(index)?)
    }

    /// The integers of input `index`, if it is a constant.
    pub fn ints(&self, index: usize) -> Option<Vec<i64>> {
        self.constant(index)?.to_i64()
    }

    /// Input `index` as a scalar or vector of sizes, as far as known.
    pub fn sizes(&self, index: usize) -> Option<Sizes> {
        let value = self.node.input(index)?;
        self.known
            .get(value.index())
            .cloned()
            .flatten()
            .or_else(|| constant_sizes(self.graph, value))
    }

    /// The elements of input `index` as a vector of sizes, as far as they are known; `None` if their
    /// number is unknown.
    pub fn elements(&self, index: usize) -> Option<Vec<Option<Size>>> {
        if let Some(sizes) = self.sizes(index) {
            return (!sizes.scalar).then_some(sizes.elements);
        }
        match self.shape(index)?.as_slice() {
            [Dim::Known(length)] if *length <= LONGEST_SHAPE => Some(vec![None; *length]),
            _ => None,
        }
    }

    /// Input `index` as a single size.
    pub fn number(&self, index: usize) -> Option<Size> {
        self.sizes(index)?.single().cloned()
    }

    /// Labels of input `index`.
    pub fn labels(&self, index: usize) -> Option<&'a Labels> {
        self.labels.get(self.node.input(index)?.index())?.as_ref()
    }

    /// Axes given as input `index` (newer operator sets) or attribute `axes`, made non-negative.
    pub fn axes(&self, index: usize, rank: usize) -> Option<Vec<usize>> {
        let raw = match self.node.ints("axes") {
            Some(axes) => axes.to_vec(),
            None if self.node.input(index).is_some() => self.ints(index)?,
            None => return None,
        };
        raw.iter().map(|a| normal_axis(*a, rank)).collect()
    }
}

/// `axis` counted from the front; `None` if it is out of range.
pub fn normal_axis(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|a| *a < rank)
}

/// The axis of an operand of rank `rank` that broadcasting aligns with `axis` of an output of rank
/// `out_rank`; `None` if the operand has no such axis.
pub fn aligned_axis(axis: usize, out_rank: usize, rank: usize) -> Option<usize> {
    (axis + rank).checked_sub(out_rank)
}

/// The product of fixed dimensions; `None` if one is not fixed.
pub fn known_product(dims: &[Dim]) -> Option<usize> {
    dims.iter().map(Dim::known).try_fold(1usize, |n, d| n.checked_mul(d?))
}
