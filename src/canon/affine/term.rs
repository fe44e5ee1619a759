//! Reads a node as a factor and a shift per channel.

use crate::ir::{Graph, Node, NodeId, Tensor, ValueId};

use super::Foldable;

/// `y = scale·x + shift`, one of each per channel.
#[derive(PartialEq)]
pub(super) struct Term {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

/// Node `id` as a term of its operand `data`, which `layer` computes.
pub(super) fn read(graph: &Graph, id: NodeId, data: ValueId, layer: &Foldable) -> Option<Term> {
    let channels = layer.channels;
    let node = graph.node(id);
    if !node.domain.is_empty() {
        return None;
    }
    if node.op == "BatchNormalization" {
        let fits = node.input(0) == Some(data) && layer.axis == 1;
        let (scale, shift) = normalisation(graph, node, channels).filter(|_| fits)?;
        return Some(Term { scale, shift });
    }
    let first = node.input(0) == Some(data);
    let other = node.input(usize::from(first))?;
    let constant = per_channel(graph.initializer(other)?, layer)?;
    let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
    let term = |scale, shift| Some(Term { scale, shift });
    match (node.op.as_str(), first) {
        ("Mul", _) => term(constant, zeros),
        ("Add", _) => term(ones, constant),
        ("Div", true) => term(constant.iter().map(|c| c.recip()).collect(), zeros),
        ("Sub", true) => term(ones, constant.iter().map(|c| -c).collect()),
        ("Sub", false) => term(vec![-1.0; channels], constant),
        _ => None,
    }
}

/// The factors and the shifts of a `BatchNormalization` in inference mode, one of each per channel.
pub(in crate::canon) fn normalisation(
    graph: &Graph,
    node: &Node,
    channels: usize,
) -> Option<(Vec<f64>, Vec<f64>)> {
    let vector = |i: usize| -> Option<Vec<f64>> {
        let tensor = graph.initializer(node.input(i)?)?;
        (tensor.dims == [channels]).then(|| tensor.to_f64().ok())?.map(|a| a.into_iter().collect())
    };
    let (gamma, beta, mean, variance) = (vector(1)?, vector(2)?, vector(3)?, vector(4)?);
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let scale: Vec<f64> =
        gamma.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let shift = (0..channels).map(|c| beta[c] - mean[c] * scale[c]).collect();
    Some((scale, shift))
}

/// The elements of a constant with one element per channel, or one for all channels, if it does not
/// widen the data by broadcasting.
fn per_channel(tensor: &Tensor, layer: &Foldable) -> Option<Vec<f64>> {
    let Foldable { rank, channels, axis, .. } = *layer;
    let missing = rank.checked_sub(tensor.dims.len())?;
    let fits =
        |(i, extent): (usize, &usize)| *extent == 1 || (i + missing == axis && *extent == channels);
    if !tensor.dims.iter().enumerate().all(fits) {
        return None;
    }
    let values: Vec<f64> = tensor.to_f64().ok()?.into_iter().collect();
    match values.as_slice() {
        [one] => Some(vec![*one; channels]),
        _ => Some(values),
    }
}
