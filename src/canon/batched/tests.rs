use super::*;
use crate::canon::canonicalise;
use crate::ir::builder::{self, GraphBuilder};

#[test]
fn axes_of_extent_1_may_stand_beside_merged_ones() {
    let found = |from: &str, to: &str| {
        let (from, to) = (builder::shape(from), builder::shape(to));
        let fits = |ones: Vec<usize>| Some((merged_axis(&left(&from, &ones), &to)?, ones));
        four_axes(&from, Vec::new()).into_iter().find_map(fits)
    };
    assert_eq!(found("3,2,8,5", "6,8,5"), Some((0, vec![])));
    assert_eq!(found("3,2,1,8,5", "6,8,5"), Some((0, vec![2])));
    assert_eq!(found("1,2,1,8,5", "2,8,5"), Some((0, vec![2])));
    assert_eq!(found("3,1,2,8,5", "6,8,5"), Some((0, vec![1])));
    assert_eq!(found("3,2,1,8,5,1", "6,8,5"), Some((0, vec![2, 5])));
    assert_eq!(found("3,2,1,8,1", "6,8,1"), Some((0, vec![2])));
    assert_eq!(found("3,2,2,8,5", "12,8,5"), None);
    assert_eq!(found("3,2,1,8,5", "6,5,8"), None);
}

/// Mixed values of two heads, in products of stacked matrices, with places of added axes of extent 1 for scores
/// and values.
fn mixed(added: Option<[i64; 2]>, tokens: &str) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let scores = b.input("scores", &format!("n,2,{tokens},{tokens}"));
    let values = b.input("values", &format!("n,{tokens},2,4"));
    let shape = b.op("Shape", "shape", &[scores], []);
    let [two, three] = [2, 3].map(|at| b.ints("at", &[at]));
    let tokens = b.op("Gather", "tokens", &[shape, three], []);
    let (all, heads, depths) = (b.ints("all", &[-1]), two, b.ints("depths", &[4]));
    let merged = |b: &mut GraphBuilder, value, place: usize, perm: &[i64], last| {
        let value = match added {
            Some(places) => {
                let axis = b.ints("axis", &[places[place]]);
                b.op("Unsqueeze", "apart", &[value, axis], [])
            }
            None => value,
        };
        let perm = [("perm", Attribute::Ints(perm.to_vec()))];
        let value = b.op("Transpose", "turned", &[value], perm);
        let target = b.op("Concat", "target", &[all, tokens, last], [("axis", 0.into())]);
        b.op("Reshape", "merged", &[value, target], [])
    };
    let (of_scores, of_values): (&[i64], &[i64]) = match added {
        Some(_) => (&[0, 1, 2, 3, 4], &[0, 3, 2, 1, 4]),
        None => (&[0, 1, 2, 3], &[0, 2, 1, 3]),
    };
    let scores = merged(&mut b, scores, 0, of_scores, tokens);
    let values = merged(&mut b, values, 1, of_values, depths);
    let mixed = b.op("MatMul", "mixed", &[scores, values], []);
    let one = b.ints("one", &[1]);
    let last = [all, heads, tokens, depths, one];
    let target = b.op("Concat", "target", &last, [("axis", 0.into())]);
    let apart = b.op("Reshape", "apart", &[mixed, target], []);
    let four = b.ints("four", &[4]);
    let y = b.op("Squeeze", "y", &[apart, four], []);
    canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap().into_inner()
}

#[test]
fn heads_and_tokens_of_queries_stay_apart_beside_one_head_of_keys() {
    let mut b = GraphBuilder::new("net", 17);
    let (q, k) = (b.input("q", "n,2,5,4"), b.input("k", "n,4,5"));
    let (flat, apart) = (b.ints("flat", &[0, 10, 4]), b.ints("apart", &[0, 2, 5, 5]));
    let q = b.op("Reshape", "flat", &[q, flat], []);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let y = b.op("Reshape", "apart", &[scores, apart], []);
    let net = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
    let mut ops: Vec<&str> = net.graph.nodes().map(|(_, node)| node.op.as_str()).collect();
    ops.sort_unstable();
    assert_eq!(ops, ["MatMul", "Softmax", "Unsqueeze"]);
}

#[test]
fn factors_with_more_axes_than_rows_stay_behind_them() {
    for (extents, is_moved) in [("1,1,1", true), ("1,1,1,1", false)] {
        let mut b = GraphBuilder::new("net", 17);
        let (q, k) = (b.input("q", "n,2,5,4"), b.input("k", "n,4,5"));
        let (flat, apart) = (b.ints("flat", &[0, 10, 4]), b.ints("apart", &[-1, 2, 5, 5]));
        let factor = b.input("factor", extents);
        let q = b.op("Reshape", "flat", &[q, flat], []);
        let scores = b.op("MatMul", "scores", &[q, k], []);
        let scores = b.op("Mul", "scaled", &[scores, factor], []);
        let y = b.op("Reshape", "apart", &[scores, apart], []);
        let net = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let has_rows = net.graph.nodes().any(|(_, node)| node.is("Reshape"));
        assert_eq!(has_rows, !is_moved, "{extents}");
    }
}

#[test]
fn products_of_heads_have_four_axes() {
    for tokens in ["5", "t"] {
        for added in [None, Some([3, 2]), Some([2, 2])] {
            let graph = mixed(added, tokens).graph;
            let order = graph.topological_order().unwrap();
            let ops: Vec<&str> = order.iter().map(|id| graph.node(*id).op.as_str()).collect();
            assert_eq!(ops, ["Transpose", "MatMul"], "{added:?} of {tokens} tokens");
        }
    }
}
