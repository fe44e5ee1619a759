//! Operands of an `Einsum`, and the nodes that rearrange them.

use crate::canon::rewire::ints;
use crate::ir::{Attribute, Graph, ValueId};

/// A value with a letter for each of its axes.
pub(super) struct Factor {
    pub(super) value: ValueId,
    pub(super) letters: Vec<char>,
}

impl Factor {
    /// The sum over all letters that are not kept.
    pub(super) fn summed(
        self,
        graph: &mut Graph,
        name: &str,
        is_kept: impl Fn(&char) -> bool,
    ) -> Factor {
        let places = (0..).zip(&self.letters);
        let axes: Vec<i64> = places.filter(|(_, c)| !is_kept(c)).map(|(axis, _)| axis).collect();
        if axes.is_empty() {
            return self;
        }
        let letters = self.letters.iter().copied().filter(|c| is_kept(c)).collect();
        let axes = ints(graph, &format!("{name}.axes"), &axes);
        let keeps = [("keepdims", Attribute::Int(0))];
        let inputs = [self.value, axes];
        Factor { value: graph.add_op("ReduceSum", &format!("{name}.sum"), &inputs, keeps), letters }
    }

    /// Its axes in an order that holds all its letters.
    pub(super) fn ordered(self, graph: &mut Graph, name: &str, order: &[char]) -> Factor {
        let letters: Vec<char> =
            order.iter().copied().filter(|c| self.letters.contains(c)).collect();
        if letters == self.letters {
            return self;
        }
        let place = |c: &char| self.letters.iter().position(|own| own == c);
        let perm = letters.iter().filter_map(place).map(|axis| axis as i64).collect();
        let perm = [("perm", Attribute::Ints(perm))];
        let value = graph.add_op("Transpose", &format!("{name}.ordered"), &[self.value], perm);
        Factor { value, letters }
    }

    /// [`Factor::ordered`], with an axis of one element for each letter that it lacks, except the first ones,
    /// which products repeat.
    pub(super) fn spread(self, graph: &mut Graph, name: &str, order: &[char]) -> Factor {
        let own = self.ordered(graph, name, order);
        let letters: Vec<char> =
            order.iter().copied().skip_while(|c| !own.letters.contains(c)).collect();
        let places = (0..).zip(&letters).filter(|(_, c)| !own.letters.contains(c));
        let missing: Vec<i64> = places.map(|(axis, _)| axis).collect();
        if missing.is_empty() {
            return own;
        }
        let axes = ints(graph, &format!("{name}.missing"), &missing);
        let value = graph.add_op("Unsqueeze", &format!("{name}.spread"), &[own.value, axes], []);
        Factor { value, letters }
    }

    /// The axes of `run` as one, which has the first of these letters, behind all others.
    pub(super) fn merged(self, graph: &mut Graph, name: &str, run: &[char]) -> Factor {
        let [first, _, ..] = run else { return self };
        let mut letters: Vec<char> =
            self.letters.iter().copied().filter(|c| !run.contains(c)).collect();
        let own = self.ordered(graph, name, &[&letters[..], run].concat());
        let target: Vec<i64> = letters.iter().map(|_| 0).chain([-1]).collect();
        let target = ints(graph, &format!("{name}.target"), &target);
        let value = graph.add_op("Reshape", &format!("{name}.merged"), &[own.value, target], []);
        letters.push(*first);
        Factor { value, letters }
    }
}
