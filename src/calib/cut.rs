//! The values at a cut through a net, and their types for the part of the net behind it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ir::{Dim, Graph, TensorType, ValueId};
use crate::runtime::HostArray;

/// Values at a cut, for one batch.
pub(super) type Cut = BTreeMap<ValueId, Arc<HostArray>>;

/// The name of the number of samples in types.
const SAMPLES: &str = "samples";

/// The types of a net's inputs, from one batch of `samples` samples. All other extents are those of the data.
pub(super) fn types_of_inputs(
    graph: &Graph,
    cut: &Cut,
    samples: usize,
) -> Vec<(ValueId, TensorType)> {
    let axes: BTreeMap<ValueId, usize> =
        graph.inputs.iter().copied().zip(graph.sample_axes()).collect();
    let typed = |(id, array): (&ValueId, &Arc<HostArray>)| {
        let counts = |axis| axes.get(id) == Some(&axis);
        let dims = array.shape().iter().enumerate().map(|(axis, size)| match *size == samples {
            true if counts(axis) => Dim::Symbol(SAMPLES.to_owned()),
            _ => Dim::Known(*size),
        });
        (*id, TensorType { dtype: array.dtype(), shape: Some(dims.collect()) })
    };
    cut.iter().map(typed).collect()
}

/// The types of the values at a cut that is kept for all batches, whose numbers of samples are `samples`.
pub(super) fn types_of_kept(
    graph: &Graph,
    kept: &[Cut],
    samples: &[usize],
) -> Vec<(ValueId, TensorType)> {
    let typed = |(id, first): (&ValueId, &Arc<HostArray>)| {
        let shapes: Vec<&[usize]> =
            kept.iter().filter_map(|cut| Some(cut.get(id)?.shape())).collect();
        let known = graph.value(*id).ty.as_ref().and_then(|ty| ty.shape.as_deref());
        let shape = match samples {
            [count, others @ ..] if others.iter().all(|other| other == count) => {
                of_equal_batches(&shapes, *count, known)
            }
            _ => by_samples(&shapes, samples),
        };
        (*id, TensorType { dtype: first.dtype(), shape })
    };
    kept.first().into_iter().flatten().map(typed).collect()
}

/// The shape of a value where batches differ in size, which tells what depends on it. A size that is neither fixed nor
/// a multiple of the number of samples depends on the data; `None` if the rank does.
fn by_samples(shapes: &[&[usize]], samples: &[usize]) -> Option<Vec<Dim>> {
    let rank = shapes.first()?.len();
    if shapes.iter().any(|shape| shape.len() != rank) {
        return None;
    }
    let dim = |axis: usize| {
        let sizes = || shapes.iter().filter_map(move |shape| shape.get(axis).copied());
        let (size, count) = (sizes().next()?, *samples.first()?);
        if sizes().all(|other| other == size) {
            return Some(Dim::Known(size));
        }
        let each = size.checked_div(count)?;
        let is_multiple = sizes().zip(samples).all(|(size, count)| size == each * count);
        let each = i64::try_from(each).ok().filter(|_| is_multiple)?;
        Some(Dim::Symbol(SAMPLES.to_owned()).times(each))
    };
    Some((0..rank).map(|axis| dim(axis).unwrap_or(Dim::Unknown)).collect())
}

/// The shape of a value where all batches have as many samples. Its first axis counts them, or another axis that is
/// open in the net's own type (`known`), as before recurrent layers and in their states.
fn of_equal_batches(
    shapes: &[&[usize]],
    samples: usize,
    known: Option<&[Dim]>,
) -> Option<Vec<Dim>> {
    let first = *shapes.first()?;
    if shapes.iter().any(|shape| shape.len() != first.len()) {
        return None;
    }
    let is_open =
        |axis: usize| known.and_then(|k| k.get(axis)).is_some_and(|dim| dim.known().is_none());
    let counts = |axis: usize| first.get(axis) == Some(&samples) && is_open(axis);
    let is_first = is_open(0) || !(1..first.len()).any(counts);
    let dims = first.iter().enumerate().map(|(axis, size)| {
        let is_fixed = shapes.iter().all(|shape| shape.get(axis) == Some(size));
        match *size == samples {
            _ if !is_fixed => Dim::Unknown,
            true if is_open(axis) || (axis == 0 && is_first) => Dim::Symbol(SAMPLES.to_owned()),
            _ => Dim::Known(*size),
        }
    });
    Some(dims.collect())
}

/// Bytes of an array.
pub(super) fn bytes_of(array: &HostArray) -> u64 {
    (array.len() * array.dtype().size().unwrap_or(8)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::shape;

    #[test]
    fn sizes_follow_from_batches_of_different_sizes() {
        // Numbers of samples and of tokens that are equal, one axis of samples and tokens, and chosen rows.
        let shapes: [&[usize]; 3] = [&[4, 4, 12, 7], &[4, 4, 12, 9], &[1, 4, 3, 2]];
        let found = by_samples(&shapes, &[4, 4, 1]).unwrap();
        let samples = Dim::Symbol("samples".to_owned());
        assert_eq!(found, [samples.clone(), Dim::Known(4), samples.times(3), Dim::Unknown]);
        assert_eq!(by_samples(&[&[4, 1], &[1]], &[4, 1]), None);
    }

    #[test]
    fn sizes_of_equal_batches_are_fixed_unless_the_data_decide() {
        let known = shape("steps,n,8,?");
        let shapes: [&[usize]; 2] = [&[5, 4, 8, 3], &[5, 4, 8, 2]];
        let found = of_equal_batches(&shapes, 4, Some(&known)).unwrap();
        assert_eq!(found, shape("5,samples,8,?"));
    }
}
