//! Operators that run sub-graphs.
//!
//! What happens inside is not followed. A value that comes out has the channels of those of the same shape
//! that went in, which are taken to be combined one by one: all are paired in the same way. Behind a layer inside of a
//! sub-graph, channels begin anew.

use crate::ir::{Dim, Graph, Node, ValueId};

use super::{Atom, Flow, Labels, NodeView, OpRule, Whole};

/// `If`, `Loop` and `Scan`.
pub struct Control;

impl OpRule for Control {
    fn ops(&self) -> &'static [&'static str] {
        &["If", "Loop", "Scan"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let (mut outputs, mut coupled) = (Vec::new(), Vec::new());
        let mixes = mixes(node.node);
        for (number, output) in node.node.outputs.iter().enumerate() {
            let sources = initial(node, number).into_iter().chain(captured(node.node));
            let mut sources = sources.filter_map(|source| alike(node, source, (*output)?));
            let first = sources.next();
            if mixes {
                let renewed = |l: Labels| Labels { atoms: vec![Atom::NEW; l.atoms.len()], ..l };
                outputs.push(first.map(renewed));
                continue;
            }
            let others = sources.filter(|l| first.as_ref().is_some_and(|f| f.axis == l.axis));
            coupled.extend(others.filter_map(|l| Some((first.clone()?.atoms, l.atoms))));
            outputs.push(first);
        }
        Flow::Whole(Whole { reason: "a sub-graph", outputs, coupled })
    }
}

/// Operators whose outputs have channels of their own.
const MIXING: &[&str] =
    &["Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN", "DeformConv"];

/// Whether a layer is in the sub-graphs of a node.
fn mixes(node: &Node) -> bool {
    let mut inner = node.subgraphs().flat_map(Graph::nodes);
    inner.any(|(_, node)| MIXING.iter().any(|op| node.is(op)) || mixes(node))
}

/// What the sub-graphs of a node read from around them.
fn captured(node: &Node) -> impl Iterator<Item = ValueId> + '_ {
    node.subgraphs().flat_map(Graph::captures)
}

/// The initial value of a loop's state, by the number of the output with its final value.
fn initial(node: &NodeView<'_>, number: usize) -> Option<ValueId> {
    match node.node.op.as_str() {
        "If" => None,
        "Loop" => node.node.input(number + 2),
        _ => {
            let scanned = usize::try_from(node.node.int("num_scan_inputs", 0)).ok()?;
            let states = node.node.inputs.len().checked_sub(scanned)?;
            node.node.input(number).filter(|_| number < states)
        }
    }
}

/// The labels of `source`, if `output` has the same shape, as far as both shapes are known.
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
