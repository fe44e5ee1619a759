//! The parts of a `Loop` or `Scan`.

use crate::error::Result;
use crate::ir::{Attribute, DataType, Graph, Node, Size, ValueId, ValueKind};
use crate::ops::{Sizes, constant_sizes};

use super::super::types;
use super::count::{self, Limits, Scalar, Scalars};

/// A node that repeats its body.
pub(super) struct Repeated<'a> {
    /// The node.
    pub(super) node: &'a Node,
    /// Its body.
    pub(super) body: &'a Graph,
    /// The number of values that are carried from step to step.
    pub(super) states: usize,
    /// Operands of the node, and results of the body, before the carried values.
    pub(super) leading: [usize; 2],
}

impl<'a> Repeated<'a> {
    /// The parts of a node, if its steps read and write sequences from front to back.
    pub(super) fn of(node: &'a Node) -> Option<Repeated<'a>> {
        let Some(Attribute::Graph(body)) = node.attributes.get("body") else { return None };
        let (leading, scanned) = match node.op.as_str() {
            "Loop" => ([2, 1], 0),
            "Scan" if is_plain(node) => {
                ([0, 0], usize::try_from(node.int("num_scan_inputs", 0)).ok()?)
            }
            _ => return None,
        };
        let states = node.inputs.len().checked_sub(leading[0])?.checked_sub(scanned)?;
        let fits = body.inputs.len() == node.inputs.len()
            && body.outputs.len() >= leading[1] + states.max(node.outputs.len());
        fits.then_some(Repeated { node, body, states, leading })
    }

    /// The first value of a state.
    pub(super) fn initial(&self, place: usize) -> Option<ValueId> {
        self.node.input(self.leading[0] + place)
    }

    /// The value of a state in the body.
    pub(super) fn state(&self, place: usize) -> Option<ValueId> {
        self.body.inputs.get(self.leading[0] + place).copied()
    }

    /// The value that the body gives an output of the node: the next one of a state, or a part of a sequence.
    pub(super) fn result(&self, output: usize) -> Option<ValueId> {
        self.body.outputs.get(self.leading[1] + output).copied()
    }

    /// The sequences that the body reads by steps, with the axis of the steps and the value in the body.
    pub(super) fn scanned(&self) -> Vec<Option<(ValueId, usize, ValueId)>> {
        let axes = self.node.ints("scan_input_axes").unwrap_or_default();
        let first = self.leading[0] + self.states;
        let parts = self.node.inputs.iter().zip(&self.body.inputs).skip(first).enumerate();
        let part = |(number, (outer, inner)): (usize, (&Option<ValueId>, &ValueId))| {
            let axis = axes.get(number).copied().unwrap_or(0);
            Some(((*outer)?, usize::try_from(axis).ok()?, *inner))
        };
        parts.map(part).collect()
    }

    /// The counts and conditions of a step; `None` where an integer is carried that counts no steps.
    pub(super) fn scalars(&self, outside: &Outside<'_>) -> Option<Scalars> {
        let mut seeds = Scalars::new();
        if let ([count, goes_on, ..], "Loop") = (self.body.inputs.as_slice(), self.node.op.as_str())
        {
            seeds.insert(*count, Scalar::Counted(0));
            seeds.insert(*goes_on, Scalar::Holds(Vec::new()));
        }
        let mut counters = Vec::new();
        for place in 0..self.states {
            if let Some(start) = self.counts_from(outside.graph, place) {
                seeds.insert(self.state(place)?, Scalar::Counted(start));
                counters.push((self.result(place)?, start.checked_add(1)?));
            }
        }
        let order = self.body.topological_order().ok()?;
        let nodes = order.into_iter().map(|id| self.body.node(id));
        let known = count::follow(nodes, seeds, |value| self.fixed(outside, value));
        let counts =
            |(next, wanted): &(ValueId, i64)| known.get(next) == Some(&Scalar::Counted(*wanted));
        counters.iter().all(counts).then_some(known)
    }

    /// The constant integer that a state begins with.
    pub(super) fn counts_from(&self, graph: &Graph, place: usize) -> Option<i64> {
        let initial = self.initial(place)?;
        let tensor = graph.initializer(initial)?;
        let is_integer = matches!(tensor.dtype, DataType::I32 | DataType::I64);
        constant_sizes(graph, initial).filter(|_| is_integer)?.single()?.value()
    }

    fn fixed(&self, outside: &Outside<'_>, value: ValueId) -> Option<Size> {
        match self.body.value(value).kind {
            ValueKind::Captured(outer) => outside.fixed(outer),
            _ => constant_sizes(self.body, value)?.single().cloned(),
        }
    }

    /// Whether the body runs once per entry of a sequence of this length.
    pub(super) fn runs(&self, outside: &Outside<'_>, scalars: &Scalars, length: &Size) -> bool {
        if self.node.is("Scan") {
            return length.value() != Some(0);
        }
        self.limits(outside, scalars).is_some_and(|limits| limits.fit(length))
    }

    /// The number of steps, if it is the same for all inputs of the model.
    pub(super) fn steps(&self, outside: &Outside<'_>) -> Option<i64> {
        if self.node.is("Loop") {
            let scalars = self.scalars(outside)?;
            return self.limits(outside, &scalars)?.steps();
        }
        let (sequence, axis, _) = self.scanned().into_iter().next()??;
        let steps = types::shape(outside.graph, sequence)?.get(axis)?.known()?;
        i64::try_from(steps).ok().filter(|steps| *steps > 0)
    }

    fn limits(&self, outside: &Outside<'_>, scalars: &Scalars) -> Option<Limits> {
        let most = match self.node.input(0) {
            Some(most) => Some(outside.fixed(most)?),
            None => None,
        };
        let before = match self.node.input(1) {
            Some(condition) => outside.scalar(condition)?.bounds()?,
            None => Vec::new(),
        };
        let condition = *self.body.outputs.first()?;
        let fixed = || self.fixed(outside, condition).map(Scalar::Fixed);
        let after = scalars.get(&condition).cloned().or_else(fixed)?.bounds()?;
        Some(Limits { most, before, after })
    }
}

/// Whether a `Scan` reads sequences forwards and stacks its results along the first axis.
fn is_plain(node: &Node) -> bool {
    let zeros = ["scan_input_directions", "scan_output_axes", "scan_output_directions"];
    zeros.iter().all(|name| node.ints(name).is_none_or(|all| all.iter().all(|v| *v == 0)))
}

/// What is known of the graph around the loops.
pub(super) struct Outside<'a> {
    /// The graph.
    pub(super) graph: &'a Graph,
    /// Its sizes.
    pub(super) sizes: &'a [Option<Sizes>],
    /// Its counts and conditions.
    pub(super) scalars: &'a Scalars,
}

impl Outside<'_> {
    fn fixed(&self, value: ValueId) -> Option<Size> {
        fixed(self.graph, self.sizes, value)
    }

    fn scalar(&self, value: ValueId) -> Option<Scalar> {
        let fixed = || self.fixed(value).map(Scalar::Fixed);
        self.scalars.get(&value).cloned().or_else(fixed)
    }
}

/// The counts and conditions of a graph.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn scalars(graph: &Graph, sizes: &[Option<Sizes>]) -> Result<Scalars> {
    let order = graph.topological_order()?;
    let nodes = order.into_iter().map(|id| graph.node(id));
    Ok(count::follow(nodes, Scalars::new(), |value| fixed(graph, sizes, value)))
}

/// A single size in a graph.
fn fixed(graph: &Graph, sizes: &[Option<Sizes>], value: ValueId) -> Option<Size> {
    let computed = sizes.get(value.index()).cloned().flatten();
    computed.or_else(|| constant_sizes(graph, value))?.single().cloned()
}
