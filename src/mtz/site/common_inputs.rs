//! Finds the columns of corresponding layers that are the same shared input.

use std::collections::{BTreeSet, HashMap};

use crate::align::{Alignment, TaskId};
use crate::couple::{Channel, CoupledLayer, End};
use crate::mtz::joint::{JointModel, Neuron};
use crate::mtz::solver::layer::{LayerInputs, LayerStats};
use crate::ops::LayerKind;

use super::layers::SiteLayer;

/// The inputs that several layers have in common. A column has the index `input · taps + tap`. The
/// bias is the weight of a constant input and has no column here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CommonInputs {
    /// Per layer, its common inputs, ascending, each with its column.
    pub(crate) of: Vec<Vec<(usize, usize)>>,
    /// Number of common inputs, which are numbered from 0.
    pub(crate) count: usize,
    /// Weights per row and input.
    pub(crate) taps: usize,
}

/// An input that layers may have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    /// The n-th pixel of a neuron that is flattened to this many pixels.
    Neuron { neuron: Neuron, nth: usize, pixels: usize },
    /// The n-th pixel of a channel of a model input.
    Input { input: usize, channel: usize, nth: usize },
    /// The only channel that a layer reads.
    Only,
    /// A row of a table.
    Row(usize),
    /// A column of layers whose columns correspond by index.
    Column { ancestor: TaskId, column: usize },
}

impl CommonInputs {
    /// The common inputs of `members`, whose kernels have `taps` taps.
    pub(crate) fn of(
        joint: &JointModel,
        alignment: &Alignment,
        members: &[SiteLayer],
        taps: usize,
    ) -> CommonInputs {
        let sources: Vec<Vec<Option<Source>>> =
            match members.iter().all(|member| has_one_input(joint, member)) {
                true => vec![vec![Some(Source::Only)]; members.len()],
                false => members.iter().map(|member| sources(joint, alignment, member)).collect(),
            };
        let mut holders: HashMap<Source, BTreeSet<usize>> = HashMap::new();
        for (member, own) in sources.iter().enumerate() {
            for source in own.iter().flatten() {
                holders.entry(*source).or_default().insert(member);
            }
        }
        let mut names: HashMap<Source, usize> = HashMap::new();
        let common = |s: &&Source| holders.get(*s).is_some_and(|members| members.len() > 1);
        for source in sources.iter().flatten().flatten().filter(common) {
            let next = names.len();
            names.entry(*source).or_insert(next);
        }
        let of = sources.iter().map(|own| {
            let named =
                own.iter().enumerate().filter_map(|(at, s)| Some((*names.get(s.as_ref()?)?, at)));
            let mut columns: Vec<(usize, usize)> = named
                .flat_map(|(name, at)| (0..taps).map(move |t| (name * taps + t, at * taps + t)))
                .collect();
            columns.sort_unstable();
            columns
        });
        CommonInputs { of: of.collect(), count: names.len() * taps, taps }
    }

    /// The common inputs of the layer `at`. The constant input is one of them unless every task keeps its
    /// own bias (`keeps_bias`).
    pub(crate) fn of_layer(
        &self,
        at: usize,
        layer: &CoupledLayer,
        stats: &LayerStats,
        keeps_bias: bool,
    ) -> LayerInputs {
        let bias = layer.layer.bias.filter(|_| !keeps_bias);
        let bias = bias.map(|_| (self.count, stats.weights.ncols() - 1));
        LayerInputs {
            columns: self.of[at].iter().copied().chain(bias).collect(),
            constant: self.count,
            has_bias: layer.layer.bias.is_some(),
        }
    }

    /// The number of the given layers that have each common input.
    pub(crate) fn holders(&self, members: &[usize]) -> Vec<usize> {
        let mut holders = vec![0; self.count];
        for member in members {
            self.of[*member].iter().for_each(|(name, _)| holders[*name] += 1);
        }
        holders
    }
}

/// Whether a layer reads one channel that is no neuron, such as an axis that is added to the features of a
/// layer. It can only correspond to the one of another layer.
fn has_one_input(joint: &JointModel, member: &SiteLayer) -> bool {
    let layer = &member.layer.layer;
    let is_plain = !matches!(layer.kind, LayerKind::Gate(_) | LayerKind::Table { .. });
    match member.layer.inputs.as_deref() {
        _ if !is_plain => false,
        None => {
            let sizes = layer.sizes(joint.task(member.task).graph());
            sizes.is_ok_and(|(_, inputs, _)| inputs == 1)
        }
        Some([channel]) => {
            let end = joint.group(member.task.group(channel.group)).end();
            end == Some(End::Input) && joint.neuron(member.task.channel(*channel)).is_none()
        }
        Some(_) => false,
    }
}

/// The common input at each input of a layer; `None` if no other net has it.
fn sources(joint: &JointModel, alignment: &Alignment, member: &SiteLayer) -> Vec<Option<Source>> {
    if let LayerKind::Table { rows } = member.layer.layer.kind {
        return (0..rows).map(|row| Some(Source::Row(row))).collect();
    }
    let Some(channels) = member.layer.inputs.as_deref() else {
        return columns(joint, alignment, member);
    };
    let mut pixels: HashMap<Channel, usize> = HashMap::new();
    let nth: Vec<usize> = channels
        .iter()
        .map(|channel| {
            let seen = pixels.entry(*channel).or_default();
            *seen += 1;
            *seen - 1
        })
        .collect();
    let input_of =
        |c: &Channel| alignment.inputs.iter().position(|i| i[member.task.0] == Some(c.group));
    let source =
        |(channel, nth): (&Channel, usize)| match joint.neuron(member.task.channel(*channel)) {
            Some(neuron) => Some(Source::Neuron { neuron, nth, pixels: pixels[channel] }),
            None => Some(Source::Input { input: input_of(channel)?, channel: channel.index, nth }),
        };
    channels.iter().zip(nth).map(source).collect()
}

/// The inputs of a layer whose input channels are not tracked: by index, if the layer is a fine-tuned
/// copy of another net's.
fn columns(joint: &JointModel, alignment: &Alignment, member: &SiteLayer) -> Vec<Option<Source>> {
    let sizes = member.layer.layer.sizes(joint.task(member.task).graph());
    let ancestor = alignment.ancestor(member.place());
    let Some((ancestor, (_, inputs, _))) = ancestor.zip(sizes.ok()) else { return Vec::new() };
    (0..inputs).map(|column| Some(Source::Column { ancestor, column })).collect()
}
