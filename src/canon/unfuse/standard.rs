//! Attention of the standard operator set, and grouped-query attention of ONNX Runtime.

use ndarray::{ArrayD, IxDyn};
use std::collections::BTreeMap;

use crate::ir::{Attribute, DataType, Dim, Tensor, ValueId};

use super::attention::{added, ints};
use super::rotary::{Angles, Rotation};
use super::{Site, types};

/// Queries, keys or values as [batch, heads, tokens, depth].
#[derive(Clone)]
struct Part {
    value: ValueId,
    heads: usize,
    depth: usize,
    tokens: Dim,
}

impl Part {
    /// From [batch, heads, tokens, depth], or from [batch, tokens, heads · depth] with `heads` heads.
    fn of(site: &mut Site<'_>, value: ValueId, heads: i64) -> Option<Part> {
        let shape = types::shape(site.graph, value)?;
        match shape.as_slice() {
            [_, own, tokens, depth] => Some(Part {
                value,
                heads: own.known()?,
                depth: depth.known()?,
                tokens: tokens.clone(),
            }),
            [_, tokens, width] => {
                let heads = usize::try_from(heads).ok().filter(|heads| *heads > 0)?;
                let width = width.known().filter(|width| width % heads == 0)?;
                let depth = width / heads;
                let target = ints(site, &[0, 0, heads as i64, depth as i64]);
                let split = site.op("Reshape", &[value, target]);
                let value = transposed(site, split, [0, 2, 1, 3]);
                Some(Part { value, heads, depth, tokens: tokens.clone() })
            }
            _ => None,
        }
    }

    /// Repeats every head for each of its heads of queries.
    fn repeated(self, site: &mut Site<'_>, heads: usize) -> Option<Part> {
        if self.heads == heads {
            return Some(self);
        }
        let copies = heads.checked_div(self.heads).filter(|n| n * self.heads == heads)?;
        let axis = ints(site, &[2]);
        let wide = site.op("Unsqueeze", &[self.value, axis]);
        let target = ints(site, &[1, 1, copies as i64, 1, 1]);
        let wide = site.op("Expand", &[wide, target]);
        let target = ints(site, &[0, heads as i64, -1, self.depth as i64]);
        let value = site.op("Reshape", &[wide, target]);
        Some(Part { value, heads, ..self })
    }
}

fn transposed(site: &mut Site<'_>, value: ValueId, perm: [i64; 4]) -> ValueId {
    site.op_with("Transpose", value, ("perm", Attribute::Ints(perm.to_vec())))
}

/// Scale and masks of the products of queries and keys.
struct Scores {
    scale: Option<f32>,
    mask: Option<ValueId>,
    is_causal: bool,
}

/// `Attention` without a cache.
pub(super) fn attention(site: &mut Site<'_>) -> Option<ValueId> {
    let node = site.node();
    let dtype = types::of(site.graph, node.input(0)?)?.dtype;
    let precision = node.int("softmax_precision", 0);
    let is_plain = site.only_first_is_read()
        && (4..7).all(|slot| node.input(slot).is_none())
        && node.float("softcap", 0.0) == 0.0
        && (precision == 0 || precision == i64::from(dtype.code()));
    let inputs = [node.input(0)?, node.input(1)?, node.input(2).filter(|_| is_plain)?];
    let (q_heads, kv_heads) = (node.int("q_num_heads", 0), node.int("kv_num_heads", 0));
    let scores = Scores {
        scale: node.attributes.contains_key("scale").then(|| node.float("scale", 1.0)),
        mask: node.input(3),
        is_causal: node.int("is_causal", 0) != 0,
    };
    let rank = types::shape(site.graph, inputs[0])?.len();
    let query = Part::of(site, inputs[0], q_heads)?;
    let key = Part::of(site, inputs[1], kv_heads)?.repeated(site, query.heads)?;
    let value = Part::of(site, inputs[2], kv_heads)?.repeated(site, query.heads)?;
    // From operator set 24 on, a mask of fewer keys is padded.
    if let Some(mask) = scores.mask.filter(|_| site.opset >= 24) {
        let shape = types::shape(site.graph, mask)?;
        shape.last().filter(|own| own.is_surely(&key.tokens))?;
    }
    let mixed = attended(site, &query, &key, &value, &scores)?;
    if rank == 4 {
        return Some(mixed);
    }
    Some(merged(site, mixed, value.heads * value.depth))
}

/// [batch, heads, tokens, depth] as [batch, tokens, heads · depth].
fn merged(site: &mut Site<'_>, value: ValueId, width: usize) -> ValueId {
    let value = transposed(site, value, [0, 2, 1, 3]);
    let target = ints(site, &[0, 0, width as i64]);
    site.op("Reshape", &[value, target])
}

/// `GroupQueryAttention` without a cache. Inputs: queries, keys, values, cache, lengths, angles,
/// positions.
///
/// Lengths are ignored: they hide only keys that no real token attends to.
pub(super) fn grouped(site: &mut Site<'_>) -> Option<ValueId> {
    let node = site.node();
    let is_plain = site.only_first_is_read()
        && [3, 4, 10, 11].iter().all(|slot| node.input(*slot).is_none())
        && node.int("local_window_size", -1) < 0
        && node.int("smooth_softmax", 0) == 0
        && node.float("softcap", 0.0) == 0.0;
    let inputs = [node.input(0)?, node.input(1)?, node.input(2).filter(|_| is_plain)?];
    let (heads, kv_heads) = (node.int("num_heads", 0), node.int("kv_num_heads", 0));
    let scale = node.float("scale", 0.0);
    let scores = Scores { scale: (scale != 0.0).then_some(scale), mask: None, is_causal: true };
    let turns = node.int("do_rotary", 0) != 0;
    let is_interleaved = node.int("rotary_interleaved", 0) != 0;
    let tables = [node.input(7), node.input(8)];
    let positions = node.input(9);
    let mut query = Part::of(site, inputs[0], heads)?;
    let mut key = Part::of(site, inputs[1], kv_heads)?;
    let value = Part::of(site, inputs[2], kv_heads)?.repeated(site, query.heads)?;
    if turns {
        let [cos, sin] = [tables[0]?, tables[1]?];
        let angles = match positions {
            Some(positions) => Angles::picked(site, cos, sin, positions),
            None => Angles::first(site, cos, sin, inputs[0]),
        };
        for part in [&mut query, &mut key] {
            let rotation = Rotation { depth: part.depth, axis: 1, is_interleaved };
            part.value = rotation.of(site, part.value, &angles)?;
        }
    }
    let key = key.repeated(site, query.heads)?;
    let mixed = attended(site, &query, &key, &value, &scores)?;
    Some(merged(site, mixed, value.heads * value.depth))
}

/// The values, weighted by the softmax of the products of queries and keys.
fn attended(
    site: &mut Site<'_>,
    query: &Part,
    key: &Part,
    value: &Part,
    scores: &Scores,
) -> Option<ValueId> {
    let turned = transposed(site, key.value, [0, 1, 3, 2]);
    let product = site.op("MatMul", &[query.value, turned]);
    let scale = scores.scale.unwrap_or_else(|| (query.depth as f32).sqrt().recip());
    let mut product = site.scaled(product, f64::from(scale))?;
    if let Some(mask) = scores.mask {
        product = masked(site, product, mask)?;
    }
    if scores.is_causal {
        let later = later(site, query, key)?;
        product = added(site, product, Some(later));
    }
    let weights = site.op_with("Softmax", product, ("axis", Attribute::Int(-1)));
    Some(site.op("MatMul", &[weights, value.value]))
}

/// Scores with a mask of booleans or numbers.
fn masked(site: &mut Site<'_>, product: ValueId, mask: ValueId) -> Option<ValueId> {
    if types::of(site.graph, mask)?.dtype != DataType::Bool {
        return Some(site.op("Add", &[product, mask]));
    }
    let lowest = lowest(site)?;
    let lowest = site.number(lowest)?;
    Some(site.op("Where", &[mask, product, lowest]))
}

/// The lowest number of the data's type.
fn lowest(site: &Site<'_>) -> Option<f64> {
    match types::of(site.graph, site.input(0)?)?.dtype {
        DataType::F16 => Some(-65504.0),
        _ => Some(f64::from(f32::MIN)),
    }
}

/// Limit of elements of a stored mask; a larger one is computed at run time.
const LARGEST_MASK: usize = 1 << 20;

/// The causal mask [queries, keys], which hides later keys from each query.
fn later(site: &mut Site<'_>, query: &Part, key: &Part) -> Option<ValueId> {
    let lowest = lowest(site)?;
    let dtype = types::of(site.graph, site.input(0)?)?.dtype;
    let name = format!("{}.later", site.name);
    let extents = query.tokens.known().zip(key.tokens.known());
    if let Some((rows, columns)) = extents.filter(|(a, b)| a.saturating_mul(*b) <= LARGEST_MASK) {
        let hidden = |at: IxDyn| if at[1] > at[0] { lowest } else { 0.0 };
        let all = ArrayD::from_shape_fn(IxDyn(&[rows, columns]), hidden);
        let tensor = Tensor::from_f64(dtype, &all).ok()?;
        return Some(site.graph.add_initializer(&name, tensor));
    }
    let tokens = [query.value, key.value].map(|value| {
        let shape = site.op("Shape", &[value]);
        let bounds = [2, 3].map(|bound| ints(site, &[bound]));
        site.op("Slice", &[shape, bounds[0], bounds[1]])
    });
    let along = BTreeMap::from([("axis".to_owned(), Attribute::Int(0))]);
    let extents = site.add("Concat", &tokens.map(Some), along);
    let lone = Tensor::from_f64(dtype, &ArrayD::from_elem(IxDyn(&[1]), lowest)).ok()?;
    let all = site.op_with("ConstantOfShape", extents, ("value", Attribute::Tensor(lone)));
    let diagonal = site.graph.add_initializer(&name, Tensor::from_i64(Vec::new(), &[1]));
    Some(site.op("Trilu", &[all, diagonal]))
}
