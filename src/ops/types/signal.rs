//! Fourier transforms.

use crate::ir::{Dim, Size, TensorType};

use super::super::{NodeView, normal_axis};
use super::{Rows, of_input};

pub(super) const RULES: Rows = &[(&["DFT"], dft), (&["STFT"], stft)];

/// The number of frequencies of a transform of `length` points; a one-sided transform has half of them.
fn frequencies(length: Dim, one_sided: bool) -> Dim {
    if one_sided { length.over(2).plus(1) } else { length }
}

fn dft(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let one_sided = node.node.int("onesided", 0) != 0;
    let inverse = node.node.int("inverse", 0) != 0;
    let shape = node.shape(0).and_then(|mut shape| {
        // The axis was an attribute before operator set 20, with another default.
        let axis = match (node.node.input(2), node.node.attributes.contains_key("axis")) {
            (Some(_), _) => node.number(2)?.value()?,
            (None, true) => node.node.int("axis", 1),
            (None, false) => -2,
        };
        let axis = normal_axis(axis, shape.len())?;
        let own = shape.get_mut(axis)?;
        let length = match node.node.input(1) {
            Some(_) => node.number(1).map_or(Dim::Unknown, Size::dim),
            None if one_sided && inverse => own.plus(-1).times(2),
            None => own.clone(),
        };
        *own = frequencies(length, one_sided && !inverse);
        let parts = if one_sided && inverse { 1 } else { 2 };
        *shape.last_mut()? = Dim::Known(parts);
        Some(shape)
    });
    let along_any_axis = || {
        let mut shape = node.shape(0)?;
        if one_sided || node.node.input(1).is_some() {
            shape.fill(Dim::Unknown);
        }
        *shape.last_mut()? = Dim::Known(if one_sided && inverse { 1 } else { 2 });
        Some(shape)
    };
    of_input(node, 0, shape.or_else(along_any_axis))
}

fn stft(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let signal = node.shape(0).unwrap_or_else(|| super::open(3));
    let samples = signal.get(1).cloned().unwrap_or(Dim::Unknown);
    let window = node.shape(2).and_then(|window| window.first().cloned());
    let length = match node.node.input(3) {
        Some(_) => node.number(3).map(Size::dim).or(window),
        None => window.or(Some(samples.clone())),
    };
    let length = length.unwrap_or(Dim::Unknown);
    let frames = || {
        let room = Size::of(&samples)?.minus(&Size::of(&length)?)?;
        Some(room.over(&node.number(1)?)?.dim().plus(1))
    };
    let one_sided = node.node.int("onesided", 1) != 0;
    let batch = signal.first().cloned().unwrap_or(Dim::Unknown);
    let frames = frames().unwrap_or(Dim::Unknown);
    of_input(node, 0, Some(vec![batch, frames, frequencies(length, one_sided), Dim::Known(2)]))
}
