//! Layers that correspond.

use crate::couple::{CoupledLayer, LayerId};
use crate::ops::{GateInputs, LayerKind};

use super::{Divergence, Net, Site, run};

/// The layers of all nets, grouped into sites.
pub(super) fn sites(nets: &[Net<'_>]) -> Vec<Site> {
    let mut sites: Vec<Site> = Vec::new();
    for (net, own) in nets.iter().enumerate() {
        let layers = own.coupling.layers.len();
        let run = run::longest_common(nets, &sites, net);
        let mut merged = Vec::new();
        let (mut site, mut layer) = (0, 0);
        for (i, j) in run.into_iter().chain([(sites.len(), layers)]) {
            merged.extend(sites[site..i].iter().cloned());
            merged.extend((layer..j).map(|l| alone(nets.len(), net, LayerId(l))));
            if let Some(common) = sites.get(i) {
                let mut common = common.clone();
                common.layers[net] = Some(LayerId(j));
                merged.push(common);
            }
            (site, layer) = (i + 1, j + 1);
        }
        sites = merged;
    }
    sites
}

fn alone(nets: usize, net: usize, layer: LayerId) -> Site {
    let mut layers = vec![None; nets];
    layers[net] = Some(layer);
    Site { layers, own_weights: false }
}

/// Parameters that two layers have in common at most, with a bonus for equal sizes and windows and
/// equally frozen outputs, so that repeated blocks align with their counterparts; `None` if the layers
/// cannot correspond.
pub(super) fn worth(a: Net<'_>, b: Net<'_>, i: LayerId, j: LayerId) -> Option<f64> {
    let (x, y) = (a.coupling.layer(i), b.coupling.layer(j));
    if x.per_channel != y.per_channel || !corresponds(&x.layer.kind, &y.layer.kind) {
        return None;
    }
    let (xo, xi, taps) = x.layer.sizes(a.graph).ok()?;
    let (yo, yi, _) = y.layer.sizes(b.graph).ok()?;
    let common = (xo.min(yo) * xi.min(yi) * taps) as f64;
    let frozen = |net: Net<'_>, l: &CoupledLayer| {
        l.outputs.first().is_some_and(|c| net.coupling.group(c.group).frozen.is_some())
    };
    let alike = frozen(a, x) == frozen(b, y);
    let moves_alike = match (&x.layer.kind, &y.layer.kind) {
        // The other fields of a gate are values of its net.
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

/// The difference that keeps two layers from corresponding; `None` if they correspond.
fn difference(a: &CoupledLayer, b: &CoupledLayer) -> Option<String> {
    if !corresponds(&a.layer.kind, &b.layer.kind) {
        let (x, y) = (describe(&a.layer.kind), describe(&b.layer.kind));
        return Some(format!("{x} against {y}"));
    }
    (a.per_channel != b.per_channel).then(|| "a depthwise against a full convolution".to_owned())
}

/// Where `net` first differs from the first net.
pub(super) fn divergence(nets: &[Net<'_>], sites: &[Site], net: usize) -> Option<Divergence> {
    let (a, b) = (nets[0].coupling, nets[net].coupling);
    let pairs: Vec<(LayerId, LayerId)> =
        sites.iter().filter_map(|site| site.layers[0].zip(site.layers[net])).collect();
    let (n, m) = (a.layers.len(), b.layers.len());
    let at = (0..n.max(m)).find(|i| pairs.get(*i) != Some(&(LayerId(*i), LayerId(*i))))?;
    let (x, y) = (a.layers.get(at), b.layers.get(at));
    let difference = match (x, y) {
        (Some(x), Some(y)) => difference(x, y).unwrap_or_else(|| "an inserted layer".to_owned()),
        _ => format!("{n} layers against {m}"),
    };
    Some(Divergence { a: x.map(|l| l.name.clone()), b: y.map(|l| l.name.clone()), difference })
}
