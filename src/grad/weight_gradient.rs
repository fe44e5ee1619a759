//! Gradients of the weights of convolutions.
//!
//! The gradient is a matrix product with patches. A patch holds a kernel tap's elements at all
//! positions. Writing and reading patches takes up to one and a half times as long as a convolution.

use crate::error::Result;
use crate::ir::{Attribute, Node, ValueId};

use super::Tape;
use super::window::Window;

/// Σ over samples and positions of `small` times the patch of `large` under its window.
pub(super) fn weight_gradient(
    tape: &mut Tape,
    node: &Node,
    (large, small): (ValueId, ValueId),
    window: &Window,
) -> Result<Option<ValueId>> {
    if !tape.wants(node, 1) {
        return Ok(None);
    }
    let weight: Vec<i64> = tape.sizes(tape.input(node, 1)?, 0)?.iter().map(|d| *d as i64).collect();
    let shape = Shape { groups: node.int("group", 1).max(1), rows: weight[0], columns: weight[1] };
    let one_tap = window.kernel.iter().all(|k| *k == 1);
    let product = if shape.groups == 1 && !one_tap && window.dilations.iter().all(|d| *d == 1) {
        over_all_samples(tape, (large, small), window, &shape)
    } else {
        sample_by_sample(tape, (large, small), window, &shape)
    };
    // [rows, taps · columns] → [rows, columns, taps…]
    let product = tape.reshaped(product, &[shape.rows, -1, shape.columns]);
    let turned = tape.exchanged(product, 3);
    Ok(Some(tape.reshaped(turned, &weight)))
}

/// The weight's sizes: `rows` output channels by `columns` input channels, in groups.
struct Shape {
    groups: i64,
    rows: i64,
    columns: i64,
}

/// One convolution with `small` as its kernel and samples as its channels. With channels last, every
/// position of the result is a kernel tap and a channel, whose inputs are one contiguous run. No
/// patch of `large` is ever stored.
fn over_all_samples(
    tape: &mut Tape,
    (large, small): (ValueId, ValueId),
    window: &Window,
    shape: &Shape,
) -> ValueId {
    let n = window.kernel.len();
    let channels_last: Vec<i64> = [0].into_iter().chain(2..n as i64 + 2).chain([1]).collect();
    let turned = tape.permuted(large, &channels_last);
    let mut dims: Vec<i64> = window.from.iter().map(|d| *d as i64).collect();
    dims[n - 1] *= shape.columns;
    dims.splice(0..0, [1, -1]);
    let image = tape.reshaped(turned, &dims);
    let mut by_row: Vec<i64> = (0..n as i64 + 2).collect();
    by_row.swap(0, 1);
    let filters = tape.permuted(small, &by_row);
    let (pads, is_whole) = pads_of_taps(window, shape.columns);
    let mut steps = window.strides.clone();
    steps[n - 1] *= shape.columns;
    let attributes = [("pads", Attribute::Ints(pads)), ("dilations", Attribute::Ints(steps))];
    let product = tape.op_with("Conv", &[image, filters], attributes);
    if is_whole {
        return product;
    }
    let mut taps: Vec<i64> = window.kernel.iter().map(|k| *k as i64).collect();
    taps[n - 1] *= shape.columns;
    let axes: Vec<i64> = (2..n as i64 + 2).collect();
    let (starts, ends, axes) = (tape.ints(&vec![0; n]), tape.ints(&taps), tape.ints(&axes));
    tape.op("Slice", &[product, starts, ends, axes])
}

/// The padding of [`over_all_samples`], and whether its result has as many positions as the kernel
/// has taps. Elements that no window covers would add positions, unless they are padding that can be
/// left out.
fn pads_of_taps(window: &Window, columns: i64) -> (Vec<i64>, bool) {
    let n = window.kernel.len();
    let mut pads = window.pads.clone();
    let mut is_whole = true;
    for (pad, rest) in pads[n..].iter_mut().zip(window.rest()) {
        let less = rest.min(*pad);
        *pad -= less;
        is_whole &= less == rest;
    }
    pads[n - 1] *= columns;
    pads[2 * n - 1] *= columns;
    (pads, is_whole)
}

/// A product per sample and tap, then the sum over samples.
fn sample_by_sample(
    tape: &mut Tape,
    (large, small): (ValueId, ValueId),
    window: &Window,
    shape: &Shape,
) -> ValueId {
    let Shape { groups, rows, columns } = *shape;
    let small = tape.reshaped(small, &[0, groups, rows / groups, -1]);
    let padded = padded(tape, large, window);
    let mut products = Vec::new();
    for patch in patches(tape, padded, window) {
        let patch = tape.reshaped(patch, &[0, groups, columns, -1]);
        let transposed = tape.exchanged(patch, 4);
        let product = tape.op("MatMul", &[small, transposed]);
        let total = tape.summed(product, &[0], false);
        products.push(tape.reshaped(total, &[rows, -1]));
    }
    match products.as_slice() {
        [only] => *only,
        several => tape.op_with("Concat", several, [("axis", Attribute::Int(1))]),
    }
}

/// `large` with the padding of the window.
fn padded(tape: &mut Tape, large: ValueId, window: &Window) -> ValueId {
    if window.pads.iter().all(|p| *p == 0) {
        return large;
    }
    let (before, behind) = window.pads.split_at(window.kernel.len());
    let pads = tape.ints(&[&[0, 0], before, &[0, 0], behind].concat());
    tape.op("Pad", &[large, pads])
}

/// For every kernel tap, its elements at all positions.
fn patches(tape: &mut Tape, padded: ValueId, window: &Window) -> Vec<ValueId> {
    let n = window.kernel.len();
    let whole = (0..n)
        .all(|i| window.kernel[i] == 1 && window.strides[i] == 1 && window.from[i] == window.to[i]);
    if whole {
        return vec![padded];
    }
    let axes: Vec<i64> = (2..n as i64 + 2).collect();
    let (axes, steps) = (tape.ints(&axes), tape.ints(&window.strides));
    let mut patches = Vec::new();
    for tap in window.taps() {
        let starts: Vec<i64> = (0..n).map(|i| tap[i] * window.dilations[i]).collect();
        let ends: Vec<i64> =
            (0..n).map(|i| starts[i] + (window.to[i] as i64 - 1) * window.strides[i] + 1).collect();
        let (starts, ends) = (tape.ints(&starts), tape.ints(&ends));
        patches.push(tape.op("Slice", &[padded, starts, ends, axes, steps]));
    }
    patches
}
