//! Gradients of convolutions.

use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Attribute, Node, NodeId, ValueId};

use super::samples_last::{self, Use};
use super::weight_gradient::weight_gradient;
use super::{Grads, Tape, unsupported};

/// A window that slides over the spatial axes of a larger tensor and gives a smaller one.
#[derive(Clone)]
pub(super) struct Window {
    pub(super) kernel: Vec<usize>,
    pub(super) strides: Vec<i64>,
    pub(super) pads: Vec<i64>,
    pub(super) dilations: Vec<i64>,
    /// Spatial extents of what the window slides over.
    pub(super) from: Vec<usize>,
    /// Spatial extents of what it gives.
    pub(super) to: Vec<usize>,
}

impl Window {
    /// The window of a node that makes `to` out of `from`.
    pub(super) fn of(
        tape: &Tape,
        node: &Node,
        kernel: &[usize],
        (from, to): (ValueId, ValueId),
    ) -> Result<Window> {
        let n = kernel.len();
        if !matches!(node.str("auto_pad"), None | Some("" | "NOTSET" | "VALID")) {
            return Err(unsupported("automatic padding"));
        }
        let list = |name: &str, default: i64, len: usize| {
            node.ints(name).map_or_else(|| vec![default; len], <[i64]>::to_vec)
        };
        let window = Window {
            kernel: kernel.to_vec(),
            strides: list("strides", 1, n),
            pads: list("pads", 0, 2 * n),
            dilations: list("dilations", 1, n),
            from: tape.sizes(from, 2)?,
            to: tape.sizes(to, 2)?,
        };
        let lengths = [window.strides.len(), window.dilations.len(), window.from.len()];
        if lengths != [n; 3] || window.to.len() != n || window.pads.len() != 2 * n {
            return Err(Error::new(ErrorKind::Format, "a window of the wrong rank"));
        }
        Ok(window)
    }

    /// Attributes of the convolution.
    pub(super) fn forward(&self) -> Vec<(&'static str, Attribute)> {
        vec![
            ("strides", Attribute::Ints(self.strides.clone())),
            ("pads", Attribute::Ints(self.pads.clone())),
            ("dilations", Attribute::Ints(self.dilations.clone())),
        ]
    }

    /// How much of `from`, behind, no window covers; negative where the last ones overhang.
    pub(super) fn rest(&self) -> Vec<i64> {
        let n = self.kernel.len();
        let span = |i: usize| self.dilations[i] * (self.kernel[i] as i64 - 1) + 1;
        let back = |i: usize| {
            (self.to[i] as i64 - 1) * self.strides[i] + span(i) - self.pads[i] - self.pads[n + i]
        };
        (0..n).map(|i| self.from[i] as i64 - back(i)).collect()
    }

    /// Attributes of the transposed convolution that undoes the change of shape.
    pub(super) fn backward(&self) -> Vec<(&'static str, Attribute)> {
        // A negative rest means that the last windows overhang (ceil mode): crop instead of pad.
        let n = self.kernel.len();
        let (mut pads, mut rest) = (self.pads.clone(), self.rest());
        for i in 0..n {
            if rest[i] < 0 {
                pads[n + i] -= rest[i];
                rest[i] = 0;
            }
        }
        vec![
            ("strides", Attribute::Ints(self.strides.clone())),
            ("pads", Attribute::Ints(pads)),
            ("dilations", Attribute::Ints(self.dilations.clone())),
            ("output_padding", Attribute::Ints(rest)),
        ]
    }

    /// Whether output and input have the same extents, position by position.
    fn is_same_size(&self) -> bool {
        let n = self.kernel.len();
        self.strides.iter().all(|s| *s == 1)
            && (0..n).all(|i| {
                let reach = self.dilations[i] * (self.kernel[i] as i64 - 1);
                self.pads[i] + self.pads[n + i] == reach
            })
    }

    /// The index of every tap along every spatial axis, in row-major order.
    pub(super) fn taps(&self) -> Vec<Vec<i64>> {
        self.kernel.iter().fold(vec![Vec::new()], |taps, extent| {
            let extended = |tap: Vec<i64>| {
                (0..*extent as i64).map(move |i| tap.iter().copied().chain([i]).collect())
            };
            taps.into_iter().flat_map(extended).collect()
        })
    }
}

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
