//! Finds fine-tuned copies of one backbone: nets with nearly the same weights at the same indices.
//!
//! The distance of two layers is relative to that of the same weights with permuted rows: 0 for equal
//! layers, about 1 for unrelated ones. Channels between close layers correspond by index, through any
//! operators, so no search is needed and no channel moves.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array2, Array3, Axis};
use serde::{Deserialize, Serialize};

use crate::couple::{Channel, CoupledLayer, End, GroupId, LayerId};

use super::{Correspondence, Net, Site, TaskGroup, TaskId, TaskLayer};

/// Layers up to this distance are close. Weights at it have a cosine of about 0.44.
const CLOSE: f64 = 0.75;

/// Standard deviations from chance that the common part of all close layers must reach.
const SIGNIFICANT: f64 = 6.0;

/// The part of the smaller net that close layers must have, by layers and by weights. A table of words is
/// no backbone, although it may hold most weights.
const BACKBONE: f64 = 0.5;

/// Whether channels correspond by index or by search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matching {
    /// By index in a common backbone, by search elsewhere.
    #[default]
    Auto,
    /// By index in all corresponding layers of equal sizes.
    Index,
    /// By search everywhere.
    Search,
}

impl Matching {
    /// Every choice with its name on the command line and its help.
    pub const ALL: [(&'static str, Matching, &'static str); 3] = [
        ("auto", Matching::Auto, "by index in a common backbone, else by search"),
        ("index", Matching::Index, "by index in all corresponding layers of equal sizes"),
        ("search", Matching::Search, "by search everywhere"),
    ];
}

/// A net with the backbone of an earlier net.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lineage {
    /// The net.
    pub net: TaskId,
    /// The closest earlier net.
    pub parent: TaskId,
    /// The mean distance of close layers, weighted by their weights.
    pub distance: f64,
    /// Close layers: of the parent, of the net.
    pub layers: Vec<(LayerId, LayerId)>,
    /// Groups whose channels correspond by index: of the parent, of the net.
    pub groups: Vec<(GroupId, GroupId)>,
}

/// The lineage of each net with the backbone of an earlier net.
pub(super) fn lineages(nets: &[Net<'_>], sites: &[Site], matching: Matching) -> Vec<Lineage> {
    if matching == Matching::Search {
        return Vec::new();
    }
    let mut known = BTreeMap::new();
    let nearest = |net: usize| {
        let (net, before) = (TaskId(net), (0..net).map(TaskId));
        let found =
            before.filter_map(|parent| lineage(nets, sites, [parent, net], matching, &mut known));
        found.min_by(|a, b| a.distance.total_cmp(&b.distance))
    };
    (1..nets.len()).filter_map(nearest).collect()
}

/// The closeness of two corresponding layers.
struct Closeness {
    pair: (LayerId, LayerId),
    /// Their distance relative to chance.
    distance: f64,
    /// Their common part beyond chance, and its standard deviation for unrelated layers.
    common: (f64, f64),
    weights: usize,
}

/// Sums over the weights of single layers. Computed once per layer, not once per pair of nets.
type Sums = BTreeMap<TaskLayer, Sum>;

struct Sum {
    squares: f64,
    columns: Array2<f64>,
}

impl Sum {
    fn of(weights: &Array3<f32>) -> Sum {
        let (_, inputs, taps) = weights.dim();
        let mut columns = Array2::<f64>::zeros((inputs, taps));
        let rows = weights.axis_iter(Axis(0));
        rows.for_each(|row| columns.zip_mut_with(&row, |sum, w| *sum += f64::from(*w)));
        Sum { squares: product(weights, weights), columns }
    }
}

fn product(values: &Array3<f32>, other: &Array3<f32>) -> f64 {
    values.iter().zip(other).map(|(v, w)| f64::from(*v) * f64::from(*w)).sum()
}

fn lineage(
    nets: &[Net<'_>],
    sites: &[Site],
    [parent, net]: [TaskId; 2],
    matching: Matching,
    known: &mut Sums,
) -> Option<Lineage> {
    let pair =
        |site: &Site| Some([parent.layer(site.layer_of(parent)?), net.layer(site.layer_of(net)?)]);
    let pairs = sites.iter().filter_map(pair);
    let measured: Vec<Closeness> = pairs.filter_map(|pair| closeness(nets, pair, known)).collect();
    let close: Vec<&Closeness> =
        measured.iter().filter(|c| matching == Matching::Index || c.distance <= CLOSE).collect();
    let wholes = [parent, net].map(|task| whole(nets[task.0]));
    let weights: usize = close.iter().map(|c| c.weights).sum();
    let common: f64 = close.iter().map(|c| c.common.0).sum();
    let deviation = close.iter().map(|c| c.common.1.powi(2)).sum::<f64>().sqrt();
    let is_most = |(layers, all): (usize, usize)| {
        close.len() as f64 >= BACKBONE * layers as f64 && weights as f64 >= BACKBONE * all as f64
    };
    let is_descent =
        wholes.into_iter().any(is_most) && common >= SIGNIFICANT * deviation && common > 0.0;
    if close.is_empty() || !(is_descent || matching == Matching::Index) {
        return None;
    }
    let sum: f64 = close.iter().map(|c| c.distance * c.weights as f64).sum();
    let layers: Vec<(LayerId, LayerId)> = close.iter().map(|c| c.pair).collect();
    let groups = groups(nets[parent.0], nets[net.0], &layers, &measured);
    Some(Lineage { net, parent, distance: sum / weights.max(1) as f64, layers, groups })
}

/// The number of a net's layers and of their weights. Single rows, whose closeness is not measured, do not
/// count.
fn whole(net: Net<'_>) -> (usize, usize) {
    let sizes = net.coupling.layers.iter().filter_map(|layer| layer.layer.sizes(net.graph).ok());
    let sizes = sizes.filter(|(out, ..)| *out > 1);
    sizes.fold((0, 0), |(layers, all), (out, inputs, taps)| (layers + 1, all + out * inputs * taps))
}

/// The closeness of two layers of equal sizes; `None` for other sizes, and for a single row, which
/// has no permutation.
fn closeness(nets: &[Net<'_>], pair: [TaskLayer; 2], known: &mut Sums) -> Option<Closeness> {
    let layer = |own: TaskLayer| {
        let net = nets[own.task.0];
        (&net.coupling.layer(own.layer).layer, net.graph)
    };
    let [(x, of_x), (y, of_y)] = pair.map(layer);
    let sizes = x.sizes(of_x).ok()?;
    if sizes != y.sizes(of_y).ok()? || sizes.0 < 2 {
        return None;
    }
    let (v, w) = (x.read(of_x).ok()?, y.read(of_y).ok()?);
    for (own, weights) in pair.iter().zip([&v, &w]) {
        known.entry(*own).or_insert_with(|| Sum::of(weights));
    }
    let (a, b) = (known.get(&pair[0])?, known.get(&pair[1])?);
    let by_chance = (&a.columns * &b.columns).sum() / sizes.0 as f64;
    let (own, other, common) = (a.squares, b.squares, product(&v, &w));
    let at_chance = own + other - 2.0 * by_chance;
    let relative = (own + other - 2.0 * common).max(0.0) / at_chance.max(f64::MIN_POSITIVE);
    let weights = v.len();
    let deviation = (own * other / weights.max(1) as f64).sqrt();
    let distance = if at_chance > 0.0 { relative.sqrt() } else { 1.0 };
    distance.is_finite().then_some(Closeness {
        pair: (pair[0].layer, pair[1].layer),
        distance,
        common: (common - by_chance, deviation),
        weights,
    })
}

/// Groups that close layers produce or consume at the same places, one to one.
///
/// A group belongs to the backbone if most weights of its producers are close, or, without producers,
/// most weights of its consumers. Channels of inputs correspond anyway. Channels that only lead to an
/// output are the task's own, like heads.
fn groups(
    a: Net<'_>,
    b: Net<'_>,
    close: &[(LayerId, LayerId)],
    measured: &[Closeness],
) -> Vec<(GroupId, GroupId)> {
    let close: BTreeSet<(LayerId, LayerId)> = close.iter().copied().collect();
    let mut made: BTreeMap<(GroupId, GroupId), [usize; 2]> = BTreeMap::new();
    let mut read: BTreeMap<(GroupId, GroupId), [usize; 2]> = BTreeMap::new();
    let mut apart: BTreeSet<(GroupId, GroupId)> = BTreeSet::new();
    for measured in measured {
        let (x, y) = (a.coupling.layer(measured.pair.0), b.coupling.layer(measured.pair.1));
        let columns = |layer: &CoupledLayer| layer.inputs.clone().unwrap_or_default();
        let sides = [(x.outputs.clone(), y.outputs.clone(), &mut made)];
        let sides = sides.into_iter().chain([(columns(x), columns(y), &mut read)]);
        for (left, right, votes) in sides {
            for pair in same_places(&left, &right, &mut apart) {
                let votes = votes.entry(pair).or_default();
                votes[usize::from(close.contains(&measured.pair))] += measured.weights;
            }
        }
    }
    let wins = |votes: &[usize; 2]| votes[1] > votes[0];
    let all: BTreeSet<(GroupId, GroupId)> = made.keys().chain(read.keys()).copied().collect();
    let count = |own: &dyn Fn(&(GroupId, GroupId)) -> bool| all.iter().filter(|p| own(p)).count();
    let is_backbone = |pair: &&(GroupId, GroupId)| {
        let votes = made.get(*pair).or(read.get(*pair));
        let is_only = count(&|p| p.0 == pair.0) == 1 && count(&|p| p.1 == pair.1) == 1;
        votes.is_some_and(wins) && is_only && !apart.contains(pair) && may_share(a, b, **pair)
    };
    all.iter().filter(is_backbone).copied().collect()
}

/// The groups of channels at the same places of two layers; those with other indices are kept `apart`.
fn same_places(
    left: &[Channel],
    right: &[Channel],
    apart: &mut BTreeSet<(GroupId, GroupId)>,
) -> BTreeSet<(GroupId, GroupId)> {
    let mut found = BTreeSet::new();
    for (x, y) in left.iter().zip(right) {
        let pair = (x.group, y.group);
        found.insert(pair);
        if x.index != y.index {
            apart.insert(pair);
        }
    }
    found
}

fn may_share(a: Net<'_>, b: Net<'_>, (x, y): (GroupId, GroupId)) -> bool {
    let (left, right) = (a.coupling.group(x), b.coupling.group(y));
    let is_inner = |net: Net<'_>, group: &crate::couple::ChannelGroup| match group.end() {
        Some(End::Input) => false,
        Some(End::Output) => net.shares_outputs || !group.consumers.is_empty(),
        None => true,
    };
    left.size == right.size && is_inner(a, left) && is_inner(b, right)
}

/// Adds the produced groups of lineages to the correspondences, although they are frozen.
pub(super) fn add_groups(
    nets: &[Net<'_>],
    lineages: &[Lineage],
    classes: &mut Vec<Correspondence>,
) -> BTreeSet<TaskGroup> {
    let mut added = BTreeSet::new();
    for lineage in lineages {
        let is_made =
            |own: TaskGroup| !nets[own.task.0].coupling.group(own.group).producers.is_empty();
        for (parent, own) in &lineage.groups {
            let (parent, own) = (lineage.parent.group(*parent), lineage.net.group(*own));
            if !is_made(parent) || !is_made(own) {
                continue;
            }
            added.extend([parent, own]);
            let holds = |own: TaskGroup| {
                classes.iter().position(|class| class[own.task.0] == Some(own.group))
            };
            match (holds(parent), holds(own)) {
                (None, None) => {
                    let mut class = vec![None; nets.len()];
                    class[parent.task.0] = Some(parent.group);
                    class[own.task.0] = Some(own.group);
                    classes.push(class);
                }
                (Some(class), None) if classes[class][own.task.0].is_none() => {
                    classes[class][own.task.0] = Some(own.group);
                }
                (None, Some(class)) if classes[class][parent.task.0].is_none() => {
                    classes[class][parent.task.0] = Some(parent.group);
                }
                _ => {}
            }
        }
    }
    added
}
