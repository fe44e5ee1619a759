//! Pairs the hidden units of products beside the channels.
//!
//! Tokens have one order, and the hidden units of a mixer's product over tokens have none. They lie on an axis beside the
//! channels, which layers do not follow. So the units of a net get the order of the most similar ones of an earlier net
//! before anything is merged.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::Array2;

use crate::canon::Canonical;
use crate::couple::{Channel, Coupling, GroupId, View};
use crate::error::Result;
use crate::ir::{Graph, NodeId, ValueId};
use crate::mtz::joint::{Part, Places};
use crate::mtz::matching::{Matcher, Optimal, Share};
use crate::ops::{Flow, Operand};

/// Limit of the units of one product.
const MOST_UNITS: usize = 2048;

/// The operators of products beside the channels.
const PRODUCTS: &[&str] = &["MatMul", "Gemm", "Conv"];

/// The net with the hidden units of products beside the channels in the order of `other`, an earlier net.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a graph has a cycle.
pub(crate) fn units_like(other: &Graph, mut model: Canonical) -> Result<Canonical> {
    let nodes = [products(other)?, products(&model.graph)?];
    if nodes.iter().any(BTreeSet::is_empty) {
        return Ok(model);
    }
    let theirs = Places::of(other, View { nodes: &nodes[0], alone: true })?;
    let own = Places::of(&model.graph, View { nodes: &nodes[1], alone: true })?;
    let pairs = hidden(other, &theirs).into_iter().zip(hidden(&model.graph, &own));
    for ((first, wanted), (second, found)) in pairs {
        if wanted != found {
            continue;
        }
        let a = described(other, &theirs, first)?;
        let b = described(&model.graph, &own, second)?;
        let cost = distances(&a, &b);
        let paired = Optimal.pair(cost.view(), Share::Fraction(1.0))?;
        let channel = |index: usize| Channel { group: second, index };
        let moves = paired.pairs().iter().filter(|(to, from)| to != from);
        let moves: BTreeMap<Channel, Channel> =
            moves.map(|(to, from)| (channel(*to), channel(*from))).collect();
        if let Some(constants) = own.moved(&model.graph, &moves) {
            model = model.with_constants(constants);
        }
    }
    Ok(model)
}

/// The nodes that multiply other axes than that of the channels by constant weights.
fn products(graph: &Graph) -> Result<BTreeSet<NodeId>> {
    let is_weight = |value: Option<ValueId>| {
        let tensor = value.and_then(|value| graph.initializer(value));
        tensor.is_some_and(|tensor| tensor.dtype.is_float() && tensor.dims.len() > 1)
    };
    let has_weight = |id: &NodeId| {
        let node = graph.node(*id);
        PRODUCTS.iter().any(|op| node.is(op)) && is_weight(node.input(1))
    };
    let coupling = Coupling::of(graph)?;
    let flows = coupling.flows.iter().filter(|(id, _)| has_weight(id));
    let beside = flows.filter(|(_, flow)| match flow {
        Flow::Partwise(flow) => {
            flow.operands.first() == Some(&Operand::Channels)
                && flow.operands.get(1) == Some(&Operand::Plain)
        }
        _ => false,
    });
    Ok(beside.map(|(id, _)| *id).collect())
}

/// What the places of hidden units are: parts, axes and extents.
type Form = Vec<(Part, usize, Vec<usize>)>;

/// The groups of units that may stand in any order, with the form of their places.
fn hidden(graph: &Graph, places: &Places) -> Vec<(GroupId, Form)> {
    let groups = places.coupling().groups();
    let form = |(id, size): (GroupId, usize)| {
        let channel = |index: usize| Channel { group: id, index };
        if !(2..=MOST_UNITS).contains(&size)
            || (0..size).any(|at| places.free(channel(at)).is_none())
        {
            return None;
        }
        let places = places.free(channel(0))?.iter();
        let extents = |value| graph.initializer(value).map(|tensor| tensor.dims.clone());
        let parts = places.map(|at| Some((at.part, at.axis, extents(at.value)?)));
        Some((id, parts.collect::<Option<Form>>()?))
    };
    groups.filter_map(|(id, group)| form((id, group.size))).collect()
}

/// The numbers of each unit: its rows and entries. Columns of a later product belong to units whose order is not known
/// yet.
fn described(graph: &Graph, places: &Places, group: GroupId) -> Result<Vec<Vec<f64>>> {
    let size = places.coupling().group(group).size;
    let mut all = Vec::with_capacity(size);
    for index in 0..size {
        let mut numbers = Vec::new();
        let own = places.free(Channel { group, index }).unwrap_or_default();
        for place in own.iter().filter(|place| place.part != Part::Column) {
            let tensor = graph.initializer(place.value);
            if let Some(part) = tensor.and_then(|t| t.select(place.axis, &[place.index])) {
                numbers.extend(part.to_f64()?);
            }
        }
        all.push(numbers);
    }
    Ok(all)
}

/// The squared distances of all pairs.
fn distances(a: &[Vec<f64>], b: &[Vec<f64>]) -> Array2<f64> {
    Array2::from_shape_fn((a.len(), b.len()), |(i, j)| {
        a[i].iter().zip(&b[j]).map(|(x, y)| (x - y) * (x - y)).sum()
    })
}
