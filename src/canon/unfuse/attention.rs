//! Attention in one node.

use crate::ir::{Attribute, DataType, Tensor, ValueId};

use super::{Site, types};

/// An input that no operator has.
const NO_INPUT: usize = usize::MAX;

/// Scale, mask and bias of the products of queries and keys.
struct Scores {
    heads: usize,
    /// The scale; 0 means 1/√depth.
    scale: f32,
    /// Whether a token is attended, one row per sample.
    visible: Option<ValueId>,
    lowest: f32,
    bias: Option<ValueId>,
}

impl Scores {
    /// `mask` and `bias` are numbers of inputs.
    fn of(site: &mut Site<'_>, keys: ValueId, [mask, bias]: [usize; 2]) -> Option<Scores> {
        let heads =
            usize::try_from(site.node().int("num_heads", 0)).ok().filter(|heads| *heads > 0)?;
        if site.node().int("unidirectional", 0) != 0 || !site.only_first_is_read() {
            return None;
        }
        let visible = match site.input(mask) {
            Some(mask) => Some(visible(site, mask, keys)?),
            None => None,
        };
        Some(Scores {
            heads,
            scale: site.node().float("scale", 0.0),
            visible,
            lowest: site.node().float("mask_filter_value", -10_000.0),
            bias: site.input(bias),
        })
    }
}

/// Whether each token of the keys is attended, one row per sample. A mask has a positive number for every such
/// token, or names the ends of samples and perhaps, behind all ends, their starts.
fn visible(site: &mut Site<'_>, mask: ValueId, keys: ValueId) -> Option<ValueId> {
    let shape = types::shape(site.graph, mask)?;
    let samples = types::shape(site.graph, keys)?.first()?.clone();
    let parts = match shape.as_slice() {
        [_, _] => None,
        [bounds] if bounds.is_surely(&samples) => Some(1),
        [bounds] if bounds.is_surely(&samples.times(2)) => Some(2),
        // One row per query, or bounds of packed sequences.
        _ => return None,
    };
    let to = Attribute::Int(i64::from(DataType::I64.code()));
    let mask = site.op_with("Cast", mask, ("to", to));
    let Some(parts) = parts else {
        let zero = whole(site, 0);
        return Some(site.op("Greater", &[mask, zero]));
    };
    let [zero, one] = [0, 1].map(|number| whole(site, number));
    let shape = site.op("Shape", &[keys]);
    let count = site.op("Gather", &[shape, one]);
    let places = site.op("Range", &[zero, count, one]);
    let target = ints(site, &[parts, -1, 1]);
    let bounds = site.op("Reshape", &[mask, target]);
    let ends = site.op("Gather", &[bounds, zero]);
    let before_end = site.op("Less", &[places, ends]);
    if parts == 1 {
        return Some(before_end);
    }
    let starts = site.op("Gather", &[bounds, one]);
    let behind_start = site.op("GreaterOrEqual", &[places, starts]);
    Some(site.op("And", &[before_end, behind_start]))
}

/// An integer.
fn whole(site: &mut Site<'_>, number: i64) -> ValueId {
    let name = format!("{}.number", site.name);
    site.graph.add_initializer(&name, Tensor::from_i64(Vec::new(), &[number]))
}

/// Inputs: data, common weight and bias for queries, keys and values, mask, past, bias of the scores.
pub(super) fn attention(site: &mut Site<'_>) -> Option<ValueId> {
    let data = site.input(0)?;
    let scores = Scores::of(site, data, [3, 5])?;
    let plain =
        site.input(4).is_none() && site.input(6).is_none() && site.node().int("do_rotary", 0) == 0;
    let weight = site.input(1).filter(|_| plain)?;
    of_product(site, [data, weight], &scores)
}

/// `QAttention`. Inputs: data and weight as integers, bias, scales of both, mask, zero points of both, past.
pub(super) fn quantised(site: &mut Site<'_>) -> Option<ValueId> {
    let data = site.input(0)?;
    let scores = Scores::of(site, data, [5, NO_INPUT])?;
    if site.input(8).is_some() || site.node().int("do_rotary", 0) != 0 {
        return None;
    }
    site.constant(4).filter(|scale| scale.dims.len() <= 1)?;
    site.constant(1).filter(|weight| weight.dims.len() == 2)?;
    let data = site.decoded([0, 3, 6], 0)?;
    let weight = site.decoded([1, 4, 7], 1)?;
    of_product(site, [data, weight], &scores)
}

/// Attention of queries, keys and values that one product makes, with the bias at input 2.
fn of_product(
    site: &mut Site<'_>,
    [data, weight]: [ValueId; 2],
    scores: &Scores,
) -> Option<ValueId> {
    let columns = *site.constant(1)?.dims.get(1)?;
    let width = columns / 3;
    if columns != 3 * width || site.node().ints("qkv_hidden_sizes").is_some() {
        return None;
    }
    let product = site.op("MatMul", &[data, weight]);
    let product = added(site, product, site.input(2));
    let mut part = |n: usize| {
        let bounds = [n * width, (n + 1) * width].map(|at| ints(site, &[at as i64]));
        let axis = ints(site, &[2]);
        site.op("Slice", &[product, bounds[0], bounds[1], axis])
    };
    let all = [part(0), part(1), part(2)];
    attended(site, all, width, scores)
}

/// Inputs: queries, keys, values, common bias, mask, bias of the scores, past.
pub(super) fn multi_head(site: &mut Site<'_>) -> Option<ValueId> {
    let keys = site.input(1)?;
    let scores = Scores::of(site, keys, [4, 5])?;
    let plain = (6..10).all(|slot| site.input(slot).is_none());
    let mut all = [site.input(0)?, keys, site.input(2).filter(|_| plain)?];
    let extent = |value| {
        let shape = types::shape(site.graph, value).filter(|shape| shape.len() == 3)?;
        shape.last()?.known()
    };
    let widths: Option<Vec<usize>> = all.iter().map(|value| extent(*value)).collect();
    let width = widths.filter(|widths| widths.iter().all(|w| *w == widths[0]))?[0];
    if let Some(bias) = site.input(3) {
        for (n, value) in all.iter_mut().enumerate() {
            let bounds = [n * width, (n + 1) * width].map(|at| ints(site, &[at as i64]));
            let own = site.op("Slice", &[bias, bounds[0], bounds[1]]);
            *value = site.op("Add", &[*value, own]);
        }
    }
    attended(site, all, width, &scores)
}

/// The values, weighted by the softmax of the products of queries and keys.
fn attended(
    site: &mut Site<'_>,
    all: [ValueId; 3],
    width: usize,
    scores: &Scores,
) -> Option<ValueId> {
    let depth = width / scores.heads;
    if depth * scores.heads != width {
        return None;
    }
    let [query, key, value] =
        [(0, [0, 2, 1, 3]), (1, [0, 2, 3, 1]), (2, [0, 2, 1, 3])].map(|(n, perm)| {
            let target = ints(site, &[0, 0, scores.heads as i64, depth as i64]);
            let split = site.op("Reshape", &[all[n], target]);
            site.op_with("Transpose", split, ("perm", Attribute::Ints(perm.to_vec())))
        });
    let product = site.op("MatMul", &[query, key]);
    let scale = if scores.scale == 0.0 { (depth as f32).sqrt().recip() } else { scores.scale };
    let mut product = site.scaled(product, f64::from(scale))?;
    if let Some(visible) = scores.visible {
        let axes = ints(site, &[1, 2]);
        let visible = site.op("Unsqueeze", &[visible, axes]);
        let (shown, hidden) = (site.number(0.0)?, site.number(f64::from(scores.lowest))?);
        let lowered = site.op("Where", &[visible, shown, hidden]);
        product = site.op("Add", &[product, lowered]);
    }
    product = added(site, product, scores.bias);
    let weights = site.op_with("Softmax", product, ("axis", Attribute::Int(-1)));
    let mixed = site.op("MatMul", &[weights, value]);
    let mixed = site.op_with("Transpose", mixed, ("perm", Attribute::Ints(vec![0, 2, 1, 3])));
    let target = ints(site, &[0, 0, width as i64]);
    Some(site.op("Reshape", &[mixed, target]))
}

pub(super) fn ints(site: &mut Site<'_>, values: &[i64]) -> ValueId {
    let name = format!("{}.ints", site.name);
    site.graph.add_initializer(&name, Tensor::from_i64(vec![values.len()], values))
}

/// The sum with another value, if there is one.
pub(super) fn added(site: &mut Site<'_>, value: ValueId, other: Option<ValueId>) -> ValueId {
    other.map_or(value, |other| site.op("Add", &[value, other]))
}
