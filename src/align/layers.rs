//! Groups corresponding layers into sites.

use crate::couple::LayerId;

use super::worth::difference;
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
            merged.extend((layer..j).map(|l| alone(nets, net, LayerId(l))));
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

fn alone(nets: &[Net<'_>], net: usize, layer: LayerId) -> Site {
    let mut layers = vec![None; nets.len()];
    layers[net] = Some(layer);
    let repeats = nets[net].coupling.layer(layer).repeats().is_some();
    Site { layers, own_weights: false, repeats }
}

/// The first difference of `net` from the first net.
pub(super) fn divergence(nets: &[Net<'_>], sites: &[Site], net: usize) -> Option<Divergence> {
    let (a, b) = (nets[0].coupling, nets[net].coupling);
    let pairs: Vec<(LayerId, LayerId)> =
        sites.iter().filter_map(|site| site.layers[0].zip(site.layers[net])).collect();
    let (n, m) = (a.layers.len(), b.layers.len());
    let at = (0..n.max(m)).find(|i| pairs.get(*i) != Some(&(LayerId(*i), LayerId(*i))))?;
    let (x, y) = (a.layers.get(at), b.layers.get(at));
    let difference = match (x, y) {
        (Some(x), Some(y)) => difference((nets[0], x), (nets[net], y))
            .unwrap_or_else(|| "an inserted layer".to_owned()),
        _ => format!("{n} layers against {m}"),
    };
    Some(Divergence { a: x.map(|l| l.name.clone()), b: y.map(|l| l.name.clone()), difference })
}
