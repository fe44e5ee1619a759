//! Writes copies of the matrices of a stack in one way: along a new axis, which is merged with the one of the matrices.
//!
//! Exporters repeat heads of keys and values for all heads of queries that share them, by a `Gather`, a `Tile`, or a
//! `Concat` of parts. A head and its copies are easily told apart from others behind an `Expand` and a `Reshape`.

use crate::error::Result;
use crate::ir::{Consumers, Dim, Graph, Model, NodeId, Tensor, ValueId};
use crate::ops::{NodeView, normal_axis, picked, slices};

use super::CanonOptions;
use super::reach::is_stacked;
use super::rewire::{added, bypass, ints, only_reader};
use super::types::shape;

/// Limit of copies of one matrix.
const MOST_COPIES: usize = 1024;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let readers = graph.consumers();
    let mut modified = false;
    for id in graph.topological_order()? {
        modified |= rewrite(graph, &readers, id).is_some();
    }
    Ok(modified)
}

/// Entries of a value along an axis.
struct Picked {
    source: ValueId,
    axis: usize,
    entries: Vec<usize>,
}

fn rewrite(graph: &mut Graph, readers: &Consumers, id: NodeId) -> Option<()> {
    let output = graph.node(id).output(0)?;
    let Picked { source, axis, entries } = of_node(graph, id)?;
    let from = shape(graph, source)?;
    let count = from.get(axis)?.known().filter(|count| *count > 0)?;
    let copies = entries.len() / count;
    let is_copied = entries.len() == count * copies && (2..=MOST_COPIES).contains(&copies);
    let all = || entries.iter().enumerate();
    let each_at_once = all().all(|(at, entry)| at / copies.max(1) == *entry);
    let one_after_the_other = all().all(|(at, entry)| at % count == *entry);
    let is_known = is_copied && (each_at_once || one_after_the_other);
    if !is_known || !is_of_matrices(graph, readers, output, axis) {
        return None;
    }
    let name = graph.node(id).name.clone();
    let value = match count {
        1 => expanded(graph, &name, source, axis, copies)?,
        _ => {
            let new = if each_at_once { axis + 1 } else { axis };
            let sizes = merged(&from, axis, entries.len())?;
            let axes = ints(graph, &format!("{name}.axis"), &[new as i64]);
            let single = added(graph, "Unsqueeze", &format!("{name}.one"), &[source, axes], []);
            let wide = expanded(graph, &name, single, new, copies)?;
            let sizes = ints(graph, &format!("{name}.sizes"), &sizes);
            added(graph, "Reshape", &format!("{name}.merged"), &[wide, sizes], [])
        }
    };
    bypass(graph, output, value).then_some(())
}

/// Whether products read the matrices along an axis of a value, perhaps merged with those along the axis before.
fn is_of_matrices(graph: &Graph, readers: &Consumers, value: ValueId, axis: usize) -> bool {
    let merged = || {
        let node = graph.node(only_reader(graph, readers, value)?);
        let (output, before) =
            (node.output(0).filter(|_| node.is("Reshape"))?, axis.checked_sub(1)?);
        let (from, to) = (shape(graph, value)?, shape(graph, output)?);
        let count = from.get(before)?.known()?.checked_mul(from.get(axis)?.known()?)?;
        let is_merged = to.len() + 1 == from.len() && to.get(before)?.known() == Some(count);
        (is_merged && is_stacked(graph, readers, output, before)).then_some(())
    };
    is_stacked(graph, readers, value, axis) || merged().is_some()
}

/// A value with its axis of extent 1 repeated.
fn expanded(
    graph: &mut Graph,
    name: &str,
    value: ValueId,
    axis: usize,
    copies: usize,
) -> Option<ValueId> {
    let mut sizes = vec![1i64; shape(graph, value)?.len()];
    *sizes.get_mut(axis)? = copies as i64;
    let sizes = ints(graph, &format!("{name}.copies"), &sizes);
    Some(added(graph, "Expand", &format!("{name}.copied"), &[value, sizes], []))
}

/// The target of the reshape that merges copies into an axis; `None` if several extents behind it are open.
fn merged(from: &[Dim], axis: usize, count: usize) -> Option<Vec<i64>> {
    let behind = from.get(axis + 1..)?;
    let size = |dim: &Dim| dim.known().map_or(-1, |extent| extent as i64);
    let is_open = |dim: &&Dim| dim.known().is_none();
    (behind.iter().filter(is_open).count() < 2).then_some(())?;
    Some([vec![0; axis], vec![count as i64], behind.iter().map(size).collect()].concat())
}

/// What a node picks, if it picks entries of one value.
fn of_node(graph: &Graph, id: NodeId) -> Option<Picked> {
    let node = graph.node(id);
    match node.op.as_str() {
        _ if !node.domain.is_empty() => None,
        "Gather" => gathered(graph, id),
        "Tile" => tiled(graph, id),
        "Concat" => {
            let rank = shape(graph, node.input(0)?)?.len();
            let axis = normal_axis(node.int("axis", 0), rank)?;
            let parts = node.inputs.iter().map(|value| part(graph, (*value)?, axis));
            let parts = parts.collect::<Option<Vec<Picked>>>()?;
            let source = parts.first()?.source;
            let are_one = parts.iter().all(|part| part.source == source);
            let entries = parts.into_iter().flat_map(|part| part.entries).collect();
            are_one.then_some(Picked { source, axis, entries })
        }
        _ => None,
    }
}

fn gathered(graph: &Graph, id: NodeId) -> Option<Picked> {
    let node = graph.node(id);
    let source = node.input(0)?;
    let from = shape(graph, source)?;
    let axis = normal_axis(node.int("axis", 0), from.len())?;
    let count = from.get(axis)?.known()?;
    let indices = graph.initializer(node.input(1)?).filter(|tensor| tensor.dims.len() == 1)?;
    let entries = indices.to_i64()?.into_iter().map(|index| normal_axis(index, count));
    Some(Picked { source, axis, entries: entries.collect::<Option<_>>()? })
}

fn tiled(graph: &Graph, id: NodeId) -> Option<Picked> {
    let node = graph.node(id);
    let source = node.input(0)?;
    let repeats = graph.initializer(node.input(1)?).and_then(Tensor::to_i64)?;
    let mut several = repeats.iter().enumerate().filter(|(_, times)| **times != 1);
    let (axis, times) = several.next().filter(|_| several.next().is_none())?;
    let times = usize::try_from(*times).ok().filter(|times| *times <= MOST_COPIES)?;
    let count = shape(graph, source)?.get(axis)?.known()?;
    Some(Picked { source, axis, entries: (0..times).flat_map(|_| 0..count).collect() })
}

/// The entries of another value that an operand of a join is; all of its own, if it is none of another.
fn part(graph: &Graph, value: ValueId, axis: usize) -> Option<Picked> {
    if let Some(picked) = cut(graph, value, axis) {
        return Some(picked);
    }
    let count = shape(graph, value)?.get(axis)?.known()?;
    Some(Picked { source: value, axis, entries: (0..count).collect() })
}

/// The entries along `axis` that a `Split`, `Slice` or `Gather` picks for a value, or that an `Expand` repeats.
fn cut(graph: &Graph, value: ValueId, axis: usize) -> Option<Picked> {
    let id = graph.producer(value)?;
    let node = graph.node(id);
    let source = node.input(0)?;
    let from = shape(graph, source)?;
    let count = from.get(axis)?.known()?;
    let found = |entries: Vec<usize>| Some(Picked { source, axis, entries });
    match node.op.as_str() {
        _ if !node.domain.is_empty() => None,
        "Gather" => gathered(graph, id).filter(|own| own.axis == axis),
        "Slice" => match slices(&NodeView::new(graph, id, &[]), from.len())?.as_slice() {
            [(own, start, end, step)] if *own == axis => found(picked(count, *start, *end, *step)),
            _ => None,
        },
        "Split" if normal_axis(node.int("axis", 0), from.len()) == Some(axis) => {
            let extent = |value: ValueId| shape(graph, value)?.get(axis)?.known();
            let place = node.outputs.iter().position(|output| *output == Some(value))?;
            let before = node.outputs[..place].iter().map(|output| extent((*output)?));
            let start: usize = before.sum::<Option<usize>>()?;
            found((start..start + extent(value)?).collect())
        }
        "Expand" if count == 1 => {
            let to = shape(graph, value)?;
            let mut others = (0..from.len()).filter(|at| *at != axis);
            let is_only = to.len() == from.len() && others.all(|at| from[at].is_surely(&to[at]));
            let times = to.get(axis)?.known().filter(|times| is_only && *times <= MOST_COPIES)?;
            let inner = part(graph, source, axis)?;
            let entry = *inner.entries.first()?;
            Some(Picked { entries: vec![entry; times], ..inner })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;
    use crate::ir::{Attribute, ValueId};

    /// The operators of a product with keys of two heads that `repeat` repeats.
    fn ops(repeat: fn(&mut GraphBuilder, ValueId) -> ValueId) -> Vec<String> {
        let mut b = GraphBuilder::new("net", 17);
        let (q, k) = (b.input("q", "n,4,5,3"), b.input("k", "n,2,5,3"));
        let k = repeat(&mut b, k);
        let perm = [("perm", Attribute::Ints(vec![0, 1, 3, 2]))];
        let k = b.op("Transpose", "turned", &[k], perm);
        let y = b.op("MatMul", "scores", &[q, k], []);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        model.graph.nodes().map(|(_, node)| node.op.clone()).collect()
    }

    fn gather(b: &mut GraphBuilder, k: ValueId, heads: &[i64]) -> ValueId {
        let heads = b.ints("heads", heads);
        b.op("Gather", "heads", &[k, heads], [("axis", 1.into())])
    }

    fn halves(b: &mut GraphBuilder, k: ValueId) -> ValueId {
        let axis = b.ints("axis", &[1]);
        let parts = [0, 0, 1, 1].map(|head| {
            let (start, end) = (b.ints("start", &[head]), b.ints("end", &[head + 1]));
            b.op("Slice", "part", &[k, start, end, axis], [])
        });
        b.op("Concat", "joined", &parts, [("axis", 1.into())])
    }

    fn tile(b: &mut GraphBuilder, k: ValueId) -> ValueId {
        let times = b.ints("times", &[1, 2, 1, 1]);
        b.op("Tile", "tiled", &[k, times], [])
    }

    #[test]
    fn copies_of_heads_get_an_axis() {
        let copied = ["Unsqueeze", "Expand", "Reshape", "Transpose", "MatMul"];
        assert_eq!(ops(|b, k| gather(b, k, &[0, 0, 1, 1])), copied);
        assert_eq!(ops(|b, k| gather(b, k, &[0, 1, 0, 1])), copied);
        assert_eq!(ops(halves), copied);
        assert_eq!(ops(tile), copied);
    }

    #[test]
    fn other_orders_of_heads_stay() {
        assert_eq!(ops(|b, k| gather(b, k, &[0, 1, 1, 0])), ["Gather", "Transpose", "MatMul"]);
    }
}
