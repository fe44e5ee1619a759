//! Types of all values, and names for extents that are known only at run time.

mod subgraphs;

use crate::error::Result;
use crate::ir::{Dim, Graph, NodeId, TensorType, ValueId, ValueKind};
use crate::ops::{self, NodeView, Sizes};

use super::{limits, operands};

/// Name of the number of samples if the file gives none.
const BATCH: &str = "batch";

/// Limit of the length of an input's name that extents are named after.
const LONGEST_NAME: usize = 256;

/// Infers the type of every computed value.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle, or a node that its constants do not fit;
/// [`crate::error::ErrorKind::Memory`] if a value is too large to be computed.
pub fn infer(graph: &mut Graph) -> Result<()> {
    follow(graph).map(drop)
}

/// Infers the type of every computed value. Returns the known values that are sizes, indexed by
/// [`ValueId::index`].
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn follow(graph: &mut Graph) -> Result<Vec<Option<Sizes>>> {
    let mut known = vec![None; graph.value_count()];
    for id in graph.topological_order()? {
        limits::asked(graph, id)?;
        operands::check(graph, id)?;
        subgraphs::infer(graph, id)?;
        infer_knowing(graph, id, &mut known);
        limits::returned(graph, id)?;
    }
    Ok(known)
}

/// Infers the types of one node's outputs from those of its inputs.
pub(super) fn infer_node(graph: &mut Graph, id: NodeId) {
    infer_knowing(graph, id, &mut []);
}

/// Infers the types of one node's outputs with the sizes `known` so far, and adds its own sizes to them.
fn infer_knowing(graph: &mut Graph, id: NodeId, known: &mut [Option<Sizes>]) {
    let types = ops::infer(&NodeView::knowing(graph, id, known));
    let outputs = graph.node(id).outputs.clone();
    for (output, inferred) in outputs.iter().zip(types) {
        let Some(output) = *output else { continue };
        let declared = graph.value(output).ty.clone();
        graph.set_type(output, refined(inferred, declared));
    }
    let sizes = match compares_batches(graph, id, known) {
        true => Vec::new(),
        false => ops::sizes(&NodeView::knowing(graph, id, known)),
    };
    for (output, sizes) in outputs.into_iter().zip(sizes) {
        let Some(output) = output else { continue };
        if let Some(place) = known.get_mut(output.index()) {
            *place = sizes.filter(|sizes| fits(graph, output, sizes));
        }
    }
    demand(graph, id);
}

/// Notes the extent that the constant matrix of a product demands of the other factor, where nothing else tells it: of
/// what a reshape to an open shape leaves for its last axis.
fn demand(graph: &mut Graph, id: NodeId) {
    let Some((data, extent)) = demanded(graph, id) else { return };
    let Some(mut ty) = graph.type_of(data) else { return };
    if let Some(last) = ty.shape.as_mut().and_then(|dims| dims.last_mut())
        && matches!(last, Dim::Unknown | Dim::Formula(_))
    {
        *last = Dim::Known(extent);
        graph.set_type(data, Some(ty));
    }
}

fn demanded(graph: &Graph, id: NodeId) -> Option<(ValueId, usize)> {
    let node = graph.node(id);
    let data = node.input(0).filter(|data| graph.initializer(*data).is_none())?;
    let [rows, columns] = *graph.initializer(node.input(1)?)?.dims.as_slice() else { return None };
    let is_turned = node.is("Gemm") && node.int("transB", 0) == 1;
    let is_plain = node.is("MatMul") || node.is("Gemm") && node.int("transA", 0) == 0;
    is_plain.then_some((data, if is_turned { columns } else { rows }))
}

/// Whether a node compares batches, while several inputs are assumed to have the same one. The model may
/// decide what to do with unequal batches.
fn compares_batches(graph: &Graph, id: NodeId, known: &[Option<Sizes>]) -> bool {
    let node = graph.node(id);
    let reads_batch = |value: &ValueId| {
        let sizes = known.get(value.index()).and_then(Option::as_ref);
        sizes.is_some_and(|s| s.elements.iter().flatten().any(|size| size.depends_on(BATCH)))
    };
    node.domain.is_empty()
        && ops::compares(&node.op)
        && node.inputs.iter().flatten().all(reads_batch)
        && graph.inputs.iter().filter(|input| has_assumed_batch(graph, **input)).count() > 1
}

/// Whether the value's type agrees with these sizes: a scalar, or a vector of this length.
fn fits(graph: &Graph, value: ValueId, sizes: &Sizes) -> bool {
    match shape(graph, value).as_deref() {
        Some([]) => sizes.scalar,
        Some([length]) => !sizes.scalar && length.known().is_none_or(|n| n == sizes.elements.len()),
        Some(_) => false,
        None => true,
    }
}

/// Combines an inferred type with a declared one. Inference has priority, since files carry stale
/// shapes. Parts that it leaves open keep their earlier type.
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

/// Names every unknown extent of the inputs, so that equal extents can be recognised.
///
/// Numbers of samples without a name count as one extent, the batch, since all inputs of a model belong to
/// the same examples.
pub(super) fn name_extents(graph: &mut Graph) {
    let axes = graph.sample_axes();
    let samples = |(id, axis): (&ValueId, &usize)| extent(graph, *id, *axis);
    let named =
        graph.inputs.iter().zip(&axes).any(|input| matches!(samples(input), Some(Dim::Symbol(_))));
    let mut dynamic = false;
    for ((position, id), samples) in graph.inputs.clone().into_iter().enumerate().zip(axes) {
        let Some(TensorType { dtype, shape: Some(mut shape) }) = graph.value(id).ty.clone() else {
            continue;
        };
        dynamic |= shape.get(samples).is_some_and(|d| d.known().is_none());
        for (axis, dim) in shape.iter_mut().enumerate().filter(|(_, d)| **d == Dim::Unknown) {
            *dim = Dim::Symbol(match axis {
                own if own == samples && !named => BATCH.to_owned(),
                _ => match graph.value(id).name.as_str() {
                    // Names of extents are copied from value to value.
                    name if name.len() <= LONGEST_NAME => format!("{name}.{axis}"),
                    _ => format!("input {position}.{axis}"),
                },
            });
        }
        graph.set_type(id, Some(TensorType { dtype, shape: Some(shape) }));
    }
    if dynamic {
        distrust_fixed_batch(graph);
    }
}

/// Drops declared batch sizes of hidden values. They are stale if the inputs were made dynamic by hand.
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

/// The shape of a value, if its rank is known.
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

/// Whether a value has an extent that is assumed to be the batch of all inputs. The assumption fails if
/// one input holds a single example that is expanded to the others.
pub(super) fn has_assumed_batch(graph: &Graph, value: ValueId) -> bool {
    shape(graph, value).is_some_and(|dims| dims.contains(&Dim::Symbol(BATCH.to_owned())))
}

/// Whether two values surely have the same shape.
pub(super) fn same_shape(graph: &Graph, a: ValueId, b: ValueId) -> bool {
    match (shape(graph, a), shape(graph, b)) {
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.is_surely(b)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
