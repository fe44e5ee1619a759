//! Extents of the outputs of windows that slide over space.

use crate::ir::{Dim, Size};

use super::super::NodeView;
use super::extent;

/// Windows of a convolution or pooling, by spatial axis.
pub(super) struct Windows<'a> {
    node: &'a NodeView<'a>,
    kernel: Vec<i64>,
    /// The mode of automatic padding.
    auto: &'a str,
}

impl<'a> Windows<'a> {
    /// Windows with extents `kernel`.
    pub(super) fn new(node: &'a NodeView<'a>, kernel: Vec<i64>) -> Self {
        Windows { node, kernel, auto: node.node.str("auto_pad").unwrap_or("NOTSET") }
    }

    fn at(&self, name: &str, index: usize, default: i64) -> i64 {
        self.node.node.ints(name).and_then(|list| list.get(index).copied()).unwrap_or(default)
    }

    /// Extent of the window at spatial axis `axis`, gaps included.
    fn span(&self, axis: usize) -> Option<i64> {
        let reach = self.kernel.get(axis)?.checked_sub(1)?;
        reach.checked_mul(self.at("dilations", axis, 1))?.checked_add(1)
    }

    /// Padding before the spatial axis `axis`, and on both sides.
    fn pads(&self, axis: usize) -> Option<(i64, i64)> {
        let before = self.at("pads", axis, 0);
        Some((
            before,
            before.checked_add(self.at("pads", axis.checked_add(self.kernel.len())?, 0))?,
        ))
    }

    /// The number of window positions along each spatial axis of extents `shape`.
    pub(super) fn positions(&self, shape: &[Dim]) -> Vec<Dim> {
        let place = |(axis, dim)| self.position(axis, dim).unwrap_or(Dim::Unknown);
        shape.iter().enumerate().map(place).collect()
    }

    fn position(&self, axis: usize, from: &Dim) -> Option<Dim> {
        let (span, stride) = (self.span(axis)?, self.at("strides", axis, 1));
        let (before, pads) = self.pads(axis)?;
        if stride < 1 {
            return None;
        }
        let less_one = stride.checked_sub(1)?;
        let room = pads.checked_sub(span)?;
        Some(match self.auto {
            "SAME_UPPER" | "SAME_LOWER" => from.plus(less_one).over(stride),
            "VALID" => from.plus(span.checked_neg()?).over(stride).plus(1),
            _ if self.node.node.int("ceil_mode", 0) != 0 => {
                let positions = from.plus(room.checked_add(less_one)?).over(stride).plus(1);
                without_idle(positions, from, before, stride, room.checked_add(stride)?)
            }
            _ => from.plus(room).over(stride).plus(1),
        })
    }

    /// The spatial extents of a transposed convolution's output, for an input of spatial extents `shape`.
    pub(super) fn spread(&self, shape: &[Dim]) -> Vec<Dim> {
        let given = self.node.node.ints("output_shape").filter(|sizes| !sizes.is_empty());
        let place = |(axis, dim): (usize, &Dim)| match given {
            // Some files include the batch and channels.
            Some(given) => {
                let first = given.len().saturating_sub(shape.len());
                given.get(first.saturating_add(axis)).map(|size| extent(*size))
            }
            None => self.spread_one(axis, dim),
        };
        shape.iter().enumerate().map(|own| place(own).unwrap_or(Dim::Unknown)).collect()
    }

    fn spread_one(&self, axis: usize, from: &Dim) -> Option<Dim> {
        let (stride, (_, pads)) = (self.at("strides", axis, 1), self.pads(axis)?);
        if matches!(self.auto, "SAME_UPPER" | "SAME_LOWER") {
            return Some(from.times(stride));
        }
        let pads = if self.auto == "VALID" { 0 } else { pads };
        let added = self.span(axis)?.checked_add(self.at("output_padding", axis, 0))?;
        let one = Size::number(1);
        let steps = |size: &Size| size.minus(&one)?.times(&Size::number(stride));
        Some(from.computed(steps).plus(added.checked_sub(pads)?))
    }
}

/// Drops the last window of `ceil_mode` if it would start in the padding after the data. That is possible
/// only if `reach` (all padding and a stride, minus the window) exceeds the padding before the data.
fn without_idle(positions: Dim, from: &Dim, before: i64, stride: i64, reach: i64) -> Dim {
    let (Some(count), Some(from)) = (positions.known(), from.known()) else {
        return if reach <= before { positions } else { Dim::Unknown };
    };
    let start = (count as i64).saturating_sub(1).saturating_mul(stride);
    let idle = start >= (from as i64).saturating_add(before);
    extent((count as i64).saturating_sub(i64::from(idle)))
}
