//! Replaces quantised operators by float operators between `DequantizeLinear` and `QuantizeLinear`.
//! Constants are folded later, so weights are floats again.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};

use crate::ir::{Attribute, DataType, Tensor, ValueId};

use super::Site;

/// `QLinearConv`. Inputs: data, weight and result, each with scale and zero point, and a bias.
pub(super) fn convolution(site: &mut Site<'_>) -> Option<ValueId> {
    let bias = bias(site, 8, 1.0)?;
    let x = dequantised(site, 0, 0)?;
    let weight = dequantised(site, 3, 0)?;
    let attributes = site.node().attributes.clone();
    let y = site.add("Conv", &[Some(x), Some(weight), bias], attributes);
    quantised(site, y, 6)
}

/// `QLinearMatMul`. Scales of several numbers are those of the second factor's columns.
pub(super) fn product(site: &mut Site<'_>) -> Option<ValueId> {
    site.constant(1).filter(|scale| scale.len() == 1)?;
    let columns = site.constant(3).map_or(0, |weight| weight.dims.len() as i64 - 1);
    let a = dequantised(site, 0, 0)?;
    let b = dequantised(site, 3, columns.max(0))?;
    let y = site.op("MatMul", &[a, b]);
    quantised(site, y, 6)
}

/// `QGemm`; its result is a float if it has no scale.
pub(super) fn gemm(site: &mut Site<'_>) -> Option<ValueId> {
    let alpha = site.node().float("alpha", 1.0);
    let columns = 1 - site.node().int("transB", 0).clamp(0, 1);
    let bias = bias(site, 6, f64::from(alpha))?;
    let a = dequantised(site, 0, 0)?;
    let b = dequantised(site, 3, columns)?;
    let attributes = site.node().attributes.clone();
    let y = site.add("Gemm", &[Some(a), Some(b), bias], attributes);
    if site.input(7).is_none() { Some(y) } else { quantised(site, y, 7) }
}

/// Operators of two operands.
pub(super) fn pair(site: &mut Site<'_>) -> Option<ValueId> {
    let op = standard(site)?;
    let (a, b) = (dequantised(site, 0, 0)?, dequantised(site, 3, 0)?);
    let y = site.op(&op, &[a, b]);
    quantised(site, y, 6)
}

/// Operators of one operand.
pub(super) fn single(site: &mut Site<'_>) -> Option<ValueId> {
    let op = standard(site)?;
    if site.node().int("channels_last", 0) != 0 {
        return None;
    }
    let x = dequantised(site, 0, 0)?;
    let attributes = site.attributes_but(&["channels_last"]);
    let y = site.add(&op, &[Some(x)], attributes);
    quantised(site, y, 3)
}

/// `QLinearWhere`. Inputs: condition, both operands with their scales and zero points, scale and zero point of the
/// result.
pub(super) fn chosen(site: &mut Site<'_>) -> Option<ValueId> {
    let condition = site.input(0)?;
    let (a, b) = (dequantised(site, 1, 0)?, dequantised(site, 4, 0)?);
    let y = site.op("Where", &[condition, a, b]);
    quantised(site, y, 7)
}

/// `QLinearReduceMean`.
pub(super) fn mean(site: &mut Site<'_>) -> Option<ValueId> {
    let x = dequantised(site, 0, 0)?;
    let mut inputs = vec![Some(x)];
    let mut attributes = site.node().attributes.clone();
    if site.opset >= 18
        && let Some(Attribute::Ints(axes)) = attributes.remove("axes")
    {
        let axes = Tensor::from_i64(vec![axes.len()], &axes);
        inputs.push(Some(site.graph.add_initializer("axes", axes)));
    }
    let y = site.add("ReduceMean", &inputs, attributes);
    quantised(site, y, 3)
}

/// `Softmax` in its meaning since operator set 13.
pub(super) fn softmax(site: &mut Site<'_>) -> Option<ValueId> {
    if site.node().int("opset", 0) < 13 {
        return None;
    }
    let x = dequantised(site, 0, 0)?;
    let attributes = site.attributes_but(&["opset"]);
    let y = site.add("Softmax", &[Some(x)], attributes);
    quantised(site, y, 3)
}

/// `QLinearConcat`. Inputs: scale and zero point of the result, then each operand with its own.
pub(super) fn concat(site: &mut Site<'_>) -> Option<ValueId> {
    let operands: Vec<usize> = (2..site.node().inputs.len()).step_by(3).collect();
    let parts: Option<Vec<_>> =
        operands.into_iter().map(|index| Some(Some(dequantised(site, index, 0)?))).collect();
    let attributes = site.node().attributes.clone();
    let y = site.add("Concat", &parts?, attributes);
    quantised(site, y, 0)
}

/// A constant of integers that the model converts to floats and multiplies by a scale. Before that, it may
/// pick rows and subtract a zero point.
pub(super) fn scaled(site: &mut Site<'_>) -> Option<ValueId> {
    let (slot, found) = (0..2).find_map(|slot| Some((slot, integers(site, slot)?)))?;
    let Integers { table, ids, zero } = found;
    let dims = site.graph.initializer(table)?.dims.clone();
    let last = dims.len().checked_sub(1)?;
    let scale = site.constant(1 - slot).filter(|scale| scale.dtype == DataType::F32)?.clone();
    let both = [Some(&scale), zero.as_ref()];
    // Numbers with more axes than what they scale would add axes to it.
    let most = if ids.is_some() { 1 } else { dims.len() };
    if both.iter().flatten().any(|tensor| tensor.dims.len() > most) {
        return None;
    }
    let axes = both.map(|tensor| axis_of(tensor?, &dims));
    let axis = axes[0].or(axes[1]).unwrap_or(last);
    // Picked rows have scales along the columns only.
    if axes.iter().flatten().any(|other| *other != axis) || (ids.is_some() && axis != last) {
        return None;
    }
    let is_each = axes.iter().any(Option::is_some);
    let each = |tensor: &Tensor| spread(tensor, is_each.then(|| dims[axis]));
    let scale = each(&scale)?;
    let mut parts = vec![Some(table), Some(site.graph.add_initializer("scale", scale))];
    if let Some(zero) = zero {
        let dtype = site.graph.initializer(table)?.dtype;
        let codes = each(&zero)?.to_f64().ok()?;
        let whole = codes.mapv(|code| code as i64);
        let exact = codes.iter().zip(&whole).all(|(code, whole)| *code == *whole as f64);
        let zero = Tensor::from_ints(dtype, &whole).filter(|_| exact)?;
        parts.push(Some(site.graph.add_initializer("zero_point", zero)));
    }
    let along = BTreeMap::from([("axis".to_owned(), Attribute::Int(axis as i64))]);
    let floats = site.add("DequantizeLinear", &parts, along);
    Some(match ids {
        Some(ids) => site.op("Gather", &[floats, ids]),
        None => floats,
    })
}

/// A constant of integers that becomes floats.
struct Integers {
    table: ValueId,
    /// Numbers of the rows that are picked, if not all are used in order.
    ids: Option<ValueId>,
    /// Floats that are subtracted.
    zero: Option<Tensor>,
}

/// The integers behind an operand: the input of a conversion to floats.
fn integers(site: &Site<'_>, slot: usize) -> Option<Integers> {
    let graph = &*site.graph;
    let made_by = |value: ValueId| graph.producer(value).map(|id| graph.node(id));
    let mut floats = made_by(site.input(slot)?)?;
    let mut zero = None;
    if floats.is("Sub") {
        zero = Some(graph.initializer(floats.input(1)?)?.clone());
        floats = made_by(floats.input(0)?)?;
    }
    let is_conversion = floats.is("Cast") && floats.int("to", 0) == i64::from(DataType::F32.code());
    let source = floats.input(0).filter(|_| is_conversion)?;
    let (table, ids) = match made_by(source) {
        Some(pick) if pick.is("Gather") && pick.int("axis", 0) == 0 => {
            (pick.input(0)?, Some(pick.input(1)?))
        }
        _ => (source, None),
    };
    let codes = graph.initializer(table)?;
    let is_matrix = ids.is_none() || codes.dims.len() == 2;
    let fits = matches!(codes.dtype, DataType::I8 | DataType::U8) && is_matrix;
    fits.then_some(Integers { table, ids, zero })
}

/// The axis of these sizes along which a tensor differs, if it is one that is as long; `None` for a single
/// number.
fn axis_of(tensor: &Tensor, dims: &[usize]) -> Option<usize> {
    let place = tensor.dims.iter().position(|size| *size != 1)?;
    (dims.len() + place).checked_sub(tensor.dims.len())
}

/// One number, or one per index of an axis of this extent.
fn spread(tensor: &Tensor, extent: Option<usize>) -> Option<Tensor> {
    let Some(extent) = extent else { return numbers(tensor, 1) };
    if tensor.len() != 1 {
        return numbers(tensor, extent);
    }
    let value = *tensor.to_f64().ok()?.first()?;
    Tensor::from_f64(tensor.dtype, &ArrayD::from_elem(IxDyn(&[extent]), value)).ok()
}

/// One number, or one per channel, without axes of one index.
pub(super) fn numbers(tensor: &Tensor, channels: usize) -> Option<Tensor> {
    let dims = match tensor.len() {
        1 => Vec::new(),
        n if n == channels && tensor.dims.iter().filter(|d| **d != 1).count() == 1 => vec![n],
        _ => return None,
    };
    Some(Tensor { dims, ..tensor.clone() })
}

/// The float operator of a `QLinear…` operator.
fn standard(site: &Site<'_>) -> Option<String> {
    site.node().op.strip_prefix("QLinear").map(str::to_owned)
}

/// The operand at `index` as floats; scale and zero point follow it.
fn dequantised(site: &mut Site<'_>, index: usize, axis: i64) -> Option<ValueId> {
    site.decoded([index, index + 1, index + 2], axis)
}

/// Quantises the result with the scale at input `index` and the zero point at the next input.
fn quantised(site: &mut Site<'_>, value: ValueId, index: usize) -> Option<ValueId> {
    let inputs = [Some(value), Some(site.input(index)?), site.input(index + 1)];
    Some(site.add("QuantizeLinear", &inputs, BTreeMap::new()))
}

/// The bias at input `index`; its scale is the product of those of data and weight. `Some(None)`
/// without a bias.
fn bias(site: &mut Site<'_>, index: usize, factor: f64) -> Option<Option<ValueId>> {
    let Some(bias) = site.input(index) else { return Some(None) };
    let (data, weight) = (site.constant(1)?, site.constant(4)?);
    let (dtype, one) = (weight.dtype, data.to_f64().ok().filter(|scale| scale.len() == 1)?);
    let scales = weight.to_f64().ok()? * *one.first()? * factor;
    let dims = if scales.len() == 1 { Vec::new() } else { vec![scales.len()] };
    let scales: ArrayD<f64> = scales.into_shape_with_order(IxDyn(&dims)).ok()?;
    let scale = Tensor::from_f64(dtype, &scales).ok()?;
    let scale = site.graph.add_initializer("bias_scale", scale);
    let along = BTreeMap::from([("axis".to_owned(), Attribute::Int(0))]);
    Some(Some(site.add("DequantizeLinear", &[Some(bias), Some(scale)], along)))
}
