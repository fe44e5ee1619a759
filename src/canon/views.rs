//! Joins consecutive rearrangements into one, and writes flattening as `Flatten`.
//!
//! Exporters flatten before a fully connected layer in many ways. `Flatten` holds no sizes, so it stays
//! valid when the number of channels changes.

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Model, NodeId, Tensor, ValueId};
use crate::ops::normal_axis;

use super::types::shape;
use super::{CanonOptions, rewire, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        modified |= join_transposes(graph, id)
            || leave_out_inner(graph, id)
            || undo_round_trip(graph, id)
            || to_flatten(graph, id);
    }
    Ok(modified)
}

/// Joins a transpose of a transpose into one.
fn join_transposes(graph: &mut Graph, id: NodeId) -> bool {
    let Some((inner, source)) = node_before(graph, id, &["Transpose"], &["Transpose"]) else {
        return false;
    };
    let perm = |id: NodeId| graph.node(id).ints("perm").map(<[i64]>::to_vec);
    let (Some(first), Some(second)) = (perm(inner), perm(id)) else { return false };
    let joined: Option<Vec<i64>> =
        second.iter().map(|p| first.get(usize::try_from(*p).ok()?).copied()).collect();
    let Some(joined) = joined else { return false };
    graph.edit_node(id, |node| {
        node.inputs[0] = Some(source);
        node.attributes.insert("perm".to_owned(), Attribute::Ints(joined));
    });
    true
}

const SHAPE_ONLY: &[&str] = &["Reshape", "Flatten", "Squeeze", "Unsqueeze"];

/// Skips a rearrangement before a reshape or flattening, whose result depends only on the elements, not
/// on their shape. Exception: zeros in the target copy an extent, so that extent must be the same.
fn leave_out_inner(graph: &mut Graph, id: NodeId) -> bool {
    let Some((inner, source)) = node_before(graph, id, &["Reshape", "Flatten"], SHAPE_ONLY) else {
        return false;
    };
    let middle = graph.node(inner).output(0).and_then(|v| shape(graph, v));
    let (before, middle) = (shape(graph, source).unwrap_or_default(), middle.unwrap_or_default());
    let keeps = |axis: usize| match (before.get(axis), middle.get(axis)) {
        (Some(a), Some(b)) => a.is_surely(b),
        _ => false,
    };
    let free = match graph.node(id).op.as_str() {
        "Flatten" => graph.node(id).int("axis", 1) == 1 && keeps(0),
        _ => target(graph, id)
            .is_some_and(|t| t.iter().enumerate().all(|(axis, size)| *size != 0 || keeps(axis))),
    };
    let free = free && !cuts_heads(graph, id, &before, &middle);
    if free {
        graph.edit_node(id, |node| node.inputs[0] = Some(source));
    }
    free
}

/// Whether reshapes `before` → `middle` → the output of `id` cut the channels of maps into heads, and then
/// merge these with the batch ([`super::batched`]). Both steps stay, so that heads can be followed.
fn cuts_heads(graph: &Graph, id: NodeId, before: &[Dim], middle: &[Dim]) -> bool {
    let after = graph.node(id).output(0).and_then(|v| shape(graph, v)).unwrap_or_default();
    let ([_, channels, ..], [_, heads, depths, pixels], [_, same, last]) =
        (before, middle, after.as_slice())
    else {
        return false;
    };
    let cut = Dim::product([heads, depths]).is_surely(channels) && heads.known() != Some(1);
    cut && depths.is_surely(same) && pixels.is_surely(last)
}

/// Rearrangements in a row at most that are removed at once.
const LONGEST_TRIP: usize = 8;

/// Removes nodes that together return to an earlier shape, such as `Unsqueeze` and `Squeeze`.
fn undo_round_trip(graph: &mut Graph, id: NodeId) -> bool {
    let Some(output) = graph.node(id).output(0) else { return false };
    let before = |value: &ValueId| {
        let node = graph.node(graph.producer(*value)?);
        node.input(0).filter(|_| SHAPE_ONLY.iter().any(|op| node.is(op)))
    };
    let mut sources = std::iter::successors(Some(output), before).skip(2).take(LONGEST_TRIP);
    let source = sources.find(|source| types::same_shape(graph, *source, output));
    source.is_some_and(|source| rewire::bypass(graph, output, source))
}

/// The producer of the first input of node `id`, with its own first input, if both nodes are among these
/// operators.
fn node_before(
    graph: &Graph,
    id: NodeId,
    outer: &[&str],
    inner: &[&str],
) -> Option<(NodeId, ValueId)> {
    let among = |id: NodeId, ops: &[&str]| ops.iter().any(|op| graph.node(id).is(op));
    let before = graph.producer(graph.node(id).input(0)?)?;
    let found = among(id, outer) && among(before, inner);
    found.then_some((before, graph.node(before).input(0)?))
}

/// The constant target of a reshape in which zeros copy extents.
fn target(graph: &Graph, id: NodeId) -> Option<Vec<i64>> {
    let node = graph.node(id);
    let target = graph.initializer(node.input(1)?).and_then(Tensor::to_i64)?;
    (node.int("allowzero", 0) == 0 || !target.contains(&0)).then_some(target)
}

/// Writes reshapes and squeezes that keep the leading extent and merge all others as `Flatten`.
fn to_flatten(graph: &mut Graph, id: NodeId) -> bool {
    let merges_rest = match graph.node(id).op.as_str() {
        _ if !graph.node(id).domain.is_empty() => false,
        "Reshape" => target(graph, id) == Some(vec![0, -1]) || keeps_first_of_two(graph, id),
        // An axis of open extent has one entry wherever it is taken away, which a flattening does not tell.
        "Squeeze" => keeps_first_of_two(graph, id) && rest_is_known(graph, id),
        "Flatten" => {
            let rank = graph.node(id).input(0).and_then(|x| shape(graph, x)).map(|s| s.len());
            let axis = graph.node(id).int("axis", 1);
            axis != 1 && rank.and_then(|r| normal_axis(axis, r)) == Some(1)
        }
        _ => false,
    };
    if merges_rest {
        graph.edit_node(id, |node| {
            node.op = "Flatten".to_owned();
            node.inputs.truncate(1);
            node.attributes = [("axis".to_owned(), Attribute::Int(1))].into();
        });
    }
    merges_rest
}

/// Whether all extents of the input but the first are known.
fn rest_is_known(graph: &Graph, id: NodeId) -> bool {
    let before = graph.node(id).input(0).and_then(|value| shape(graph, value));
    before.is_some_and(|dims| dims.iter().skip(1).all(|dim| dim.known().is_some()))
}

/// Whether the output has two axes, and keeps the input's first axis.
fn keeps_first_of_two(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let of = |value: Option<ValueId>| shape(graph, value?);
    let (Some(before), Some(after)) = (of(node.input(0)), of(node.output(0))) else { return false };
    let first: (Option<&Dim>, Option<&Dim>) = (before.first(), after.first());
    match first {
        (Some(a), Some(b)) => before.len() >= 2 && after.len() == 2 && a.is_surely(b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn an_open_axis_is_squeezed_and_no_part_of_the_channels() {
        for (x, op) in [("n,4,1", "Flatten"), ("n,4,t", "Squeeze")] {
            let mut b = GraphBuilder::new("net", 17);
            let (x, last) = (b.input("x", x), b.ints("last", &[-1]));
            let y = b.op("Squeeze", "y", &[x, last], []);
            let mut model = b.build(&[y]);
            types::infer(&mut model.graph).unwrap();
            assert_eq!(run(&mut model, &CanonOptions::default()).unwrap(), op == "Flatten");
            assert_eq!(model.graph.node(model.graph.producer(y).unwrap()).op, op);
        }
    }
}
