//! Operators over space: pooling, reductions, padding.

use super::elementwise::same_axis;
use super::types::{REDUCTIONS, reduced_axes};
use super::window::leaves_alone;
use super::{Atom, Flow, Labels, NodeView, OpRule, Operand, Together};

/// Pooling windows.
pub struct Window;
/// Global pooling.
pub struct Global;
/// Reductions over given axes.
pub struct Reduce;
/// Padding of spatial axes.
pub struct Pad;

impl OpRule for Window {
    fn ops(&self) -> &'static [&'static str] {
        &["MaxPool", "AveragePool", "LpPool"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        if node.node.output(1).is_some() {
            return Flow::whole("pooling that returns indices");
        }
        let kernel = node.node.ints("kernel_shape").unwrap_or_default().iter();
        let kernel: Vec<usize> = kernel.map(|n| usize::try_from(*n).unwrap_or(0)).collect();
        match node.labels(0) {
            Some(labels) if labels.axis == 1 || leaves_alone(node, labels, &kernel) => {
                same_axis(node, vec![Operand::Channels])
            }
            _ => Flow::whole("a spatial operator across the channel axis"),
        }
    }
}

impl OpRule for Global {
    fn ops(&self) -> &'static [&'static str] {
        &["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        match node.labels(0) {
            Some(labels) if labels.axis < 2 => same_axis(node, vec![Operand::Channels]),
            Some(_) => sums(node),
            None => Flow::whole("a spatial operator across the channel axis"),
        }
    }
}

/// The flow of a sum, maximum or the like over all channels.
fn sums(node: &NodeView<'_>) -> Flow {
    let mut operands = vec![Operand::Plain; node.node.inputs.len()];
    operands[0] = Operand::Channels;
    Flow::Together(Together { operands, coupled: None, outputs: Vec::new() })
}

impl OpRule for Reduce {
    fn ops(&self) -> &'static [&'static str] {
        REDUCTIONS
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let (Some(labels), Some(shape)) = (node.labels(0), node.shape(0)) else {
            return Flow::whole("a reduction of unknown rank");
        };
        let Some(axes) = reduced_axes(node, shape.len()) else {
            return Flow::whole("a reduction over computed axes");
        };
        if axes.contains(&labels.axis) {
            return sums(node);
        }
        let Flow::Partwise(mut partwise) = same_axis(node, vec![Operand::Channels, Operand::Plain])
        else {
            return Flow::whole("a reduction of fixed channels");
        };
        if node.node.int("keepdims", 1) == 0 {
            partwise.output.axis -= axes.iter().filter(|a| **a < labels.axis).count();
        }
        Flow::Partwise(partwise)
    }
}

impl OpRule for Pad {
    fn ops(&self) -> &'static [&'static str] {
        &["Pad"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let pads = node.shape(0).and_then(|s| pad_widths(node, s.len()));
        match (node.labels(0), pads) {
            (Some(labels), Some(pads)) if pads.get(labels.axis) == Some(&(0, 0)) => {
                let mut operands = vec![Operand::Plain; node.node.inputs.len()];
                operands[0] = Operand::Channels;
                same_axis(node, operands)
            }
            (Some(labels), Some(pads)) => widened(labels, &pads),
            _ => Flow::whole("padding by computed widths"),
        }
    }
}

/// Limit of channels that padding adds. Each takes memory, however short the file is.
const MOST_PADDED: usize = 1 << 16;

/// The flow of padding along the axis of channels, which adds new channels at both ends.
fn widened(labels: &Labels, pads: &[(i64, i64)]) -> Flow {
    let reason = "padding of the channel axis";
    let widths = pads.get(labels.axis).map(|(a, b)| (usize::try_from(*a), usize::try_from(*b)));
    let Some((Ok(before), Ok(behind))) = widths else { return Flow::whole(reason) };
    if before.checked_add(behind).is_none_or(|n| n > MOST_PADDED) {
        return Flow::whole(reason);
    }
    let new = |n| vec![Atom::NEW; n];
    let atoms = [new(before), labels.atoms.clone(), new(behind)].concat();
    Flow::whole_with(reason, Labels::along(labels.axis, atoms))
}

/// Widths of a `Pad` before and after each of `rank` axes; `None` if they are computed.
pub fn pad_widths(node: &NodeView<'_>, rank: usize) -> Option<Vec<(i64, i64)>> {
    let pads = match node.node.ints("pads") {
        Some(pads) => pads.to_vec(),
        None => node.ints(1)?,
    };
    let axes: Vec<usize> = match node.node.input(3) {
        Some(_) => node
            .ints(3)?
            .iter()
            .map(|a| super::view::normal_axis(*a, rank))
            .collect::<Option<_>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return None;
    }
    let mut widths = vec![(0, 0); rank];
    for (i, axis) in axes.iter().enumerate() {
        widths[*axis] = (pads[i], pads[axes.len() + i]);
    }
    Some(widths)
}
