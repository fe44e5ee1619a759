//! Products over tokens beside the channels, in nets with more tokens than channels.
//!
//! A product along another axis than that of the channels makes new channels, or leaves the channels alone. Its sizes
//! tell in most nets. A mixer says more: behind the product its values meet others with the same channels on the same
//! axis, in a residual sum or a gate. So the channels go on.

use super::trace::Tracer;
use crate::ir::{NodeId, ValueId};
use crate::ops::{self, Expand, Flow, Labels, NodeView};

/// Limit of nodes between the product and the sum.
const MOST_STEPS: usize = 64;

/// Operators that combine values with the same channels.
const MEETING: &[&str] = &["Add", "Sub", "Mul"];

impl Tracer<'_> {
    /// The flow of a product that would make new channels: that beside the channels, if they go on behind it.
    pub(super) fn mixing(&mut self, id: NodeId, flow: Flow) -> Flow {
        let Flow::Layer(layer) = &flow else { return flow };
        let labels = self.labels[layer.input.index()].as_ref();
        let is_beside = |labels: &&Labels| {
            let all_inputs = || labels.atoms.iter().all(|atom| self.atoms.is_input(*atom));
            labels.atoms.len() > 1 && labels.axis != layer.in_axis && !all_inputs()
        };
        let labels = labels.filter(is_beside).filter(|_| !self.is_alone()).cloned();
        let (Some(labels), Some(output)) = (labels, self.graph.node(id).output(0)) else {
            return flow;
        };
        let beside = ops::beside_channels(&NodeView::new(self.graph, id, &self.labels));
        match beside.filter(|_| self.meet(output, &labels)) {
            Some(beside) => beside,
            None => flow,
        }
    }

    /// Whether a value, whose channels would be those of `labels`, meets another one with as many channels on the same
    /// axis, before a node that moves elements otherwise.
    fn meet(&mut self, value: ValueId, labels: &Labels) -> bool {
        let mut stack = vec![(value, labels.axis)];
        for _ in 0..MOST_STEPS {
            let Some((value, axis)) = stack.pop() else { return false };
            for id in self.readers.get(value.index()).cloned().unwrap_or_default() {
                if self.meets_at(id, value, (axis, labels)) {
                    return true;
                }
                stack.extend(self.step(id, value, (axis, labels)));
            }
        }
        false
    }

    /// Whether a node combines a value with another one of these channels on this axis, perhaps with depths of each.
    fn meets_at(&self, id: NodeId, value: ValueId, (axis, labels): (usize, &Labels)) -> bool {
        let node = self.graph.node(id);
        let alike = |other: ValueId| {
            let own = self.labels[other.index()].as_ref();
            let count = self.extent(other, axis);
            let same = |own: &Labels| own.axis == axis && count == Some(labels.atoms.len());
            let is_alike = own.is_some_and(same) || self.mixes_depths(other, (axis, labels));
            other != value && self.rank(other) == self.rank(value) && is_alike
        };
        MEETING.iter().any(|op| node.is(op)) && node.inputs.iter().flatten().any(|v| alike(*v))
    }

    /// Whether a value is a product with depths of these heads, which may not have been visited yet.
    fn mixes_depths(&self, value: ValueId, (axis, heads): (usize, &Labels)) -> bool {
        let maker = self.graph.producer(value).map(|id| self.graph.node(id));
        maker.filter(|node| node.is("MatMul")).is_some_and(|node| {
            node.inputs.iter().flatten().any(|factor| {
                let own = self.labels[factor.index()].as_ref();
                let is_wide = own.is_some_and(|own| own.within.is_some() && own.axis == axis);
                is_wide && self.extent(*factor, axis) == Some(heads.atoms.len())
            })
        })
    }

    /// The output of a node, and the axis of the channels there, if they go on behind it.
    fn step(
        &mut self,
        id: NodeId,
        value: ValueId,
        (axis, labels): (usize, &Labels),
    ) -> Option<(ValueId, usize)> {
        let node = self.graph.node(id);
        let output = node.output(0)?;
        let is_weight = || {
            let weight = node.input(1).and_then(|weight| self.graph.initializer(weight));
            node.input(0) == Some(value) && weight.is_some_and(|w| w.dims.len() > 1)
        };
        let is_same = self.rank(output) == self.rank(value);
        match node.op.as_str() {
            _ if !node.domain.is_empty() => None,
            // The other operand may be a value of the same branch that has not been visited yet.
            op if MEETING.contains(&op) || op == "Div" => is_same.then_some((output, axis)),
            "MatMul" => {
                let is_beside = is_weight() && axis + 1 < self.rank(value)?;
                (is_same && is_beside).then_some((output, axis))
            }
            "Conv" => (is_weight() && axis > 1).then_some((output, axis)),
            op => {
                let rule = ops::rule(op)?;
                let moved = Labels::along(axis, labels.atoms.clone());
                let before = self.labels[value.index()].replace(moved);
                let flow = rule.flow(&NodeView::new(self.graph, id, &self.labels));
                self.labels[value.index()] = before;
                let made = behind(&flow).filter(|made| made.within.is_none())?;
                (made.atoms.len() == labels.atoms.len()).then_some((output, made.axis))
            }
        }
    }
}

/// The channels behind a node that leaves them apart.
fn behind(flow: &Flow) -> Option<&Labels> {
    match flow {
        Flow::Partwise(flow) if flow.expand == Expand::NONE => Some(&flow.output),
        Flow::Together(flow) => flow.outputs.first()?.as_ref(),
        _ => None,
    }
}
