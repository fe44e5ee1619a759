//! The axes of an input: the one that counts samples, and those of a sample.

use std::sync::Arc;

use super::fit::Fit;
use super::options::DataOptions;
use super::rows::Rows;
use crate::error::Result;
use crate::ir::Dim;
use crate::runtime::{HostArray, Port, sample_axes};

/// An input, and its axis that counts samples.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) port: &'a Port,
    pub(super) axis: usize,
}

/// Each input with its axis that counts samples.
pub(super) fn placed(ports: &[Port]) -> impl Iterator<Item = Place<'_>> {
    ports.iter().zip(sample_axes(ports)).map(|(port, axis)| Place { port, axis })
}

/// The shape of one sample of an input that counts samples along axis `samples`, with `None` for open sizes;
/// `None` if the rank is open.
pub(super) fn sample_shape(
    port: &Port,
    samples: usize,
    options: &DataOptions,
) -> Result<Option<Vec<Option<usize>>>> {
    let Some(shape) = &port.shape else { return Ok(None) };
    let size = |(axis, dim): (usize, &Dim)| {
        dim.known().or_else(|| {
            let named = options.dims.get(&dim_key(port, axis));
            named.or_else(|| options.dims.get(&place_key(port, axis))).copied()
        })
    };
    let of_sample = shape.iter().enumerate().filter(|(axis, _)| *axis != samples);
    Ok(Some(of_sample.map(size).collect()))
}

/// The name under which the caller gives the size of an axis.
pub(super) fn dim_key(port: &Port, axis: usize) -> String {
    match port.shape.as_ref().and_then(|shape| shape.get(axis)) {
        Some(Dim::Symbol(name)) => name.clone(),
        _ => place_key(port, axis),
    }
}

/// The name of an axis by its place. It is valid even if the model names the axis.
pub(super) fn place_key(port: &Port, axis: usize) -> String {
    format!("{}:{axis}", port.name)
}

/// Moves the first axis to the place `axis`; `None` if there are too few axes.
pub(super) fn samples_at(array: HostArray, axis: usize) -> Option<HostArray> {
    if axis == 0 {
        return Some(array);
    }
    let mut axes: Vec<usize> = (1..array.shape().len()).collect();
    (axis <= axes.len()).then(|| axes.insert(axis, 0))?;
    array.permuted(&axes)
}

/// The array with its samples along the first axis. It may be stored like the input, which counts samples along
/// `axis`, if it does not fit samples of shape `wanted` otherwise.
pub(super) fn samples_first(
    array: Arc<dyn Rows>,
    wanted: &[Option<usize>],
    axis: usize,
) -> Result<Arc<dyn Rows>> {
    let shape = array.shape();
    let fits = |sample: &[usize]| Fit::find(sample, wanted, None).is_some();
    if axis == 0 || shape.len() != wanted.len() + 1 || shape.get(1..).is_none_or(fits) {
        return Ok(array);
    }
    let mut axes: Vec<usize> = (0..shape.len()).filter(|own| *own != axis).collect();
    axes.insert(0, axis);
    let moved: Vec<usize> = axes.iter().filter_map(|own| shape.get(*own).copied()).collect();
    if !moved.get(1..).is_some_and(fits) {
        return Ok(array);
    }
    Ok(array.whole()?.permuted(&axes).map_or(array, |moved| Arc::new(moved)))
}
