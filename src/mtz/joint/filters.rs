//! Puts the filters of each channel into an order of their own.
//!
//! A depthwise convolution with several filters per channel is written as one convolution for the first filters of all
//! channels, one for the second ones, and so on. Which filter of a channel is the first is a matter of chance, and the
//! channel structure does not tell them apart. Sorted by their weights, filters of equal rank correspond, whatever order
//! two nets had them in. Rows and columns move with them, so the net computes the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::canon::Canonical;
use crate::couple::{Channel, View};
use crate::error::Result;
use crate::ir::{Graph, NodeId, Tensor, ValueId};
use crate::ops::{NodeView, filters_of_channels};

use super::places::{Part, Places};

/// The net with the filters of each channel in order.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn sorted(mut model: Canonical) -> Result<Canonical> {
    for set in sets(&model.graph)? {
        if let Some(constants) = in_order(&model.graph, &set)? {
            model = model.with_constants(constants);
        }
    }
    Ok(model)
}

/// Sets of convolutions that differ in their weights only, and whose outputs one node joins.
fn sets(graph: &Graph) -> Result<Vec<Vec<NodeId>>> {
    let mut sets: Vec<Vec<NodeId>> = Vec::new();
    for id in graph.topological_order()? {
        if filters_of_channels(&NodeView::new(graph, id, &[])).is_none() {
            continue;
        }
        match sets.iter_mut().find(|set| are_alike(graph, set[0], id)) {
            Some(set) => set.push(id),
            None => sets.push(vec![id]),
        }
    }
    sets.retain(|set| set.len() > 1);
    Ok(sets)
}

/// Whether two convolutions differ in their weights only.
fn are_alike(graph: &Graph, a: NodeId, b: NodeId) -> bool {
    let [(x, joined), (y, others)] = [a, b].map(|id| {
        let node = graph.node(id);
        let output = node.output(0).and_then(|output| graph.only_use(output));
        (node, output.filter(|join| graph.node(*join).is("Concat")))
    });
    let extents = |value: Option<ValueId>| Some(graph.initializer(value?)?.dims.clone());
    joined.is_some()
        && joined == others
        && x.op == y.op
        && x.input(0) == y.input(0)
        && extents(x.input(1)) == extents(y.input(1))
        && extents(x.input(2)) == extents(y.input(2))
        && x.attributes == y.attributes
}

/// The constants of a net in which the filters of a set are in order; `None` if they are already, or cannot move.
fn in_order(graph: &Graph, set: &[NodeId]) -> Result<Option<Vec<(ValueId, Tensor)>>> {
    let nodes: BTreeSet<NodeId> = set.iter().copied().collect();
    let places = Places::of(graph, View { nodes: &nodes, alone: false })?;
    let mut rows: Vec<Vec<Channel>> = Vec::new();
    for id in set {
        let mut layers = places.coupling().layers.iter();
        match layers.find(|layer| layer.layer.node == *id) {
            Some(layer) => rows.push(layer.outputs.clone()),
            None => return Ok(None),
        }
    }
    let channels = rows.iter().map(Vec::len).min().unwrap_or(0);
    let mut moves = BTreeMap::new();
    for channel in 0..channels {
        let filters: Vec<Channel> = rows.iter().map(|own| own[channel]).collect();
        let is_free = |filter: &Channel| {
            places.free(*filter).is_some() && places.are_read_alike(*filter, filters[0])
        };
        if !filters.iter().all(is_free) {
            continue;
        }
        let mut ranked = Vec::new();
        for (filter, id) in filters.iter().zip(set) {
            ranked.push((numbers(graph, &places, *filter, *id)?, *filter));
        }
        ranked.sort_by(|(a, _), (b, _)| by_weight(a, b));
        moves.extend(filters.into_iter().zip(ranked.into_iter().map(|(_, filter)| filter)));
    }
    moves.retain(|to, from| to != from);
    Ok((!moves.is_empty()).then(|| places.moved(graph, &moves)).flatten())
}

/// The weights and the bias of a filter of a convolution.
fn numbers(graph: &Graph, places: &Places, filter: Channel, conv: NodeId) -> Result<Vec<f64>> {
    let node = graph.node(conv);
    let mut numbers = Vec::new();
    for place in places.free(filter).unwrap_or_default() {
        let is_own = node.inputs.contains(&Some(place.value)) && place.part == Part::Row;
        let tensor = graph.initializer(place.value).filter(|_| is_own);
        if let Some(own) = tensor.and_then(|tensor| tensor.select(place.axis, &[place.index])) {
            numbers.extend(own.to_f64()?);
        }
    }
    Ok(numbers)
}

/// The order of filters: by the sum of their numbers, then number by number.
fn by_weight(a: &[f64], b: &[f64]) -> std::cmp::Ordering {
    let sum = |own: &[f64]| own.iter().sum::<f64>();
    let each = || a.iter().zip(b).map(|(x, y)| x.total_cmp(y)).find(|order| order.is_ne());
    sum(a).total_cmp(&sum(b)).then_with(|| each().unwrap_or(std::cmp::Ordering::Equal))
}
