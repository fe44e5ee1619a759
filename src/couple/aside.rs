//! Drops channels of model inputs that do not fit those of layers.
//!
//! A mask over a fixed number of tokens looks like an input with as many channels. If it is combined with
//! other channels that it does not align with, it counts as a value without channels.

use super::trace::Tracer;
use crate::ir::{NodeId, ValueId};
use crate::ops::{Flow, Labels, NodeView, OpRule, Operand};

impl Tracer<'_> {
    /// The flow of a node. If the node would need channels whole, tries again without the channels of model
    /// inputs.
    pub(super) fn plain_flow(&mut self, id: NodeId, rule: &dyn OpRule) -> Flow {
        let flow = rule.flow(&NodeView::new(self.graph, id, &self.labels));
        let runs = ["Conv", "ConvTranspose"].iter().any(|op| self.graph.node(id).is(op));
        if let (true, Flow::Partwise(_)) = (runs, &flow) {
            return self.layer_beside_inputs(id, rule).unwrap_or(flow);
        }
        if !matches!(flow, Flow::Whole(_)) && !self.reads_whole(id, &flow) {
            return flow;
        }
        let aside = self.set_aside(id);
        if aside.is_empty() {
            return flow;
        }
        let other = rule.flow(&NodeView::new(self.graph, id, &self.labels));
        self.put_back(aside);
        match other {
            Flow::Partwise(_) | Flow::Together(_) => other,
            _ => flow,
        }
    }

    /// The layer that a node is without the channels of model inputs, if it reads no others. A convolution
    /// beside these makes the first channels that can be shared.
    fn layer_beside_inputs(&mut self, id: NodeId, rule: &dyn OpRule) -> Option<Flow> {
        let labels = |value: &ValueId| Some((*value, self.labels[value.index()].clone()?));
        let read: Vec<(ValueId, Labels)> =
            self.graph.node(id).inputs.iter().flatten().filter_map(labels).collect();
        let mut atoms = read.iter().flat_map(|(_, labels)| &labels.atoms);
        if !atoms.all(|atom| self.atoms.is_input(*atom)) {
            return None;
        }
        read.iter().for_each(|(value, _)| self.labels[value.index()] = None);
        let flow = rule.flow(&NodeView::new(self.graph, id, &self.labels));
        self.put_back(read);
        matches!(flow, Flow::Layer(_)).then_some(flow)
    }

    /// Whether an operand of several channels counts as the same for all channels of another one.
    fn reads_whole(&self, id: NodeId, flow: &Flow) -> bool {
        let Flow::Partwise(partwise) = flow else { return false };
        let several = |value: &ValueId| {
            self.labels[value.index()].as_ref().is_some_and(|labels| labels.atoms.len() > 1)
        };
        let operands = self.graph.node(id).inputs.iter().zip(&partwise.operands);
        let mut plain = operands.filter(|(_, role)| **role == Operand::Plain);
        plain.any(|(value, _)| value.as_ref().is_some_and(several))
    }

    /// Drops the channels of operands with channels of model inputs only, if other operands have other
    /// channels. Returns the dropped labels.
    pub(super) fn set_aside(&mut self, id: NodeId) -> Vec<(ValueId, Labels)> {
        let labels = |value: &ValueId| Some((*value, self.labels[value.index()].clone()?));
        let read: Vec<(ValueId, Labels)> =
            self.graph.node(id).inputs.iter().flatten().filter_map(labels).collect();
        let is_inputs = |labels: &Labels| labels.atoms.iter().all(|a| self.atoms.is_input(*a));
        let (aside, others): (Vec<_>, Vec<_>) =
            read.into_iter().partition(|(_, labels)| is_inputs(labels));
        if others.is_empty() {
            return Vec::new();
        }
        aside.iter().for_each(|(value, _)| self.labels[value.index()] = None);
        aside
    }

    pub(super) fn put_back(&mut self, aside: Vec<(ValueId, Labels)>) {
        for (value, labels) in aside {
            self.labels[value.index()] = Some(labels);
        }
    }
}
