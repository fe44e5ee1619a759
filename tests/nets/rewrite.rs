//! Copies of a net as another exporter writes them.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use onnx_zip::ir::{Graph, Model, NodeId};
use onnx_zip::mtz::plan::sizes;
use onnx_zip::zipper::{self, Input};

/// Operators whose operands may stand in any order.
const COMMUTING: &[&str] = &["Add", "Mul", "Sum", "Max", "Min", "Mean"];

/// The net with other names of all values and nodes, the operands of commuting operators reversed, and its
/// nodes in another topological order.
pub fn rewritten(model: &Model, seed: u64) -> Model {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut model = model.clone();
    let graph = &mut model.graph;
    let order = any_order(graph, &mut rng);
    graph.reorder(&order);
    let mut numbers: Vec<usize> = (0..graph.value_count()).collect();
    numbers.shuffle(&mut rng);
    let values: Vec<_> = graph.values().map(|(id, _)| id).collect();
    for (value, number) in values.into_iter().zip(numbers) {
        graph.rename_value(value, &format!("tensor {number}"));
    }
    let nodes: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
    for (number, id) in nodes.into_iter().enumerate() {
        graph.edit_node(id, |node| {
            node.name = format!("{} {number}", node.op);
            if node.domain.is_empty() && COMMUTING.contains(&node.op.as_str()) {
                node.inputs.reverse();
            }
        });
    }
    model
}

/// Repeatedly picks a node at random whose sources have been picked.
fn any_order(graph: &Graph, rng: &mut impl Rng) -> Vec<NodeId> {
    let mut left = graph.topological_order().unwrap();
    let mut order = Vec::new();
    while !left.is_empty() {
        let waits = |id: &NodeId| {
            let mut sources = graph.node(*id).reads().filter_map(|value| graph.producer(value));
            sources.any(|source| !order.contains(&source))
        };
        let ready: Vec<usize> = (0..left.len()).filter(|at| !waits(&left[*at])).collect();
        order.push(left.remove(ready[rng.random_range(0..ready.len())]));
    }
    order
}

/// Asserts that all layers of a net correspond with equal ones of its rewritten copy.
pub fn recognised(model: &Model, name: &str) {
    for seed in 0..3 {
        let inputs = [("a", model.clone()), ("b", rewritten(model, seed))];
        let inputs = inputs.map(|(name, model)| Input { name: name.to_owned(), model });
        let sizes = sizes(&zipper::prepare(inputs.into()).unwrap().joint).unwrap();
        assert_eq!(sizes.joint(), sizes.originals[0], "{name}, order {seed}");
    }
}
