//! Writes layers side by side whose rows make one value as one layer.
//!
//! Layers that [`super::rows`] has split are one layer of the model. Several nodes take more time than one: runtimes
//! compute narrow layers slowly, and the parts are cut out and put together.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{Attribute, Consumers, Graph, Model, NodeId, Tensor, ValueId};

use super::row_parts::{RowParts, row_axis, row_parts};
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
    join(graph, &typed, &|graph, found| constants(graph, found).flatten().all(&may_join))
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
        found.retain(|own| fits(graph, own));
        let found = joined_alike(graph, found);
        let mut known = Known::new();
        let joined = found.iter().filter(|own| own.join_layers(graph, &mut known).is_some());
        if joined.count() == 0 {
            return all;
        }
        graph.remove_dead_nodes();
        for joined in known.into_values() {
            joined.parts.iter().for_each(|part| graph.drop_initializer(*part));
            all.push(joined);
        }
    }
}

/// Constants of several layers, and the order of their rows.
type Key = (Vec<ValueId>, Vec<(usize, usize)>);

/// Joined constants by what they hold. Layers may be applied several times.
type Known = BTreeMap<Key, JoinedConstant>;

/// The constants of layers side by side, slot by slot.
fn constants<'a>(
    graph: &'a Graph,
    found: &'a RowParts,
) -> impl Iterator<Item = impl Iterator<Item = ValueId> + 'a> + 'a {
    let slots = found.layers.first().map_or(0, |id| graph.node(*id).inputs.len());
    let layers = found.layers.iter();
    (1..slots).map(move |slot| layers.clone().filter_map(move |id| graph.node(*id).input(slot)))
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

/// How layers side by side use constants.
struct Uses(BTreeMap<ValueId, (BTreeSet<Key>, BTreeSet<NodeId>)>);

impl Uses {
    fn of(graph: &Graph, found: &[RowParts]) -> Uses {
        let mut uses = Uses(BTreeMap::new());
        for own in found {
            for values in constants(graph, own) {
                let values: Vec<ValueId> = values.collect();
                for (value, layer) in values.iter().zip(&own.layers) {
                    let (keys, layers) = uses.0.entry(*value).or_default();
                    keys.insert((values.clone(), own.rows.clone()));
                    layers.insert(*layer);
                }
            }
        }
        uses
    }

    fn are_alike(&self, graph: &Graph, readers: &Consumers, own: &RowParts) -> bool {
        let is_alike = |value: &ValueId| {
            self.0.get(value).is_some_and(|(keys, layers)| {
                let read: BTreeSet<NodeId> = readers[value.index()].iter().copied().collect();
                keys.len() == 1 && *layers == read && !graph.outputs.contains(value)
            })
        };
        constants(graph, own).all(|values| {
            let values: BTreeSet<ValueId> = values.collect();
            values.len() == own.layers.len() && values.iter().all(is_alike)
        })
    }
}

impl RowParts {
    /// Turns the last node into one layer with all rows.
    fn join_layers(&self, graph: &mut Graph, known: &mut Known) -> Option<()> {
        let first = graph.node(*self.layers.first()?).clone();
        let (last, name) = (*self.join.last()?, graph.node(*self.join.first()?).name.clone());
        let name = name.strip_suffix(".join").unwrap_or(&name);
        let name = name.strip_suffix(".rows").unwrap_or(name);
        let slots: Vec<Vec<ValueId>> = constants(graph, self).map(Iterator::collect).collect();
        let mut inputs = vec![Some(self.input)];
        for ((slot, parts), suffix) in slots.into_iter().enumerate().zip(["weight", "bias"]) {
            let axis = if slot == 0 { row_axis(&first, self.is_depthwise) } else { 0 };
            let key = (parts, self.rows.clone());
            if !known.contains_key(&key) {
                let whole = self.constant(graph, &key.0, axis)?;
                let name = format!("{}.{suffix}", common_name(graph, &key.0).unwrap_or(name));
                let whole = graph.add_initializer(&name, whole);
                let (parts, places) = (key.0.clone(), self.places());
                known.insert(key.clone(), JoinedConstant { parts, whole, axis, places });
            }
            inputs.push(known.get(&key).map(|joined| joined.whole));
        }
        graph.edit_node(last, |node| {
            node.op.clone_from(&first.op);
            node.inputs = inputs;
            node.attributes.clone_from(&first.attributes);
            name.clone_into(&mut node.name);
            if self.is_depthwise {
                let groups = Attribute::Int(self.rows.len() as i64);
                node.attributes.insert("group".to_owned(), groups);
            }
        });
        Some(())
    }

    /// For each layer, the place of each of its rows.
    fn places(&self) -> Vec<Vec<usize>> {
        let mut places = vec![BTreeMap::new(); self.layers.len()];
        for (place, (layer, row)) in self.rows.iter().enumerate() {
            places[*layer].insert(*row, place);
        }
        places.into_iter().map(|of_layer| of_layer.into_values().collect()).collect()
    }

    /// The constants of the layers as one, with rows on `axis`.
    fn constant(&self, graph: &Graph, values: &[ValueId], axis: usize) -> Option<Tensor> {
        let all: Vec<&Tensor> =
            values.iter().map(|value| graph.initializer(*value)).collect::<Option<_>>()?;
        let places = self.places().concat();
        let mut order = vec![0; places.len()];
        for (at, place) in places.into_iter().enumerate() {
            *order.get_mut(place)? = at;
        }
        Tensor::joined(&all, axis)?.select(axis, &order)
    }
}

/// What the names of values begin with, if it is anything.
fn common_name<'g>(graph: &'g Graph, values: &[ValueId]) -> Option<&'g str> {
    let mut names = values.iter().map(|value| graph.value(*value).name.as_str());
    let first = names.next()?;
    let common = |one: &'g str, other: &str| {
        let same = one.char_indices().zip(other.chars()).find(|((_, a), b)| a != b);
        same.map_or(one, |((at, _), _)| &one[..at])
    };
    Some(names.fold(first, common).trim_end_matches('.')).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::{CanonOptions, canonicalise, split_rows};
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn split_layers_are_found_with_the_order_of_their_rows() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,4,8,8");
        let (w, d) = (b.weights("w", &[4, 4, 3, 3]), b.weights("d", &[4, 1, 3, 3]));
        let y = b.op("Conv", "conv", &[x, w], []);
        let y = b.op("Relu", "first", &[y], []);
        let z = b.op("Conv", "deep", &[y, d], [("group", 4.into())]);
        let z = b.op("Relu", "relu", &[z], []);
        let model = canonicalise(b.build(&[z]), &CanonOptions::default()).unwrap();
        let node = |name: &str| model.graph.nodes().find(|(_, n)| n.name == name).unwrap().0;
        let originals = ["conv", "deep"].map(|name| {
            let weight = model.graph.node(node(name)).input(1).unwrap();
            (name, model.graph.initializer(weight).unwrap().clone())
        });
        let parts = [vec![0, 2], vec![3, 1]];
        let all = [(node("conv"), &parts[..]), (node("deep"), &parts[..])];
        let split = split_rows(model, all).unwrap();
        let found = row_parts(&split.graph, &split.graph);
        assert_eq!(found.len(), 2);
        for own in &found {
            assert_eq!(own.rows, [(0, 0), (1, 1), (0, 1), (1, 0)]);
            assert_eq!((own.join.len(), own.layers.len()), (2, 2));
        }
        assert_eq!(found.iter().filter(|own| own.is_depthwise).count(), 1);
        let mut model = split.into_inner();
        rejoin(&mut model);
        let nodes = model.graph.nodes().map(|(_, node)| (node.name.as_str(), node.op.as_str()));
        assert_eq!(
            nodes.collect::<BTreeSet<_>>(),
            BTreeSet::from([
                ("conv", "Conv"),
                ("first", "Relu"),
                ("deep", "Conv"),
                ("relu", "Relu")
            ])
        );
        let weights = model.graph.nodes().filter_map(|(_, node)| node.input(1));
        let weights: Vec<&Tensor> = weights.filter_map(|w| model.graph.initializer(w)).collect();
        for (name, original) in &originals {
            assert!(weights.contains(&original), "{name}");
        }
    }
}
