//! Products over tokens beside the channels, in nets with more tokens than channels.
//!
//! A product along another axis than that of the channels makes new channels, or leaves the channels alone. Its sizes
//! tell in most nets. A mixer says more: behind the product its values meet others with the same channels on the same
//! axis, in a residual sum or a gate. So the channels go on.

use super::trace::Tracer;
use crate::ir::{NodeId, ValueId};
use crate::ops::{self, Flow, Labels, NodeView};

/// Limit of nodes between the product and the sum.
const MOST_STEPS: usize = 64;

/// Operators that combine values with the same channels.
const MEETING: &[&str] = &["Add", "Sub", "Mul"];

/// Functions of one value that leave axes alone.
const EACH: &[&str] = &[
    "Relu",
    "Gelu",
    "Elu",
    "Selu",
    "Celu",
    "LeakyRelu",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Swish",
    "Tanh",
    "Softplus",
    "Softsign",
    "Mish",
    "Erf",
    "Identity",
    "Cast",
    "Clip",
    "LayerNormalization",
];

impl Tracer<'_> {
    /// The flow of a product that would make new channels: that beside the channels, if they go on behind it.
    pub(super) fn mixing(&self, id: NodeId, flow: Flow) -> Flow {
        let Flow::Layer(layer) = &flow else { return flow };
        let labels = self.labels[layer.input.index()].as_ref();
        let is_beside = |labels: &&Labels| {
            let all_inputs = || labels.atoms.iter().all(|atom| self.atoms.is_input(*atom));
            labels.atoms.len() > 1 && labels.axis != layer.in_axis && !all_inputs()
        };
        let Some(labels) = labels.filter(is_beside).filter(|_| !self.is_alone()) else {
            return flow;
        };
        let Some(output) = self.graph.node(id).output(0) else { return flow };
        let view = NodeView::new(self.graph, id, &self.labels);
        match ops::beside_channels(&view).filter(|_| self.meet(output, labels)) {
            Some(beside) => beside,
            None => flow,
        }
    }

    /// Whether a value, whose channels would be those of `labels`, meets another one with as many channels on the same
    /// axis, before a node that moves elements otherwise.
    fn meet(&self, value: ValueId, labels: &Labels) -> bool {
        let mut stack = vec![(value, labels.axis)];
        for _ in 0..MOST_STEPS {
            let Some((value, axis)) = stack.pop() else { return false };
            for id in self.readers.get(value.index()).into_iter().flatten() {
                if self.meets_at(*id, value, (axis, labels)) {
                    return true;
                }
                stack.extend(self.step(*id, value, axis));
            }
        }
        false
    }

    /// Whether a node combines a value with another one of these channels on this axis.
    fn meets_at(&self, id: NodeId, value: ValueId, (axis, labels): (usize, &Labels)) -> bool {
        let node = self.graph.node(id);
        let alike = |other: ValueId| {
            let own = self.labels[other.index()].as_ref();
            let same = |own: &Labels| {
                own.within.is_none() && own.axis == axis && own.atoms.len() == labels.atoms.len()
            };
            other != value && self.rank(other) == self.rank(value) && own.is_some_and(same)
        };
        MEETING.iter().any(|op| node.is(op)) && node.inputs.iter().flatten().any(|v| alike(*v))
    }

    /// The output of a node, and the axis of the channels there, if the node leaves them alone.
    fn step(&self, id: NodeId, value: ValueId, axis: usize) -> Option<(ValueId, usize)> {
        let node = self.graph.node(id);
        let output = node.output(0)?;
        if node.is("Transpose") {
            let perm = node.ints("perm")?;
            return Some((output, perm.iter().position(|from| *from == axis as i64)?));
        }
        let constant = |slot: usize| node.input(slot).and_then(|v| self.graph.initializer(v));
        let is_first = node.input(0) == Some(value);
        let goes_on = match node.op.as_str() {
            _ if !node.domain.is_empty() => false,
            op if EACH.contains(&op) => is_first,
            op if MEETING.contains(&op) || op == "Div" || op == "PRelu" => true,
            "MatMul" => {
                let rank = self.rank(value)?;
                is_first && axis + 1 < rank && constant(1).is_some_and(|w| w.dims.len() == 2)
            }
            "Conv" => is_first && axis > 1 && constant(1).is_some(),
            _ => false,
        };
        (goes_on && self.rank(output) == self.rank(value)).then_some((output, axis))
    }
}
