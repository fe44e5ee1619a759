//! Folds normalisations of a constant: of the weights of a layer, which batch normalisation standardises,
//! and of tables of positions.

use ndarray::{ArrayD, ArrayView1, Axis};

use crate::ir::{Graph, Node, NodeId, Tensor};
use crate::ops::normal_axis;

/// The operators of this file.
pub(super) const OPS: &[&str] = &["BatchNormalization", "LayerNormalization"];

/// The normalised constant, if the node is a normalisation of which only this result is read.
pub(super) fn value(graph: &Graph, id: NodeId, inputs: &[&Tensor]) -> Option<Tensor> {
    let node = graph.node(id);
    let [data, params @ ..] = inputs else { return None };
    match node.op.as_str() {
        "BatchNormalization" if params.len() == 4 => over_channels(node, data, params),
        "LayerNormalization" => over_last_axes(node, data, params),
        _ => None,
    }
}

/// The result of a layer normalisation with a scale, and with a shift or none, of the normalised shape.
fn over_last_axes(node: &Node, data: &Tensor, params: &[&Tensor]) -> Option<Tensor> {
    let axis = normal_axis(node.int("axis", -1), data.dims.len())?;
    let normalised = data.dims.get(axis..)?;
    if params.is_empty() || params.len() > 2 || params.iter().any(|t| t.dims != normalised) {
        return None;
    }
    let params: Vec<ArrayD<f64>> = params.iter().map(|t| t.to_f64().ok()).collect::<Option<_>>()?;
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let length = params.first()?.len();
    let mut x = data.to_f64().ok()?;
    for values in x.as_slice_mut()?.chunks_mut(length.max(1)) {
        let flat = ArrayView1::from(&*values);
        let (mean, deviation) = (flat.mean()?, (flat.var(0.0) + epsilon).sqrt());
        values.iter_mut().for_each(|v| *v = (*v - mean) / deviation);
    }
    let [scale, shift @ ..] = params.as_slice() else { return None };
    x *= scale;
    if let [shift] = shift {
        x += shift;
    }
    Tensor::from_f64(data.dtype, &x).ok()
}

/// The result of a batch normalisation.
fn over_channels(node: &Node, data: &Tensor, params: &[&Tensor]) -> Option<Tensor> {
    let params: Vec<ArrayD<f64>> = params.iter().map(|t| t.to_f64().ok()).collect::<Option<_>>()?;
    let mut x = data.to_f64().ok()?;
    let fits = |param: &ArrayD<f64>| x.ndim() > 1 && param.shape() == [x.len_of(Axis(1))];
    if !params.iter().all(fits) {
        return None;
    }
    // Before operator set 14, outputs of statistics mean training mode.
    let trains =
        node.int("training_mode", 0) != 0 || node.outputs.iter().skip(1).any(Option::is_some);
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    for (channel, mut values) in x.axis_iter_mut(Axis(1)).enumerate() {
        let own: Vec<f64> =
            params.iter().map(|p| p.iter().nth(channel).copied()).collect::<Option<_>>()?;
        let [scale, shift, mean, variance] = own[..] else { return None };
        let (mean, variance) = match trains {
            true => {
                let flat: Vec<f64> = values.iter().copied().collect();
                let flat = ArrayView1::from(&flat);
                (flat.mean()?, flat.var(0.0))
            }
            false => (mean, variance),
        };
        let factor = scale / (variance + epsilon).sqrt();
        values.mapv_inplace(|v| (v - mean) * factor + shift);
    }
    Tensor::from_f64(data.dtype, &x).ok()
}
