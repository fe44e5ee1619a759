//! Windows that slide over spatial axes.

use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Attribute, Node, ValueId};
use crate::ops::same_pads;

use super::{Tape, unsupported};

/// A window that slides over the spatial axes of a larger tensor and gives a smaller one.
#[derive(Clone)]
pub(super) struct Window {
    pub(super) kernel: Vec<usize>,
    pub(super) strides: Vec<i64>,
    pub(super) pads: Vec<i64>,
    pub(super) dilations: Vec<i64>,
    /// Spatial extents of the larger tensor.
    pub(super) from: Vec<usize>,
    /// Spatial extents of the smaller tensor.
    pub(super) to: Vec<usize>,
}

impl Window {
    /// The window of a node with input `from` and output `to`.
    pub(super) fn of(
        tape: &Tape,
        node: &Node,
        kernel: &[usize],
        (from, to): (ValueId, ValueId),
    ) -> Result<Window> {
        let n = kernel.len();
        let list = |name: &str, default: i64, len: usize| {
            node.ints(name).map_or_else(|| vec![default; len], <[i64]>::to_vec)
        };
        let mut window = Window {
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
        if let Some(mode @ ("SAME_UPPER" | "SAME_LOWER")) = node.str("auto_pad") {
            let is_plain = !node.is("ConvTranspose") && node.int("ceil_mode", 0) == 0;
            let pads = if is_plain { window.same_pads(mode == "SAME_LOWER") } else { None };
            window.pads = pads.ok_or_else(|| unsupported("automatic padding"))?;
        }
        Ok(window)
    }

    /// The padding by `auto_pad`.
    fn same_pads(&self, lower: bool) -> Option<Vec<i64>> {
        let axis = |i: usize| {
            let span = self.dilations[i].checked_mul(self.kernel[i] as i64 - 1)?.checked_add(1)?;
            let (span, stride) =
                (usize::try_from(span).ok()?, usize::try_from(self.strides[i]).ok()?);
            same_pads(Some(self.from[i]), span, stride, lower)
        };
        let pads: Vec<(usize, usize)> = (0..self.kernel.len()).map(axis).collect::<Option<_>>()?;
        let (before, behind) = (pads.iter().map(|pad| pad.0), pads.iter().map(|pad| pad.1));
        Some(before.chain(behind).map(|pad| pad as i64).collect())
    }

    /// Attributes of the convolution.
    pub(super) fn forward(&self) -> Vec<(&'static str, Attribute)> {
        vec![
            ("strides", Attribute::Ints(self.strides.clone())),
            ("pads", Attribute::Ints(self.pads.clone())),
            ("dilations", Attribute::Ints(self.dilations.clone())),
        ]
    }

    /// The number of elements at the end of `from` that no window covers; negative if the last
    /// windows overhang.
    pub(super) fn rest(&self) -> Vec<i64> {
        let n = self.kernel.len();
        let span = |i: usize| self.dilations[i] * (self.kernel[i] as i64 - 1) + 1;
        let back = |i: usize| {
            (self.to[i] as i64 - 1) * self.strides[i] + span(i) - self.pads[i] - self.pads[n + i]
        };
        (0..n).map(|i| self.from[i] as i64 - back(i)).collect()
    }

    /// Attributes of the transposed convolution that restores the shape.
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
    pub(super) fn is_same_size(&self) -> bool {
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
