//! Gradients of layers, with respect to their data.

use super::Tape;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Attribute, Node, NodeId, ValueId};

pub(super) fn gemm(
    tape: &mut Tape,
    _: NodeId,
    node: &Node,
    dy: ValueId,
) -> Result<Vec<Option<ValueId>>> {
    if node.int("transB", 0) != 1 || node.int("transA", 0) != 0 {
        return Err(Error::new(ErrorKind::Unsupported, "a Gemm that is not in canonical form"));
    }
    let weight = tape.input(node, 1)?;
    Ok(vec![Some(tape.op("MatMul", "grad", &[dy, weight]))])
}

pub(super) fn matmul(
    tape: &mut Tape,
    id: NodeId,
    node: &Node,
    dy: ValueId,
) -> Result<Vec<Option<ValueId>>> {
    let weight = tape.input(node, 1)?;
    if tape.wants(node, 1) || tape.shape(id, weight)?.len() != 2 {
        return Err(Error::new(ErrorKind::Unsupported, "a product of two computed matrices"));
    }
    let perm = Attribute::Ints(vec![1, 0]);
    let transposed = tape.op_with("Transpose", &[weight], [("perm", perm)]);
    Ok(vec![Some(tape.op("MatMul", "grad", &[dy, transposed]))])
}

pub(super) fn conv(
    tape: &mut Tape,
    id: NodeId,
    node: &Node,
    dy: ValueId,
) -> Result<Vec<Option<ValueId>>> {
    let (x, weight) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let kernel: Vec<usize> = tape.extents(id, weight)?;
    let window = Window::of(tape, id, node, x, &kernel)?;
    let mut attributes = window.attributes();
    attributes.push(("group", Attribute::Int(node.int("group", 1))));
    let dx = tape.graph.add_op("ConvTranspose", "grad", &[dy, weight], attributes);
    Ok(vec![Some(dx)])
}

/// The window attributes of a transposed convolution that undoes the shape change of a window.
pub(super) struct Window {
    pub(super) strides: Vec<i64>,
    pub(super) pads: Vec<i64>,
    pub(super) dilations: Vec<i64>,
    pub(super) output_padding: Vec<i64>,
}

impl Window {
    pub(super) fn of(
        tape: &Tape,
        id: NodeId,
        node: &Node,
        x: ValueId,
        kernel: &[usize],
    ) -> Result<Window> {
        let n = kernel.len();
        if !matches!(node.str("auto_pad"), None | Some("" | "NOTSET" | "VALID")) {
            return Err(Error::new(ErrorKind::Unsupported, "automatic padding"));
        }
        let list = |name: &str, default: i64, len: usize| {
            node.ints(name).map_or_else(|| vec![default; len], <[i64]>::to_vec)
        };
        let strides = list("strides", 1, n);
        let pads = list("pads", 0, 2 * n);
        let dilations = list("dilations", 1, n);
        let output = tape.input_output(node)?;
        let (from, to) = (tape.extents(id, x)?, tape.extents(id, output)?);
        if [strides.len(), dilations.len(), from.len(), to.len()] != [n; 4] || pads.len() != 2 * n {
            return Err(Error::new(ErrorKind::Format, "a window of the wrong rank"));
        }
        let output_padding = (0..n)
            .map(|i| {
                let span = dilations[i] * (kernel[i] as i64 - 1) + 1;
                let back = (to[i] as i64 - 1) * strides[i] + span - pads[i] - pads[n + i];
                from[i] as i64 - back
            })
            .collect();
        Ok(Window { strides, pads, dilations, output_padding })
    }

    pub(super) fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        // A negative rest means that the last windows overhang (ceil mode): crop instead of pad.
        let n = self.strides.len();
        let mut pads = self.pads.clone();
        let mut rest = self.output_padding.clone();
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
}

impl Tape {
    pub(super) fn input_output(&self, node: &Node) -> Result<ValueId> {
        node.output(0).ok_or_else(|| Error::new(ErrorKind::Format, "a node without output"))
    }
}
