//! Constants of layers side by side, and the constants that hold all of them.
//!
//! A constant is an initializer, or the sum of two, which runtimes compute when they load the model.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{Codes, Graph, NodeId, Tensor, ValueId};

use super::row_parts::{RowParts, addends, row_axis};

/// Values of layers side by side, one of each, with the nodes that read them.
#[derive(Debug)]
pub(super) struct Slot {
    /// The axis of rows.
    pub(super) axis: usize,
    /// In the order of the layers.
    pub(super) reads: Vec<(NodeId, ValueId)>,
}

impl Slot {
    /// The values.
    pub(super) fn values(&self) -> Vec<ValueId> {
        self.reads.iter().map(|(_, value)| *value).collect()
    }

    /// The first and the second operands, if all values are sums of constants; else nothing.
    pub(super) fn terms(&self, graph: &Graph) -> Vec<Slot> {
        let sums: Option<Vec<_>> =
            self.reads.iter().map(|(_, value)| addends(graph, *value)).collect();
        let sums = sums.unwrap_or_default();
        let of_sums = |place: usize| Slot {
            axis: self.axis,
            reads: sums.iter().map(|(node, pair)| (*node, pair[place])).collect(),
        };
        if sums.is_empty() { Vec::new() } else { [0, 1].map(of_sums).into() }
    }
}

impl RowParts {
    /// All values that one value replaces: constants, sums of them, and products to which biases are added.
    pub(super) fn slots(&self, graph: &Graph) -> Vec<Slot> {
        let mut slots = self.inner(graph);
        let terms: Vec<Slot> = slots.iter().flat_map(|slot| slot.terms(graph)).collect();
        slots.extend(terms);
        if let Some(products) = self.products(graph) {
            slots.push(products);
            slots.push(Slot { axis: 0, reads: self.added.clone() });
        }
        slots
    }

    /// The constants that the layers read: weights, and biases if there are any.
    pub(super) fn inner(&self, graph: &Graph) -> Vec<Slot> {
        let Some(first) = self.layers.first().map(|id| graph.node(*id)) else { return Vec::new() };
        let of_layers = |slot: usize| {
            let read = |id: &NodeId| Some((*id, graph.node(*id).input(slot)?));
            let axis = if slot == 1 { row_axis(first, self.is_depthwise) } else { 0 };
            Slot { axis, reads: self.layers.iter().filter_map(read).collect() }
        };
        (1..first.inputs.len()).map(of_layers).collect()
    }

    /// The outputs of the layers, if biases are added to them.
    pub(super) fn products(&self, graph: &Graph) -> Option<Slot> {
        let outputs = self.layers.iter().map(|id| graph.node(*id).output(0));
        let read = |(output, (id, _)): (Option<ValueId>, &(NodeId, ValueId))| Some((*id, output?));
        let reads: Vec<_> = outputs.zip(&self.added).map(read).collect::<Option<_>>()?;
        (!reads.is_empty()).then_some(Slot { axis: 0, reads })
    }

    /// For each layer, the place of each of its rows.
    pub(super) fn places(&self) -> Vec<Vec<usize>> {
        let mut places = vec![BTreeMap::new(); self.layers.len()];
        for (place, (layer, row)) in self.rows.iter().enumerate() {
            places[*layer].insert(*row, place);
        }
        places.into_iter().map(|of_layer| of_layer.into_values().collect()).collect()
    }

    /// Whether all initializers can be stored as one each.
    pub(super) fn is_storable(&self, graph: &Graph) -> bool {
        let is_coded =
            |slot: &Slot| slot.values().iter().any(|value| graph.codes(*value).is_some());
        self.slots(graph)
            .iter()
            .filter(|slot| is_coded(slot))
            .all(|s| self.whole(graph, s).is_some())
    }

    /// The initializers of a slot as one, with its codes; `None` if these would not hold the same numbers in as few
    /// bits.
    pub(super) fn whole(&self, graph: &Graph, slot: &Slot) -> Option<(Tensor, Option<Codes>)> {
        let values = slot.values();
        let parts: Vec<&Tensor> =
            values.iter().map(|value| graph.initializer(*value)).collect::<Option<_>>()?;
        let order = self.order()?;
        let whole = Tensor::joined(&parts, slot.axis)?.select(slot.axis, &order)?;
        let codes: Vec<&Codes> = values.iter().filter_map(|value| graph.codes(*value)).collect();
        if codes.is_empty() {
            return Some((whole, None));
        }
        let extent = |part: &&Tensor| part.dims.get(slot.axis).copied();
        let extents: Vec<usize> = parts.iter().map(extent).collect::<Option<_>>()?;
        let sized: Vec<(&Codes, usize)> = codes.iter().copied().zip(extents).collect();
        let joined = Codes::joined(&sized, slot.axis)?.select(slot.axis, &order)?;
        let is_stored = |codes: &Codes, tensor: &Tensor| codes.encode(tensor).is_some();
        let mut kinds: BTreeSet<bool> =
            codes.iter().zip(&parts).map(|(codes, part)| is_stored(codes, part)).collect();
        kinds.insert(is_stored(&joined, &whole));
        let scales: usize = codes.iter().map(|codes| codes.scale.len()).sum();
        let fits = codes.len() == parts.len() && kinds.len() == 1 && joined.scale.len() <= scales;
        fits.then_some((whole, Some(joined)))
    }

    /// For each row of the joined layer, its place among the rows of all layers.
    fn order(&self) -> Option<Vec<usize>> {
        let places = self.places().concat();
        let mut order = vec![0; places.len()];
        for (at, place) in places.into_iter().enumerate() {
            *order.get_mut(place)? = at;
        }
        Some(order)
    }
}
