//! Nets with the sizes of their samples.
//!
//! Gradients need fixed sizes. Sizes that a net leaves open are those of its samples.

use std::borrow::Cow;

use crate::calib::data::Dataset;
use crate::canon::infer_types;
use crate::error::Result;
use crate::ir::{Dim, Model, TensorType, ValueId};

/// The net with the extents of `data` in place of open ones. The number of samples stays open.
///
/// # Errors
/// As [`Dataset::batch`].
pub(super) fn with_extents<'a>(model: &'a Model, data: &Dataset) -> Result<Cow<'a, Model>> {
    let graph = &model.graph;
    let shape = |input: ValueId| graph.value(input).ty.as_ref()?.shape.as_ref();
    let inputs = graph.inputs.iter().copied().zip(graph.sample_axes());
    let open = inputs.filter(|(input, samples)| {
        let is_open = |(axis, dim): (usize, &Dim)| axis != *samples && dim.known().is_none();
        shape(*input).is_some_and(|dims| dims.iter().enumerate().any(is_open))
    });
    let open: Vec<(ValueId, usize)> = open.collect();
    if open.is_empty() {
        return Ok(Cow::Borrowed(model));
    }
    let samples = graph.fixed_batch().unwrap_or(1).min(data.len());
    let batch = data.batch(0..samples)?;
    let mut model = model.clone();
    for (input, samples) in open {
        let value = model.graph.value(input);
        let found =
            batch.iter().find(|(name, _)| *name == value.name).map(|(_, array)| array.shape());
        let Some((found, ty)) = found.zip(value.ty.clone()) else { continue };
        let Some(mut shape) = ty.shape.filter(|shape| shape.len() == found.len()) else { continue };
        let sizes = shape.iter_mut().zip(found).enumerate().filter(|(axis, _)| *axis != samples);
        sizes.for_each(|(_, (dim, size))| *dim = Dim::Known(*size));
        model.graph.set_type(input, Some(TensorType { dtype: ty.dtype, shape: Some(shape) }));
    }
    infer_types(&mut model.graph)?;
    Ok(Cow::Owned(model))
}
