//! Folds batch normalisation of a constant, which standardises the weights of a layer.

use ndarray::{ArrayD, ArrayView1, Axis};

use crate::ir::{Graph, NodeId, Tensor};

/// The operator of this file.
pub(super) const OPS: &[&str] = &["BatchNormalization"];

/// The normalised constant, if the node is a batch normalisation of which only this result is read.
pub(super) fn value(graph: &Graph, id: NodeId, inputs: &[&Tensor]) -> Option<Tensor> {
    let node = graph.node(id);
    let [data, params @ ..] = inputs else { return None };
    if !node.is("BatchNormalization") || params.len() != 4 {
        return None;
    }
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
