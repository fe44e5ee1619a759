//! The graph: values and nodes.
//!
//! Nodes and values are named by typed ids that stay valid while the graph changes. Value names are
//! unique inside a graph. A sub-graph (a branch of `If`) refers to values of the graph around it by
//! [`ValueKind::Captured`].

use std::collections::{BTreeMap, HashMap};

use super::codes::Codes;
use super::ids::{NodeId, ValueId};
use super::index::Index;
use super::node::Node;
use super::samples;
use super::size::Dim;
use super::tensor::{Tensor, TensorType};
use super::value::{Value, ValueKind};

/// A computation graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// Name of the graph in the file.
    pub name: String,
    /// Inputs in order.
    pub inputs: Vec<ValueId>,
    /// Outputs in order.
    pub outputs: Vec<ValueId>,
    pub(super) values: Vec<Value>,
    pub(super) nodes: Vec<Option<Node>>,
    pub(super) names: HashMap<String, ValueId>,
    pub(super) codes: BTreeMap<ValueId, Codes>,
    pub(super) index: Index,
}

/// For each value, the nodes that read it, in node order.
pub type Consumers = Vec<Vec<NodeId>>;

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Graph { name: name.into(), ..Graph::default() }
    }

    /// Number of values ever created; ids index tables of this length.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// The value named by `id`.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The batch size that the inputs fix.
    pub fn fixed_batch(&self) -> Option<usize> {
        samples::fixed_batch(&self.input_shapes())
    }

    /// The axis of each input that counts samples.
    pub fn sample_axes(&self) -> Vec<usize> {
        samples::sample_axes(&self.input_shapes())
    }

    /// The axis of a computed value that counts samples, as far as the shapes of the inputs and its own tell.
    pub fn sample_axis(&self, value: ValueId) -> usize {
        let mut shapes = self.input_shapes();
        shapes.push(self.value(value).ty.as_ref().and_then(|ty| ty.shape.as_deref()));
        samples::sample_axes(&shapes).pop().unwrap_or(0)
    }

    /// The shapes of the inputs, where known.
    fn input_shapes(&self) -> Vec<Option<&[Dim]>> {
        let shape = |input: &ValueId| self.value(*input).ty.as_ref()?.shape.as_deref();
        self.inputs.iter().map(shape).collect()
    }

    /// The value called `name`.
    pub fn value_named(&self, name: &str) -> Option<ValueId> {
        self.names.get(name).copied()
    }

    /// All values with their ids.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        (0u32..).map(ValueId).zip(&self.values)
    }

    /// The node named by `id`; ids of removed nodes must not be used.
    pub fn node(&self, id: NodeId) -> &Node {
        match &self.nodes[id.index()] {
            Some(node) => node,
            None => unreachable!("node {id:?} was removed"),
        }
    }

    /// All nodes with their ids, in order of creation.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0u32..).map(NodeId).zip(&self.nodes).filter_map(|(id, n)| n.as_ref().map(|n| (id, n)))
    }

    /// The constant behind `id`, if it is an initializer.
    pub fn initializer(&self, id: ValueId) -> Option<&Tensor> {
        match &self.value(id).kind {
            ValueKind::Initializer(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Element type and shape of a value, where known: those of its tensor for a constant.
    pub fn type_of(&self, id: ValueId) -> Option<TensorType> {
        match self.initializer(id) {
            Some(tensor) => Some(tensor.ty()),
            None => self.value(id).ty.clone(),
        }
    }

    /// The quantisation of a constant, if it has one.
    pub fn codes(&self, id: ValueId) -> Option<&Codes> {
        self.codes.get(&id)
    }

    /// The node that computes `id`.
    pub fn producer(&self, id: ValueId) -> Option<NodeId> {
        match self.value(id).kind {
            ValueKind::Computed(node) => Some(node),
            _ => None,
        }
    }

    /// Values of the enclosing graph that this one reads.
    pub fn captures(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.values.iter().filter_map(|v| match v.kind {
            ValueKind::Captured(outer) => Some(outer),
            _ => None,
        })
    }

    /// For each value, the nodes that read it.
    pub fn consumers(&self) -> Consumers {
        let mut table = vec![Vec::new(); self.values.len()];
        for (id, node) in self.nodes() {
            for value in node.reads() {
                let readers: &mut Vec<NodeId> = &mut table[value.index()];
                if readers.last() != Some(&id) {
                    readers.push(id);
                }
            }
        }
        table
    }

    /// The only consumer of `value`; `None` if there are others, or it is an output.
    pub fn only_use(&self, value: ValueId) -> Option<NodeId> {
        if self.outputs.contains(&value) {
            return None;
        }
        let mut user = None;
        for id in self.index.readers(value) {
            let Some(node) = &self.nodes[id.index()] else { continue };
            match node.reads().filter(|read| *read == value).count() {
                0 => {}
                1 if user.is_none_or(|user| user == *id) => user = Some(*id),
                _ => return None,
            }
        }
        user
    }

    /// Whether a node reads `value`, or it is an output.
    pub fn is_used(&self, value: ValueId) -> bool {
        let nodes =
            self.index.readers(value).iter().filter_map(|id| self.nodes[id.index()].as_ref());
        let mut reads = nodes.flat_map(Node::reads);
        self.outputs.contains(&value) || reads.any(|read| read == value)
    }

    /// An unused name that begins with `base`.
    pub fn fresh_name(&self, base: &str) -> String {
        self.free_name(base, self.index.first_number(base))
    }

    pub(super) fn free_name(&self, base: &str, first: u32) -> String {
        if !self.names.contains_key(base) {
            return base.to_owned();
        }
        (first..)
            .map(|i| format!("{base}.{i}"))
            .find(|n| !self.names.contains_key(n))
            .unwrap_or_default()
    }
}
