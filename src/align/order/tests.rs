use super::*;
use crate::ir::DataType;
use crate::ir::builder::GraphBuilder;

/// An attention block whose queries, keys and values stand in the given order, with a table of positions
/// before or behind that of words, and a head with a number of classes.
fn encoder(order: [usize; 3], words_first: bool, classes: usize) -> Graph {
    seeded(order, words_first, classes, 1)
}

fn seeded(order: [usize; 3], words_first: bool, classes: usize, seed: usize) -> Graph {
    let mut b = GraphBuilder::new("net", 17);
    b.weights("unused", &[seed]);
    let [ids, places] = ["ids", "places"].map(|name| b.typed_input(name, DataType::I64, "n,7"));
    let sizes = [(11, ids), (7, places)];
    let mut embedded: Vec<(usize, crate::ir::ValueId)> = Vec::new();
    for index in if words_first { [0, 1] } else { [1, 0] } {
        let (rows, read) = sizes[index];
        let table = b.weights("table", &[rows, 8]);
        embedded.push((rows, b.op("Gather", &format!("table {rows}"), &[table, read], [])));
    }
    let x = b.op("Add", "sum", &[embedded[0].1, embedded[1].1], []);
    let mut parts = [x; 3];
    let weights = [0, 1, 2].map(|_| b.weights("w", &[8, 8]));
    for part in order {
        parts[part] = b.op("MatMul", ["q", "k", "v"][part], &[x, weights[part]], []);
    }
    let keys = b.op("Transpose", "keys", &[parts[1]], [("perm", [0, 2, 1].into())]);
    let scores = b.op("MatMul", "scores", &[parts[0], keys], []);
    let scores = b.op("Softmax", "softmax", &[scores], []);
    let mixed = b.op("MatMul", "mixed", &[scores, parts[2]], []);
    let sum = b.op("Add", "residual", &[x, mixed], []);
    let head = b.weights("head", &[8, classes]);
    let y = b.op("MatMul", "y", &[sum, head], []);
    let mut graph = b.build(&[y]).graph;
    crate::canon::infer_types(&mut graph).unwrap();
    graph
}

fn layers(graph: &Graph) -> Vec<String> {
    let members = roles::members(graph).unwrap();
    members.iter().map(|member| graph.node(member.node).name.clone()).collect()
}

#[test]
fn layers_take_the_order_of_their_counterparts() {
    let first = encoder([0, 1, 2], true, 5);
    for (order, words_first) in [([1, 0, 2], true), ([2, 1, 0], false), ([2, 0, 1], false)] {
        let mut other = encoder(order, words_first, 5);
        assert_ne!(layers(&other), layers(&first));
        let order = order_like(&first, &other).unwrap().unwrap();
        other.reorder(&order);
        assert_eq!(layers(&other), layers(&first));
        assert_eq!(order_like(&first, &other).unwrap(), None, "nothing is left to do");
    }
}

#[test]
fn queries_keys_and_values_are_told_apart_by_what_reads_them() {
    let first = encoder([0, 1, 2], true, 5);
    for order in [[1, 0, 2], [2, 1, 0], [1, 2, 0]] {
        let mut other = seeded(order, true, 5, 60);
        let order = order_like(&first, &other).unwrap().unwrap();
        other.reorder(&order);
        assert_eq!(layers(&other), layers(&first));
    }
}

#[test]
fn nets_in_one_order_and_unrelated_nets_stay_as_they_are() {
    let first = encoder([0, 1, 2], true, 5);
    assert_eq!(order_like(&first, &encoder([0, 1, 2], true, 3)).unwrap(), None);
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "n,7");
    let w = b.weights("w", &[7, 8]);
    let y = b.op("MatMul", "y", &[x, w], []);
    assert_eq!(order_like(&first, &b.build(&[y]).graph).unwrap(), None);
}

/// Two layers that only their weights tell apart.
#[test]
fn twins_are_told_apart_by_their_weights() {
    let twins = |exchanged: bool| {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,8");
        let weights = ["one", "two"].map(|name| (name, b.weights(name, &[8, 8])));
        let weights = if exchanged { [weights[1], weights[0]] } else { weights };
        let parts = weights.map(|(name, w)| b.op("MatMul", name, &[x, w], []));
        let y = b.op("Add", "y", &parts, []);
        let mut graph = b.build(&[y]).graph;
        crate::canon::infer_types(&mut graph).unwrap();
        graph
    };
    let (first, mut other) = (twins(false), twins(true));
    let order = order_like(&first, &other).unwrap().unwrap();
    other.reorder(&order);
    assert_eq!(layers(&other), layers(&first));
}

/// Fused and decomposed, associated in another way: one role for each table and layer.
#[test]
fn roles_do_not_depend_on_how_a_net_is_written() {
    let net = |fused: bool| {
        let mut b = GraphBuilder::new("net", 17);
        let ids = b.typed_input("ids", DataType::I64, "n,7");
        let tables = [3, 5, 9].map(|rows| {
            let table = b.weights("table", &[rows, 8]);
            b.op("Gather", &format!("table {rows}"), &[table, ids], [])
        });
        let [a, b_, c] = tables;
        let x = match fused {
            true => {
                let sum = b.op("Add", "sum", &[a, b_], []);
                let sum = b.op("Add", "sum", &[sum, c], []);
                let scale = b.weights("scale", &[8]);
                b.op("LayerNormalization", "normal", &[sum, scale], [])
            }
            false => {
                let sum = b.op("Add", "sum", &[b_, c], []);
                let sum = b.op("Add", "sum", &[a, sum], []);
                let mean = b.op("ReduceMean", "mean", &[sum], [("axes", [-1].into())]);
                let apart = b.op("Sub", "apart", &[sum, mean], []);
                let square = b.op("Mul", "square", &[apart, apart], []);
                let variance = b.op("ReduceMean", "variance", &[square], [("axes", [-1].into())]);
                let root = b.op("Sqrt", "root", &[variance], []);
                b.op("Div", "normal", &[apart, root], [])
            }
        };
        let w = b.weights("w", &[8, 8]);
        let y = b.op("MatMul", "y", &[x, w], []);
        let mut graph = b.build(&[y]).graph;
        crate::canon::infer_types(&mut graph).unwrap();
        graph
    };
    let [fused, written_out] = [true, false].map(|fused| {
        let members = roles::members(&net(fused)).unwrap();
        members.iter().map(|member| member.role).collect::<Vec<_>>()
    });
    assert_eq!(fused, written_out);
}
