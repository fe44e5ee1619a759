//! Laws on nets whose channels meet others on a second axis: a copy whose channels stand in another order loses nothing.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Model, ValueId};

use crate::copied::{behind, dense, is_recognised, shaped, stream, turned};

/// Channels of six, and four heads, in the order of the net and of its copy.
const SIX: [[usize; 6]; 2] = [[0, 1, 2, 3, 4, 5], [3, 0, 5, 1, 4, 2]];
const OTHER_SIX: [[usize; 6]; 2] = [[0, 1, 2, 3, 4, 5], [1, 4, 0, 5, 2, 3]];
const HEADS: [[usize; 4]; 2] = [[0, 1, 2, 3], [2, 0, 3, 1]];
const DEPTHS: [[usize; 4]; 4] = [[2, 0, 3, 1], [1, 3, 2, 0], [3, 2, 0, 1], [0, 3, 1, 2]];

/// A drawn constant whose axes have another order.
fn drawn(
    b: &mut GraphBuilder,
    name: &str,
    dims: &[usize],
    orders: &[(usize, &[usize])],
) -> ValueId {
    let whole = b.weights(&format!("{name}.drawn"), dims);
    let whole = b.graph().initializer(whole).unwrap().clone();
    let moved = orders.iter().fold(whole, |all, (axis, order)| all.select(*axis, order).unwrap());
    b.constant(name, moved)
}

/// Tokens of six channels in some order.
fn tokens(b: &mut GraphBuilder, order: &[usize]) -> ValueId {
    let x = b.input("x", "n,5,3");
    let x = dense(b, ("first", x), [3, 6], Some((1, order)));
    b.op("LeakyRelu", "bent", &[x], [])
}

/// Scores of a net behind features in some order.
fn scores(b: &mut GraphBuilder, x: ValueId, order: &[usize]) -> Model {
    let x = dense(b, ("last", x), [order.len(), 7], Some((0, order)));
    let x = b.op("LeakyRelu", "bent", &[x], []);
    let y = dense(b, ("head", x), [7, 5], None);
    std::mem::replace(b, GraphBuilder::new("net", 17)).build(&[y])
}

/// The places of pairs in rows that run over the second channels first.
fn pairs(first: &[usize], second: &[usize]) -> Vec<usize> {
    let all = |own: &usize| second.iter().map(|b| own * second.len() + b).collect::<Vec<_>>();
    first.iter().flat_map(all).collect()
}

/// The rows of four heads of four depths, each with an order of its own in the copy.
fn rows_of_heads(net: usize) -> Vec<usize> {
    let depths = |head: usize| if net == 0 { [0, 1, 2, 3] } else { DEPTHS[head] };
    HEADS[net].iter().flat_map(|head| depths(*head).map(|depth| head * 4 + depth)).collect()
}

/// Tokens in the features that a matrix makes which the net predicts.
fn transformed(net: usize) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let x = tokens(&mut b, &SIX[net]);
    let (from, to) = (SIX[net].as_slice(), OTHER_SIX[net].as_slice());
    let most = b.op("ReduceMax", "most", &[x], [("axes", [1].into()), ("keepdims", 0.into())]);
    let rows = pairs(from, to);
    let w = drawn(&mut b, "made.w", &[36, 6], &[(0, &rows), (1, from)]);
    let bias = drawn(&mut b, "made.b", &[36], &[(0, &rows)]);
    let m = b.op("Gemm", "made", &[most, w, bias], [("transB", 1.into())]);
    let m = shaped(&mut b, m, &[-1, 6, 6]);
    let x = b.op("MatMul", "transformed", &[x, m], []);
    scores(&mut b, x, to)
}

/// Attention of four heads, whose keys and values are `changed`.
fn attention(net: usize, changed: fn(&mut GraphBuilder, &str, ValueId) -> ValueId) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let x = stream(&mut b);
    let order = rows_of_heads(net);
    let [q, k, v] = ["q", "k", "v"].map(|name| {
        let own = dense(&mut b, (name, x), [6, 16], Some((1, &order)));
        let own = shaped(&mut b, own, &[-1, 5, 4, 4]);
        turned(&mut b, own, &[0, 2, 1, 3])
    });
    let (k, v) = (changed(&mut b, "e", k), changed(&mut b, "f", v));
    let k = turned(&mut b, k, &[0, 1, 3, 2]);
    let shares = b.op("MatMul", "scores", &[q, k], []);
    let shares = b.op("Softmax", "attention", &[shares], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[shares, v], []);
    behind(&mut b, x, mixed, &order)
}

/// As Linformer: fewer tokens, each a sum of all.
fn projected(b: &mut GraphBuilder, name: &str, x: ValueId) -> ValueId {
    let w = b.weights(&format!("{name}.w"), &[3, 5]);
    b.op("MatMul", name, &[w, x], [])
}

#[test]
fn rows_and_columns_of_a_predicted_matrix_are_channels() {
    is_recognised([0, 1].map(transformed), "transformed");
}

#[test]
fn tokens_of_keys_and_values_may_be_mixed() {
    is_recognised([0, 1].map(|net| attention(net, projected)), "projected");
}
