//! Turns values that a loop carries and never changes into captured ones.
//!
//! TensorFlow's loops carry the weights. A captured value is the same for all steps, and what is known of it outside
//! is known inside.

use crate::ir::{Attribute, Graph, Node, NodeId, ValueId};

use super::super::rewire;

/// The inputs of a `Loop` before the carried values, and the same of its body.
const LEADING: usize = 2;

/// Lets the body of a `Loop` capture all carried values that it returns unchanged.
pub(super) fn capture_unchanged(graph: &mut Graph, id: NodeId) -> bool {
    let mut modified = false;
    while let Some(()) = unchanged(graph.node(id)).and_then(|place| capture(graph, id, place)) {
        modified = true;
    }
    modified
}

fn body(node: &Node) -> Option<&Graph> {
    match node.attributes.get("body") {
        Some(Attribute::Graph(body)) => Some(body.as_ref()),
        _ => None,
    }
}

/// The first carried value that is unchanged after a step.
fn unchanged(node: &Node) -> Option<usize> {
    let body = body(node).filter(|_| node.is("Loop"))?;
    let states = node.inputs.len().checked_sub(LEADING)?;
    if body.inputs.len() != states + LEADING || body.outputs.len() <= states {
        return None;
    }
    (0..states).find(|place| {
        let (Some(input), Some(output)) =
            (body.inputs.get(LEADING + place), body.outputs.get(1 + place))
        else {
            return false;
        };
        // A captured value cannot be an output of the body.
        let elsewhere = body.outputs.iter().enumerate().any(|(i, o)| i != 1 + place && o == input);
        node.input(LEADING + place).is_some() && !elsewhere && origin(body, *output) == *input
    })
}

/// The value that a chain of `Identity` nodes begins with.
pub(super) fn origin(graph: &Graph, mut value: ValueId) -> ValueId {
    while let Some(node) = graph.producer(value).map(|id| graph.node(id)) {
        match node.input(0).filter(|_| node.is("Identity")) {
            Some(input) => value = input,
            None => break,
        }
    }
    value
}

fn capture(graph: &mut Graph, id: NodeId, place: usize) -> Option<()> {
    let outer = graph.node(id).input(LEADING + place)?;
    let last = graph.node(id).output(place);
    graph.edit_node(id, |node| {
        node.inputs.remove(LEADING + place);
        if place < node.outputs.len() {
            node.outputs.remove(place);
        }
        if let Some(Attribute::Graph(body)) = node.attributes.get_mut("body") {
            let inner = body.inputs.remove(LEADING + place);
            body.outputs.remove(1 + place);
            body.set_captured(inner, outer);
            rewire::prune(body);
        }
    });
    if let Some(last) = last {
        let name = graph.value(last).name.clone();
        let node = Node::standard("Identity", &name, &[outer], []);
        graph.add_node(Node { outputs: vec![Some(last)], ..node });
    }
    Some(())
}
