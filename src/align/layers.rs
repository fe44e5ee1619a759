//! Layers that correspond.

use crate::couple::{CoupledLayer, LayerId};
use crate::ops::{GateInputs, LayerKind};

use super::{Divergence, Net, Site};

/// The layers of all nets, corresponding ones together.
pub(super) fn sites(nets: &[Net<'_>]) -> Vec<Site> {
    let mut sites: Vec<Site> = Vec::new();
    for (net, own) in nets.iter().enumerate() {
        let layers = own.coupling.layers.len();
        let run = longest_common_run(nets, &sites, net);
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

/// Longest common subsequence of the sites and the layers of `net`, weighted by the parameters that
/// could be shared: pairs of site and layer.
fn longest_common_run(nets: &[Net<'_>], sites: &[Site], net: usize) -> Vec<(usize, usize)> {
    let (n, m) = (sites.len(), nets[net].coupling.layers.len());
    let most = |site: &Site, layer: LayerId| {
        let worths =
            site.members().filter_map(|(other, id)| worth(nets[other], nets[net], id, layer));
        worths.reduce(f64::max)
    };
    let value: Vec<Vec<Option<f64>>> =
        sites.iter().map(|site| (0..m).map(|j| most(site, LayerId(j))).collect()).collect();
    let mut best = vec![vec![0.0f64; m + 1]; n + 1];
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            let skip = best[i + 1][j].max(best[i][j + 1]);
            let take = value[i][j].map_or(f64::NEG_INFINITY, |v| v + best[i + 1][j + 1]);
            best[i][j] = skip.max(take);
        }
    }
    let (mut i, mut j, mut run) = (0, 0, Vec::new());
    while i < n && j < m {
        match value[i][j] {
            Some(v) if v + best[i + 1][j + 1] >= best[i][j] => {
                run.push((i, j));
                i += 1;
                j += 1;
            }
            _ if best[i + 1][j] >= best[i][j + 1] => i += 1,
            _ => j += 1,
        }
    }
    run
}

/// Parameters that two layers have in common at most, with a bonus for equal sizes and windows and
/// equally frozen outputs, so that repeated blocks align with their counterparts; `None` if the layers
/// cannot correspond.
fn worth(a: Net<'_>, b: Net<'_>, i: LayerId, j: LayerId) -> Option<f64> {
    let (x, y) = (a.coupling.layer(i), b.coupling.layer(j));
    if difference(x, y).is_some() {
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
        // What else is known of gates are values of their nets.
        (LayerKind::Gate(_), LayerKind::Gate(_)) => true,
        (a, b) => a == b,
    };
    let same = (xo, xi) == (yo, yi) && moves_alike;
    Some(common * if same { 1.5 } else { 1.0 } * if alike { 1.0 } else { 0.1 } + 1.0)
}

/// What must be equal for two layers to correspond; `None` if they do.
fn difference(a: &CoupledLayer, b: &CoupledLayer) -> Option<String> {
    let describe = |kind: &LayerKind| match kind {
        LayerKind::Gemm => "Gemm".to_owned(),
        LayerKind::MatMul => "MatMul".to_owned(),
        LayerKind::Gate(gate) => {
            let reset = if gate.inputs == GateInputs::Reset { " with the reset first" } else { "" };
            format!("gate {} of {}{reset}", gate.name, gate.op)
        }
        LayerKind::Conv(g) | LayerKind::ConvTranspose(g) => {
            let op = if matches!(kind, LayerKind::Conv(_)) { "Conv" } else { "ConvTranspose" };
            format!("{op} with kernel {:?}", g.kernel)
        }
    };
    let (x, y) = (describe(&a.layer.kind), describe(&b.layer.kind));
    if x != y {
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
