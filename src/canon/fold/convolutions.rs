//! Folds convolutions of zeros, with which the state of a recurrent cell begins.

use ndarray::{ArrayD, Axis, IxDyn};

use crate::ir::{Dim, Graph, Node, NodeId, Tensor};
use crate::ops::{self, NodeView};

/// The operators of this file.
pub(super) const OPS: &[&str] = &["Conv", "ConvTranspose"];

/// Whether a node is a convolution of something else than zeros.
pub(super) fn is_other(node: &Node, inputs: &[&Tensor]) -> bool {
    let is_zero = |data: &&Tensor| data.data.iter().all(|byte| *byte == 0);
    OPS.contains(&node.op.as_str()) && !inputs.first().is_some_and(is_zero)
}

/// The bias everywhere, if the node is a convolution of zeros.
pub(super) fn value(graph: &Graph, id: NodeId, inputs: &[&Tensor]) -> Option<Tensor> {
    let view = NodeView::new(graph, id, &[]);
    let [data, weight, rest @ ..] = inputs else { return None };
    let is_layer = OPS.contains(&view.node.op.as_str()) && data.dtype.is_float();
    let is_finite = || weight.to_f64().is_ok_and(|all| all.iter().all(|w| w.is_finite()));
    if !is_layer || !is_finite() {
        return None;
    }
    let shape = ops::infer(&view).into_iter().next()??.shape?;
    let shape: Vec<usize> = shape.iter().map(Dim::known).collect::<Option<_>>()?;
    let mut all = ArrayD::<f64>::zeros(IxDyn(&shape));
    if let Some(bias) = rest.first() {
        let bias = bias.to_f64().ok()?;
        if shape.len() < 2 || bias.len() != all.len_of(Axis(1)) {
            return None;
        }
        let channels = all.axis_iter_mut(Axis(1));
        channels.zip(&bias).for_each(|(mut channel, bias)| channel.fill(*bias));
    }
    Tensor::from_f64(data.dtype, &all).ok()
}
