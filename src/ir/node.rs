//! Nodes: operator calls with their attributes.

use std::collections::BTreeMap;

use super::graph::Graph;
use super::ids::ValueId;
use super::tensor::Tensor;

/// The value of a node's attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// One integer.
    Int(i64),
    /// One float.
    Float(f32),
    /// One byte string.
    Str(Vec<u8>),
    /// A tensor.
    Tensor(Tensor),
    /// A sub-graph.
    Graph(Box<Graph>),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A list of floats.
    Floats(Vec<f32>),
    /// A list of byte strings.
    Strs(Vec<Vec<u8>>),
    /// Any other kind (sparse tensors, type protos…), as its encoded `AttributeProto`.
    Encoded(Vec<u8>),
}

/// One operator call.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    /// Name for messages; may be empty in files, is filled in on loading.
    pub name: String,
    /// Operator, e.g. `Conv`.
    pub op: String,
    /// Operator set domain; empty for the standard one.
    pub domain: String,
    /// Inputs in order; `None` where an optional input is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Outputs in order; `None` where an optional output is left out.
    pub outputs: Vec<Option<ValueId>>,
    /// Attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
}

impl Node {
    /// A node of the standard operator set without outputs yet.
    pub fn standard(
        op: &str,
        name: &str,
        inputs: &[ValueId],
        attributes: impl IntoIterator<Item = (&'static str, Attribute)>,
    ) -> Node {
        Node {
            name: name.to_owned(),
            op: op.to_owned(),
            inputs: inputs.iter().copied().map(Some).collect(),
            attributes: attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            ..Node::default()
        }
    }

    /// The `index`-th input, if present.
    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// The `index`-th output, if present.
    pub fn output(&self, index: usize) -> Option<ValueId> {
        self.outputs.get(index).copied().flatten()
    }

    /// Integer attribute `name`, or `default`.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        match self.attributes.get(name) {
            Some(Attribute::Int(v)) => *v,
            _ => default,
        }
    }

    /// Float attribute `name`, or `default`.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        match self.attributes.get(name) {
            Some(Attribute::Float(v)) => *v,
            _ => default,
        }
    }

    /// Integer list attribute `name`.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name) {
            Some(Attribute::Ints(v)) => Some(v),
            _ => None,
        }
    }

    /// String attribute `name`.
    pub fn str(&self, name: &str) -> Option<&str> {
        match self.attributes.get(name) {
            Some(Attribute::Str(v)) => std::str::from_utf8(v).ok(),
            _ => None,
        }
    }

    /// Whether this is operator `op` of the standard operator set.
    pub fn is(&self, op: &str) -> bool {
        self.domain.is_empty() && self.op == op
    }

    /// The sub-graphs among the attributes.
    pub fn subgraphs(&self) -> impl Iterator<Item = &Graph> {
        self.attributes.values().filter_map(|a| match a {
            Attribute::Graph(g) => Some(g.as_ref()),
            _ => None,
        })
    }

    /// All values that the node reads: its inputs, and the values captured by its sub-graphs.
    pub fn reads(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs.iter().flatten().copied().chain(self.subgraphs().flat_map(Graph::captures))
    }
}
