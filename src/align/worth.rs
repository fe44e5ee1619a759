//! Whether two layers can correspond, and the number of parameters that they could share.

use crate::couple::{CoupledLayer, LayerId};
use crate::ir::DataType;
use crate::ops::{GateInputs, LayerKind};

use super::Net;

/// The parameters that two layers can share at most; `None` if the layers cannot correspond. Equal
/// sizes, equal windows and equally frozen outputs count more, so that repeated blocks align with
/// their counterparts.
pub(super) fn worth(a: Net<'_>, b: Net<'_>, i: LayerId, j: LayerId) -> Option<f64> {
    let (x, y) = (a.coupling.layer(i), b.coupling.layer(j));
    if difference((a, x), (b, y)).is_some() {
        return None;
    }
    if x.repeats().is_some() {
        // Their weights are shared with the layers that they repeat, if at all.
        return Some(1.0);
    }
    let (xo, xi, taps) = x.layer.sizes(a.graph).ok()?;
    let (yo, yi, _) = y.layer.sizes(b.graph).ok()?;
    let common = (xo.min(yo) * xi.min(yi) * taps) as f64;
    let frozen = |net: Net<'_>, l: &CoupledLayer| {
        l.outputs.first().is_some_and(|c| net.coupling.group(c.group).frozen.is_some())
    };
    let alike = frozen(a, x) == frozen(b, y);
    let moves_alike = match (&x.layer.kind, &y.layer.kind) {
        // The other fields of a gate are ids of its net.
        (LayerKind::Gate(_), LayerKind::Gate(_)) => true,
        (a, b) => a == b,
    };
    let same = (xo, xi) == (yo, yi) && moves_alike;
    Some(common * if same { 1.5 } else { 1.0 } * if alike { 1.0 } else { 0.1 } + 1.0)
}

/// Whether layers of these kinds can correspond.
fn corresponds(a: &LayerKind, b: &LayerKind) -> bool {
    match (a, b) {
        (LayerKind::Gemm, LayerKind::Gemm) | (LayerKind::MatMul, LayerKind::MatMul) => true,
        (LayerKind::Conv(a), LayerKind::Conv(b))
        | (LayerKind::ConvTranspose(a), LayerKind::ConvTranspose(b)) => a.kernel == b.kernel,
        (LayerKind::Gate(a), LayerKind::Gate(b)) => {
            let resets = |inputs: &GateInputs| *inputs == GateInputs::Reset;
            (a.op, a.name, resets(&a.inputs)) == (b.op, b.name, resets(&b.inputs))
        }
        (LayerKind::Table { rows: a }, LayerKind::Table { rows: b }) => a == b,
        _ => false,
    }
}

/// The properties of a kind that must be equal for layers to correspond.
pub(super) fn describe(kind: &LayerKind) -> String {
    match kind {
        LayerKind::Gemm => "Gemm".to_owned(),
        LayerKind::MatMul => "MatMul".to_owned(),
        LayerKind::Table { rows } => format!("a table of {rows} rows"),
        LayerKind::Gate(gate) => {
            let reset = if gate.inputs == GateInputs::Reset { " with the reset first" } else { "" };
            format!("gate {} of {}{reset}", gate.name, gate.op)
        }
        LayerKind::Conv(g) | LayerKind::ConvTranspose(g) => {
            let op = if matches!(kind, LayerKind::Conv(_)) { "Conv" } else { "ConvTranspose" };
            format!("{op} with kernel {:?}", g.kernel)
        }
    }
}

/// The type of a layer's weights. Weights of different types cannot be stored once.
pub(super) fn weight_type(net: Net<'_>, layer: &CoupledLayer) -> Option<DataType> {
    net.graph.initializer(layer.layer.weight).map(|weight| weight.dtype)
}

/// The difference between layers of two nets that cannot correspond; `None` if they can.
pub(super) fn difference(
    (of_a, a): (Net<'_>, &CoupledLayer),
    (of_b, b): (Net<'_>, &CoupledLayer),
) -> Option<String> {
    if !corresponds(&a.layer.kind, &b.layer.kind) {
        let (x, y) = (describe(&a.layer.kind), describe(&b.layer.kind));
        return Some(format!("{x} against {y}"));
    }
    if a.repeats().is_some() != b.repeats().is_some() {
        return Some("weights of an earlier layer against weights of its own".to_owned());
    }
    if a.per_channel != b.per_channel {
        return Some("a depthwise against a full convolution".to_owned());
    }
    let differ = weight_type(of_a, a) != weight_type(of_b, b);
    differ.then(|| "weights of another type".to_owned())
}
