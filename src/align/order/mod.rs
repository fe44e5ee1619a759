//! The order of a net's nodes, if another net has the same layers in another order.
//!
//! Layers of two nets are aligned as sequences. The order of layers that do not depend on each other
//! (queries and keys, tables that are added, parallel branches) is the exporter's choice. It is changed to
//! that of an earlier net where layers of equal roles stand in another order.

mod inputs;
mod roles;

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{ArrayD, ArrayViewD};

use crate::error::Result;
use crate::ir::{Graph, NodeId, ValueId};

pub use inputs::inputs_like;
use roles::{Member, Role};

/// Limit of layers with one role whose weights are compared.
const MOST_TWINS: usize = 16;

/// Twins whose squared difference, relative to their squares, is above this are not paired by weights. It
/// is about 1 for unrelated weights, and less by chance if there are few.
const CLOSE: f64 = 0.2;

/// The nodes of `graph` in a topological order in which layers follow those of `other` with the same
/// roles; `None` if they do so already.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a graph has a cycle.
pub fn order_like(other: &Graph, graph: &Graph) -> Result<Option<Vec<NodeId>>> {
    let (theirs, own) = (roles::members(other)?, roles::members(graph)?);
    let places = places([other, graph], &theirs, &own);
    let known: Vec<usize> = places.iter().flatten().copied().collect();
    if known.is_sorted() {
        return Ok(None);
    }
    let mut last = None;
    let mut wanted: Vec<(Option<usize>, NodeId)> = Vec::with_capacity(own.len());
    for (member, place) in own.iter().zip(&places) {
        // A layer without a counterpart stays behind its predecessor.
        last = place.or(last);
        wanted.push((last, member.node));
    }
    wanted.sort_by_key(|(place, _)| *place);
    let layers: Vec<NodeId> = wanted.into_iter().map(|(_, node)| node).collect();
    let order = graph.topological_order()?;
    Ok(Some(with_sources(graph, &layers, &order)))
}

/// For each node with weights of the second graph, the place of its counterpart in the first graph.
fn places(graphs: [&Graph; 2], theirs: &[Member], own: &[Member]) -> Vec<Option<usize>> {
    let mut twins: BTreeMap<Role, [Vec<usize>; 2]> = BTreeMap::new();
    for (side, members) in [theirs, own].into_iter().enumerate() {
        for (place, member) in members.iter().enumerate() {
            if let Some(places) = twins.entry(member.role).or_default().get_mut(side) {
                places.push(place);
            }
        }
    }
    let mut places = vec![None; own.len()];
    for [mut left, mut right] in twins.into_values() {
        if left.len().max(right.len()) > 1 {
            let weights = |side: usize, members: &[Member], place: usize| {
                Some((graphs[side], members.get(place)?.weight))
            };
            let closest = closest(
                &left.iter().map(|at| weights(0, theirs, *at)).collect::<Vec<_>>(),
                &right.iter().map(|at| weights(1, own, *at)).collect::<Vec<_>>(),
            );
            let mut taken = BTreeSet::new();
            for (a, b) in closest {
                places[right[b]] = Some(left[a]);
                taken.insert(left[a]);
            }
            right.retain(|at| places[*at].is_none());
            left.retain(|at| !taken.contains(at));
        }
        for (a, b) in left.into_iter().zip(right) {
            places[b] = Some(a);
        }
    }
    places
}

type Weight<'a> = Option<(&'a Graph, ValueId)>;

/// Pairs of close weights, the closest first.
fn closest(left: &[Weight<'_>], right: &[Weight<'_>]) -> Vec<(usize, usize)> {
    if left.len().max(right.len()) > MOST_TWINS {
        return Vec::new();
    }
    let read = |all: &[Weight<'_>]| -> Vec<Option<ArrayD<f32>>> {
        let floats = |(graph, value): (&Graph, ValueId)| graph.initializer(value)?.to_f32().ok();
        all.iter().map(|weight| weight.and_then(floats)).collect()
    };
    let (left, right) = (read(left), read(right));
    let mut pairs = Vec::new();
    for (a, x) in left.iter().enumerate() {
        for (b, y) in right.iter().enumerate() {
            let difference = x.as_ref().zip(y.as_ref()).and_then(|(x, y)| difference(x, y));
            pairs.extend(difference.filter(|d| *d < CLOSE).map(|d| (d, a, b)));
        }
    }
    pairs.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut of_left, mut of_right) = (BTreeSet::new(), BTreeSet::new());
    let is_free = |(_, a, b): &(f64, usize, usize)| {
        let free = !of_left.contains(a) && !of_right.contains(b);
        if free {
            of_left.insert(*a);
            of_right.insert(*b);
        }
        free
    };
    pairs.into_iter().filter(is_free).map(|(_, a, b)| (a, b)).collect()
}

/// The squared difference of two weights, relative to the sum of their squares. One of them may be stored
/// transposed.
fn difference(x: &ArrayD<f32>, y: &ArrayD<f32>) -> Option<f64> {
    let ways = [y.view(), y.t()].into_iter().filter(|y| y.shape() == x.shape());
    let apart = |y: ArrayViewD<'_, f32>| {
        let (mut apart, mut all) = (0.0, 0.0);
        for (x, y) in x.iter().zip(y).map(|(x, y)| (f64::from(*x), f64::from(*y))) {
            apart += (x - y).powi(2);
            all += x.powi(2) + y.powi(2);
        }
        (all > 0.0).then(|| apart / all)
    };
    ways.filter_map(apart).reduce(f64::min)
}

/// The nodes in `order`, except that `layers` follow each other, each behind all that it reads.
fn with_sources(graph: &Graph, layers: &[NodeId], order: &[NodeId]) -> Vec<NodeId> {
    let rank: BTreeMap<NodeId, usize> = order.iter().copied().zip(0..).collect();
    let mut seen = BTreeSet::new();
    let mut sorted = Vec::with_capacity(order.len());
    for layer in layers {
        let mut sources = Vec::new();
        let mut stack = vec![*layer];
        while let Some(id) = stack.pop() {
            if seen.insert(id) {
                sources.push(id);
                stack.extend(graph.node(id).reads().filter_map(|value| graph.producer(value)));
            }
        }
        sources.sort_by_key(|id| rank.get(id));
        sorted.extend(sources);
    }
    sorted.extend(order.iter().filter(|id| !seen.contains(*id)));
    sorted
}

#[cfg(test)]
mod tests;
