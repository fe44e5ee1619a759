//! Copies the nodes of a sub-graph into the graph around it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ir::{Graph, Node, NodeId, ValueId, ValueKind};
use crate::naming::UniqueNames;

/// Nodes that were copied from a sub-graph.
pub(super) struct Splice {
    /// The values that the outputs of the sub-graph have become.
    pub(super) outputs: Vec<ValueId>,
    pub(super) nodes: BTreeSet<NodeId>,
}

/// Copies nodes and constants of `inner`, whose captured values are values of `graph` and whose inputs
/// become `feeds`. Names stay as far as they are free.
pub(super) fn splice(
    graph: &mut Graph,
    names: &mut UniqueNames,
    inner: &Graph,
    feeds: &[ValueId],
) -> Splice {
    let fed: HashMap<ValueId, ValueId> =
        inner.inputs.iter().copied().zip(feeds.iter().copied()).collect();
    let mut copies = Vec::with_capacity(inner.value_count());
    for (id, value) in inner.values() {
        copies.push(match &value.kind {
            ValueKind::Captured(outer) => *outer,
            ValueKind::Initializer(tensor) => graph.add_initializer(&value.name, tensor.clone()),
            _ => fed.get(&id).copied().unwrap_or_else(|| {
                let copy = graph.add_value(&value.name, ValueKind::Detached, None);
                graph.set_type_like(copy, inner, id);
                copy
            }),
        });
    }
    let copy_of = |value: ValueId| copies.get(value.index()).copied().unwrap_or(value);
    let mut nodes = BTreeSet::new();
    for (_, node) in inner.nodes() {
        let mut node = node.clone();
        node.redirect(copy_of);
        node.outputs.iter_mut().flatten().for_each(|output| *output = copy_of(*output));
        node.name = names.claim(&node.name);
        nodes.insert(graph.add_node(node));
    }
    Splice { outputs: inner.outputs.iter().map(|output| copy_of(*output)).collect(), nodes }
}

/// Makes each second value of `pairs`, an output of a removed node, equal to the first one. The copied
/// `nodes` return it themselves where they can.
pub(super) fn deliver(
    graph: &mut Graph,
    nodes: &BTreeSet<NodeId>,
    pairs: impl IntoIterator<Item = (ValueId, ValueId)>,
) {
    let mut given: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for (source, target) in pairs {
        let first = given.get(&source).copied();
        let producer = graph.producer(source).filter(|id| nodes.contains(id));
        match (first, producer) {
            (None, Some(id)) => {
                graph.edit_node(id, |node| {
                    let own = node.outputs.iter_mut().flatten().filter(|own| **own == source);
                    own.for_each(|own| *own = target);
                });
                graph.replace_uses(source, target);
                given.insert(source, target);
            }
            _ => {
                let name = graph.value(target).name.clone();
                let node = Node::standard("Identity", &name, &[first.unwrap_or(source)], []);
                graph.add_node(Node { outputs: vec![Some(target)], ..node });
            }
        }
    }
}

/// The names of a graph's nodes.
pub(super) fn node_names(graph: &Graph) -> UniqueNames {
    UniqueNames::beside(graph.nodes().map(|(_, node)| node.name.clone()))
}
