//! Attention in one node.

use crate::ir::{Dim, TensorType};

use super::super::NodeView;
use super::{Rows, agreed, alike, typed_as};

pub(super) const RULES: Rows =
    &[(&["Attention"], attention), (&["LinearAttention"], linear), (&["RotaryEmbedding"], alike)];

/// Operands are [batch, heads, tokens, width], or [batch, tokens, heads · width] with the numbers of
/// heads as attributes.
fn attention(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let Some((query, value)) = node.shape(0).zip(node.shape(2)) else {
        return vec![typed_as(node, 0, node.shape(0).map(|q| super::open(q.len())))];
    };
    let split = |shape: &[Dim], heads: &str| -> Option<[Dim; 4]> {
        match shape {
            [batch, heads, tokens, width] => Some([batch, heads, tokens, width].map(Clone::clone)),
            [batch, tokens, width] => {
                let heads = node.node.int(heads, 0);
                Some([batch.clone(), super::extent(heads), tokens.clone(), width.over(heads)])
            }
            _ => None,
        }
    };
    let (Some(q), Some(v)) = (split(&query, "q_num_heads"), split(&value, "kv_num_heads")) else {
        return vec![typed_as(node, 0, None)];
    };
    let [batch, heads, tokens, _] = q;
    let answer = match query.len() {
        3 => vec![batch.clone(), tokens.clone(), times(&heads, &v[3])],
        _ => vec![batch.clone(), heads.clone(), tokens.clone(), v[3].clone()],
    };
    let present = |input: usize, past: usize, heads_of: &str| {
        let own = split(&node.shape(input)?, heads_of)?;
        let Some(past) = node.shape(past) else { return Some(own.to_vec()) };
        let mut all: Vec<Dim> = own.iter().zip(&past).map(|(a, b)| agreed(a, b)).collect();
        *all.get_mut(2)? = Dim::sum([&own[2], past.get(2)?]);
        Some(all)
    };
    let (key, value) = (present(1, 4, "kv_num_heads"), present(2, 5, "kv_num_heads"));
    let seen = value.as_ref().and_then(|value| value.get(2).cloned()).unwrap_or(Dim::Unknown);
    let scores = vec![batch, heads, tokens, seen];
    vec![
        typed_as(node, 0, Some(answer)),
        typed_as(node, 1, key),
        typed_as(node, 2, value),
        typed_as(node, 0, Some(scores)),
    ]
}

fn times(a: &Dim, b: &Dim) -> Dim {
    Dim::product([a, b])
}

/// All operands are [batch, tokens, heads · width]; the state is [batch, heads, key width, value width].
fn linear(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let heads = |name| node.node.int(name, 0);
    let width = |index: usize, heads: i64| {
        node.shape(index).and_then(|s| s.get(2).cloned()).map_or(Dim::Unknown, |d| d.over(heads))
    };
    let at = |axis: usize| node.shape(0).and_then(|s| s.get(axis).cloned()).unwrap_or(Dim::Unknown);
    let per_value = width(2, heads("kv_num_heads"));
    let answer = vec![at(0), at(1), per_value.times(heads("q_num_heads"))];
    let state = vec![
        at(0),
        super::extent(heads("kv_num_heads")),
        width(1, heads("kv_num_heads")),
        per_value,
    ];
    let state = typed_as(node, 3, Some(state.clone())).or_else(|| typed_as(node, 0, Some(state)));
    vec![typed_as(node, 0, Some(answer)), state]
}
