//! Gives every consumer of a constant its own copy.
//!
//! Merging changes each layer by itself, and a constant with two consumers would change both. Copies
//! share their memory, and equal tensors are stored once in the file. Layers whose weights were one constant and
//! are equal in canonical form are one layer again (`mtz/joint/repeated.rs`).

use crate::error::Result;
use crate::ir::{Graph, Model, NodeId};

use super::CanonOptions;

/// Runs the pass. Constants that sub-graphs read stay shared.
///
/// # Errors
/// None.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut taken = vec![false; graph.value_count()];
    for output in &graph.outputs {
        taken[output.index()] = true;
    }
    let uses: Vec<(NodeId, usize)> =
        graph.nodes().flat_map(|(id, n)| (0..n.inputs.len()).map(move |i| (id, i))).collect();
    let mut modified = false;
    for (id, slot) in uses {
        let Some(value) = graph.node(id).input(slot) else { continue };
        let Some(tensor) = graph.initializer(value).cloned() else { continue };
        if std::mem::replace(&mut taken[value.index()], true) {
            let name = format!("{}.{}", graph.value(value).name, graph.node(id).name);
            let copy = graph.add_initializer(&name, tensor);
            if let Some(codes) = graph.codes(value).cloned() {
                graph.set_codes(copy, codes);
            }
            graph.edit_node(id, |node| node.inputs[slot] = Some(copy));
            modified = true;
        }
    }
    Ok(modified)
}

/// Whether several nodes read one matrix, or the same filters, as where a layer is applied several times.
pub(super) fn are_tied(graph: &Graph) -> bool {
    let readers = graph.consumers();
    let constants = graph.values().filter_map(|(id, _)| Some((id, graph.initializer(id)?)));
    let mut weights = constants.filter(|(_, tensor)| tensor.dims.len() > 1);
    weights.any(|(id, _)| readers[id.index()].len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn tied_weights_get_a_copy_per_reader() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,4");
        let w = b.weights("w", &[4, 4]);
        let a = b.op("Gemm", "a", &[x, w], [("transB", 1.into())]);
        let y = b.op("Gemm", "y", &[a, w], [("transB", 1.into())]);
        let mut model = b.build(&[y]);
        assert!(are_tied(&model.graph));
        assert!(run(&mut model, &CanonOptions::default()).unwrap());
        assert!(!are_tied(&model.graph));
        assert!(!run(&mut model, &CanonOptions::default()).unwrap());
        let copy = model.graph.value_named("w.y").unwrap();
        assert_eq!(model.graph.initializer(copy), model.graph.initializer(w));
        let reader = model.graph.producer(y).unwrap();
        assert_eq!(model.graph.node(reader).input(1), Some(copy));
    }
}
