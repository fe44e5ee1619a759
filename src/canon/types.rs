//! Types of all values, and names for extents that are known only at run time.

use crate::error::Result;
use crate::ir::{Dim, Graph, NodeId, TensorType, ValueId, ValueKind};
use crate::ops::{self, NodeView};

/// Name of the leading extent of inputs where the file gives none.
const BATCH: &str = "batch";

/// Infers the type of every computed value.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub fn infer(graph: &mut Graph) -> Result<()> {
    for id in graph.topological_order()? {
        infer_node(graph, id);
    }
    Ok(())
}

/// Infers the types of one node's outputs from those of its inputs.
pub(super) fn infer_node(graph: &mut Graph, id: NodeId) {
    let types = ops::infer(&NodeView::new(graph, id, &[]));
    let outputs = graph.node(id).outputs.clone();
    for (output, inferred) in outputs.into_iter().zip(types) {
        let Some(output) = output else { continue };
        let declared = graph.value(output).ty.clone();
        graph.set_type(output, refined(inferred, declared));
    }
}

/// Inference has the word, since files carry stale shapes; it is asked again after every change, so
/// what it leaves open keeps the answer it had before.
pub(super) fn refined(
    inferred: Option<TensorType>,
    declared: Option<TensorType>,
) -> Option<TensorType> {
    let (Some(inferred), Some(declared)) = (&inferred, &declared) else {
        return inferred.or(declared);
    };
    let shape = match (&inferred.shape, &declared.shape) {
        (Some(ours), Some(theirs)) if ours.len() == theirs.len() => {
            let pick =
                |(a, b): (&Dim, &Dim)| if *a == Dim::Unknown { b.clone() } else { a.clone() };
            Some(ours.iter().zip(theirs).map(pick).collect())
        }
        (ours, theirs) => ours.clone().or(theirs.clone()),
    };
    Some(TensorType { dtype: inferred.dtype, shape })
}

/// Names every unknown extent of the inputs, so that equal extents can be told to be equal.
///
/// Leading extents that have no name are one extent, the batch: models that take several inputs
/// take them for the same examples.
pub(super) fn name_extents(graph: &mut Graph) {
    let named = graph.inputs.iter().any(|id| matches!(extent(graph, *id, 0), Some(Dim::Symbol(_))));
    let mut dynamic = false;
    for id in graph.inputs.clone() {
        let Some(TensorType { dtype, shape: Some(mut shape) }) = graph.value(id).ty.clone() else {
            continue;
        };
        dynamic |= shape.first().is_some_and(|d| d.known().is_none());
        for (axis, dim) in shape.iter_mut().enumerate().filter(|(_, d)| **d == Dim::Unknown) {
            *dim = Dim::Symbol(match axis {
                0 if !named => BATCH.to_owned(),
                _ => format!("{}.{axis}", graph.value(id).name),
            });
        }
        graph.set_type(id, Some(TensorType { dtype, shape: Some(shape) }));
    }
    if dynamic {
        distrust_fixed_batch(graph);
    }
}

/// A file whose inputs were made dynamic by hand still declares the old batch size further down.
fn distrust_fixed_batch(graph: &mut Graph) {
    let computed: Vec<ValueId> = graph
        .values()
        .filter(|(_, v)| matches!(v.kind, ValueKind::Computed(_)))
        .map(|(id, _)| id)
        .collect();
    for id in computed {
        let Some(mut ty) = graph.value(id).ty.clone() else { continue };
        let first = ty.shape.as_mut().and_then(|s| s.first_mut());
        if let Some(first) = first.filter(|first| first.known().is_some()) {
            *first = Dim::Unknown;
            graph.set_type(id, Some(ty));
        }
    }
}

/// The shape of a value, where its rank is known.
pub(super) fn shape(graph: &Graph, value: ValueId) -> Option<Vec<Dim>> {
    of(graph, value)?.shape
}

/// The type of a value: that of its tensor for a constant.
pub(super) fn of(graph: &Graph, value: ValueId) -> Option<TensorType> {
    graph.type_of(value)
}

/// One extent of a value.
fn extent(graph: &Graph, value: ValueId, axis: usize) -> Option<Dim> {
    shape(graph, value)?.get(axis).cloned()
}

/// Whether two extents are surely equal.
pub(super) fn same_dim(a: &Dim, b: &Dim) -> bool {
    a == b && *a != Dim::Unknown
}

/// Whether two values surely have the same shape.
pub(super) fn same_shape(graph: &Graph, a: ValueId, b: ValueId) -> bool {
    match (shape(graph, a), shape(graph, b)) {
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same_dim(a, b)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DataType;
    use crate::ir::builder::{GraphBuilder, shape as dims};

    fn declared(dims_text: &str) -> Option<TensorType> {
        Some(TensorType { dtype: DataType::F32, shape: Some(dims(dims_text)) })
    }

    #[test]
    fn inference_wins_and_the_file_fills_gaps() {
        assert_eq!(refined(declared("n,?,4"), declared("1,3,5")), declared("n,3,4"));
        assert_eq!(refined(None, declared("2")), declared("2"));
        let rank_unknown = Some(TensorType { dtype: DataType::F32, shape: None });
        assert_eq!(refined(rank_unknown.clone(), declared("2")), declared("2"));
        assert_eq!(refined(declared("2"), rank_unknown), declared("2"));
    }

    #[test]
    fn unnamed_leading_extents_are_one_batch() {
        let mut b = GraphBuilder::new("net", 13);
        let (x, y) = (b.input("x", "?,3,?"), b.input("y", "?,5"));
        let mut model = b.build(&[]);
        name_extents(&mut model.graph);
        assert_eq!(shape(&model.graph, x), Some(dims("batch,3,x.2")));
        assert_eq!(shape(&model.graph, y), Some(dims("batch,5")));
    }

    #[test]
    fn an_unnamed_extent_beside_a_named_one_stays_apart() {
        let mut b = GraphBuilder::new("net", 13);
        let (x, y) = (b.input("x", "N,3"), b.input("y", "?,5"));
        let mut model = b.build(&[]);
        name_extents(&mut model.graph);
        assert_eq!(shape(&model.graph, x), Some(dims("N,3")));
        assert_eq!(shape(&model.graph, y), Some(dims("y.0,5")));
    }

    #[test]
    fn a_stale_batch_size_is_forgotten() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "?,3");
        let y = b.op("Mystery", "y", &[x], []);
        b.graph().set_type(y, declared("1,7"));
        let mut model = b.build(&[y]);
        name_extents(&mut model.graph);
        infer(&mut model.graph).unwrap();
        assert_eq!(shape(&model.graph, y), Some(dims("?,7")));
    }
}
