//! Weights that are sums of a common part and a difference in few bits.

use crate::ir::{Codes, DataType, Tensor};

/// A layer that has a part of its weights in common with layers of other tasks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Based {
    /// A number that these layers have, too.
    pub(crate) number: u32,
    /// The common part, in the layer's own order.
    pub(crate) base: Tensor,
    /// What the task adds; `None` if its weights are the common part.
    pub(crate) difference: Option<Difference>,
}

impl Based {
    /// The weights; `None` if the parts have unequal shapes, or are not 32-bit floats.
    pub(crate) fn sum(&self) -> Option<Tensor> {
        match &self.difference {
            Some(difference) => added(&self.base, &difference.floats),
            None => Some(self.base.clone()),
        }
    }
}

/// A difference in few bits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    /// The floats that it stands for.
    pub(crate) floats: Tensor,
    /// How it is stored.
    pub(crate) codes: Codes,
}

/// The sum of two tensors as runtimes compute it; `None` for other types than 32-bit floats, or unequal
/// shapes.
pub(crate) fn added(a: &Tensor, b: &Tensor) -> Option<Tensor> {
    let is_float = a.dtype == DataType::F32 && b.dtype == DataType::F32;
    (is_float && a.dims == b.dims).then_some(())?;
    Some(Tensor::from_f32(&(a.to_f32().ok()? + b.to_f32().ok()?)))
}
