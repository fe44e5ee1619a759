//! Leaves out an `Expand` of a stack of matrices that its product repeats anyway.
//!
//! Exporters repeat the only head of keys and values for all heads of queries. Before that its depths can be followed;
//! behind it each head has copies of them.

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Model, NodeId, ValueId};
use crate::ops::{moved_ones, normal_axis};

use super::CanonOptions;
use super::rewire::{added, ints};
use super::types::shape;

/// Nodes between a product and an expansion at most.
const LONGEST_WAY: usize = 4;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        for slot in 0..2 {
            modified |= shorten(graph, id, slot).is_some();
        }
    }
    Ok(modified)
}

/// A node behind an expansion that moves axes.
enum Step {
    Transpose(Vec<usize>),
    /// The axis before the node of each axis behind it: others have extent 1.
    Ones(Vec<Option<usize>>),
}

/// Reads an operand of a product before it is expanded.
fn shorten(graph: &mut Graph, id: NodeId, slot: usize) -> Option<()> {
    let node = graph.node(id);
    let (value, other) = (node.input(slot)?, node.input(1 - slot)?);
    if !node.is("MatMul") || graph.outputs.contains(&value) {
        return None;
    }
    let (source, steps) = way(graph, value)?;
    let mut narrow = shape(graph, source)?;
    for step in &steps {
        narrow = match step {
            Step::Transpose(perm) => {
                perm.iter().map(|axis| narrow.get(*axis).cloned()).collect::<Option<_>>()?
            }
            Step::Ones(places) => {
                let extent = |place: &Option<usize>| match place {
                    Some(axis) => narrow.get(*axis).cloned(),
                    None => Some(Dim::Known(1)),
                };
                places.iter().map(extent).collect::<Option<_>>()?
            }
        };
    }
    let (wide, theirs) = (shape(graph, value)?, shape(graph, other)?);
    let rank = wide.len();
    let is_repeated = |axis: usize| {
        let is_same = narrow[axis].is_surely(&wide[axis]);
        let is_new = axis + 2 < rank
            && narrow[axis] == Dim::Known(1)
            && matches!(wide[axis], Dim::Known(_))
            && theirs.get(axis).is_some_and(|extent| extent.is_surely(&wide[axis]));
        is_same || is_new
    };
    if narrow.len() != rank || theirs.len() != rank || !(0..rank).all(is_repeated) {
        return None;
    }
    let name = graph.node(id).name.clone();
    let short = steps.iter().try_fold(source, |value, step| written(graph, &name, value, step))?;
    graph.edit_node(id, |node| node.inputs[slot] = Some(short));
    Some(())
}

/// The operand of the expansion that a value comes from, and the nodes behind it.
fn way(graph: &Graph, value: ValueId) -> Option<(ValueId, Vec<Step>)> {
    let (mut at, mut steps) = (value, Vec::new());
    for _ in 0..LONGEST_WAY {
        let node = graph.node(graph.producer(at)?);
        let source = node.input(0)?;
        let (from, to) = (shape(graph, source)?, shape(graph, at)?);
        match node.op.as_str() {
            _ if !node.domain.is_empty() => return None,
            "Expand" => {
                steps.reverse();
                return (from.len() == to.len()).then_some((source, steps));
            }
            "Transpose" => {
                let perm = node.ints("perm")?.iter().map(|axis| normal_axis(*axis, from.len()));
                steps.push(Step::Transpose(perm.collect::<Option<_>>()?));
            }
            "Reshape" | "Squeeze" | "Unsqueeze" => {
                let places = moved_ones(&from, &to)?;
                let kept = places.iter().flatten();
                steps.push(kept.is_sorted().then_some(Step::Ones(places))?);
            }
            _ => return None,
        }
        at = source;
    }
    None
}

/// A step once more, behind another value.
fn written(graph: &mut Graph, name: &str, value: ValueId, step: &Step) -> Option<ValueId> {
    match step {
        Step::Transpose(perm) => {
            let perm = Attribute::Ints(perm.iter().map(|axis| *axis as i64).collect());
            let name = format!("{name}.turned");
            Some(added(graph, "Transpose", &name, &[value], [("perm", perm)]))
        }
        Step::Ones(places) => {
            let rank = shape(graph, value)?.len();
            let is_gone = |axis: &usize| !places.contains(&Some(*axis));
            let gone: Vec<i64> = (0..rank).filter(is_gone).map(|axis| axis as i64).collect();
            let added_axes = places.iter().enumerate().filter(|(_, place)| place.is_none());
            let new: Vec<i64> = added_axes.map(|(axis, _)| axis as i64).collect();
            let mut value = value;
            for (op, axes) in [("Squeeze", gone), ("Unsqueeze", new)] {
                if !axes.is_empty() {
                    let axes = ints(graph, &format!("{name}.ones"), &axes);
                    value = added(graph, op, &format!("{name}.moved"), &[value, axes], []);
                }
            }
            Some(value)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::Attribute;
    use crate::ir::builder::GraphBuilder;

    /// The operators of a product with keys that are repeated for `heads` heads.
    fn ops(keys: &str, heads: i64) -> Vec<String> {
        let mut b = GraphBuilder::new("net", 17);
        let (q, k) = (b.input("q", "n,3,5,4"), b.input("k", keys));
        let copies = b.ints("copies", &[1, heads, 1, 1]);
        let k = b.op("Expand", "wide", &[k, copies], []);
        let perm = [("perm", Attribute::Ints(vec![0, 1, 3, 2]))];
        let k = b.op("Transpose", "turned", &[k], perm);
        let y = b.op("MatMul", "scores", &[q, k], []);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        model.graph.nodes().map(|(_, node)| node.op.clone()).collect()
    }

    #[test]
    fn the_only_head_of_keys_is_repeated_by_the_product() {
        assert!(!ops("n,1,5,4", 3).contains(&"Expand".to_owned()));
    }
}
