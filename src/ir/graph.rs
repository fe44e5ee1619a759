//! The graph: values, nodes and the one set of functions that change them.
//!
//! Nodes and values are named by typed ids that stay valid while the graph changes. Value names are
//! unique inside a graph. A sub-graph (a branch of `If`) refers to values of the graph around it by
//! [`ValueKind::Captured`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use super::index::Index;
use super::tensor::{Tensor, TensorType};
use crate::error::{Error, ErrorKind, Result};

/// Names a node of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

/// Names a value of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(u32);

impl NodeId {
    /// Position in per-node tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ValueId {
    /// Position in per-value tables of length [`Graph::value_count`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueKind {
    /// Fed by the caller.
    Input,
    /// A constant stored in the model.
    Initializer(Tensor),
    /// The output of a node.
    Computed(NodeId),
    /// A value of the enclosing graph.
    Captured(ValueId),
    /// Nothing produces it any more.
    Detached,
}

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Unique name.
    pub name: String,
    /// Origin.
    pub kind: ValueKind,
    /// Element type and shape, where known.
    pub ty: Option<TensorType>,
    /// Encoded `TypeProto` of a value that is not a dense tensor (a sequence, a map, an optional…).
    pub foreign_type: Option<Vec<u8>>,
    /// Type of the tensors in a sequence or an optional value, where the file declares it.
    pub element: Option<TensorType>,
}

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

    /// Everything the node reads: its inputs and what its sub-graphs capture.
    pub fn reads(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs.iter().flatten().copied().chain(self.subgraphs().flat_map(Graph::captures))
    }
}

/// A computation graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// Name of the graph in the file.
    pub name: String,
    /// Inputs in order.
    pub inputs: Vec<ValueId>,
    /// Outputs in order.
    pub outputs: Vec<ValueId>,
    values: Vec<Value>,
    nodes: Vec<Option<Node>>,
    names: HashMap<String, ValueId>,
    index: Index,
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

    /// The batch size that the inputs insist on: the first known extent of their first axes.
    pub fn fixed_batch(&self) -> Option<usize> {
        let batch =
            |input: &ValueId| self.value(*input).ty.as_ref()?.shape.as_ref()?.first()?.known();
        self.inputs.iter().find_map(batch)
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

    /// The node that reads `value`, where that is the only use of the value.
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

    /// A name close to `base` that no value has yet.
    pub fn fresh_name(&self, base: &str) -> String {
        self.free_name(base, self.index.first_number(base))
    }

    fn free_name(&self, base: &str, first: u32) -> String {
        if !self.names.contains_key(base) {
            return base.to_owned();
        }
        (first..)
            .map(|i| format!("{base}.{i}"))
            .find(|n| !self.names.contains_key(n))
            .unwrap_or_default()
    }

    /// Adds a value; its name is made unique.
    pub fn add_value(&mut self, name: &str, kind: ValueKind, ty: Option<TensorType>) -> ValueId {
        let id = ValueId(self.values.len() as u32);
        let base = name;
        let name = self.fresh_name(base);
        self.index.number(base, &name);
        self.names.insert(name.clone(), id);
        self.values.push(Value { name, kind, ty, foreign_type: None, element: None });
        id
    }

    /// Adds a graph input.
    pub fn add_input(&mut self, name: &str, ty: TensorType) -> ValueId {
        let id = self.add_value(name, ValueKind::Input, Some(ty));
        self.inputs.push(id);
        id
    }

    /// Adds a constant.
    pub fn add_initializer(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.add_value(name, ValueKind::Initializer(tensor), None)
    }

    /// Adds a node; its outputs become [`ValueKind::Computed`] by it.
    pub fn add_node(&mut self, node: Node) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        for output in node.outputs.iter().flatten() {
            self.values[output.index()].kind = ValueKind::Computed(id);
        }
        self.index.add(id, &node);
        self.nodes.push(Some(node));
        id
    }

    /// Adds a node of the standard operator set with one new output and returns that output.
    pub fn add_op(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[ValueId],
        attributes: impl IntoIterator<Item = (&'static str, Attribute)>,
    ) -> ValueId {
        let output = self.add_value(name, ValueKind::Detached, None);
        self.add_node(Node {
            name: self.value(output).name.clone(),
            op: op.to_owned(),
            domain: String::new(),
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![Some(output)],
            attributes: attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        });
        output
    }

    /// Changes a node in place; its outputs may be renumbered, added or dropped.
    pub fn edit_node(&mut self, id: NodeId, edit: impl FnOnce(&mut Node)) {
        let Some(mut node) = self.nodes[id.index()].take() else { return };
        for output in node.outputs.iter().flatten() {
            self.values[output.index()].kind = ValueKind::Detached;
        }
        edit(&mut node);
        for output in node.outputs.iter().flatten() {
            self.values[output.index()].kind = ValueKind::Computed(id);
        }
        self.index.add(id, &node);
        self.nodes[id.index()] = Some(node);
    }

    /// Removes a node; its outputs are left detached.
    pub fn remove_node(&mut self, id: NodeId) {
        if let Some(node) = self.nodes[id.index()].take() {
            for output in node.outputs.iter().flatten() {
                if self.values[output.index()].kind == ValueKind::Computed(id) {
                    self.values[output.index()].kind = ValueKind::Detached;
                }
            }
        }
    }

    /// Turns a value into an input, behind those there are.
    pub fn set_input(&mut self, id: ValueId, ty: TensorType) {
        self.values[id.index()].kind = ValueKind::Input;
        self.values[id.index()].ty = Some(ty);
        self.inputs.push(id);
    }

    /// Turns a value into a constant.
    pub fn set_initializer(&mut self, id: ValueId, tensor: Tensor) {
        self.values[id.index()].kind = ValueKind::Initializer(tensor);
    }

    /// Drops a constant that nothing reads.
    pub fn drop_initializer(&mut self, id: ValueId) {
        if let kind @ ValueKind::Initializer(_) = &mut self.values[id.index()].kind {
            *kind = ValueKind::Detached;
        }
    }

    /// Sets the type of a value.
    pub fn set_type(&mut self, id: ValueId, ty: Option<TensorType>) {
        self.values[id.index()].ty = ty;
    }

    /// Sets the type of a value that is not a dense tensor, as an encoded `TypeProto`.
    pub fn set_foreign_type(&mut self, id: ValueId, encoded: Vec<u8>) {
        self.values[id.index()].foreign_type = Some(encoded);
    }

    /// Sets the type of the tensors in a sequence or an optional value.
    pub fn set_element(&mut self, id: ValueId, element: TensorType) {
        self.values[id.index()].element = Some(element);
    }

    /// Renames a value; the new name is made unique and returned.
    pub fn rename_value(&mut self, id: ValueId, name: &str) -> String {
        let old = std::mem::take(&mut self.values[id.index()].name);
        self.names.remove(&old);
        let name = self.free_name(name, 1);
        self.names.insert(name.clone(), id);
        self.values[id.index()].name.clone_from(&name);
        name
    }

    /// Makes every reader of `old` (nodes, their sub-graphs, graph outputs) read `new` instead.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        for id in self.index.move_readers(old, new) {
            let Some(node) = &mut self.nodes[id.index()] else { continue };
            for input in node.inputs.iter_mut().flatten() {
                if *input == old {
                    *input = new;
                }
            }
            for attribute in node.attributes.values_mut() {
                if let Attribute::Graph(sub) = attribute {
                    for value in &mut sub.values {
                        if value.kind == ValueKind::Captured(old) {
                            value.kind = ValueKind::Captured(new);
                        }
                    }
                }
            }
        }
        for output in &mut self.outputs {
            if *output == old {
                *output = new;
            }
        }
    }

    /// Points captured values at other values of the enclosing graph.
    pub fn recapture(&mut self, mut outer: impl FnMut(ValueId) -> ValueId) {
        for value in &mut self.values {
            if let ValueKind::Captured(id) = value.kind {
                value.kind = ValueKind::Captured(outer(id));
            }
        }
    }

    /// Puts `prefix/` before the name of every value of the graph and its sub-graphs, except
    /// captured ones.
    pub fn prefix_names(&mut self, prefix: &str) {
        for value in &mut self.values {
            if !matches!(value.kind, ValueKind::Captured(_)) {
                value.name = format!("{prefix}/{}", value.name);
            }
        }
        self.names =
            (0u32..).map(ValueId).zip(&self.values).map(|(id, v)| (v.name.clone(), id)).collect();
        for node in self.nodes.iter_mut().flatten() {
            for attribute in node.attributes.values_mut() {
                if let Attribute::Graph(sub) = attribute {
                    sub.prefix_names(prefix);
                }
            }
        }
    }

    /// Removes nodes that contribute to no graph output, until none is left.
    pub fn remove_dead_nodes(&mut self) {
        let mut needed = vec![false; self.nodes.len()];
        let mut stack: Vec<ValueId> = self.outputs.clone();
        while let Some(value) = stack.pop() {
            let Some(node) = self.producer(value) else { continue };
            if !std::mem::replace(&mut needed[node.index()], true) {
                stack.extend(self.node(node).reads());
            }
        }
        let dead: Vec<NodeId> =
            self.nodes().map(|(id, _)| id).filter(|id| !needed[id.index()]).collect();
        for id in dead {
            self.remove_node(id);
        }
    }

    /// The part of the graph that computes `outputs` from `inputs`, which are fed instead of being
    /// computed. Ids stay the same.
    pub fn between(&self, inputs: &[(ValueId, TensorType)], outputs: &[ValueId]) -> Graph {
        let mut part = self.clone();
        for id in std::mem::take(&mut part.inputs) {
            part.values[id.index()].kind = ValueKind::Detached;
        }
        for (id, ty) in inputs {
            part.values[id.index()].kind = ValueKind::Input;
            part.values[id.index()].ty = Some(ty.clone());
        }
        part.outputs = outputs.to_vec();
        part.remove_dead_nodes();
        let mut read = vec![false; part.values.len()];
        for value in part.nodes().flat_map(|(_, n)| n.reads()) {
            read[value.index()] = true;
        }
        for (value, read) in part.values.iter_mut().zip(&read) {
            if !read && matches!(value.kind, ValueKind::Initializer(_)) {
                value.kind = ValueKind::Detached;
            }
        }
        part.inputs = inputs.iter().map(|(id, _)| *id).filter(|id| read[id.index()]).collect();
        part
    }

    /// The nodes such that each stands behind everything it reads; ties keep the order of creation.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the graph has a cycle; the error names a node on it.
    pub fn topological_order(&self) -> Result<Vec<NodeId>> {
        let mut waiting = vec![0usize; self.nodes.len()];
        // The readers of node i are those from `starts[i]` to `starts[i + 1]`.
        let mut starts = vec![0usize; self.nodes.len() + 1];
        let producers = |node: &Node| -> Vec<NodeId> {
            node.reads().filter_map(|value| self.producer(value)).collect()
        };
        for (id, node) in self.nodes() {
            for producer in producers(node) {
                waiting[id.index()] += 1;
                starts[producer.index() + 1] += 1;
            }
        }
        for index in 0..self.nodes.len() {
            starts[index + 1] += starts[index];
        }
        let mut ends = starts.clone();
        let mut readers = vec![NodeId(0); starts.last().copied().unwrap_or(0)];
        for (id, node) in self.nodes() {
            for producer in producers(node) {
                readers[ends[producer.index()]] = id;
                ends[producer.index()] += 1;
            }
        }
        let ready = self.nodes().map(|(id, _)| id).filter(|id| waiting[id.index()] == 0);
        let mut ready: BinaryHeap<Reverse<NodeId>> = ready.map(Reverse).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(Reverse(id)) = ready.pop() {
            order.push(id);
            for reader in &readers[starts[id.index()]..ends[id.index()]] {
                waiting[reader.index()] -= 1;
                if waiting[reader.index()] == 0 {
                    ready.push(Reverse(*reader));
                }
            }
        }
        if order.len() != self.nodes().count() {
            let error = Error::new(ErrorKind::Format, "the graph has a cycle");
            return Err(match self.node_on_cycle(&waiting) {
                Some(id) => error.at_node(&self.node(id).name),
                None => error,
            });
        }
        Ok(order)
    }

    /// Walks backwards from a node that still waits, over nodes that still wait: after as many steps
    /// as there are nodes the walk must be on a cycle, not only behind one.
    fn node_on_cycle(&self, waiting: &[usize]) -> Option<NodeId> {
        let stuck = |id: &NodeId| waiting[id.index()] > 0;
        let mut at = self.nodes().map(|(id, _)| id).find(stuck)?;
        for _ in 0..self.nodes.len() {
            at = self.node(at).reads().filter_map(|v| self.producer(v)).find(stuck)?;
        }
        Some(at)
    }
}

/// A model: a graph with the operator sets that give its operators their meaning.
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
            graph: Graph::default(),
        }
    }

    /// Version of the standard operator set.
    pub fn opset(&self) -> i64 {
        self.opsets.get("").copied().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::tensor::{DataType, Dim};

    fn float(shape: Vec<Dim>) -> TensorType {
        TensorType { dtype: DataType::F32, shape: Some(shape) }
    }

    fn chain() -> (Graph, ValueId, ValueId, ValueId) {
        let mut g = Graph::new("g");
        let x = g.add_input("x", float(vec![Dim::Known(1)]));
        let a = g.add_op("Relu", "a", &[x], []);
        let b = g.add_op("Neg", "b", &[a], []);
        g.outputs.push(b);
        (g, x, a, b)
    }

    #[test]
    fn names_stay_unique() {
        let (mut g, ..) = chain();
        let again = g.add_value("a", ValueKind::Detached, None);
        assert_eq!(g.value(again).name, "a.1");
        assert_eq!(g.value_named("a.1"), Some(again));
    }

    #[test]
    fn removing_a_node_by_replacing_its_output() {
        let (mut g, x, a, b) = chain();
        g.replace_uses(a, x);
        g.remove_dead_nodes();
        assert_eq!(g.nodes().map(|(_, n)| n.op.as_str()).collect::<Vec<_>>(), ["Neg"]);
        assert_eq!(g.producer(a), None);
        assert!(g.producer(b).is_some());
    }

    #[test]
    fn order_follows_data_and_cycles_are_errors() {
        let (mut g, x, a, _) = chain();
        let order = g.topological_order().unwrap();
        assert_eq!(order.len(), 2);
        let first = order[0];
        let c = g.add_op("Add", "c", &[x, a], []);
        g.edit_node(first, |n| n.inputs[0] = Some(c));
        let error = g.topological_order().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        let named = ["node 'a': ", "node 'c': "].iter().any(|n| error.to_string().starts_with(n));
        assert!(named, "'b' only reads from the cycle: {error}");
    }

    #[test]
    fn captured_values_count_as_read() {
        let (mut g, x, a, _) = chain();
        let mut sub = Graph::new("then");
        let inner = sub.add_value("inner", ValueKind::Captured(a), None);
        let out = sub.add_op("Abs", "abs", &[inner], []);
        sub.outputs.push(out);
        let y = g.add_op("If", "y", &[x], [("then_branch", Attribute::Graph(Box::new(sub)))]);
        g.outputs = vec![y];
        g.remove_dead_nodes();
        assert_eq!(g.nodes().count(), 2);
        g.replace_uses(a, x);
        assert_eq!(g.consumers()[x.index()].len(), 2);
    }
}
