//! Replaces products of dynamically quantised data with constant weights by float operators behind
//! `DequantizeLinear`.
//!
//! The model converts the integers of the product to floats and multiplies them by the product of both scales. Older
//! quantisers add the bias before that: as integers, which are the bias in steps of that product, rounded. A step is
//! far below what one code of the data is worth in the result, so the bias is taken as it is.

use std::collections::BTreeMap;

use crate::canon::rewire;
use crate::ir::{Attribute, DataType, Graph, Node, Tensor, ValueId};

use super::Site;
use super::quantised::numbers;

/// What follows the product of integers.
struct Behind {
    /// The result as floats, which replaces all these nodes.
    output: ValueId,
    /// The scale of the weight.
    scale: Tensor,
    /// The bias as floats, one per channel.
    bias: Option<ValueId>,
}

/// `MatMulInteger` and `ConvInteger`. Inputs: data, weight and their zero points.
pub(super) fn product(site: &mut Site<'_>) -> Option<ValueId> {
    let (data, zero) = (site.input(0)?, site.input(2)?);
    let source = site.graph.node(site.graph.producer(data)?);
    let scale = source.output(1)?;
    if !source.is("DynamicQuantizeLinear") || source.output(2) != Some(zero) {
        return None;
    }
    let is_conv = site.node().op == "ConvInteger";
    let weight = site.constant(1)?.clone();
    let axis = if is_conv { 0 } else { weight.dims.len().checked_sub(1)? };
    let channels = *weight.dims.get(axis)?;
    let behind = behind(site, scale, is_conv.then_some(weight.dims.len()), channels)?;
    let scales = numbers(&behind.scale, channels)?;
    let zeros = site.input(3).map(|_| numbers(site.constant(3)?, channels));
    let x = site.op("DequantizeLinear", &[data, scale, zero]);
    let mut parts = vec![site.input(1), Some(site.graph.add_initializer("scale", scales))];
    if let Some(zeros) = zeros {
        parts.push(Some(site.graph.add_initializer("zero_point", zeros?)));
    }
    let along = BTreeMap::from([("axis".to_owned(), Attribute::Int(axis as i64))]);
    let weight = site.add("DequantizeLinear", &parts, along);
    let attributes = site.node().attributes.clone();
    site.output = behind.output;
    if is_conv {
        let mut inputs = vec![Some(x), Some(weight)];
        inputs.extend(behind.bias.map(Some));
        return Some(site.add("Conv", &inputs, attributes));
    }
    let y = site.add("MatMul", &[Some(x), Some(weight)], attributes);
    Some(behind.bias.map_or(y, |bias| site.op("Add", &[y, bias])))
}

/// Reads the nodes behind the product; `maps` is the rank of the results of a convolution.
fn behind(site: &Site<'_>, scale: ValueId, maps: Option<usize>, channels: usize) -> Option<Behind> {
    let graph = &*site.graph;
    let reader = |value: ValueId| -> Option<&Node> {
        Some(graph.node(rewire::only_reader(graph, site.readers, value)?))
    };
    let (mut cast, mut rounded) = (reader(site.output)?, None);
    if cast.is("Add") {
        rounded = Some(other(cast, site.output)?);
        cast = reader(cast.output(0)?)?;
    }
    let floats = cast.output(0).filter(|_| cast.is("Cast"))?;
    let rescaled = reader(floats).filter(|node| node.is("Mul"))?;
    let weight_scale = factor(graph, other(rescaled, floats)?, scale)?;
    let bias = match rounded {
        Some(rounded) => {
            let Rounded { bias, step, shape } = rounded_bias(graph, rounded)?;
            let same = factor(graph, step, scale)? == weight_scale;
            let fits = same && is_for_channels(shape.as_deref(), maps, channels);
            let is_vector = graph.initializer(bias)?.dims == [channels];
            Some(Some(bias).filter(|_| fits && is_vector)?)
        }
        None => None,
    };
    Some(Behind { output: rescaled.output(0)?, scale: weight_scale.clone(), bias })
}

/// The other operand of a node of two.
fn other(node: &Node, operand: ValueId) -> Option<ValueId> {
    node.inputs.iter().flatten().copied().find(|value| *value != operand)
}

/// The constant that is multiplied by `scale` to make `value`.
fn factor(graph: &Graph, value: ValueId, scale: ValueId) -> Option<&Tensor> {
    let factors = graph.node(graph.producer(value)?);
    let constant = || factors.inputs.iter().flatten().find_map(|v| graph.initializer(*v));
    if factors.is("Mul") && factors.inputs.contains(&Some(scale)) { constant() } else { None }
}

/// A bias in whole steps.
struct Rounded {
    bias: ValueId,
    step: ValueId,
    /// The shape that it is brought to, if it is.
    shape: Option<Vec<i64>>,
}

/// Reads the nodes that make integers of a bias.
fn rounded_bias(graph: &Graph, value: ValueId) -> Option<Rounded> {
    let made_by = |value: ValueId, ops: &[&str]| -> Option<&Node> {
        let node = graph.node(graph.producer(value)?);
        ops.iter().any(|op| node.is(op)).then_some(node)
    };
    let (mut integers, mut shape) = (value, None);
    if let Some(reshape) = made_by(value, &["Reshape"]) {
        shape = Some(graph.initializer(reshape.input(1)?)?.to_i64()?);
        integers = reshape.input(0)?;
    }
    let cast = made_by(integers, &["Cast"])?;
    let is_whole = cast.int("to", 0) == i64::from(DataType::I32.code());
    let whole = made_by(cast.input(0)?, &["Floor", "Round"]).filter(|_| is_whole)?;
    let steps = made_by(whole.input(0)?, &["Div"])?;
    Some(Rounded { bias: steps.input(0)?, step: steps.input(1)?, shape })
}

/// Whether numbers of this shape are one per channel: the second of the axes of `maps`, or the last one.
fn is_for_channels(shape: Option<&[i64]>, maps: Option<usize>, channels: usize) -> bool {
    let Some(shape) = shape else { return maps.is_none() };
    let place = match maps {
        Some(rank) if shape.len() == rank => 1,
        Some(_) => return false,
        None => shape.len().wrapping_sub(1),
    };
    let is_all = |size: i64| size == -1 || usize::try_from(size) == Ok(channels);
    shape.iter().enumerate().all(|(axis, size)| match axis == place {
        true => is_all(*size),
        false => *size == 1,
    })
}
