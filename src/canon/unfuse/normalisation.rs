//! Layer normalisation of sums, and layer normalisation in operator sets without it.

use std::collections::BTreeMap;

use crate::ir::{Attribute, Tensor, ValueId};

use super::{Site, types};

/// The first operator set with `LayerNormalization`.
const SINCE: i64 = 17;

/// Layer normalisation of the sum of two values, and perhaps a bias. The sum may be an output, too.
pub(super) fn of_sum(site: &mut Site<'_>) -> Option<ValueId> {
    let outputs = site.node().outputs.clone();
    let kept = outputs.get(3).copied().flatten();
    let is_named = kept.is_some_and(|kept| site.graph.outputs.contains(&kept));
    if is_named || outputs.iter().skip(1).take(2).any(Option::is_some) {
        return None;
    }
    let mut data = site.input(0)?;
    // The bias usually belongs to the previous layer.
    if let Some(bias) = site.input(4) {
        data = site.op("Add", &[data, bias]);
    }
    let sum = site.op("Add", &[data, site.input(1)?]);
    if let Some(kept) = kept {
        let id = site.id;
        site.graph.edit_node(id, |node| node.outputs.truncate(1));
        site.graph.replace_uses(kept, sum);
    }
    let (scale, shift) = (site.input(2)?, site.input(3));
    let epsilon = site.node().float("epsilon", 1e-12);
    normalised(site, sum, scale, shift, epsilon)
}

/// As [`of_sum`], with RMS normalisation.
pub(super) fn simplified_sum(site: &mut Site<'_>) -> Option<ValueId> {
    if site.node().outputs.iter().skip(1).any(Option::is_some) {
        return None;
    }
    let mut sum = site.op("Add", &[site.input(0)?, site.input(1)?]);
    if let Some(bias) = site.input(3) {
        sum = site.op("Add", &[sum, bias]);
    }
    let (scale, epsilon) = (site.input(2)?, site.node().float("epsilon", 1e-12));
    by_root(site, sum, scale, epsilon)
}

/// RMS normalisation over the last axis.
pub(super) fn simplified(site: &mut Site<'_>) -> Option<ValueId> {
    let (data, scale) = (site.input(0)?, site.input(1)?);
    let last = types::shape(site.graph, data).map(|shape| shape.len() as i64 - 1);
    let axis = site.node().int("axis", -1);
    if !site.only_first_is_read() || (axis != -1 && Some(axis) != last) {
        return None;
    }
    let epsilon = site.node().float("epsilon", 1e-5);
    by_root(site, data, scale, epsilon)
}

fn by_root(site: &mut Site<'_>, data: ValueId, scale: ValueId, epsilon: f32) -> Option<ValueId> {
    let square = site.op("Mul", &[data, data]);
    let mean = mean(site, square);
    let epsilon = site.number(f64::from(epsilon))?;
    let raised = site.op("Add", &[mean, epsilon]);
    let root = site.op("Sqrt", &[raised]);
    let unit = site.op("Div", &[data, root]);
    Some(site.op("Mul", &[unit, scale]))
}

/// `LayerNormalization` in a model of an older operator set, as ONNX Runtime writes it.
pub(super) fn early(site: &mut Site<'_>) -> Option<ValueId> {
    let data = site.input(0)?;
    let last = types::shape(site.graph, data).map(|shape| shape.len() as i64 - 1);
    let axis = site.node().int("axis", -1);
    if site.opset >= SINCE || !site.only_first_is_read() || (axis != -1 && Some(axis) != last) {
        return None;
    }
    let (scale, shift) = (site.input(1)?, site.input(2));
    let epsilon = site.node().float("epsilon", 1e-5);
    normalised(site, data, scale, shift, epsilon)
}

pub(super) fn normalised(
    site: &mut Site<'_>,
    data: ValueId,
    scale: ValueId,
    shift: Option<ValueId>,
    epsilon: f32,
) -> Option<ValueId> {
    if site.opset >= SINCE {
        let epsilon = BTreeMap::from([("epsilon".to_owned(), Attribute::Float(epsilon))]);
        return Some(site.add("LayerNormalization", &[Some(data), Some(scale), shift], epsilon));
    }
    let mean = mean(site, data);
    let centred = site.op("Sub", &[data, mean]);
    let square = site.op("Mul", &[centred, centred]);
    let variance = self::mean(site, square);
    let epsilon = site.number(f64::from(epsilon))?;
    let variance = site.op("Add", &[variance, epsilon]);
    let deviation = site.op("Sqrt", &[variance]);
    let unit = site.op("Div", &[centred, deviation]);
    let scaled = site.op("Mul", &[unit, scale]);
    match shift {
        Some(shift) => Some(site.op("Add", &[scaled, shift])),
        None => Some(scaled),
    }
}

/// The mean over the last axis, which is kept.
fn mean(site: &mut Site<'_>, data: ValueId) -> ValueId {
    if site.opset >= 18 {
        let axes = site.graph.add_initializer("axes", Tensor::from_i64(vec![1], &[-1]));
        return site.op("ReduceMean", &[data, axes]);
    }
    site.op_with("ReduceMean", data, ("axes", Attribute::Ints(vec![-1])))
}
