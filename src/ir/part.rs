//! Parts of a graph that compute some of its values.

use super::graph::Graph;
use super::ids::{NodeId, ValueId};
use super::node::Node;
use super::tensor::TensorType;
use super::value::ValueKind;

impl Graph {
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
        outputs.iter().for_each(|output| part.compute_constant(*output));
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

    /// Lets a node return `value` if it is a constant, since runtimes return computed values only.
    fn compute_constant(&mut self, value: ValueId) {
        let Some(tensor) = self.initializer(value).cloned() else { return };
        let name = self.value(value).name.clone();
        let constant = self.add_initializer(&format!("{name}.constant"), tensor);
        let node = Node::standard("Identity", &name, &[constant], []);
        self.add_node(Node { outputs: vec![Some(value)], ..node });
    }
}
