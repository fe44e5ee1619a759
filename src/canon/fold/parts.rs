//! Takes constants apart, as the weights of gates that a model splits itself.

use crate::ir::{Dim, Graph, NodeId, Tensor, TensorType};
use crate::ops::{self, NodeView, normal_axis};

use super::budget::Budget;

/// The parts of a constant that a `Split` returns, if none of them is an output of the graph or stored in few bits.
pub(super) fn parts(graph: &Graph, id: NodeId, budget: &mut Budget) -> Option<Vec<Tensor>> {
    let node = graph.node(id);
    let source = node.input(0).filter(|_| node.is("Split"))?;
    let data = graph.initializer(source).filter(|_| graph.codes(source).is_none())?;
    if node.outputs.iter().flatten().any(|output| graph.outputs.contains(output)) {
        return None;
    }
    let axis = normal_axis(node.int("axis", 0), data.dims.len())?;
    let extent = |ty: Option<TensorType>| ty?.shape?.get(axis).and_then(Dim::known);
    let types = ops::infer(&NodeView::new(graph, id, &[])).into_iter();
    let extents: Vec<usize> = types.map(extent).collect::<Option<_>>()?;
    let all = extents.iter().try_fold(0usize, |sum, extent| sum.checked_add(*extent));
    if all != data.dims.get(axis).copied() || !budget.take(&[data], data.data.len() as u64, 0) {
        return None;
    }
    let mut start = 0;
    let mut part = |extent: usize| {
        let positions: Vec<usize> = (start..start + extent).collect();
        start += extent;
        data.select(axis, &positions)
    };
    extents.into_iter().map(&mut part).collect()
}
