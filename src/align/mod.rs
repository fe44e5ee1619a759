//! Which layers and groups of one net correspond to which of another.
//!
//! Layers are aligned by the longest common run, weighted by what sharing them would save (so nets
//! of different depth share what they have in common). Groups follow from their layers.

use serde::{Deserialize, Serialize};

use crate::couple::{Channel, CoupledLayer, Coupling, GroupId, LayerId};
use crate::ir::Graph;
use crate::ops::LayerKind;

/// The correspondence between two nets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Alignment {
    /// Corresponding layers, in topological order of both nets.
    pub layers: Vec<(LayerId, LayerId)>,
    /// Corresponding groups whose channels may be paired.
    pub groups: Vec<(GroupId, GroupId)>,
    /// Corresponding model inputs, whose channels are shared as they are.
    pub inputs: Vec<(GroupId, GroupId)>,
    /// Groups behind corresponding layers that cannot be paired, with the reason.
    pub refused: Vec<(GroupId, GroupId, String)>,
    /// Where the nets first differ.
    pub divergence: Option<Divergence>,
}

/// The first pair of layers at which two nets differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// Layer of the first net; `None` where it has no more layers.
    pub a: Option<String>,
    /// Layer of the second net; `None` where it has no more layers.
    pub b: Option<String>,
    /// What differs.
    pub difference: String,
}

/// One side of an alignment.
#[derive(Clone, Copy)]
pub struct Net<'a> {
    /// The net's graph.
    pub graph: &'a Graph,
    /// Its channel structure.
    pub coupling: &'a Coupling,
}

/// Aligns two nets.
pub fn align(a: Net<'_>, b: Net<'_>) -> Alignment {
    let layers = longest_common_run(a, b);
    let mut alignment = Alignment { divergence: divergence(a, b, &layers), ..Alignment::default() };
    for (la, lb) in &layers {
        let (la, lb) = (a.coupling.layer(*la), b.coupling.layer(*lb));
        pair_groups(a, b, &layers, la, lb, &mut alignment);
        pair_inputs(a, b, la, lb, &mut alignment);
    }
    alignment.layers = layers;
    alignment
}

/// Pairs the groups of the rows of two corresponding layers.
fn pair_groups(
    a: Net<'_>,
    b: Net<'_>,
    layers: &[(LayerId, LayerId)],
    la: &CoupledLayer,
    lb: &CoupledLayer,
    alignment: &mut Alignment,
) {
    let (Some(ga), Some(gb)) = (only_group(&la.outputs), only_group(&lb.outputs)) else { return };
    let known = alignment.groups.iter().any(|(x, y)| *x == ga || *y == gb)
        || alignment.refused.iter().any(|(x, y, _)| *x == ga && *y == gb);
    if known {
        return;
    }
    match refusal(a, b, layers, ga, gb) {
        None => alignment.groups.push((ga, gb)),
        Some(reason) => alignment.refused.push((ga, gb, reason)),
    }
}

fn refusal(
    a: Net<'_>,
    b: Net<'_>,
    layers: &[(LayerId, LayerId)],
    ga: GroupId,
    gb: GroupId,
) -> Option<String> {
    let (group_a, group_b) = (a.coupling.group(ga), b.coupling.group(gb));
    if let Some(frozen) = group_a.frozen.as_ref().or(group_b.frozen.as_ref()) {
        return Some(if frozen.node.is_empty() {
            frozen.reason.clone()
        } else {
            format!("{} ('{}')", frozen.reason, frozen.node)
        });
    }
    let mapped: Option<Vec<LayerId>> = group_a
        .producers
        .iter()
        .map(|l| layers.iter().find(|(x, _)| x == l).map(|(_, y)| *y))
        .collect();
    let mut mapped = mapped.unwrap_or_default();
    mapped.sort_unstable();
    (mapped != group_b.producers).then(|| "made by layers that do not all correspond".to_owned())
}

/// Pairs the model inputs that two corresponding layers read.
fn pair_inputs(
    a: Net<'_>,
    b: Net<'_>,
    la: &CoupledLayer,
    lb: &CoupledLayer,
    alignment: &mut Alignment,
) {
    let (Some(ia), Some(ib)) = (&la.inputs, &lb.inputs) else { return };
    let (Some(ga), Some(gb)) = (only_group(ia), only_group(ib)) else { return };
    let is_input = |net: Net<'_>, id: GroupId| {
        net.coupling.group(id).frozen.as_ref().is_some_and(|f| f.is_input)
    };
    if is_input(a, ga) && is_input(b, gb) && ia == ib && !alignment.inputs.contains(&(ga, gb)) {
        alignment.inputs.push((ga, gb));
    }
}

/// The group of all `channels`, if they are of one.
pub fn only_group(channels: &[Channel]) -> Option<GroupId> {
    let first = channels.first()?.group;
    channels.iter().all(|c| c.group == first).then_some(first)
}

/// What must be equal for two layers to correspond; `None` if they do.
fn difference(a: &CoupledLayer, b: &CoupledLayer) -> Option<String> {
    let describe = |kind: &LayerKind| match kind {
        LayerKind::Gemm => "Gemm".to_owned(),
        LayerKind::MatMul => "MatMul".to_owned(),
        LayerKind::Conv(g) | LayerKind::ConvTranspose(g) => {
            let op = if matches!(kind, LayerKind::Conv(_)) { "Conv" } else { "ConvTranspose" };
            format!(
                "{op} with kernel {:?}, strides {:?}, dilations {:?}",
                g.kernel, g.strides, g.dilations
            )
        }
    };
    let (x, y) = (describe(&a.layer.kind), describe(&b.layer.kind));
    if x != y {
        return Some(format!("{x} against {y}"));
    }
    (a.per_channel != b.per_channel).then(|| "a depthwise against a full convolution".to_owned())
}

fn divergence(a: Net<'_>, b: Net<'_>, layers: &[(LayerId, LayerId)]) -> Option<Divergence> {
    let (n, m) = (a.coupling.layers.len(), b.coupling.layers.len());
    let at = (0..n.max(m)).find(|i| layers.get(*i) != Some(&(LayerId(*i), LayerId(*i))))?;
    let (x, y) = (a.coupling.layers.get(at), b.coupling.layers.get(at));
    let difference = match (x, y) {
        (Some(x), Some(y)) => difference(x, y).unwrap_or_else(|| "an inserted layer".to_owned()),
        _ => format!("{n} layers against {m}"),
    };
    Some(Divergence { a: x.map(|l| l.name.clone()), b: y.map(|l| l.name.clone()), difference })
}

/// Longest common subsequence of layers, weighted by the parameters that could be shared.
fn longest_common_run(a: Net<'_>, b: Net<'_>) -> Vec<(LayerId, LayerId)> {
    let (n, m) = (a.coupling.layers.len(), b.coupling.layers.len());
    let mut best = vec![vec![0.0f64; m + 1]; n + 1];
    let value: Vec<Vec<Option<f64>>> =
        (0..n).map(|i| (0..m).map(|j| worth(a, b, LayerId(i), LayerId(j))).collect()).collect();
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
                run.push((LayerId(i), LayerId(j)));
                i += 1;
                j += 1;
            }
            _ if best[i + 1][j] >= best[i][j + 1] => i += 1,
            _ => j += 1,
        }
    }
    run
}

/// Parameters that two layers have in common at most, with a bonus for equal sizes and equally
/// frozen outputs, so that repeated blocks align with their counterparts; `None` if the layers
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
    let same = (xo, xi) == (yo, yi);
    Some(common * if same { 1.5 } else { 1.0 } * if alike { 1.0 } else { 0.1 } + 1.0)
}

#[cfg(test)]
mod tests;
