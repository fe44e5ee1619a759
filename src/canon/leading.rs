//! Makes matrices of constants that are stacks of one matrix in a product.
//!
//! Layers have matrices of two axes. Exporters that write a convolution or a batched product as a `MatMul` leave
//! axes of extent 1 before them. If the stack has more axes than the data, the data get these axes instead, so that
//! the result keeps its own.

use crate::error::Result;
use crate::ir::{Consumers, Graph, Model, NodeId, Tensor, ValueId};

use super::{CanonOptions, rewire, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let readers = graph.consumers();
    let mut modified = false;
    for id in graph.topological_order()? {
        modified |= [1, 0].into_iter().any(|slot| unstacked(graph, &readers, id, slot).is_some());
    }
    Ok(modified)
}

/// Makes a matrix of the stack of one at input `slot` of a product.
fn unstacked(graph: &mut Graph, readers: &Consumers, id: NodeId, slot: usize) -> Option<()> {
    let node = graph.node(id);
    let (stack, data) = (node.input(slot)?, node.input(1 - slot)?);
    let tensor = graph.initializer(stack).filter(|t| node.is("MatMul") && t.dtype.is_float())?;
    let leading = tensor.dims.len().checked_sub(2).filter(|count| *count > 0)?;
    let (first, last) = tensor.dims.split_at(leading);
    if first.iter().any(|extent| *extent != 1) || graph.initializer(data).is_some() {
        return None;
    }
    let missing = missing_axes(types::shape(graph, data)?.len(), tensor.dims.len(), slot)?;
    let matrix = Tensor { dims: last.to_vec(), ..tensor.clone() };
    let codes = graph.codes(stack).and_then(|codes| codes.behind(leading));
    rewire::store(graph, readers, id, slot, "weight", matrix);
    let stored = graph.node(id).input(slot)?;
    if let Some(codes) = codes {
        graph.set_codes(stored, codes);
    }
    if missing > 0 {
        let widened = widened(graph, id, data, missing);
        graph.edit_node(id, |node| node.inputs[1 - slot] = Some(widened));
    }
    Some(())
}

/// The number of axes that data of `rank` axes lack for a product with a matrix to have as many axes as that with a
/// stack of `stacked` axes, which is input `slot`; `None` if axes in front do not help.
fn missing_axes(rank: usize, stacked: usize, slot: usize) -> Option<usize> {
    match rank {
        0 => None,
        // A vector on the left counts as a matrix of one row, which the result lacks.
        1 => (slot == 1).then(|| stacked - 2),
        rank => Some(stacked.saturating_sub(rank)),
    }
}

/// The data with axes of extent 1 in front.
fn widened(graph: &mut Graph, id: NodeId, data: ValueId, count: usize) -> ValueId {
    let name = graph.node(id).name.clone();
    let axes: Vec<i64> = (0..count as i64).collect();
    let axes = rewire::ints(graph, &format!("{name}.axes"), &axes);
    graph.add_op("Unsqueeze", &format!("{name}.stacked"), &[data, axes], [])
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::{GraphBuilder, shape};

    /// The operators of the canonical form of a product with a constant, after the shape of its result has been
    /// compared with the shape before.
    fn ops(data: &str, stack: &[usize], on_left: bool, result: &str) -> Vec<String> {
        let mut b = GraphBuilder::new("net", 17);
        let (x, w) = (b.input("x", data), b.weights("w", stack));
        let y = b.op("MatMul", "y", &if on_left { [w, x] } else { [x, w] }, []);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let graph = &model.graph;
        let found = graph.type_of(graph.outputs[0]).unwrap().shape.unwrap();
        assert_eq!(found, shape(result), "{data} with {stack:?}");
        let order = graph.topological_order().unwrap();
        order.into_iter().map(|id| graph.node(id).op.clone()).collect()
    }

    #[test]
    fn stacks_of_one_matrix_become_layers_and_results_keep_their_axes() {
        assert_eq!(ops("n,t,3", &[1, 3, 5], false, "n,t,5"), ["MatMul", "Add"]);
        assert_eq!(ops("n,h,t,3", &[1, 3, 5], false, "n,h,t,5"), ["MatMul", "Add"]);
        assert_eq!(ops("n,t,3", &[1, 1, 3, 5], false, "1,n,t,5"), ["Unsqueeze", "MatMul", "Add"]);
        assert_eq!(ops("n,3", &[1, 3, 5], false, "1,n,5"), ["Unsqueeze", "MatMul", "Add"]);
        assert_eq!(ops("3", &[1, 3, 5], false, "1,5"), ["Unsqueeze", "Gemm"]);
        assert_eq!(ops("3", &[1, 1, 3, 5], false, "1,1,5"), ["Unsqueeze", "MatMul", "Add"]);
    }

    #[test]
    fn stacks_on_the_left_become_layers_too() {
        let layer = ["Transpose", "MatMul", "Add", "Transpose"];
        assert_eq!(ops("n,3,t", &[1, 5, 3], true, "n,5,t"), layer);
    }

    #[test]
    fn stacks_of_several_matrices_stay() {
        assert_eq!(ops("2,t,3", &[2, 3, 5], false, "2,t,5"), ["MatMul"]);
    }
}
