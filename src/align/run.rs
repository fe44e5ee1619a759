//! The longest common subsequence of layers.

use std::collections::HashMap;

use crate::couple::{CoupledLayer, LayerId};
use crate::ops::LayerKind;

use super::worth::{describe, weight_type, worth};
use super::{Net, Site};

/// Pairs of site and layer to compare at most. In larger nets, only pairs at about the same relative
/// depth are compared.
const MOST_PAIRS: usize = 1 << 28;

/// The longest common subsequence of the sites and the layers of `net`, weighted by the parameters
/// that could be shared, as pairs of site and layer.
pub(super) fn longest_common(nets: &[Net<'_>], sites: &[Site], net: usize) -> Vec<(usize, usize)> {
    let known = beginning(nets, sites, net);
    let classes = Classes::of(nets[net], known);
    let sites = &sites[known..];
    let (n, m) = (sites.len(), classes.of_layer.len());
    let mut ways = Ways::new(n, m);
    // The best sum from a site and a layer on. Holds the values of the next site until they are
    // overwritten.
    let mut best = vec![0.0f64; m + 1];
    for i in (0..n).rev() {
        let values = classes.values(nets, &sites[i], net);
        let band = ways.band(i);
        let mut diagonal = best[band.end];
        for j in band.rev() {
            let (skip_site, skip_layer) = (best[j], best[j + 1]);
            let take = values[classes.of_layer[j]].map(|value| value + diagonal);
            let skip = skip_site.max(skip_layer);
            let way = match take {
                Some(take) if take >= skip => Way::Take,
                _ if skip_site >= skip_layer => Way::SkipSite,
                _ => Way::SkipLayer,
            };
            ways.set(i, j, way);
            diagonal = skip_site;
            best[j] = take.map_or(skip, |take| take.max(skip));
        }
    }
    let behind = ways.follow().into_iter().map(|(site, layer)| (known + site, known + layer));
    (0..known).map(|at| (at, at)).chain(behind).collect()
}

/// The number of leading sites and layers that correspond in order, because no other pair of either would
/// be worth more. Nets of one architecture need no more comparisons.
fn beginning(nets: &[Net<'_>], sites: &[Site], net: usize) -> usize {
    let own = |(net, layer): (usize, LayerId)| worth(nets[net], nets[net], layer, layer);
    let is_best = |(site, layer): (&Site, usize)| {
        let layer = LayerId(layer);
        let members = site.members().map(|member| (member.task.0, member.layer));
        let most = members.chain([(net, layer)]).filter_map(own).reduce(f64::max);
        most.is_some() && worth_to(nets, site, net, layer) >= most
    };
    sites.iter().zip(0..nets[net].coupling.layers.len()).take_while(|pair| is_best(*pair)).count()
}

/// The largest worth of a layer to a site; `None` if they cannot correspond.
fn worth_to(nets: &[Net<'_>], site: &Site, net: usize, layer: LayerId) -> Option<f64> {
    let worths = site.members().filter_map(|m| worth(nets[m.task.0], nets[net], m.layer, layer));
    worths.reduce(f64::max)
}

/// Classes of layers of one net that have the same worth to any other layer.
struct Classes {
    of_layer: Vec<usize>,
    /// One layer of each class.
    examples: Vec<LayerId>,
}

impl Classes {
    /// Of the layers from the `first` on.
    fn of(net: Net<'_>, first: usize) -> Self {
        let mut known = HashMap::new();
        let mut examples = Vec::new();
        let class = |(index, layer): (usize, &CoupledLayer)| {
            let kind = match &layer.layer.kind {
                // The other fields of gates are ids of their nets.
                LayerKind::Gate(_) => None,
                kind => Some(kind.clone()),
            };
            let frozen =
                layer.outputs.first().map(|c| net.coupling.group(c.group).frozen.is_some());
            let sizes = layer.layer.sizes(net.graph).ok();
            let kinds = (describe(&layer.layer.kind), kind, weight_type(net, layer));
            let key = (kinds, layer.per_channel, layer.repeats().is_some(), sizes, frozen);
            *known.entry(key).or_insert_with(|| {
                examples.push(LayerId(index));
                examples.len() - 1
            })
        };
        let of_layer = net.coupling.layers.iter().enumerate().skip(first).map(class).collect();
        Classes { of_layer, examples }
    }

    /// The largest worth of each class to a site; `None` if they cannot correspond.
    fn values(&self, nets: &[Net<'_>], site: &Site, net: usize) -> Vec<Option<f64>> {
        self.examples.iter().map(|layer| worth_to(nets, site, net, *layer)).collect()
    }
}

/// The step at a site and a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Take,
    SkipSite,
    SkipLayer,
}

/// The best step at every site and layer, two bits each.
struct Ways {
    bits: Vec<u8>,
    sites: usize,
    layers: usize,
    /// Number of layers that are compared with each site.
    width: usize,
}

impl Ways {
    fn new(sites: usize, layers: usize) -> Self {
        let width = layers.min((MOST_PAIRS / sites.max(1)).max(1));
        Ways { bits: vec![0; (sites * width).div_ceil(4)], sites, layers, width }
    }

    /// The layers that are compared with a site.
    fn band(&self, site: usize) -> std::ops::Range<usize> {
        let spare = self.layers - self.width;
        let start = spare * site / self.sites.max(2).saturating_sub(1);
        start.min(spare)..start.min(spare) + self.width
    }

    fn place(&self, site: usize, layer: usize) -> (usize, usize) {
        let index = site * self.width + layer - self.band(site).start;
        (index / 4, index % 4 * 2)
    }

    fn set(&mut self, site: usize, layer: usize, way: Way) {
        let (byte, shift) = self.place(site, layer);
        self.bits[byte] |= (way as u8) << shift;
    }

    fn get(&self, site: usize, layer: usize) -> Way {
        let band = self.band(site);
        if layer < band.start {
            return Way::SkipLayer;
        }
        if layer >= band.end {
            return Way::SkipSite;
        }
        let (byte, shift) = self.place(site, layer);
        match self.bits[byte] >> shift & 3 {
            0 => Way::Take,
            1 => Way::SkipSite,
            _ => Way::SkipLayer,
        }
    }

    /// The pairs on the best path from the first site and layer.
    fn follow(&self) -> Vec<(usize, usize)> {
        let (mut site, mut layer, mut run) = (0, 0, Vec::new());
        while site < self.sites && layer < self.layers {
            match self.get(site, layer) {
                Way::Take => {
                    run.push((site, layer));
                    (site, layer) = (site + 1, layer + 1);
                }
                Way::SkipSite => site += 1,
                Way::SkipLayer => layer += 1,
            }
        }
        run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_both_ends_and_ways_are_kept() {
        let mut ways = Ways { bits: vec![0; 5], sites: 5, layers: 9, width: 4 };
        assert_eq!([0, 2, 4].map(|site| ways.band(site)), [0..4, 2..6, 5..9]);
        ways.set(2, 3, Way::SkipLayer);
        ways.set(2, 4, Way::SkipSite);
        assert_eq!(
            [2, 3, 4, 5].map(|l| ways.get(2, l)),
            [Way::Take, Way::SkipLayer, Way::SkipSite, Way::Take]
        );
        assert_eq!((ways.get(2, 1), ways.get(2, 6)), (Way::SkipLayer, Way::SkipSite));
        assert!(ways.follow().is_sorted());
        assert!(Ways::new(0, 3).follow().is_empty() && Ways::new(3, 0).follow().is_empty());
    }
}
