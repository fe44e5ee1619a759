//! Moves weights on the left of a product to its right, by two transpositions: `W·x = (xᵀ·Wᵀ)ᵀ`.
//!
//! Nets with features before samples multiply a constant matrix with the data. Layers have their
//! weights on the right.

use crate::error::Result;
use crate::ir::{Attribute, Codes, Graph, Model, Node, NodeId, Tensor, ValueId, ValueKind};

use super::{CanonOptions, rewire, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        modified |= turned(graph, id).is_some();
    }
    Ok(modified)
}

/// The rank of the second factor, if only the first factor is a constant matrix of floats.
fn rank_of_data(graph: &Graph, node: &Node) -> Option<usize> {
    let weight = graph.initializer(node.input(0)?)?;
    let data = node.input(1).filter(|data| graph.initializer(*data).is_none())?;
    let rank = types::shape(graph, data)?.len();
    (weight.dims.len() == 2 && weight.dtype.is_float() && rank >= 2).then_some(rank)
}

fn turned(graph: &mut Graph, id: NodeId) -> Option<()> {
    let node = graph.node(id).clone();
    let is_gemm = node.is("Gemm");
    if !is_gemm && !node.is("MatMul") {
        return None;
    }
    let rank = rank_of_data(graph, &node)?;
    let (weight, data, output) = (node.input(0)?, node.input(1)?, node.output(0)?);
    let is_transposed = node.int("transA", 0) != 0;
    let weight = match is_gemm {
        true => weight,
        false => constant(graph, weight)?,
    };
    let addend = match node.input(2) {
        Some(addend) => Some(turned_addend(graph, addend)?),
        None => None,
    };
    let data = match node.int("transB", 0) {
        0 => swapped(graph, data, rank),
        _ => data,
    };
    let product = graph.add_value(&format!("{}.product", node.name), ValueKind::Detached, None);
    graph.edit_node(id, |node| {
        node.inputs = [Some(data), Some(weight), addend].into_iter().collect();
        node.outputs = vec![Some(product)];
        if is_gemm {
            node.attributes.insert("transA".to_owned(), Attribute::Int(0));
            let trans_b = Attribute::Int(i64::from(!is_transposed));
            node.attributes.insert("transB".to_owned(), trans_b);
        }
    });
    let back = swapped(graph, product, rank);
    let transpose = graph.producer(back)?;
    graph.edit_node(transpose, |node| node.outputs = vec![Some(output)]);
    Some(())
}

/// A value with its last two axes exchanged.
fn swapped(graph: &mut Graph, value: ValueId, rank: usize) -> ValueId {
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 2, rank - 1);
    let name = format!("{}.transposed", graph.value(value).name);
    graph.add_op("Transpose", &name, &[value], [("perm", Attribute::Ints(perm))])
}

/// The transpose of a constant matrix.
fn constant(graph: &mut Graph, value: ValueId) -> Option<ValueId> {
    let tensor = graph.initializer(value)?;
    let (transposed, is_matrix) = (transposed(tensor)?, tensor.dims.len() == 2);
    let codes = graph.codes(value).filter(|codes| is_matrix || codes.is_uniform());
    let codes = codes.and_then(Codes::turned);
    let name = graph.value(value).name.clone();
    Some(graph.add_stored(&name, transposed, codes))
}

fn transposed(tensor: &Tensor) -> Option<Tensor> {
    match tensor.dims.as_slice() {
        [] | [_] => Tensor { dims: vec![1, tensor.len()], ..tensor.clone() }.transposed(),
        _ => tensor.transposed(),
    }
}

/// The addend of the transposed product that replaces `addend`.
fn turned_addend(graph: &mut Graph, addend: ValueId) -> Option<ValueId> {
    if graph.initializer(addend).is_some() {
        return constant(graph, addend);
    }
    match types::shape(graph, addend)?.len() {
        0 => Some(addend),
        1 => {
            let name = format!("{}.column", graph.value(addend).name);
            let axes = rewire::ints(graph, &name, &[1]);
            Some(graph.add_op("Unsqueeze", &name, &[addend, axes], []))
        }
        2 => Some(swapped(graph, addend, 2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn a_weight_on_the_left_becomes_a_layer() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "3,n");
        let (w, c) = (b.weights("w", &[4, 3]), b.weights("c", &[4, 1]));
        let y = b.op("Gemm", "y", &[w, x, c], []);
        let model = crate::canon::canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let ops: Vec<&str> = model.graph.nodes().map(|(_, n)| n.op.as_str()).collect();
        assert_eq!(ops, ["Gemm", "Transpose", "Transpose"]);
        let gemm = model.graph.nodes().find(|(_, n)| n.is("Gemm")).unwrap().1;
        assert_eq!(model.graph.initializer(gemm.input(1).unwrap()).unwrap().dims, [4, 3]);
        assert_eq!(model.graph.initializer(gemm.input(2).unwrap()).unwrap().dims, [4]);
    }

    #[test]
    fn a_computed_addend_of_any_rank_is_turned() {
        for (dims, last) in [("", "Add"), ("n", "Unsqueeze"), ("4,n", "Transpose")] {
            let mut b = GraphBuilder::new("net", 17);
            let (x, c) = (b.input("x", "3,n"), b.input("c", dims));
            let w = b.weights("w", &[4, 3]);
            let y = b.op("Gemm", "y", &[w, x, c], []);
            let model = crate::canon::canonicalise(b.build(&[y]), &CanonOptions::default());
            let model = model.unwrap();
            let readers = model.graph.consumers();
            let reader = model.graph.node(readers[c.index()][0]);
            assert_eq!(reader.op, last, "{dims}");
            assert!(model.graph.nodes().any(|(_, n)| n.is("Gemm") && n.int("transA", 0) == 0));
        }
    }
}
