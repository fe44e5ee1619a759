//! Operators that run sub-graphs.
//!
//! What happens inside is not followed. A value that comes out like one that went in has the channels of
//! that one: it is put together and taken apart in the same way.

use crate::ir::{Dim, Graph, TensorType, ValueId};

use super::{Flow, Labels, NodeView, OpRule, Whole};

/// `If`, `Loop` and `Scan`.
pub struct Control;

impl OpRule for Control {
    fn ops(&self) -> &'static [&'static str] {
        &["If", "Loop", "Scan"]
    }

    /// What a branch declares, where the other one does not say otherwise; a state of a loop keeps its
    /// type.
    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        if node.node.op != "If" {
            let states = node.node.outputs.len();
            return (0..states).map(|number| state(node, number)).collect();
        }
        let branches: Vec<&Graph> = node.node.subgraphs().collect();
        let declared = |branch: &Graph, number: usize| {
            branch.outputs.get(number).and_then(|output| branch.type_of(*output))
        };
        let common = |number: usize| {
            let types = branches.iter().map(|branch| declared(branch, number));
            types.reduce(|a, b| if a == b { a } else { None }).flatten()
        };
        (0..node.node.outputs.len()).map(common).collect()
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

/// The type of a state at the end of a loop, where the loop's body does not change it.
fn state(node: &NodeView<'_>, number: usize) -> Option<TensorType> {
    let first = node.type_of(initial(node, number)?)?;
    let body = node.node.subgraphs().next()?;
    // The first output of a loop's body says whether to go on.
    let number = number + usize::from(node.node.op == "Loop");
    let declared = body.type_of(*body.outputs.get(number)?)?.shape?;
    let shape = first.shape.as_ref()?;
    let same = |(a, b): (&Dim, &Dim)| match (a, b) {
        (Dim::Known(a), Dim::Known(b)) => a == b,
        (Dim::Symbol(_), Dim::Symbol(_)) => true,
        _ => false,
    };
    (shape.len() == declared.len() && shape.iter().zip(&declared).all(same)).then_some(first)
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
