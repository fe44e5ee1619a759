//! Compares the extents of different tasks' activations: only activations of equal extents can be added.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Node, Tensor, ValueId};

/// The extents of an activation, except that of channels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Extents {
    /// They are fixed; the number of samples may be open.
    Fixed(Option<usize>, Vec<usize>),
    /// A hash of the computation that derives them from the extents of the inputs.
    Computed(u64),
}

/// The extents of a net's activations.
#[derive(Default)]
pub(crate) struct ExtentTable(HashMap<ValueId, u64>);

impl ExtentTable {
    /// The extents of the activations of `graph`.
    ///
    /// # Errors
    /// As [`Graph::topological_order`].
    pub(crate) fn of(graph: &Graph) -> Result<ExtentTable> {
        let mut ways = HashMap::new();
        for (place, input) in graph.inputs.iter().enumerate() {
            ways.insert(*input, place as u64);
        }
        for id in graph.topological_order()? {
            let node = graph.node(id);
            let way = way(graph, node, &ways);
            for (place, output) in node.outputs.iter().enumerate() {
                let Some(output) = output else { continue };
                let way = if place == 0 { way } else { hash((way, place)) };
                ways.insert(*output, way);
            }
        }
        Ok(ExtentTable(ways))
    }

    /// The extents of `value`, whose channels are along `axis`.
    pub(crate) fn get(&self, graph: &Graph, value: ValueId, axis: usize) -> Extents {
        let shape = graph.value(value).ty.as_ref().and_then(|t| t.shape.as_ref());
        let others = |shape: &Vec<Dim>| -> Option<Vec<usize>> {
            let dims = shape.iter().enumerate().filter(|(at, _)| *at != 0 && *at != axis);
            dims.map(|(_, dim)| dim.known()).collect()
        };
        // What no input is read for has as many rows as its constants.
        let samples = shape.and_then(|shape| shape.first()).and_then(Dim::known);
        match shape.and_then(others) {
            Some(fixed) => Extents::Fixed(samples.filter(|_| axis != 0), fixed),
            None => Extents::Computed(self.0.get(&value).copied().unwrap_or_default()),
        }
    }
}

/// A hash of the nodes between the inputs and a node's output, as far as they change extents.
fn way(graph: &Graph, node: &Node, ways: &HashMap<ValueId, u64>) -> u64 {
    let read = |value: &ValueId| ways.get(value).copied();
    let computed: Vec<u64> = node.inputs.iter().flatten().filter_map(read).collect();
    let whole = |attribute: &Attribute| match attribute {
        Attribute::Int(_) | Attribute::Ints(_) | Attribute::Str(_) => {
            Some(format!("{attribute:?}"))
        }
        _ => None,
    };
    let attributes: Vec<(&String, String)> =
        node.attributes.iter().filter_map(|(name, value)| Some((name, whole(value)?))).collect();
    let constants: Vec<&Tensor> =
        node.inputs.iter().flatten().filter_map(|v| graph.initializer(*v)).collect();
    let windows: Vec<&[usize]> =
        constants.iter().filter_map(|t| t.dims.get(2..)).filter(|w| !w.is_empty()).collect();
    let numbers: Vec<Vec<i64>> = constants.iter().filter_map(|t| t.to_i64()).collect();
    match computed.as_slice() {
        // An activation function keeps extents.
        [only] if attributes.is_empty() && windows.is_empty() && numbers.is_empty() => *only,
        _ => hash((&node.op, attributes, windows, numbers, computed)),
    }
}

/// A hash that is the same in every run.
fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
