//! Gradients of the weights of convolutions.
//!
//! Written as a convolution of input and gradient, they take two to ten times as long as in matrix
//! products of the gradient with patches, which are what a tap of the window reads at all positions.

use crate::error::Result;
use crate::ir::{Attribute, Node, ValueId};

use super::Tape;
use super::conv::Window;

/// From so many channels on, every tap of the window has a product of its own; fewer would make
/// narrow ones.
const CHANNELS_BY_TAP: usize = 8;

/// Up to so many positions, a product goes over all samples at once: products of single samples are
/// too small to run at full speed. Of large images, patches of all samples do not fit into caches.
const POSITIONS_OF_ALL_SAMPLES: usize = 400;

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
    let positions: usize = window.to.iter().product();
    let products = if shape.groups == 1
        && shape.has_products_by_tap()
        && window.kernel.iter().any(|k| *k > 1)
        && positions <= POSITIONS_OF_ALL_SAMPLES
    {
        over_all_samples(tape, (large, small), window, &shape)
    } else {
        sample_by_sample(tape, (large, small), window, &shape)
    };
    // [rows, taps · columns] → [rows, columns, taps…]
    let product = match products.as_slice() {
        [only] => *only,
        several => tape.op_with("Concat", several, [("axis", Attribute::Int(1))]),
    };
    let product = tape.reshaped(product, &[shape.rows, -1, shape.columns]);
    let turned = tape.exchanged(product, 3);
    Ok(Some(tape.reshaped(turned, &weight)))
}

/// What a weight links: `columns` channels with `rows`, in groups.
struct Shape {
    groups: i64,
    rows: i64,
    columns: i64,
}

impl Shape {
    fn has_products_by_tap(&self) -> bool {
        self.columns as usize >= CHANNELS_BY_TAP || self.groups > 1
    }
}

/// A product per sample, then their sum: for each tap, or for all taps.
fn sample_by_sample(
    tape: &mut Tape,
    (large, small): (ValueId, ValueId),
    window: &Window,
    shape: &Shape,
) -> Vec<ValueId> {
    let Shape { groups, rows, columns } = *shape;
    let small = tape.reshaped(small, &[0, groups, rows / groups, -1]);
    let padded = padded(tape, large, window, 2);
    let mut patches = patches(tape, padded, window, Layout { first: 2, last_unit: 1 });
    for patch in &mut patches {
        *patch = tape.reshaped(*patch, &[0, groups, columns, -1]);
    }
    if !shape.has_products_by_tap() && patches.len() > 1 {
        patches = vec![tape.op_with("Concat", &patches, [("axis", Attribute::Int(2))])];
    }
    let mut products = Vec::new();
    for patch in patches {
        let transposed = tape.exchanged(patch, 4);
        let product = tape.op("MatMul", &[small, transposed]);
        let total = tape.summed(product, &[0], false);
        products.push(tape.reshaped(total, &[rows, -1]));
    }
    products
}

/// One product per tap, over all samples. With channels last, a patch is made of long runs, and is
/// a matrix as it is.
fn over_all_samples(
    tape: &mut Tape,
    (large, small): (ValueId, ValueId),
    window: &Window,
    shape: &Shape,
) -> Vec<ValueId> {
    let n = window.kernel.len();
    let small = tape.reshaped(small, &[0, shape.rows, -1]);
    let small = tape.permuted(small, &[1, 0, 2]);
    let small = tape.reshaped(small, &[shape.rows, -1]);
    let channels_last: Vec<i64> = [0].into_iter().chain(2..n as i64 + 2).chain([1]).collect();
    let turned = tape.permuted(large, &channels_last);
    let mut large = padded(tape, turned, window, 1);
    let mut layout = Layout { first: 1, last_unit: 1 };
    if window.strides[n - 1] == 1 {
        // Positions next to each other and their channels are one run.
        layout.last_unit = shape.columns;
        let (before, behind) = window.pads.split_at(n);
        let mut dims: Vec<i64> =
            (0..n).map(|i| window.from[i] as i64 + before[i] + behind[i]).collect();
        dims[n - 1] *= shape.columns;
        dims.insert(0, 0);
        large = tape.reshaped(large, &dims);
    }
    let mut products = Vec::new();
    for patch in patches(tape, large, window, layout) {
        let patch = tape.reshaped(patch, &[-1, shape.columns]);
        products.push(tape.op("Gemm", &[small, patch]));
    }
    products
}

/// `large`, whose spatial axes begin at axis `first`, with the padding of the window.
fn padded(tape: &mut Tape, large: ValueId, window: &Window, first: usize) -> ValueId {
    if window.pads.iter().all(|p| *p == 0) {
        return large;
    }
    let n = window.kernel.len();
    let all_axes = |pads: &[i64]| -> Vec<i64> {
        let mut all = vec![0; n + 2];
        all[first..first + n].copy_from_slice(pads);
        all
    };
    let (before, behind) = window.pads.split_at(n);
    let pads = tape.ints(&[all_axes(before), all_axes(behind)].concat());
    tape.op("Pad", &[large, pads])
}

/// Where positions are in a tensor.
#[derive(Clone, Copy)]
struct Layout {
    /// The first spatial axis.
    first: usize,
    /// How many elements a position takes along the last spatial axis.
    last_unit: i64,
}

/// For every tap of the window, what it reads at all positions.
fn patches(tape: &mut Tape, padded: ValueId, window: &Window, layout: Layout) -> Vec<ValueId> {
    let n = window.kernel.len();
    let whole = (0..n)
        .all(|i| window.kernel[i] == 1 && window.strides[i] == 1 && window.from[i] == window.to[i]);
    if whole {
        return vec![padded];
    }
    let axes: Vec<i64> = (0..n).map(|i| (layout.first + i) as i64).collect();
    let (axes, steps) = (tape.ints(&axes), tape.ints(&window.strides));
    let mut patches = Vec::new();
    for tap in window.taps() {
        let mut starts: Vec<i64> = (0..n).map(|i| tap[i] * window.dilations[i]).collect();
        let mut ends: Vec<i64> =
            (0..n).map(|i| starts[i] + (window.to[i] as i64 - 1) * window.strides[i] + 1).collect();
        starts[n - 1] *= layout.last_unit;
        ends[n - 1] *= layout.last_unit;
        let (starts, ends) = (tape.ints(&starts), tape.ints(&ends));
        patches.push(tape.op("Slice", &[padded, starts, ends, axes, steps]));
    }
    patches
}
