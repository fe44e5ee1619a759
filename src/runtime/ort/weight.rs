//! A weight that is fed with every run of a session, without a copy where possible.

use ::ort::session::SessionInputValue;
use ::ort::value::TensorRef;
use bytes::Bytes;

use super::failed;
use crate::error::Result;
use crate::ir::Tensor;

/// A weight in single precision.
pub(super) struct Weight {
    dims: Vec<usize>,
    elements: Elements,
}

enum Elements {
    /// The bytes of the model.
    Shared(Bytes),
    /// A copy, since the model's bytes do not lie on whole elements.
    Own(Vec<f32>),
}

impl Weight {
    /// The elements of a tensor in single precision.
    ///
    /// # Errors
    /// As [`Tensor::to_f32`].
    pub(super) fn new(tensor: Tensor) -> Result<Weight> {
        let elements = match shared(&tensor.data) {
            Some(_) => Elements::Shared(tensor.data),
            None => Elements::Own(tensor.to_f32()?.into_raw_vec_and_offset().0),
        };
        Ok(Weight { dims: tensor.dims, elements })
    }

    /// The weight as a session's input.
    pub(super) fn value(&self) -> Result<SessionInputValue<'_>> {
        let elements = match &self.elements {
            Elements::Shared(bytes) => shared(bytes).unwrap_or_default(),
            Elements::Own(elements) => elements,
        };
        let view = (self.dims.as_slice(), elements);
        TensorRef::from_array_view(view).map(SessionInputValue::from).map_err(failed)
    }
}

/// Bytes as numbers, if they lie as the processor reads numbers.
fn shared(bytes: &Bytes) -> Option<&[f32]> {
    let is_native = cfg!(target_endian = "little");
    is_native.then(|| bytemuck::try_cast_slice(bytes).ok()).flatten()
}
