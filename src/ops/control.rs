//! Operators that run sub-graphs.
//!
//! What happens inside is not followed. A value that comes out like one that went in has the channels of
//! that one: it is put together and taken apart in the same way.

use crate::ir::{Dim, ValueId};

use super::{Flow, Labels, NodeView, OpRule, Whole};

/// `If`, `Loop` and `Scan`.
pub struct Control;

impl OpRule for Control {
    fn ops(&self) -> &'static [&'static str] {
        &["If", "Loop", "Scan"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let outputs = node.node.outputs.iter().enumerate().map(|(number, output)| {
            let sources = match node.node.op.as_str() {
                "If" => node.node.reads().skip(1).collect(),
                _ => Vec::from_iter(initial(node, number)),
            };
            sources.into_iter().find_map(|source| alike(node, source, (*output)?))
        });
        Flow::Whole(Whole { reason: "a sub-graph", outputs: outputs.collect() })
    }
}

/// What a state of a loop begins with, by the number of the output that it ends in.
fn initial(node: &NodeView<'_>, number: usize) -> Option<ValueId> {
    match node.node.op.as_str() {
        "Loop" => node.node.input(number + 2),
        _ => {
            let scanned = usize::try_from(node.node.int("num_scan_inputs", 0)).ok()?;
            let states = node.node.inputs.len().checked_sub(scanned)?;
            node.node.input(number).filter(|_| number < states)
        }
    }
}

/// The labels of `source`, if `output` has the same shape as far as both are known.
fn alike(node: &NodeView<'_>, source: ValueId, output: ValueId) -> Option<Labels> {
    let labels = node.labels.get(source.index())?.clone()?;
    let (from, to) = (node.type_of(source)?.shape?, node.type_of(output)?.shape?);
    let same = |(a, b): (&Dim, &Dim)| match (a.known(), b.known()) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    let extent = to.get(labels.axis)?.known()?;
    let fits = from.len() == to.len() && extent == labels.atoms.len();
    (fits && from.iter().zip(&to).all(same)).then_some(labels)
}
