//! Changes of a graph that several passes need.

use crate::ir::{Attribute, Consumers, Graph, NodeId, Tensor, ValueId};

use super::types;

/// Makes every consumer of `output` read `source` instead, which holds the same values.
///
/// If `output` is a graph output, `source` takes over its name, which belongs to the model's interface.
/// Returns `false` if that is impossible: a graph input or a constant cannot replace a graph output.
pub(super) fn bypass(graph: &mut Graph, output: ValueId, source: ValueId) -> bool {
    let named = graph.outputs.contains(&output);
    if named && (graph.producer(source).is_none() || graph.outputs.contains(&source)) {
        return false;
    }
    if graph.producer(source).is_some() {
        let ty = types::refined(graph.value(source).ty.clone(), graph.value(output).ty.clone());
        graph.set_type(source, ty);
    }
    if !named {
        graph.replace_uses(output, source);
        return true;
    }
    let name = graph.value(output).name.clone();
    graph.replace_uses(output, source);
    graph.rename_value(output, &format!("{name}.bypassed"));
    graph.rename_value(source, &name);
    true
}

/// Adds a node, and infers its type at once, since later nodes of the same walk read it.
pub(super) fn added(
    graph: &mut Graph,
    op: &str,
    name: &str,
    inputs: &[ValueId],
    attributes: impl IntoIterator<Item = (&'static str, Attribute)>,
) -> ValueId {
    let value = graph.add_op(op, name, inputs, attributes);
    if let Some(id) = graph.producer(value) {
        types::infer_node(graph, id);
    }
    value
}

/// Replaces a computed value by a constant. Returns `false` for graph outputs, which stay computed.
pub(super) fn replace_by_constant(graph: &mut Graph, value: ValueId, tensor: Tensor) -> bool {
    let Some(producer) = graph.producer(value) else { return false };
    if graph.outputs.contains(&value) {
        return false;
    }
    graph.edit_node(producer, |node| {
        for output in node.outputs.iter_mut().filter(|o| **o == Some(value)) {
            *output = None;
        }
    });
    if graph.node(producer).outputs.iter().all(Option::is_none) {
        graph.remove_node(producer);
    }
    graph.set_initializer(value, tensor);
    graph.set_type(value, None);
    true
}

/// Replaces the constant at input `slot` of a node: in place, if it has no other consumer.
pub(super) fn store(
    graph: &mut Graph,
    readers: &Consumers,
    id: NodeId,
    slot: usize,
    base: &str,
    tensor: Tensor,
) {
    let old = graph.node(id).input(slot);
    let own = old
        .filter(|v| graph.initializer(*v).is_some() && only_reader(graph, readers, *v) == Some(id));
    match own {
        Some(value) => graph.set_initializer(value, tensor),
        None => {
            let name = old.map_or_else(|| base.to_owned(), |v| graph.value(v).name.clone());
            let value = graph.add_initializer(&name, tensor);
            graph.edit_node(id, |node| {
                node.inputs.resize(node.inputs.len().max(slot + 1), None);
                node.inputs[slot] = Some(value);
            });
        }
    }
}

/// Adds a constant with some entries of another along `axis`, which is stored in as few bits as that.
pub(super) fn selected(
    graph: &mut Graph,
    name: &str,
    constant: ValueId,
    (axis, entries): (usize, &[usize]),
) -> Option<ValueId> {
    let part = graph.initializer(constant)?.select(axis, entries)?;
    let codes = graph.codes(constant).and_then(|codes| codes.select(axis, entries));
    Some(graph.add_stored(name, part, codes))
}

/// The only consumer of `value`; `None` if there are others, or it is an output.
pub(super) fn only_reader(graph: &Graph, readers: &Consumers, value: ValueId) -> Option<NodeId> {
    match readers.get(value.index())?.as_slice() {
        [reader] if !graph.outputs.contains(&value) => {
            let uses = graph.node(*reader).reads().filter(|v| *v == value).count();
            (uses == 1).then_some(*reader)
        }
        _ => None,
    }
}

/// Whether `value` has no consumer.
pub(super) fn is_unused(graph: &Graph, readers: &Consumers, value: ValueId) -> bool {
    readers.get(value.index()).is_none_or(Vec::is_empty) && !graph.outputs.contains(&value)
}

/// Removes nodes that contribute to no output, and unused constants.
pub(super) fn prune(graph: &mut Graph) {
    graph.remove_dead_nodes();
    let readers = graph.consumers();
    let mut used: Vec<bool> = readers.iter().map(|readers| !readers.is_empty()).collect();
    graph.outputs.iter().for_each(|output| used[output.index()] = true);
    let unused: Vec<ValueId> =
        graph.values().map(|(id, _)| id).filter(|id| !used[id.index()]).collect();
    for id in unused {
        graph.drop_initializer(id);
    }
}

/// A vector of integers.
pub(super) fn ints(graph: &mut Graph, name: &str, numbers: &[i64]) -> ValueId {
    graph.add_initializer(name, Tensor::from_i64(vec![numbers.len()], numbers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::ValueKind;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn a_bypassed_output_keeps_its_name() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,3");
        let hidden = b.op("Relu", "hidden", &[x], []);
        let y = b.op("Identity", "y", &[hidden], []);
        let mut graph = b.build(&[y]).graph;
        assert!(bypass(&mut graph, y, hidden));
        assert_eq!(graph.outputs, [hidden]);
        assert_eq!(graph.value(hidden).name, "y");
    }

    #[test]
    fn an_input_cannot_be_an_output() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,3");
        let y = b.op("Identity", "y", &[x], []);
        let mut graph = b.build(&[y]).graph;
        assert!(!bypass(&mut graph, y, x));
        assert_eq!(graph.outputs, [y]);
    }

    #[test]
    fn pruning_drops_constants_of_dead_nodes() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,3");
        let w = b.weights("w", &[3]);
        b.op("Add", "dead", &[x, w], []);
        let y = b.op("Relu", "y", &[x], []);
        let mut graph = b.build(&[y]).graph;
        prune(&mut graph);
        assert_eq!(graph.nodes().count(), 1);
        assert_eq!(graph.value(w).kind, ValueKind::Detached);
    }

    #[test]
    fn a_value_read_twice_by_one_node_has_no_only_reader() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,3");
        let a = b.op("Relu", "a", &[x], []);
        let y = b.op("Mul", "y", &[a, a], []);
        let graph = b.build(&[y]).graph;
        let readers = graph.consumers();
        assert_eq!(only_reader(&graph, &readers, a), None);
        assert_eq!(only_reader(&graph, &readers, x), graph.producer(a));
    }
}
