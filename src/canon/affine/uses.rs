//! Nodes with equal weights, as heads on all levels of a pyramid have.
//!
//! Their weights are one parameter in the file. If each took up a normalisation of its own, each level would have
//! weights of its own.

use std::collections::HashMap;

use crate::canon::{rewire, tokenwise};
use crate::ir::{Consumers, Graph, NodeId, Tensor, ValueId};

use super::Fold;

/// Bytes at the beginning of a weight that are compared first.
const BEGINNING: usize = 64;

/// Sets of nodes with equal weights.
#[derive(Default)]
pub(super) struct Uses {
    sets: Vec<Vec<NodeId>>,
    set_of: HashMap<NodeId, usize>,
}

impl Uses {
    /// Those of a graph. Fixed filters, as those that blur, may be equal without being one parameter.
    pub(super) fn of(graph: &Graph) -> Uses {
        let mut known: HashMap<_, Vec<(&Tensor, usize)>> = HashMap::new();
        let mut sets: Vec<Vec<NodeId>> = Vec::new();
        for (id, node) in graph.nodes() {
            let weight = node.input(1).and_then(|value| graph.initializer(value));
            let Some(weight) = weight.filter(|weight| weight.dims.len() > 1) else { continue };
            let beginning = &weight.data[..weight.data.len().min(BEGINNING)];
            let alike = known.entry((node.op.as_str(), &weight.dims, beginning)).or_default();
            match alike.iter().find(|(other, _)| is_same(other, weight)) {
                Some((_, set)) => sets[*set].push(id),
                None => {
                    alike.push((weight, sets.len()));
                    sets.push(vec![id]);
                }
            }
        }
        let is_learned = |set: &Vec<NodeId>| {
            let weight = set.first().and_then(|id| graph.initializer(graph.node(*id).input(1)?));
            set.len() > 1 && weight.is_some_and(Tensor::rows_differ)
        };
        sets.retain(is_learned);
        let set_of =
            sets.iter().enumerate().flat_map(|(at, set)| set.iter().map(move |id| (*id, at)));
        Uses { set_of: set_of.collect(), sets }
    }

    /// The number of the set that a node belongs to, if there are several nodes in it.
    pub(super) fn set(&self, node: NodeId) -> Option<usize> {
        self.set_of.get(&node).copied()
    }

    /// The folds behind all nodes of a set; `None` if one of these is followed by something else than `fold` is.
    pub(super) fn folds(
        &self,
        graph: &Graph,
        readers: &Consumers,
        (set, fold): (usize, &Fold),
    ) -> Option<Vec<Fold>> {
        let behind = |node: &NodeId| {
            let reader = rewire::only_reader(graph, readers, output(graph, *node)?)?;
            let other = Fold::at(graph, readers, reader)?;
            (other.layer.node == *node && other.term == fold.term).then_some(other)
        };
        self.sets.get(set)?.iter().map(behind).collect()
    }
}

/// Whether two tensors are equal. Copies that `untie` made share their memory.
fn is_same(a: &Tensor, b: &Tensor) -> bool {
    let is_one = a.data.as_ptr() == b.data.as_ptr() && a.data.len() == b.data.len();
    a.dtype == b.dtype && a.dims == b.dims && (is_one || a.data == b.data)
}

/// The output of the layer whose weights a node holds.
fn output(graph: &Graph, node: NodeId) -> Option<ValueId> {
    let addition = tokenwise::product(graph, node).and_then(|product| product.bias(graph));
    graph.node(addition.map_or(node, |addition| addition.node)).output(0)
}
