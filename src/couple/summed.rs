//! Channels that begin again behind a sum over channels.
//!
//! Exporters multiply the deviation over all channels by one number per channel before they multiply the
//! channels. The product has channels, in the order of its constant.

use super::atoms::Mark;
use super::trace::{MOST_CHANNELS, Tracer};
use crate::ir::{NodeId, ValueId};
use crate::ops::{Expand, Flow, Labels, Operand, Partwise, aligned_axis};

/// Operators that combine a sum and a constant element by element.
pub(super) const PAIRWISE: &[&str] = &["Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"];

impl Tracer<'_> {
    /// Notes the axis on which the result of a node has one number for all channels: of a sum over them, and of
    /// what is computed from it without channels.
    pub(super) fn note_sum(&mut self, id: NodeId, flow: &Flow) {
        let node = self.graph.node(id);
        let Some(output) = node.output(0) else { return };
        let keeps_rank = |value: &ValueId| self.rank(*value) == self.rank(output);
        let axis = match flow {
            Flow::Together(together) if together.outputs.iter().all(Option::is_none) => {
                let labels =
                    node.input(0).filter(&keeps_rank).and_then(|v| self.labels[v.index()].as_ref());
                labels.filter(|labels| labels.within.is_none()).map(|labels| labels.axis)
            }
            Flow::Untracked => {
                node.reads().filter(&keeps_rank).find_map(|value| self.summed.get(&value).copied())
            }
            _ => None,
        };
        if let Some(axis) = axis.filter(|axis| self.extent(output, *axis) == Some(1)) {
            self.summed.insert(output, axis);
        }
    }

    /// The flow of a node that combines such a number with a constant of one number per channel.
    pub(super) fn begun_again(&mut self, id: NodeId) -> Option<Flow> {
        let node = self.graph.node(id);
        let is_pair = node.inputs.len() == 2 && PAIRWISE.iter().any(|op| node.is(op));
        let output = node.output(0).filter(|_| is_pair)?;
        let is_sum =
            |slot: &usize| node.input(1 - slot).is_some_and(|v| self.summed.contains_key(&v));
        let slot = [1, 0].into_iter().find(is_sum)?;
        let sum = node.input(1 - slot).filter(|sum| self.learned.contains(sum))?;
        self.graph.initializer(node.input(slot)?).filter(|constant| constant.dtype.is_float())?;
        let axis = aligned_axis(*self.summed.get(&sum)?, self.rank(sum)?, self.rank(output)?)?;
        self.begun_along(id, slot, axis)
    }

    /// The flow of a node at which channels begin along `axis` of its output, in the order of the constant at
    /// input `slot`.
    pub(super) fn begun_along(&mut self, id: NodeId, slot: usize, axis: usize) -> Option<Flow> {
        let node = self.graph.node(id);
        let (output, constant) = (node.output(0)?, self.graph.initializer(node.input(slot)?)?);
        let own = aligned_axis(axis, self.rank(output)?, constant.dims.len())?;
        let count = *constant.dims.get(own).filter(|count| **count > 1)?;
        if self.extent(output, axis) != Some(count) || count > MOST_CHANNELS.min(self.room) {
            return None;
        }
        self.makers.insert(id.index() as u32, id);
        let atoms = self.atoms.fresh(count, Mark::Made(id.index() as u32));
        let mut operands = vec![Operand::Plain; 2];
        operands[slot] = Operand::Param { axis: own };
        let output = Labels::along(axis, atoms);
        let (coupled, expand) = (Vec::new(), Expand::NONE);
        Some(Flow::Partwise(Partwise { output, operands, coupled, expand }))
    }

    /// Number of a value's axes.
    pub(super) fn rank(&self, value: ValueId) -> Option<usize> {
        Some(self.graph.value(value).ty.as_ref()?.shape.as_ref()?.len())
    }
}
