//! Replaces products of integers with float results, and other operators of quantised transformers, by float operators
//! behind `DequantizeLinear`.

use std::collections::BTreeMap;

use crate::ir::{Node, Tensor, ValueId, ValueKind};

use super::attention::added;
use super::{Site, types};

/// `DynamicQuantizeMatMul`. Inputs: data, weight, scale and zero point of the weight, and a bias.
pub(super) fn by_range(site: &mut Site<'_>) -> Option<ValueId> {
    let weight = weight(site, [1, 2, 3])?;
    let x = rounded(site, site.input(0)?)?;
    let y = site.op("MatMul", &[x, weight]);
    Some(added(site, y, site.input(4)))
}

/// `MatMulIntegerToFloat`. Inputs: data, weight, their scales, their zero points, and a bias.
pub(super) fn to_float(site: &mut Site<'_>) -> Option<ValueId> {
    site.input(2).filter(|scale| is_single(site, *scale))?;
    let weight = match site.constant(1) {
        Some(_) => weight(site, [1, 3, 5])?,
        None => {
            site.input(3).filter(|scale| is_single(site, *scale))?;
            site.decoded([1, 3, 5], 0)?
        }
    };
    let x = site.decoded([0, 2, 4], 0)?;
    let y = site.op("MatMul", &[x, weight]);
    Some(added(site, y, site.input(6)))
}

/// A constant weight with scales of its columns, or one for all.
fn weight(site: &mut Site<'_>, slots: [usize; 3]) -> Option<ValueId> {
    let axis = site.constant(slots[0])?.dims.len().checked_sub(1)?;
    let fits = |tensor: &Tensor| tensor.dims.len() <= 1;
    let is_flat = slots[1..].iter().all(|slot| site.constant(*slot).is_none_or(fits));
    if is_flat { site.decoded(slots, axis as i64) } else { None }
}

/// Whether a value is one number.
fn is_single(site: &Site<'_>, value: ValueId) -> bool {
    match site.graph.initializer(value) {
        Some(tensor) => tensor.len() == 1,
        None => types::shape(site.graph, value)
            .is_some_and(|shape| shape.iter().all(|extent| extent.known() == Some(1))),
    }
}

/// A value, rounded to 256 steps between its extremes.
fn rounded(site: &mut Site<'_>, value: ValueId) -> Option<ValueId> {
    let name = format!("{}.rounded", site.name);
    let parts: Vec<Option<ValueId>> =
        (0..3).map(|_| Some(site.graph.add_value(&name, ValueKind::Detached, None))).collect();
    site.graph.add_node(Node {
        name,
        op: "DynamicQuantizeLinear".to_owned(),
        inputs: vec![Some(value)],
        outputs: parts.clone(),
        ..Node::default()
    });
    Some(site.add("DequantizeLinear", &parts, BTreeMap::new()))
}

/// `QuantizeLinear` and `DequantizeLinear` of ONNX Runtime, which have more types than those of older operator sets.
pub(super) fn pair(site: &mut Site<'_>) -> Option<ValueId> {
    let node = site.node();
    let has_axis = node.attributes.contains_key("axis");
    site.input(1).filter(|scale| has_axis || is_single(site, *scale))?;
    let node = site.node();
    let (op, inputs, attributes) = (node.op.clone(), node.inputs.clone(), node.attributes.clone());
    Some(site.add(&op, &inputs, attributes))
}
