//! Flow of channels on two axes through products over another axis, as over tokens.

use crate::ir::Dim;

use super::{Expand, Flow, Labels, NodeView, Operand, Partwise, aligned_axis};

/// The flow of a product that sums over another axis than those of heads and depths, as over tokens, with a matrix for all heads or
/// a constant one for each.
pub(super) fn product(node: &NodeView<'_>) -> Option<Flow> {
    let wide = |slot: &usize| node.labels(*slot).is_some_and(|labels| labels.within.is_some());
    let operand = (0..2).find(wide)?;
    let (labels, matrix) = (node.labels(operand)?, 1 - operand);
    let (from, to) = (node.shape(operand)?, node.shape(matrix)?);
    // Rows of the left operand stay, and columns of the right one.
    let kept = from.len().checked_sub(2 - operand)?;
    let is_beside = labels.within == Some(kept) && labels.axis + 2 < from.len() && to.len() > 1;
    if !is_beside || node.labels(matrix).is_some() {
        return None;
    }
    let own = aligned_axis(labels.axis, from.len(), to.len());
    let mut operands = vec![Operand::Channels; 2];
    operands[matrix] = match own.filter(|axis| to.get(*axis) != Some(&Dim::Known(1))) {
        None => Operand::Plain,
        Some(axis) => {
            let count = from.get(labels.axis)?.known();
            node.constant(matrix).filter(|tensor| tensor.dims.get(axis).copied() == count)?;
            Operand::Param { axis }
        }
    };
    let added = from.len().max(to.len()) - from.len();
    let output = Labels { axis: labels.axis + added, within: Some(kept + added), ..labels.clone() };
    Some(Flow::Partwise(Partwise { output, operands, coupled: Vec::new(), expand: Expand::NONE }))
}
