//! The one set of functions that change a graph.

use super::codes::Codes;
use super::graph::Graph;
use super::ids::{NodeId, ValueId};
use super::node::{Attribute, Node};
use super::tensor::{Tensor, TensorType};
use super::value::{Value, ValueKind};

impl Graph {
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

    /// Adds a constant that a file stores with these codes, if there are any.
    pub fn add_stored(&mut self, name: &str, tensor: Tensor, codes: Option<Codes>) -> ValueId {
        let id = self.add_initializer(name, tensor);
        codes.into_iter().for_each(|codes| self.set_codes(id, codes));
        id
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
        let node = Node::standard(op, &self.value(output).name, inputs, attributes);
        self.add_node(Node { outputs: vec![Some(output)], ..node });
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

    /// Turns a value into the last input.
    pub fn set_input(&mut self, id: ValueId, ty: TensorType) {
        self.values[id.index()].kind = ValueKind::Input;
        self.values[id.index()].ty = Some(ty);
        self.inputs.push(id);
    }

    /// Turns a value into a constant.
    pub fn set_initializer(&mut self, id: ValueId, tensor: Tensor) {
        self.values[id.index()].kind = ValueKind::Initializer(tensor);
    }

    /// Records the quantisation of a constant.
    pub fn set_codes(&mut self, id: ValueId, codes: Codes) {
        self.codes.insert(id, codes);
    }

    /// Drops an unused constant.
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

    /// Gives a value the type of a value of another graph.
    pub fn set_type_like(&mut self, id: ValueId, graph: &Graph, other: ValueId) {
        let Value { foreign_type, element, .. } = graph.value(other).clone();
        let (ty, value) = (graph.type_of(other), &mut self.values[id.index()]);
        (value.ty, value.foreign_type, value.element) = (ty, foreign_type, element);
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

    /// Makes every consumer of `old` (nodes, their sub-graphs, graph outputs) read `new` instead.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        for id in self.index.move_readers(old, new) {
            if let Some(node) = &mut self.nodes[id.index()] {
                node.redirect(|read| if read == old { new } else { read });
            }
        }
        for output in &mut self.outputs {
            if *output == old {
                *output = new;
            }
        }
    }

    /// Makes a value one of the enclosing graph's.
    pub fn set_captured(&mut self, id: ValueId, outer: ValueId) {
        self.values[id.index()].kind = ValueKind::Captured(outer);
    }

    /// Points captured values at other values of the enclosing graph.
    pub(super) fn recapture(&mut self, mut outer: impl FnMut(ValueId) -> ValueId) {
        for value in &mut self.values {
            if let ValueKind::Captured(id) = value.kind {
                value.kind = ValueKind::Captured(outer(id));
            }
        }
    }

    /// Puts `prefix/` before the name of every node and value of the graph and its sub-graphs, except
    /// captured values.
    pub fn prefix_names(&mut self, prefix: &str) {
        for value in &mut self.values {
            if !matches!(value.kind, ValueKind::Captured(_)) {
                value.name = format!("{prefix}/{}", value.name);
            }
        }
        self.names =
            (0u32..).map(ValueId).zip(&self.values).map(|(id, v)| (v.name.clone(), id)).collect();
        for node in self.nodes.iter_mut().flatten() {
            node.name = format!("{prefix}/{}", node.name);
            for attribute in node.attributes.values_mut() {
                if let Attribute::Graph(sub) = attribute {
                    sub.prefix_names(prefix);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::ir::{DataType, Dim};

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
