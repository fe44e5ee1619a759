//! Gives attention heads an axis of their own if they share one with the batch.
//!
//! Exporters of multi-head attention write queries, keys and values as [batch·heads, tokens, depths],
//! for products of three axes. Channels cannot be followed there. So this pass moves the reshape that
//! merges the two axes after the following operators, until it meets another reshape that replaces it.
//! Products of named axes are written with axes of extent 1 beside heads; these are left out on the way.

use std::cmp::Ordering;

use crate::error::Result;
use crate::ir::{Attribute, Consumers, Dim, Graph, Model, Node, NodeId, ValueId, ValueKind};
use crate::ops::normal_axis;

use super::rewire::added;
use super::types::shape;
use super::{CanonOptions, rewire, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let readers = graph.consumers();
    let mut modified = false;
    for id in graph.topological_order()? {
        modified |= split(graph, &readers, id).is_some()
            || split_maps(graph, id).is_some()
            || moved(graph, id).is_some();
    }
    Ok(modified)
}

/// A reshape [.., a, b, ..] → [.., a·b, ..] of four axes, beside some of extent 1, to three.
struct Merge {
    source: ValueId,
    /// Axes of the source that are left out first.
    ones: Vec<usize>,
    /// The extents of the four axes that stay.
    shape: Vec<Dim>,
    axis: usize,
}

/// Axes of the source of a merge at most.
const MOST_AXES: usize = 6;

impl Merge {
    fn of(graph: &Graph, value: ValueId) -> Option<Merge> {
        let node = graph.node(graph.producer(value)?);
        let source = node.input(0).filter(|_| node.is("Reshape"))?;
        let (from, to) = (shape(graph, source)?, shape(graph, value)?);
        if !(4..=MOST_AXES).contains(&from.len()) || to.len() != 3 {
            return None;
        }
        four_axes(&from, Vec::new()).into_iter().find_map(|ones| {
            let shape = left(&from, &ones);
            let axis = merged_axis(&shape, &to)?;
            Some(Merge { source, ones, shape, axis })
        })
    }

    /// Whether another merge has the same axis and extents.
    fn is_like(&self, other: &Merge) -> bool {
        let both = self.axis..self.axis + 2;
        let own = both.clone().map(|axis| &self.shape[axis]);
        self.axis == other.axis && own.zip(both).all(|(a, axis)| a.is_surely(&other.shape[axis]))
    }
}

/// The axes of extent 1, besides `gone`, that can be left out so that four axes stay: all choices, those further behind
/// first.
fn four_axes(shape: &[Dim], gone: Vec<usize>) -> Vec<Vec<usize>> {
    if gone.len() + 4 >= shape.len() {
        return vec![gone];
    }
    let first = gone.first().copied().unwrap_or(shape.len());
    let ones = (0..first).rev().filter(|axis| shape[*axis] == Dim::Known(1));
    ones.flat_map(|axis| four_axes(shape, [&[axis], gone.as_slice()].concat())).collect()
}

/// The elements at all places but `gone`.
fn left<T: Clone>(all: &[T], gone: &[usize]) -> Vec<T> {
    let kept = all.iter().enumerate().filter(|(place, _)| !gone.contains(place));
    kept.map(|(_, own)| own.clone()).collect()
}

/// The first of the two axes of `from` that are one axis of `to`.
fn merged_axis(from: &[Dim], to: &[Dim]) -> Option<usize> {
    (0..3).find(|axis| {
        let joined = Dim::product([&from[*axis], &from[*axis + 1]]);
        let all = [&from[..*axis], &[joined], &from[*axis + 2..]].concat();
        let unlike = all.iter().zip(to).filter(|(a, b)| !a.is_surely(b));
        let are_open = unlike.clone().all(|(a, b)| a.known().is_none() || b.known().is_none());
        are_open && unlike.count() < 2
    })
}

/// Writes a reshape [tokens, batch, channels] → [tokens, batch·heads, depths] as a split of channels,
/// then a merge of two axes.
fn split(graph: &mut Graph, readers: &Consumers, id: NodeId) -> Option<()> {
    let node = graph.node(id);
    let (source, output) = (node.input(0).filter(|_| node.is("Reshape"))?, node.output(0)?);
    let (from, to) = (shape(graph, source)?, shape(graph, output)?);
    let ([tokens, _, channels], [same, _, depths]) = (from.as_slice(), to.as_slice()) else {
        return None;
    };
    let (channels, depths) = (channels.known()?, depths.known().filter(|n| *n > 0)?);
    let is_split = tokens.is_surely(same) && channels > depths && channels % depths == 0;
    let to_front = |reader: &NodeId| {
        let reader = graph.node(*reader);
        reader.is("Transpose") && reader.ints("perm").and_then(<[i64]>::first) == Some(&1)
    };
    if !is_split || !readers.get(output.index())?.iter().all(to_front) {
        return None;
    }
    let name = graph.node(id).name.clone();
    let target = ints(graph, &name, &[0, 0, (channels / depths) as i64, depths as i64]);
    let heads = added(graph, "Reshape", &format!("{name}.heads"), &[source, target], []);
    let target = ints(graph, &name, &[0, -1, depths as i64]);
    let merged = added(graph, "Reshape", &format!("{name}.merged"), &[heads, target], []);
    rewire::bypass(graph, output, merged).then_some(())
}

/// Writes a reshape [batch, channels, height, width] → [batch·heads, depths, pixels] as a split of
/// channels, then a merge of two axes.
fn split_maps(graph: &mut Graph, id: NodeId) -> Option<()> {
    let node = graph.node(id);
    let (source, output) = (node.input(0).filter(|_| node.is("Reshape"))?, node.output(0)?);
    let (from, to) = (shape(graph, source)?, shape(graph, output)?);
    let ([_, channels, pixels @ ..], [_, depths, merged]) = (from.as_slice(), to.as_slice()) else {
        return None;
    };
    let (channels, depths) = (channels.known()?, depths.known().filter(|n| *n > 1)?);
    let same = Dim::product(pixels).is_surely(merged) && !pixels.is_empty();
    if !same || channels <= depths || channels % depths != 0 || graph.outputs.contains(&output) {
        return None;
    }
    let (depths, merged) = (depths as i64, merged.known()? as i64);
    let name = graph.node(id).name.clone();
    let target = ints(graph, &name, &[0, channels as i64 / depths, depths, merged]);
    let heads = added(graph, "Reshape", &format!("{name}.heads"), &[source, target], []);
    let target = ints(graph, &name, &[-1, depths, merged]);
    let merged = added(graph, "Reshape", &format!("{name}.merged"), &[heads, target], []);
    rewire::bypass(graph, output, merged).then_some(())
}

/// Moves a node that follows merges before them.
fn moved(graph: &mut Graph, id: NodeId) -> Option<()> {
    let node = graph.node(id);
    let output = node.output(0).filter(|_| node.domain.is_empty())?;
    let merges: Vec<Option<Merge>> =
        node.inputs.iter().map(|input| Merge::of(graph, (*input)?)).collect();
    let (attribute, axis) = before_merges(graph, node, &merges)?;
    let behind = shape(graph, output)?.get(axis + 1..)?.to_vec();
    let mut copy = node.clone();
    copy.attributes.extend(attribute);
    let name = copy.name.clone();
    let beside_rows = axis == 1 && copy.is("MatMul");
    for (input, merge) in copy.inputs.iter_mut().zip(&merges) {
        *input = match (merge, *input) {
            (Some(merge), _) => Some(without(graph, &name, merge.source, &merge.ones)),
            (None, Some(matrix)) if beside_rows => {
                let one = ints(graph, &name, &[1]);
                Some(added(graph, "Unsqueeze", &format!("{name}.common"), &[matrix, one], []))
            }
            (None, other) => other,
        };
    }
    let value = graph.add_value(&format!("{name}.heads"), ValueKind::Detached, None);
    copy.name = graph.value(value).name.clone();
    copy.outputs = vec![Some(value)];
    let copy = graph.add_node(copy);
    types::infer_node(graph, copy);
    let merged = merge(graph, &name, value, axis, &behind);
    rewire::bypass(graph, output, merged).then_some(())
}

/// A value without axes of extent 1, in ascending order. A transpose gets its operand without them, so that the node
/// that has added them meets the one that takes them away.
fn without(graph: &mut Graph, name: &str, value: ValueId, ones: &[usize]) -> ValueId {
    if ones.is_empty() {
        return value;
    }
    let Some((source, perm)) = turned(graph, value) else {
        return squeezed(graph, name, value, ones);
    };
    let mut before: Vec<usize> = ones.iter().map(|axis| perm[*axis]).collect();
    before.sort_unstable();
    let source = squeezed(graph, name, source, &before);
    let place = |axis: usize| axis - before.iter().filter(|one| **one < axis).count();
    let perm = left(&perm, ones).into_iter().map(|axis| place(axis) as i64).collect();
    let perm = [("perm", Attribute::Ints(perm))];
    added(graph, "Transpose", &format!("{name}.turned"), &[source], perm)
}

/// The operand of the transpose that makes a value, and its axis of each of the value's axes.
fn turned(graph: &Graph, value: ValueId) -> Option<(ValueId, Vec<usize>)> {
    let node = graph.node(graph.producer(value)?);
    let source = node.input(0).filter(|_| node.is("Transpose"))?;
    let rank = shape(graph, value)?.len();
    let perm = node.ints("perm")?.iter().map(|axis| normal_axis(*axis, rank));
    Some((source, perm.collect::<Option<Vec<usize>>>().filter(|perm| perm.len() == rank)?))
}

fn squeezed(graph: &mut Graph, name: &str, value: ValueId, ones: &[usize]) -> ValueId {
    let axes: Vec<i64> = ones.iter().map(|axis| *axis as i64).collect();
    let axes = ints(graph, name, &axes);
    added(graph, "Squeeze", &format!("{name}.squeezed"), &[value, axes], [])
}

/// The attribute that changes if a node moves before merges, and the axis of the merge after it; `None`
/// for nodes that cannot move.
fn before_merges(
    graph: &Graph,
    node: &Node,
    merges: &[Option<Merge>],
) -> Option<(Option<(String, Attribute)>, usize)> {
    let lead = merges.iter().flatten().next()?;
    let is_like = |own: &Option<Merge>| own.as_ref().is_some_and(|merge| merge.is_like(lead));
    match node.op.as_str() {
        "Transpose" => {
            let (perm, axis) = (node.ints("perm")?, lead.axis as i64);
            let at = perm.iter().position(|own| *own == axis)?;
            let both = |own: &i64| match own.cmp(&axis) {
                Ordering::Less => vec![*own],
                Ordering::Equal => vec![*own, own + 1],
                Ordering::Greater => vec![own + 1],
            };
            let perm = Attribute::Ints(perm.iter().flat_map(both).collect());
            (axis == 0 || at == 0).then_some((Some(("perm".to_owned(), perm)), at))
        }
        _ if lead.axis == 1 => Some((before_merged_rows(graph, node, merges)?, 1)),
        _ if lead.axis != 0 => None,
        "Softmax" => {
            let axis = node.int("axis", -1);
            let new = if axis > 0 { axis + 1 } else { axis };
            let attribute = ("axis".to_owned(), Attribute::Int(new));
            (axis > 0 || (-2..0).contains(&axis)).then_some((Some(attribute), 0))
        }
        "MatMul" => merges.iter().all(is_like).then_some((None, 0)),
        "Add" | "Sub" | "Mul" | "Div" | "Where" => {
            let mut operands = merges.iter().zip(&node.inputs);
            let fits = operands.all(|(own, input)| {
                is_like(own) || own.is_none() && input.is_some_and(|v| is_alike_for_all(graph, v))
            });
            fits.then_some((None, 0))
        }
        _ => None,
    }
}

/// The attribute that changes if a node moves before a merge of rows, as of heads and tokens of queries that all meet
/// the same keys; `None` for nodes that cannot move.
fn before_merged_rows(
    graph: &Graph,
    node: &Node,
    merges: &[Option<Merge>],
) -> Option<Option<(String, Attribute)>> {
    let lead = merges.first()?.as_ref()?;
    let maker = graph.producer(lead.source).map(|id| graph.node(id));
    let of_product = ["MatMul", "Softmax", "Mul", "Div"];
    let follows_product = maker.is_some_and(|maker| of_product.iter().any(|op| maker.is(op)));
    match (node.op.as_str(), merges) {
        ("MatMul", [_, None]) => (shape(graph, node.input(1)?)?.len() == 3).then_some(None),
        ("Softmax", _) if follows_product && [-1, 2].contains(&node.int("axis", -1)) => {
            Some(Some(("axis".to_owned(), Attribute::Int(-1))))
        }
        ("Mul" | "Div", [_, None]) if follows_product => {
            // A factor with more axes than the rows adds axes in front.
            let factor = shape(graph, node.input(1)?)?;
            let is_one = factor.len() <= 3 && factor.iter().all(|n| *n == Dim::Known(1));
            is_one.then_some(None)
        }
        _ => None,
    }
}

/// Whether a value of at most three axes is the same for all indices of the first axis.
fn is_alike_for_all(graph: &Graph, value: ValueId) -> bool {
    match shape(graph, value).as_deref() {
        Some([first, _, _]) => *first == Dim::Known(1),
        Some(shape) => shape.len() < 3,
        None => false,
    }
}

/// Merges axis `axis` of a value with the next one; later axes have extents `behind`.
fn merge(graph: &mut Graph, name: &str, value: ValueId, axis: usize, behind: &[Dim]) -> ValueId {
    let before = vec![0; axis];
    let behind: Option<Vec<i64>> = behind.iter().map(|dim| Some(dim.known()? as i64)).collect();
    let target = match behind {
        Some(behind) => ints(graph, name, &[before, vec![-1], behind].concat()),
        None => {
            let sizes = added(graph, "Shape", &format!("{name}.shape"), &[value], []);
            let bounds = [axis as i64 + 2, i64::MAX].map(|bound| ints(graph, name, &[bound]));
            let inputs = [sizes, bounds[0], bounds[1]];
            let behind = added(graph, "Slice", &format!("{name}.behind"), &inputs, []);
            let before = ints(graph, name, &[before, vec![-1]].concat());
            let along = [("axis", Attribute::Int(0))];
            added(graph, "Concat", &format!("{name}.target"), &[before, behind], along)
        }
    };
    added(graph, "Reshape", &format!("{name}.merged"), &[value, target], [])
}

fn ints(graph: &mut Graph, name: &str, values: &[i64]) -> ValueId {
    rewire::ints(graph, &format!("{name}.ints"), values)
}

#[cfg(test)]
mod tests;
