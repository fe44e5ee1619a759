//! Attention in one node.

use crate::ir::{Attribute, Node, ValueId};

use super::super::types;
use super::elementary::floats;
use super::{Outputs, Parts};

/// What products of queries and keys are added to, and scaled by.
struct Scores {
    heads: usize,
    /// 0 for the root of the depth's inverse.
    scale: f32,
    /// One number per token that is attended to, 0 where it does not count.
    mask: Option<ValueId>,
    lowest: f32,
    bias: Option<ValueId>,
}

impl Scores {
    fn of(parts: &Parts<'_>, node: &Node, [mask, bias]: [usize; 2]) -> Option<Scores> {
        let heads = usize::try_from(node.int("num_heads", 0)).ok().filter(|heads| *heads > 0)?;
        let mask = node.input(mask);
        // Masks of other ranks hold lengths, or one row for each query.
        let is_row = |mask| types::shape(parts.graph, mask).is_some_and(|shape| shape.len() == 2);
        let fits = mask.is_none_or(is_row) && node.int("unidirectional", 0) == 0;
        fits.then(|| Scores {
            heads,
            scale: node.float("scale", 0.0),
            mask,
            lowest: node.float("mask_filter_value", -10_000.0),
            bias: node.input(bias),
        })
    }
}

/// Input, one weight and bias for queries, keys and values, mask, past, bias of the scores.
pub(super) fn attention(parts: &mut Parts<'_>, node: &Node) -> Outputs {
    let scores = Scores::of(parts, node, [3, 5])?;
    let plain = node.input(4).is_none() && node.input(6).is_none() && node.int("do_rotary", 0) == 0;
    let weight = parts.graph.initializer(node.input(1)?).filter(|_| plain)?;
    let width = *weight.dims.get(1)? / 3;
    if weight.dims.get(1) != Some(&(3 * width)) || node.ints("qkv_hidden_sizes").is_some() {
        return None;
    }
    let product = parts.op("MatMul", &[node.input(0)?, node.input(1)?]);
    let product = parts.added(product, &[node.input(2)]);
    let mut part = |n: usize| {
        let bounds = [n * width, (n + 1) * width].map(|at| parts.ints(&[at as i64]));
        let axis = parts.ints(&[2]);
        parts.op("Slice", &[product, bounds[0], bounds[1], axis])
    };
    let parts_of = [part(0), part(1), part(2)];
    attended(parts, parts_of, width, &scores)
}

/// Queries, keys, values, a bias for all of them, mask, bias of the scores, past.
pub(super) fn multi_head(parts: &mut Parts<'_>, node: &Node) -> Outputs {
    let scores = Scores::of(parts, node, [4, 5])?;
    let plain = (6..10).all(|slot| node.input(slot).is_none());
    let mut all = [node.input(0)?, node.input(1)?, node.input(2).filter(|_| plain)?];
    let extent = |value| {
        let shape = types::shape(parts.graph, value).filter(|shape| shape.len() == 3)?;
        shape.last()?.known()
    };
    let widths: Option<Vec<usize>> = all.iter().map(|value| extent(*value)).collect();
    let width = widths.filter(|widths| widths.iter().all(|w| *w == widths[0]))?[0];
    if let Some(bias) = node.input(3) {
        for (n, value) in all.iter_mut().enumerate() {
            let bounds = [n * width, (n + 1) * width].map(|at| parts.ints(&[at as i64]));
            let own = parts.op("Slice", &[bias, bounds[0], bounds[1]]);
            *value = parts.op("Add", &[*value, own]);
        }
    }
    attended(parts, all, width, &scores)
}

/// Values mixed by the softmax of the products of queries and keys.
fn attended(parts: &mut Parts<'_>, all: [ValueId; 3], width: usize, scores: &Scores) -> Outputs {
    let depth = width / scores.heads;
    if depth * scores.heads != width {
        return None;
    }
    let [query, key, value] =
        [(0, [0, 2, 1, 3]), (1, [0, 2, 3, 1]), (2, [0, 2, 1, 3])].map(|(n, perm)| {
            let target = parts.ints(&[0, 0, scores.heads as i64, depth as i64]);
            let split = parts.op("Reshape", &[all[n], target]);
            parts.op_with("Transpose", &[split], [("perm", Attribute::Ints(perm.to_vec()))])
        });
    let product = parts.op("MatMul", &[query, key]);
    let scale = if scores.scale == 0.0 { (depth as f32).sqrt().recip() } else { scores.scale };
    let mut product = parts.with_number("Mul", product, scale);
    if let Some(mask) = scores.mask {
        let axes = parts.ints(&[1, 2]);
        let wide = parts.op("Unsqueeze", &[mask, axes]);
        let wide = floats(parts, wide);
        let one = parts.scalar(1.0);
        let hidden = parts.op("Sub", &[one, wide]);
        let lowest = parts.with_number("Mul", hidden, scores.lowest);
        product = parts.op("Add", &[product, lowest]);
    }
    product = parts.added(product, &[scores.bias]);
    let weights = parts.op_with("Softmax", &[product], [("axis", Attribute::Int(-1))]);
    let mixed = parts.op("MatMul", &[weights, value]);
    let mixed = parts.op_with("Transpose", &[mixed], [("perm", Attribute::Ints(vec![0, 2, 1, 3]))]);
    let target = parts.ints(&[0, 0, width as i64]);
    Some(vec![Some(parts.op("Reshape", &[mixed, target]))])
}
