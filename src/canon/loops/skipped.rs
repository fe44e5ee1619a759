//! Puts the steps that count in front.
//!
//! A step that a mask leaves out changes no state. So a sample has the states that it would have if such steps were not
//! in its sequence, whatever the mask is. Its steps that count come first, in their order, and the layer runs over as
//! many. The hidden units after any step are then those after the last step that counted.

use crate::ir::{Attribute, DataType, Graph, Tensor, ValueId};

use super::super::rewire;

/// Places of steps, as numbers of steps and samples, [steps, samples, 2].
pub(super) struct Order {
    /// The steps that count, in front of the others.
    pub(super) places: ValueId,
    /// The last step that counted, among those in front.
    pub(super) held: ValueId,
    /// How many steps of each sample count, [samples].
    pub(super) lengths: ValueId,
    /// Whether a step counts, [steps, samples, 1].
    pub(super) mask: ValueId,
    /// Whether this step or one before it counts, [steps, samples, 1].
    pub(super) begun: ValueId,
    /// Whether any step counts, [samples, 1].
    pub(super) any: ValueId,
}

/// Writes nodes of one name.
struct Writer<'a> {
    graph: &'a mut Graph,
    name: String,
}

impl Writer<'_> {
    fn op(&mut self, op: &str, inputs: &[ValueId]) -> ValueId {
        self.graph.add_op(op, &self.name, inputs, [])
    }

    fn with(&mut self, op: &str, inputs: &[ValueId], attribute: (&'static str, i64)) -> ValueId {
        let (name, number) = attribute;
        self.graph.add_op(op, &self.name, inputs, [(name, Attribute::Int(number))])
    }

    fn cast(&mut self, value: ValueId, to: DataType) -> ValueId {
        self.with("Cast", &[value], ("to", i64::from(to.code())))
    }

    fn number(&mut self, number: i64) -> ValueId {
        self.graph.add_initializer(&self.name, Tensor::from_i64(Vec::new(), &[number]))
    }

    fn axis(&mut self, axis: i64) -> ValueId {
        rewire::ints(self.graph, &self.name, &[axis])
    }

    /// Places from numbers of steps and of samples.
    fn places(&mut self, steps: ValueId, samples: ValueId) -> ValueId {
        let last = self.axis(2);
        let both = [steps, samples].map(|numbers| self.op("Unsqueeze", &[numbers, last]));
        self.with("Concat", &both, ("axis", 2))
    }
}

impl Order {
    /// Computes the order of a mask's steps, which are on axis 0 or 1.
    pub(super) fn write(graph: &mut Graph, name: &str, (mask, axis): (ValueId, usize)) -> Order {
        let mut w = Writer { graph, name: format!("{name}.order") };
        let mask = match axis {
            0 => mask,
            _ => {
                let perm = [("perm", Attribute::Ints(vec![1, 0, 2]))];
                w.graph.add_op("Transpose", &w.name, &[mask], perm)
            }
        };
        let ([first, second, last], [zero, one]) =
            ([0, 1, 2].map(|axis| w.axis(axis)), [0, 1].map(|number| w.number(number)));
        let flags = w.op("Squeeze", &[mask, last]);
        let counts = w.cast(flags, DataType::I64);
        let counted = w.op("CumSum", &[counts, zero]);
        let all = w.op("ReduceSum", &[counts, first]);
        // The numbers of steps and samples, from 1.
        let zeros = w.op("Sub", &[counts, counts]);
        let ones = w.op("Add", &[zeros, one]);
        let [steps, samples] = [zero, one].map(|axis| w.op("CumSum", &[ones, axis]));
        let sample = w.op("Sub", &[samples, one]);
        // Steps that do not count come behind the others.
        let left_out = w.op("Sub", &[steps, counted]);
        let behind = w.op("Add", &[all, left_out]);
        let place = w.op("Where", &[flags, counted, behind]);
        let [place, step, latest] =
            [place, steps, counted].map(|number| w.op("Sub", &[number, one]));
        let order = w.with("ScatterElements", &[zeros, place, step], ("axis", 0));
        let latest = w.op("Max", &[latest, zeros]);
        let places = w.places(order, sample);
        let held = w.places(latest, sample);
        let begun = w.op("Greater", &[counted, zero]);
        let begun = w.op("Unsqueeze", &[begun, last]);
        let total = w.op("Squeeze", &[all, first]);
        let lengths = w.cast(total, DataType::I32);
        let any = w.op("Greater", &[total, zero]);
        let any = w.op("Unsqueeze", &[any, second]);
        Order { places, held, lengths, mask, begun, any }
    }
}
