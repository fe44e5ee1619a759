//! Turns values that a loop carries and never changes into captured ones.
//!
//! TensorFlow's loops carry the weights. A captured value is the same for all steps, and what is known of it outside
//! is known inside.

use std::collections::{BTreeMap, HashMap};

use crate::ir::{Attribute, Graph, Node, NodeId, ValueId};

use super::super::rewire;

/// The inputs of a `Loop` before the carried values, and the same of its body.
const LEADING: usize = 2;

/// Lets the body of a `Loop` capture all carried values that it returns unchanged.
pub(super) fn capture_unchanged(graph: &mut Graph, id: NodeId) -> bool {
    let unchanged = unchanged(graph.node(id)).unwrap_or_default();
    if unchanged.is_empty() {
        return false;
    }
    let last = graph.node(id).outputs.clone();
    graph.edit_node(id, |node| {
        let is_left = |place: Option<usize>| place.is_none_or(|p| !unchanged.contains_key(&p));
        keep(&mut node.inputs, |index| is_left(index.checked_sub(LEADING)));
        keep(&mut node.outputs, |index| is_left(Some(index)));
        if let Some(Attribute::Graph(body)) = node.attributes.get_mut("body") {
            let inputs = body.inputs.clone();
            for (place, outer) in &unchanged {
                if let Some(inner) = inputs.get(LEADING + place) {
                    body.set_captured(*inner, *outer);
                }
            }
            keep(&mut body.inputs, |index| is_left(index.checked_sub(LEADING)));
            keep(&mut body.outputs, |index| is_left(index.checked_sub(1)));
            rewire::prune(body);
        }
    });
    for (place, outer) in unchanged {
        if let Some(last) = last.get(place).copied().flatten() {
            let node = Node::standard("Identity", &graph.value(last).name, &[outer], []);
            graph.add_node(Node { outputs: vec![Some(last)], ..node });
        }
    }
    true
}

/// Removes all elements but those at indices that are kept.
fn keep<T>(all: &mut Vec<T>, is_kept: impl Fn(usize) -> bool) {
    let mut indices = 0..;
    all.retain(|_| indices.next().is_some_and(&is_kept));
}

/// The carried values that are unchanged after a step: their places and the values outside.
fn unchanged(node: &Node) -> Option<BTreeMap<usize, ValueId>> {
    let Some(Attribute::Graph(body)) = node.attributes.get("body").filter(|_| node.is("Loop"))
    else {
        return None;
    };
    let states = node.inputs.len().checked_sub(LEADING)?;
    if body.inputs.len() != states + LEADING || body.outputs.len() <= states {
        return None;
    }
    let origins = origins(body)?;
    let mut returned: HashMap<ValueId, usize> = HashMap::new();
    body.outputs.iter().for_each(|output| *returned.entry(*output).or_default() += 1);
    let outer = |place: usize| {
        let (input, output) = (body.inputs.get(LEADING + place)?, body.outputs.get(1 + place)?);
        // A captured value cannot be an output of the body.
        let at_own_place = usize::from(input == output);
        let is_alone = returned.get(input).copied().unwrap_or(0) == at_own_place;
        let is_unchanged = origins.get(output).unwrap_or(output) == input;
        node.input(LEADING + place).filter(|_| is_alone && is_unchanged)
    };
    Some((0..states).filter_map(|place| Some((place, outer(place)?))).collect())
}

/// The values that chains of `Identity` nodes begin with, by the values behind them.
fn origins(graph: &Graph) -> Option<HashMap<ValueId, ValueId>> {
    let mut origins = HashMap::new();
    for node in graph.topological_order().ok()?.into_iter().map(|id| graph.node(id)) {
        if let (true, Some(input), Some(output)) =
            (node.is("Identity"), node.input(0), node.output(0))
        {
            origins.insert(output, origins.get(&input).copied().unwrap_or(input));
        }
    }
    Some(origins)
}
