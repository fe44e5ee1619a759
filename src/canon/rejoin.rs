//! Writes layers side by side whose rows make one value as one layer.
//!
//! Layers that [`super::rows`] has split are one layer of the model. Several nodes take more time than one: runtimes
//! compute narrow layers slowly, and the parts are cut out and put together.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{Attribute, Consumers, Graph, Model, Node, NodeId, ValueId, ValueKind};

use super::row_constants::Slot;
use super::row_parts::{RowParts, row_parts};
use super::types;

/// A constant that holds the rows of several others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedConstant {
    /// The others, which are dropped.
    pub parts: Vec<ValueId>,
    /// The constant.
    pub whole: ValueId,
    /// Its axis of rows.
    pub axis: usize,
    /// For each of the others, the places of its rows along that axis.
    pub places: Vec<Vec<usize>>,
}

/// Writes the layers that [`super::split_rows`] has split as one layer each again.
pub fn rejoin(model: &mut Model) {
    let typed = model.graph.clone();
    join(&mut model.graph, &typed, &|graph, found| is_split(graph, found));
}

/// Writes layers side by side as one layer each, where each of their constants is joined with the same ones by all
/// its readers, and `may_join` allows it. Returns the new constants in the order in which they were made.
pub fn join_layers(graph: &mut Graph, may_join: impl Fn(ValueId) -> bool) -> Vec<JoinedConstant> {
    let mut typed = graph.clone();
    // Nothing is joined in a graph whose types are not known.
    if types::infer(&mut typed).is_err() {
        return Vec::new();
    }
    let fits = |graph: &Graph, found: &RowParts| {
        found.slots(graph).iter().flat_map(Slot::values).all(&may_join)
    };
    join(graph, &typed, &fits)
}

/// Joins layers until there are none to be joined: a part of a layer may be split again.
fn join(
    graph: &mut Graph,
    typed: &Graph,
    fits: &dyn Fn(&Graph, &RowParts) -> bool,
) -> Vec<JoinedConstant> {
    let mut all: Vec<JoinedConstant> = Vec::new();
    loop {
        let mut found = row_parts(graph, typed);
        found.retain(|own| fits(graph, own) && own.is_storable(graph));
        let found = joined_alike(graph, found);
        let mut known = Known::default();
        let joined = found.iter().filter(|own| own.join_layers(graph, &mut known).is_some());
        if joined.count() == 0 {
            return all;
        }
        graph.remove_dead_nodes();
        for joined in known.constants.into_values() {
            if graph.is_used(joined.whole) {
                joined.parts.iter().for_each(|part| graph.drop_initializer(*part));
                all.push(joined);
            }
        }
    }
}

/// Values of several layers, and the order of their rows.
type Key = (Vec<ValueId>, Vec<(usize, usize)>);

/// What is joined already, by what it holds. Layers may be applied several times, and products may have several biases.
#[derive(Default)]
struct Known {
    constants: BTreeMap<Key, JoinedConstant>,
    computed: BTreeMap<Key, ValueId>,
}

/// Whether canonical form gave the layers their names, so that the model has one layer.
fn is_split(graph: &Graph, found: &RowParts) -> bool {
    let name = |id: &NodeId| graph.node(*id).name.as_str();
    let whole = found.join.first().and_then(|id| name(id).strip_suffix(".rows"));
    whole.is_some_and(|whole| {
        let is_part = |id| name(id).strip_prefix(whole).is_some_and(|end| end.starts_with('.'));
        found.layers.iter().all(is_part)
    })
}

/// Those whose constants all readers join with the same ones in the same order, so that none is stored twice.
fn joined_alike(graph: &Graph, mut found: Vec<RowParts>) -> Vec<RowParts> {
    let readers = graph.consumers();
    loop {
        let before = found.len();
        let uses = Uses::of(graph, &found);
        found.retain(|own| uses.are_alike(graph, &readers, own));
        if found.len() == before {
            return found;
        }
    }
}

/// How layers side by side use constants and products.
struct Uses(BTreeMap<ValueId, (BTreeSet<Key>, BTreeSet<NodeId>)>);

impl Uses {
    fn of(graph: &Graph, found: &[RowParts]) -> Uses {
        let mut uses = Uses(BTreeMap::new());
        for own in found {
            for slot in own.slots(graph) {
                let values = slot.values();
                for (reader, value) in slot.reads {
                    let (keys, readers) = uses.0.entry(value).or_default();
                    keys.insert((values.clone(), own.rows.clone()));
                    readers.insert(reader);
                }
            }
        }
        uses
    }

    fn are_alike(&self, graph: &Graph, readers: &Consumers, own: &RowParts) -> bool {
        let is_alike = |value: &ValueId| {
            self.0.get(value).is_some_and(|(keys, own)| {
                let all: BTreeSet<NodeId> = readers[value.index()].iter().copied().collect();
                keys.len() == 1 && *own == all && !graph.outputs.contains(value)
            })
        };
        own.slots(graph).iter().all(|slot| {
            let values: BTreeSet<ValueId> = slot.values().into_iter().collect();
            values.len() == own.layers.len() && values.iter().all(is_alike)
        })
    }
}

impl RowParts {
    /// Turns the last node into one layer with all rows.
    fn join_layers(&self, graph: &mut Graph, known: &mut Known) -> Option<()> {
        let (last, name) = (*self.join.last()?, graph.node(*self.join.first()?).name.clone());
        let name = name.strip_suffix(".join").unwrap_or(&name);
        let name = name.strip_suffix(".rows").unwrap_or(name);
        let node = match self.products(graph) {
            None => self.layer(graph, name, known)?,
            Some(products) => self.addition(graph, name, known, &products)?,
        };
        graph.edit_node(last, |last| {
            let outputs = std::mem::take(&mut last.outputs);
            *last = Node { outputs, ..node };
        });
        Some(())
    }

    /// The layer with all rows.
    fn layer(&self, graph: &mut Graph, name: &str, known: &mut Known) -> Option<Node> {
        let first = graph.node(*self.layers.first()?).clone();
        let mut layer = Node { name: name.to_owned(), inputs: vec![Some(self.input)], ..first };
        for (slot, suffix) in self.inner(graph).iter().zip(["weight", "bias"]) {
            layer.inputs.push(Some(self.constant(graph, slot, (name, suffix), known)?));
        }
        if self.is_depthwise {
            let groups = Attribute::Int(self.rows.len() as i64);
            layer.attributes.insert("group".to_owned(), groups);
        }
        Some(layer)
    }

    /// What adds the bias of all rows to the product with all rows.
    fn addition(
        &self,
        graph: &mut Graph,
        name: &str,
        known: &mut Known,
        products: &Slot,
    ) -> Option<Node> {
        let key = (products.values(), self.rows.clone());
        let product = match known.computed.get(&key) {
            Some(product) => *product,
            None => {
                let layer = self.layer(graph, name, known)?;
                let product = graph.add_value(name, ValueKind::Detached, None);
                graph.add_node(Node { outputs: vec![Some(product)], ..layer });
                known.computed.insert(key, product);
                product
            }
        };
        let names = self.added.iter().map(|(id, _)| graph.node(*id).name.as_str());
        let own = common_start(names).unwrap_or(name).to_owned();
        let slot = Slot { axis: 0, reads: self.added.clone() };
        let bias = self.constant(graph, &slot, (&own, "bias"), known)?;
        Some(Node::standard("Add", &own, &[product, bias], []))
    }

    /// The constant with all rows of a slot. It is called after its parts, or after the layer.
    fn constant(
        &self,
        graph: &mut Graph,
        slot: &Slot,
        (layer, suffix): (&str, &str),
        known: &mut Known,
    ) -> Option<ValueId> {
        let key = (slot.values(), self.rows.clone());
        let joined = known.constants.get(&key).map(|joined| joined.whole);
        if let Some(known) = joined.or(known.computed.get(&key).copied()) {
            return Some(known);
        }
        let names = key.0.iter().map(|value| graph.value(*value).name.as_str());
        let name = format!("{}.{suffix}", common_start(names).unwrap_or(layer));
        let mut terms = Vec::new();
        for (term, suffix) in slot.terms(graph).iter().zip([suffix, "difference"]) {
            terms.push(self.constant(graph, term, (layer, suffix), known)?);
        }
        if !terms.is_empty() {
            let sum = graph.add_op("Add", &name, &terms, []);
            known.computed.insert(key, sum);
            return Some(sum);
        }
        let (whole, codes) = self.whole(graph, slot)?;
        let whole = graph.add_stored(&name, whole, codes);
        let (parts, places) = (key.0.clone(), self.places());
        known.constants.insert(key, JoinedConstant { parts, whole, axis: slot.axis, places });
        Some(whole)
    }
}

/// What names begin with, if it is anything.
fn common_start<'n>(mut names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let first = names.next()?;
    let common = |one: &'n str, other: &str| {
        let same = one.char_indices().zip(other.chars()).find(|((_, a), b)| a != b);
        same.map_or(one, |((at, _), _)| &one[..at])
    };
    Some(names.fold(first, common).trim_end_matches('.')).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
