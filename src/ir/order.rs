//! Topological order of a graph's nodes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::graph::Graph;
use super::ids::NodeId;
use super::node::Node;
use crate::error::{Error, ErrorKind, Result};

impl Graph {
    /// The nodes in topological order; ties keep the order of creation.
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

    /// Gives the nodes new ids in this order, which becomes the topological order. Nodes that are not in
    /// `order` are removed.
    pub fn reorder(&mut self, order: &[NodeId]) {
        let mut nodes = std::mem::take(&mut self.nodes);
        self.index.forget_readers();
        for id in order {
            if let Some(node) = nodes.get_mut(id.index()).and_then(Option::take) {
                self.add_node(node);
            }
        }
    }

    /// Walks backwards over waiting nodes. After as many steps as there are nodes, the walk is on a
    /// cycle, not only behind one.
    fn node_on_cycle(&self, waiting: &[usize]) -> Option<NodeId> {
        let stuck = |id: &NodeId| waiting[id.index()] > 0;
        let mut at = self.nodes().map(|(id, _)| id).find(stuck)?;
        for _ in 0..self.nodes.len() {
            at = self.node(at).reads().filter_map(|v| self.producer(v)).find(stuck)?;
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn nodes_stand_in_the_order_that_was_asked_for() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,4");
        let parts = ["Relu", "Tanh", "Abs"].map(|op| b.op(op, op, &[x], []));
        let y = b.op("Sum", "y", &parts, []);
        let mut graph = b.build(&[y]).graph;
        let mut order = graph.topological_order().unwrap();
        order[..3].reverse();
        graph.reorder(&order);
        let sorted = graph.topological_order().unwrap();
        let ops = sorted.iter().map(|id| graph.node(*id).op.as_str()).collect::<Vec<_>>();
        assert_eq!(ops, ["Abs", "Tanh", "Relu", "Sum"]);
        assert_eq!(graph.only_use(parts[0]), graph.producer(y));
        graph.replace_uses(parts[0], x);
        assert_eq!(graph.node(sorted[3]).input(0), Some(x), "readers are known");
    }
}
