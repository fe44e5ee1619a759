//! Gradients of pooling.

use super::Tape;
use super::linear::Window;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Attribute, Dim, Node, NodeId, ValueId};

type Grads = Result<Vec<Option<ValueId>>>;

fn kernel(node: &Node) -> Result<Vec<usize>> {
    node.ints("kernel_shape")
        .and_then(|k| k.iter().map(|n| usize::try_from(*n).ok()).collect())
        .ok_or_else(|| Error::new(ErrorKind::Format, "a pooling window without kernel_shape"))
}

fn channels(tape: &Tape, id: NodeId, value: ValueId) -> Result<usize> {
    tape.shape(id, value)?.get(1).and_then(Dim::known).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "the number of channels is known only at run time")
    })
}

pub(super) fn max_pool(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    // One plane per tap of the window: what the tap reads, whether it is the maximum, and its share
    // of dy, spread back by the transposed one-hot convolution that read it.
    let (x, y) = (tape.input(node, 0)?, tape.input_output(node)?);
    let kernel = kernel(node)?;
    let window = Window::of(tape, id, node, x, &kernel)?;
    let c = channels(tape, id, x)?;
    let taps: usize = kernel.iter().product();
    let mut one_hot = vec![0.0; c * taps * taps];
    for plane in 0..c * taps {
        one_hot[plane * taps + plane % taps] = 1.0;
    }
    let dims: Vec<usize> = [c * taps, 1].into_iter().chain(kernel.iter().copied()).collect();
    let weight = tape.floats(&dims, one_hot)?;
    let group = ("group", Attribute::Int(c as i64));
    let mut attributes = window.attributes();
    attributes.retain(|(name, _)| *name != "output_padding");
    attributes.push(group.clone());
    let read = tape.graph.add_op("Conv", "grad.taps", &[x, weight], attributes);
    let out = tape.extents(id, y)?;
    let planes = |n: &[usize]| -> Vec<i64> {
        std::iter::once(0).chain(n.iter().chain(&out).map(|n| *n as i64)).collect()
    };
    let (split, joined) = (tape.ints(&planes(&[c, taps])), tape.ints(&planes(&[c * taps])));
    let single = tape.ints(&planes(&[c, 1]));
    let read = tape.op("Reshape", "grad", &[read, split]);
    let (y, dy) =
        (tape.op("Reshape", "grad", &[y, single]), tape.op("Reshape", "grad", &[dy, single]));
    let hit = tape.indicator("Equal", read, y);
    let share = tape.op("Mul", "grad", &[hit, dy]);
    let share = tape.op("Reshape", "grad", &[share, joined]);
    let mut attributes = window.attributes();
    attributes.push(group);
    let dx = tape.graph.add_op("ConvTranspose", "grad", &[share, weight], attributes);
    Ok(vec![Some(dx)])
}

pub(super) fn average_pool(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let kernel = kernel(node)?;
    let window = Window::of(tape, id, node, x, &kernel)?;
    let padded =
        window.pads.iter().any(|p| *p != 0) || window.output_padding.iter().any(|p| *p < 0);
    if padded && node.int("count_include_pad", 0) == 0 {
        return Err(Error::new(ErrorKind::Unsupported, "an average over windows of unequal size"));
    }
    let c = channels(tape, id, x)?;
    let taps: usize = kernel.iter().product();
    let dims: Vec<usize> = [c, 1].into_iter().chain(kernel.iter().copied()).collect();
    let weight = tape.floats(&dims, vec![1.0 / taps as f32; c * taps])?;
    let mut attributes = window.attributes();
    attributes.push(("group", Attribute::Int(c as i64)));
    Ok(vec![Some(tape.graph.add_op("ConvTranspose", "grad", &[dy, weight], attributes))])
}

pub(super) fn global_average_pool(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let count: usize = tape.extents(id, x)?.iter().product();
    spread(tape, x, dy, count)
}

/// `dy / count` for every element that went into the mean.
fn spread(tape: &mut Tape, x: ValueId, dy: ValueId, count: usize) -> Grads {
    let share = tape.scalar(1.0 / count.max(1) as f32);
    let scaled = tape.op("Mul", "grad", &[dy, share]);
    let shape = tape.op("Shape", "grad.shape", &[x]);
    Ok(vec![Some(tape.op("Expand", "grad", &[scaled, shape]))])
}

pub(super) fn reduce_mean(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let shape = tape.shape(id, x)?;
    let axes = crate::ops::NodeView::new(&tape.graph, id, &[]).axes(1, shape.len());
    let Some(axes) = axes else {
        return Err(Error::new(ErrorKind::Unsupported, "a mean over all or computed axes"));
    };
    let count: Option<usize> = axes.iter().map(|a| shape[*a].known()).product();
    let Some(count) = count else {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a mean over extents known only at run time",
        ));
    };
    let mut dy = dy;
    if node.int("keepdims", 1) == 0 {
        let axes: Vec<i64> = axes.iter().map(|a| *a as i64).collect();
        let axes = tape.ints(&axes);
        dy = tape.op("Unsqueeze", "grad", &[dy, axes]);
    }
    spread(tape, x, dy, count)
}
