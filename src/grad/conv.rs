//! Gradients of convolutions.

use crate::error::Result;
use crate::ir::{Attribute, Node, NodeId, ValueId};

use super::samples_last::{self, Use};
use super::weight_gradient::weight_gradient;
use super::window::Window;
use super::{Grads, Tape};

pub(super) fn conv(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (x, weight) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let sizes = tape.sizes(weight, 0)?;
    let kernel = sizes.get(2..).unwrap_or_default();
    let window = Window::of(tape, node, kernel, (x, tape.output(node)?))?;
    let groups = node.int("group", 1);
    let is_faster = |form: Use| form.is_faster(&window, &sizes, groups);
    let mut dx = None;
    if tape.wants(node, 0) {
        dx = Some(if groups == 1 && window.is_same_size() {
            convolved_back(tape, (dy, weight), &window, is_faster(Use::Gradient))
        } else if is_faster(Use::Transposed) {
            samples_last::convolution(tape, "ConvTranspose", &[dy, weight], &window)
        } else {
            let mut attributes = window.backward();
            attributes.push(("group", Attribute::Int(groups)));
            tape.op_with("ConvTranspose", &[dy, weight], attributes)
        });
    }
    let dw = weight_gradient(tape, node, (x, dy), &window)?;
    if is_faster(Use::Net) {
        samples_last::rewrite(tape, id, node, &window);
    }
    Ok(vec![dx, dw, bias_gradient(tape, node, dy)?])
}

/// The data gradient as a convolution with mirrored weights, which is faster than a transposed one
/// where no extents change.
fn convolved_back(
    tape: &mut Tape,
    (dy, weight): (ValueId, ValueId),
    window: &Window,
    with_samples_last: bool,
) -> ValueId {
    let n = window.kernel.len();
    let mut perm: Vec<i64> = (0..n as i64 + 2).collect();
    perm.swap(0, 1);
    let mut turned = tape.permuted(weight, &perm);
    if window.kernel.iter().any(|k| *k > 1) {
        let starts = tape.ints(&vec![-1; n]);
        let ends = tape.ints(&vec![i64::MIN; n]);
        let axes = tape.ints(&(2..n as i64 + 2).collect::<Vec<_>>());
        let steps = tape.ints(&vec![-1; n]);
        turned = tape.op("Slice", &[turned, starts, ends, axes, steps]);
    }
    let mut mirrored = window.clone();
    mirrored.pads.rotate_left(n);
    if with_samples_last {
        return samples_last::convolution(tape, "Conv", &[dy, turned], &mirrored);
    }
    tape.op_with("Conv", &[dy, turned], mirrored.forward())
}

pub(super) fn conv_transpose(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (x, weight) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let window = Window::of(tape, node, &tape.sizes(weight, 2)?, (tape.output(node)?, x))?;
    let mut attributes = window.forward();
    attributes.push(("group", Attribute::Int(node.int("group", 1))));
    let dx = tape.wants(node, 0).then(|| tape.op_with("Conv", &[dy, weight], attributes));
    // The window slides over the output: input and output change places.
    let dw = weight_gradient(tape, node, (dy, x), &window)?;
    Ok(vec![dx, dw, bias_gradient(tape, node, dy)?])
}

fn bias_gradient(tape: &mut Tape, node: &Node, dy: ValueId) -> Result<Option<ValueId>> {
    if !tape.wants(node, 2) {
        return Ok(None);
    }
    let rank = tape.shape(tape.output(node)?)?.len();
    let axes: Vec<usize> = (0..rank).filter(|a| *a != 1).collect();
    Ok(Some(tape.summed(dy, &axes, false)))
}
