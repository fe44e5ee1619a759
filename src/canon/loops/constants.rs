//! Constants of a step: weights that a loop takes apart again in every step.

use crate::ir::{Dim, Tensor};
use crate::ops::{self, NodeView, normal_axis};

/// The outputs of a node that moves the elements of a constant.
pub(super) fn results(view: &NodeView<'_>, data: &Tensor) -> Option<Vec<Tensor>> {
    match view.node.op.as_str() {
        "Identity" => Some(vec![data.clone()]),
        "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" => Some(vec![reshaped(view, data)?]),
        "Transpose" if view.node.ints("perm").is_none_or(|perm| *perm == [1, 0]) => {
            Some(vec![data.transposed()?])
        }
        "Slice" => Some(vec![sliced(view, data)?]),
        "Split" => split(view, data),
        _ => None,
    }
}

fn reshaped(view: &NodeView<'_>, data: &Tensor) -> Option<Tensor> {
    let shape = view.output_shape(0)?;
    let dims: Vec<usize> = shape.iter().map(Dim::known).collect::<Option<_>>()?;
    let elements = dims.iter().try_fold(1usize, |all, extent| all.checked_mul(*extent))?;
    (elements == data.len()).then(|| Tensor { dims, ..data.clone() })
}

fn sliced(view: &NodeView<'_>, data: &Tensor) -> Option<Tensor> {
    let mut part = data.clone();
    for (axis, start, end, step) in ops::slices(view, data.dims.len())? {
        let positions = ops::picked(*part.dims.get(axis)?, start, end, step);
        part = part.select(axis, &positions)?;
    }
    Some(part)
}

fn split(view: &NodeView<'_>, data: &Tensor) -> Option<Vec<Tensor>> {
    let axis = normal_axis(view.node.int("axis", 0), data.dims.len())?;
    let mut start = 0usize;
    let mut part = |number: usize| {
        let end = start.checked_add(view.output_shape(number)?.get(axis)?.known()?)?;
        let positions: Vec<usize> = (start..end).collect();
        start = end;
        data.select(axis, &positions)
    };
    (0..view.node.outputs.len()).map(&mut part).collect()
}
