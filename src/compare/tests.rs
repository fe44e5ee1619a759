use ndarray::{ArrayD, IxDyn};

use super::*;
use crate::ir::builder::GraphBuilder;
use crate::ir::{Attribute, Graph, Node, ValueKind};
use crate::runtime::HostArray;

fn fed(name: &str, shape: &[usize]) -> Vec<(String, HostArray)> {
    vec![(name.to_owned(), ArrayD::<f32>::zeros(IxDyn(shape)).into())]
}

fn convolutions() -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "n,3,h,w");
    let (w1, w2) = (b.weights("w1", &[4, 3, 3, 3]), b.weights("w2", &[4, 1, 3, 3]));
    let w3 = b.weights("w3", &[4, 2, 2, 2]);
    let pads = || ("pads", [1, 1, 1, 1].into());
    let h = b.op("Conv", "full", &[x, w1], [pads()]);
    let h = b.op("Relu", "relu", &[h], []);
    let strides = ("strides", [2, 2].into());
    let h = b.op("Conv", "depthwise", &[h, w2], [pads(), strides, ("group", 4.into())]);
    let h = b.op("ConvTranspose", "up", &[h, w3], [("strides", [2, 2].into())]);
    b.build(&[h])
}

#[test]
fn every_weight_counts_once_per_position_and_sample() {
    let graph = convolutions().graph;
    let once = 4 * 3 * 9 * 64 + 4 * 9 * 16 + 4 * 2 * 4 * 16;
    assert_eq!(multiply_adds(&graph, &fed("x", &[1, 3, 8, 8]), 1), Some(once));
    assert_eq!(multiply_adds(&graph, &fed("x", &[5, 3, 8, 8]), 1), Some(5 * once));
    assert_eq!(multiply_adds(&graph, &fed("x", &[1, 3, 8, 8]), 3), Some(3 * once));
    assert_eq!(nodes(&graph), 4);
}

#[test]
fn open_sizes_are_not_guessed() {
    assert_eq!(multiply_adds(&convolutions().graph, &[], 1), None);
}

#[test]
fn products_and_recurrences_count() {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "time,n,8");
    let (w, r) = (b.weights("w", &[1, 24, 8]), b.weights("r", &[1, 24, 6]));
    let (head, out) = (b.weights("head", &[6, 3]), b.weights("out", &[2, 3]));
    let h = b.op("LSTM", "lstm", &[x, w, r], [("hidden_size", 6.into())]);
    let y = b.op("MatMul", "product", &[h, head], []);
    let flat = b.op("Flatten", "flat", &[y], [("axis", 3.into())]);
    let z = b.op("Gemm", "gemm", &[flat, out], [("transB", 1.into())]);
    let graph = b.build(&[z]).graph;
    let once = (24 * 8 + 24 * 6) * 5 + 5 * 6 * 3 + 5 * 3 * 2;
    assert_eq!(multiply_adds(&graph, &fed("x", &[5, 1, 8]), 1), Some(once));
}

/// A product inside a branch, with a weight that the branch captures.
fn branch(outer: &Graph, of: &str, weight: &str) -> Attribute {
    let mut graph = Graph::new(weight);
    let captured = [of, weight].map(|name| {
        let source = outer.value_named(name).unwrap();
        graph.add_value(&format!("{weight}/{name}"), ValueKind::Captured(source), None)
    });
    let y = graph.add_op("MatMul", &format!("{weight}/y"), &captured, []);
    graph.outputs.push(y);
    Attribute::Graph(Box::new(graph))
}

#[test]
fn each_branch_runs_for_its_own_tasks() {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "n,8");
    let weights = [("common", [8, 4]), ("a", [4, 3]), ("b", [4, 5])];
    let [common, ..] = weights.map(|(name, dims)| b.weights(name, &dims));
    let h = b.op("MatMul", "h", &[x, common], []);
    let graph = b.graph();
    let y = graph.add_value("y", ValueKind::Detached, None);
    let attributes = [("then_branch", "a"), ("else_branch", "b")]
        .map(|(name, weight)| (name.to_owned(), branch(graph, "h", weight)));
    graph.add_node(Node {
        op: "If".to_owned(),
        inputs: vec![Some(h)],
        outputs: vec![Some(y)],
        attributes: attributes.into(),
        ..Node::default()
    });
    let graph = b.build(&[y]).graph;
    let runs = |n| multiply_adds(&graph, &fed("x", &[1, 8]), n);
    assert_eq!(runs(3), Some(3 * 32 + 12 + 2 * 20));
    // Which branch a single run takes is not known.
    assert_eq!(runs(1), None);
    assert_eq!(nodes(&graph), 4);
}

#[test]
fn ratios_are_of_the_originals() {
    let half = Against::new(5, 10);
    assert_eq!((half.joint, half.originals, half.ratio), (5, 10, 0.5));
    assert_eq!(Against::new(5, 0).ratio, 1.0);
}
