//! A model: a graph with operator sets and metadata.

use std::collections::BTreeMap;

use super::graph::Graph;

/// A model: a graph with the operator sets that define its operators.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    /// Short name for messages: the file's stem, or the task's name.
    pub name: String,
    /// Version of the IR format.
    pub ir_version: i64,
    /// Version of each operator set, by domain; the standard domain is the empty string.
    pub opsets: BTreeMap<String, i64>,
    /// Who wrote the file.
    pub producer: String,
    /// Free-form key–value pairs.
    pub metadata: BTreeMap<String, String>,
    /// Model-local functions, as encoded `FunctionProto`s.
    pub functions: Vec<Vec<u8>>,
    /// Inputs of the file that have a default value, which is a constant here.
    pub defaults: Vec<String>,
    /// The computation.
    pub graph: Graph,
}

impl Model {
    /// The same operator sets and functions around an empty graph.
    pub fn without_graph(&self) -> Model {
        Model {
            name: self.name.clone(),
            ir_version: self.ir_version,
            opsets: self.opsets.clone(),
            producer: self.producer.clone(),
            metadata: BTreeMap::new(),
            functions: self.functions.clone(),
            defaults: Vec::new(),
            graph: Graph::default(),
        }
    }

    /// Version of the standard operator set.
    pub fn opset(&self) -> i64 {
        self.opsets.get("").copied().unwrap_or(1)
    }
}
