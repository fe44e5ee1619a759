//! Channels of model inputs that give way to those of layers.
//!
//! A mask of a fixed number of tokens looks like an input with as many channels. Where it meets channels
//! that it does not line up with, it counts as a value without channels.

use super::trace::Tracer;
use crate::ir::{NodeId, ValueId};
use crate::ops::{Flow, Labels, NodeView, OpRule};

impl Tracer<'_> {
    /// The flow of a node; if it needs its channels whole as it is, the one without those of inputs.
    pub(super) fn plain_flow(&mut self, id: NodeId, rule: &dyn OpRule) -> Flow {
        let flow = rule.flow(&NodeView::new(self.graph, id, &self.labels));
        if !matches!(flow, Flow::Whole(_)) {
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

    /// Takes away the channels of operands that are model inputs' alone, if other operands have others.
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
