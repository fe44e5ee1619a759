//! Operators that generate values from a shape or a range.

use crate::ir::{Attribute, DataType, Dim, Size, TensorType};

use super::super::NodeView;
use super::{Rows, extent, named_dtype, of_input, one, open};

pub(super) const RULES: Rows = &[
    (&["Constant"], constant),
    (&["ConstantOfShape"], filled),
    (&["Range"], range),
    (&["RandomNormal", "RandomUniform"], random),
    (&["Multinomial"], multinomial),
    (&["BlackmanWindow", "HammingWindow", "HannWindow"], window),
    (&["MelWeightMatrix"], mel),
];

const STRING: DataType = DataType::STRING;

fn constant(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let list =
        |dtype, length: usize| Some(TensorType { dtype, shape: Some(vec![Dim::Known(length)]) });
    let lone = |dtype| Some(TensorType { dtype, shape: Some(Vec::new()) });
    let of = |(name, value): (&String, &Attribute)| match (name.as_str(), value) {
        ("value", Attribute::Tensor(tensor)) => Some(tensor.ty()),
        ("value_int", _) => lone(DataType::I64),
        ("value_float", _) => lone(DataType::F32),
        ("value_string", _) => lone(STRING),
        ("value_ints", Attribute::Ints(list_of)) => list(DataType::I64, list_of.len()),
        ("value_floats", Attribute::Floats(list_of)) => list(DataType::F32, list_of.len()),
        ("value_strings", Attribute::Strs(list_of)) => list(STRING, list_of.len()),
        _ => None,
    };
    vec![node.node.attributes.iter().find_map(of)]
}

fn filled(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let dtype = match node.node.attributes.get("value") {
        Some(Attribute::Tensor(element)) => element.dtype,
        _ => DataType::F32,
    };
    let dim = |size: Option<Size>| size.map_or(Dim::Unknown, Size::dim);
    one(dtype, node.elements(0).map(|sizes| sizes.into_iter().map(dim).collect()))
}

/// The number of steps between the bounds.
fn range(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let whole = || {
        let (start, limit, step) = (node.number(0)?, node.number(1)?, node.number(2)?);
        let (room, step) = match step.value()? {
            0 => return None,
            step @ 1.. => (limit.minus(&start)?, step),
            step => (start.minus(&limit)?, step.checked_neg()?),
        };
        let count = room.plus(&Size::number(step.checked_sub(1)?))?.over(&Size::number(step))?;
        Some(if count.value().is_some_and(|n| n < 0) { Dim::Known(0) } else { count.dim() })
    };
    let broken = || {
        let float = |i| node.constant(i)?.to_f64().ok()?.into_iter().next();
        let count = ((float(1)? - float(0)?) / float(2)?).ceil().max(0.0);
        (count < 1e15).then_some(Dim::Known(count as usize))
    };
    of_input(node, 0, Some(vec![whole().or_else(broken).unwrap_or(Dim::Unknown)]))
}

fn random(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = node.node.ints("shape").map(|shape| shape.iter().map(|n| extent(*n)).collect());
    one(named_dtype(node, "dtype").unwrap_or(DataType::F32), shape)
}

fn multinomial(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let batch = node.shape(0).and_then(|s| s.first().cloned()).unwrap_or(Dim::Unknown);
    let shape = vec![batch, extent(node.node.int("sample_size", 1))];
    one(named_dtype(node, "dtype").unwrap_or(DataType::I32), Some(shape))
}

fn window(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let dtype = named_dtype(node, "output_datatype").unwrap_or(DataType::F32);
    one(dtype, Some(vec![node.number(0).map_or(Dim::Unknown, Size::dim)]))
}

/// One row for every frequency of a one-sided transform.
fn mel(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let dtype = named_dtype(node, "output_datatype").unwrap_or(DataType::F32);
    let mut shape = open(2);
    let dim = |index| node.number(index).map(Size::dim);
    if let Some(length) = dim(1) {
        shape[0] = length.over(2).plus(1);
    }
    if let Some(bins) = dim(0) {
        shape[1] = bins;
    }
    one(dtype, Some(shape))
}
