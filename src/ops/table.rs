//! Tables whose rows a net picks by computed indices: embeddings.

use super::{Layer, LayerKind, NodeView, normal_axis};

/// `Gather` of whole rows of a constant table, as a layer over one-hot indices.
pub(super) fn table(node: &NodeView<'_>) -> Option<Layer> {
    let weight = node.node.input(0)?;
    let tensor = node.graph.initializer(weight).filter(|t| t.dtype.is_float())?;
    let [rows, _] = tensor.dims.as_slice() else { return None };
    let numbers = node.node.input(1)?;
    let is_computed = node.graph.initializer(numbers).is_none();
    let rank = node.shape(1)?.len();
    let is_first = normal_axis(node.node.int("axis", 0), 2) == Some(0);
    let is_layer = is_computed && is_first && rank > 0 && !holds_angles(node);
    is_layer.then_some(Layer {
        node: node.id,
        kind: LayerKind::Table { rows: *rows },
        input: numbers,
        // No axis of the indices is contracted.
        in_axis: usize::MAX,
        output: node.node.output(0)?,
        out_axis: rank,
        weight,
        bias: None,
        addition: None,
        rows: None,
    })
}

/// Whether picked rows only get an axis for heads and then multiply computed values. They are the
/// cosines and sines of rotary embeddings, which are no weights.
fn holds_angles(node: &NodeView<'_>) -> bool {
    let graph = node.graph;
    let wide = || {
        let reader = graph.node(graph.only_use(node.node.output(0)?)?);
        reader.output(0).filter(|_| reader.is("Unsqueeze"))
    };
    let Some(wide) = wide() else { return false };
    let mut readers =
        graph.nodes().map(|(_, node)| node).filter(|node| node.reads().any(|v| v == wide));
    let is_factor = |node: &crate::ir::Node| {
        let constants = node.inputs.iter().flatten().any(|v| graph.initializer(*v).is_some());
        node.is("Mul") && !constants
    };
    readers.all(is_factor)
}
