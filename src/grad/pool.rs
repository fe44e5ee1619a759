//! Gradients of pooling.

use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Attribute, Dim, Node, NodeId, ValueId};

use super::reduce::chosen;
use super::window::Window;
use super::{Grads, Tape, unsupported};

fn kernel(node: &Node) -> Result<Vec<usize>> {
    node.ints("kernel_shape")
        .and_then(|k| k.iter().map(|n| usize::try_from(*n).ok()).collect())
        .ok_or_else(|| Error::new(ErrorKind::Format, "a pooling window without kernel_shape"))
}

/// The number of channels of a value.
pub(super) fn channels(tape: &Tape, value: ValueId) -> Result<usize> {
    tape.shape(value)?
        .get(1)
        .and_then(Dim::known)
        .ok_or_else(|| unsupported("the number of channels is known only at run time"))
}

pub(super) fn max_pool(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (x, y) = (tape.input(node, 0)?, tape.output(node)?);
    let window = Window::of(tape, node, &kernel(node)?, (x, y))?;
    let side_by_side = window.pads.iter().chain(&window.rest()).all(|p| *p == 0)
        && window.dilations.iter().all(|d| *d == 1)
        && window.strides.iter().zip(&window.kernel).all(|(s, k)| *s == *k as i64);
    if side_by_side {
        return Ok(vec![Some(blown_up(tape, (x, y, dy), &window))]);
    }
    overlapping(tape, (x, y, dy), &window)
}

/// Windows without overlap: maxima and their gradients are repeated over their windows.
fn blown_up(tape: &mut Tape, (x, y, dy): (ValueId, ValueId, ValueId), window: &Window) -> ValueId {
    let scales: Vec<f32> =
        [1.0, 1.0].into_iter().chain(window.kernel.iter().map(|k| *k as f32)).collect();
    let (maxima, gradients) = (tape.repeated(y, &scales), tape.repeated(dy, &scales));
    chosen(tape, x, maxima, gradients)
}

/// Overlapping windows, with one plane per kernel tap: the tap's element, whether it is the maximum,
/// and its part of dy. The transposed one-hot convolution scatters that part back.
fn overlapping(tape: &mut Tape, (x, y, dy): (ValueId, ValueId, ValueId), window: &Window) -> Grads {
    let c = channels(tape, x)?;
    let taps: usize = window.kernel.iter().product();
    let mut one_hot = vec![0.0; c * taps * taps];
    for plane in 0..c * taps {
        one_hot[plane * taps + plane % taps] = 1.0;
    }
    let dims: Vec<usize> = [c * taps, 1].into_iter().chain(window.kernel.clone()).collect();
    let weight = tape.floats(&dims, one_hot)?;
    let group = ("group", Attribute::Int(c as i64));
    // In ceil mode the last windows overhang, so padding covers them, too.
    let n = window.kernel.len();
    let mut reading = window.clone();
    for (i, rest) in window.rest().into_iter().enumerate() {
        reading.pads[n + i] += (-rest).max(0);
    }
    let mut attributes = reading.forward();
    attributes.push(group.clone());
    let read = tape.op_with("Conv", &[x, weight], attributes);
    let planes = |n: &[usize]| -> Vec<i64> {
        std::iter::once(0).chain(n.iter().chain(&window.to).map(|n| *n as i64)).collect()
    };
    let read = tape.reshaped(read, &planes(&[c, taps]));
    let (y, dy) = (tape.reshaped(y, &planes(&[c, 1])), tape.reshaped(dy, &planes(&[c, 1])));
    let hit = tape.indicator("Equal", read, y);
    let share = tape.op("Mul", &[hit, dy]);
    let share = tape.reshaped(share, &planes(&[c * taps]));
    let mut attributes = window.backward();
    attributes.push(group);
    Ok(vec![Some(tape.op_with("ConvTranspose", &[share, weight], attributes))])
}

pub(super) fn average_pool(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let window = Window::of(tape, node, &kernel(node)?, (x, tape.output(node)?))?;
    let counts = counts(&window, node.int("count_include_pad", 0) != 0);
    let c = channels(tape, x)?;
    let dims: Vec<usize> = [1, 1].into_iter().chain(window.to.iter().copied()).collect();
    let parts = tape.floats(&dims, counts.into_iter().map(|n| 1.0 / n).collect())?;
    let share = tape.op("Mul", &[dy, parts]);
    let dims: Vec<usize> = [c, 1].into_iter().chain(window.kernel.clone()).collect();
    let ones = tape.floats(&dims, vec![1.0; dims.iter().product()])?;
    let mut attributes = window.backward();
    attributes.push(("group", Attribute::Int(c as i64)));
    Ok(vec![Some(tape.op_with("ConvTranspose", &[share, ones], attributes))])
}

/// The number of averaged elements per window, in row-major order.
fn counts(window: &Window, with_pads: bool) -> Vec<f32> {
    let n = window.kernel.len();
    let along = |i: usize, at: usize| -> f32 {
        let first = at as i64 * window.strides[i] - window.pads[i];
        let extent = window.from[i] as i64;
        let (lower, upper) = match with_pads {
            true => (-window.pads[i], extent + window.pads[n + i]),
            false => (0, extent),
        };
        let taps = (0..window.kernel[i] as i64).map(|k| first + k * window.dilations[i]);
        taps.filter(|p| (lower..upper).contains(p)).count().max(1) as f32
    };
    (0..n).fold(vec![1.0], |counts, i| {
        let extended = |count: f32| (0..window.to[i]).map(move |at| count * along(i, at));
        counts.into_iter().flat_map(extended).collect()
    })
}

pub(super) fn global_average_pool(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    // A product with a constant plane distributes dy evenly.
    let extents = tape.sizes(tape.input(node, 0)?, 2)?;
    let count: usize = extents.iter().product();
    let dims = [vec![1, 1], extents].concat();
    let parts = tape.floats(&dims, vec![1.0 / count as f32; count])?;
    Ok(vec![Some(tape.op("Mul", &[dy, parts]))])
}

pub(super) fn global_max_pool(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (x, y) = (tape.input(node, 0)?, tape.output(node)?);
    Ok(vec![Some(chosen(tape, x, y, dy))])
}
