//! Rewrites convolutions of small images with the samples as the last axis.
//!
//! ONNX Runtime copies patches and multiplies matrices sample by sample. With few positions per
//! sample, both are slow: memory runs are short and matrices narrow. With samples as the last axis,
//! over which the window does not slide, there is one wide product for all samples. Larger images do
//! not fit into caches that way, and the transposes cost more than they save.

use crate::ir::{Attribute, Node, NodeId, ValueId};

use super::Tape;
use super::window::Window;

/// Values per sample at most, for input and output: those of 64 samples are a mebibyte, which fits a
/// core's cache.
const VALUES: usize = 4096;

/// What a convolution is for.
#[derive(Clone, Copy)]
pub(super) enum Use {
    /// The net itself.
    Net,
    /// A data gradient.
    Gradient,
    /// A data gradient as a transposed convolution.
    Transposed,
}

impl Use {
    /// The largest number of positions at which samples last are faster.
    fn positions(self) -> usize {
        match self {
            // A following addition or activation needs a pass of its own.
            Use::Net => 100,
            Use::Gradient => 200,
            // Its output is larger than its input.
            Use::Transposed => 32,
        }
    }

    /// Whether a convolution with `groups`, and weights of these sizes, is faster with samples last.
    pub(super) fn is_faster(self, window: &Window, weight: &[usize], groups: i64) -> bool {
        let positions: usize = window.to.iter().product();
        let from: usize = window.from.iter().product();
        // Kernels have at most three spatial axes, of which the samples take one.
        groups == 1
            && window.kernel.len() <= 2
            && window.kernel.iter().any(|k| *k > 1)
            && positions <= self.positions()
            && weight[0] * positions <= VALUES
            && weight[1] * from <= VALUES
    }
}

/// `op`, `Conv` or `ConvTranspose` without groups, of data and weight.
pub(super) fn convolution(
    tape: &mut Tape,
    op: &str,
    inputs: &[ValueId],
    window: &Window,
) -> ValueId {
    let result = before_turning_back(tape, op, inputs, window);
    tape.permuted(result, &samples_first(window))
}

/// Rewrites a convolution of the net. Its output keeps its id.
pub(super) fn rewrite(tape: &mut Tape, id: NodeId, node: &Node, window: &Window) {
    let inputs: Vec<ValueId> = node.reads().collect();
    let result = before_turning_back(tape, "Conv", &inputs, window);
    tape.graph.edit_node(id, |node| {
        node.op = "Transpose".to_owned();
        node.inputs = vec![Some(result)];
        let perm = Attribute::Ints(samples_first(window));
        node.attributes = [("perm".to_owned(), perm)].into();
    });
}

/// The result of `op` on data, weight and possibly bias, as [channels, spatial axes…, samples].
fn before_turning_back(tape: &mut Tape, op: &str, inputs: &[ValueId], window: &Window) -> ValueId {
    let rank = window.kernel.len() as i64 + 2;
    let (first_axis, last_axis) = (tape.ints(&[0]), tape.ints(&[rank]));
    let mut inputs = inputs.to_vec();
    if let [x, weight, ..] = inputs.as_mut_slice() {
        let samples_last: Vec<i64> = (1..rank).chain([0]).collect();
        *x = tape.permuted(*x, &samples_last);
        *x = tape.op("Unsqueeze", &[*x, first_axis]);
        *weight = tape.op("Unsqueeze", &[*weight, last_axis]);
    }
    let window = with_samples(window);
    let attributes = if op == "Conv" { window.forward() } else { window.backward() };
    let result = tape.op_with(op, &inputs, attributes);
    tape.op("Squeeze", &[result, first_axis])
}

/// The window with samples as an additional last axis.
fn with_samples(window: &Window) -> Window {
    let (before, behind) = window.pads.split_at(window.kernel.len());
    Window {
        kernel: [window.kernel.as_slice(), &[1]].concat(),
        strides: [window.strides.as_slice(), &[1]].concat(),
        pads: [before, &[0], behind, &[0]].concat(),
        dilations: [window.dilations.as_slice(), &[1]].concat(),
        from: [window.from.as_slice(), &[1]].concat(),
        to: [window.to.as_slice(), &[1]].concat(),
    }
}

/// The order of axes that brings samples back to the front.
fn samples_first(window: &Window) -> Vec<i64> {
    let last = window.kernel.len() as i64 + 1;
    [last].into_iter().chain(0..last).collect()
}
