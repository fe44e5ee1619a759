//! Layers whose rows canonical form has split, which are written as one node.
//!
//! They are one layer in the model. Several nodes take more time than one: runtimes compute narrow layers
//! slowly, and their outputs need a `Concat` and often a `Gather`. The layers of a node must be fused with
//! those of one node of each other task, and have the same rows there.

use std::collections::{BTreeMap, BTreeSet};

use crate::align::TaskId;
use crate::canon::{RowParts, row_parts};
use crate::couple::{CoupledLayer, Coupling, LayerId};
use crate::emit::value::partition::Partition;
use crate::emit::value::readers::Readers;
use crate::ir::{Graph, NodeId, ValueId};
use crate::mtz::joint::{JointModel, Neuron, Owner, Task};
use crate::ops::{Flow, Layer};

/// Layers that are written as one node.
#[derive(Debug)]
pub(crate) struct WholeLayer {
    pub(crate) name: String,
    /// The layers.
    pub(crate) layers: Vec<Layer>,
    /// Whether each row reads its own channel only.
    pub(crate) per_channel: bool,
    pub(crate) input: ValueId,
    pub(crate) output: ValueId,
    /// For each index of the output's channels, the number of the layer and its row.
    pub(crate) rows: Vec<(usize, usize)>,
    /// The rows that tasks have in common, in the order of their pieces.
    common: Vec<CommonRow>,
}

/// A row of a piece that is not one task's own: the owner, the number of the fused layer, and the neuron,
/// or the place of a channel that is none.
type CommonRow = (Owner, Option<u32>, Option<Neuron>, usize);

/// The layers of a net that are written as one node.
#[derive(Debug, Default)]
pub(crate) struct WholeLayers {
    /// By the last node that puts the rows together.
    whole: BTreeMap<NodeId, WholeLayer>,
    /// The other nodes that they replace.
    parts: BTreeSet<NodeId>,
}

impl WholeLayers {
    /// The layer that node `id` completes.
    pub(crate) fn at(&self, id: NodeId) -> Option<&WholeLayer> {
        self.whole.get(&id)
    }

    /// Whether node `id` is part of such a layer.
    pub(crate) fn is_part(&self, id: NodeId) -> bool {
        self.parts.contains(&id)
    }
}

/// Those of each task's net.
pub(crate) fn whole_layers(
    joint: &JointModel,
    partitions: &[Partition],
    readers: &Readers,
) -> Vec<WholeLayers> {
    let mut found: Vec<Vec<(RowParts, WholeLayer)>> = Vec::new();
    for (task, partition) in joint.task_ids().zip(partitions) {
        let all = row_parts(joint.task(task).graph()).into_iter();
        let whole = all.filter_map(|parts| {
            let layer = WholeLayer::of(joint, task, &parts, (partition, readers))?;
            Some((parts, layer))
        });
        found.push(whole.collect());
    }
    while let Some((task, at)) = unlike_others(joint, &found) {
        found[task.0].remove(at);
    }
    let tasks = found.into_iter().zip(joint.tasks());
    tasks.map(|(whole, task)| WholeLayers::new(whole, task.graph())).collect()
}

impl WholeLayers {
    fn new(found: Vec<(RowParts, WholeLayer)>, graph: &Graph) -> WholeLayers {
        let readers = graph.consumers();
        let (mut whole, mut parts) = (BTreeMap::new(), BTreeSet::new());
        for (own, layer) in found {
            let Some((last, before)) = own.join.split_last() else { continue };
            parts.extend(own.layers.iter().chain(before).copied());
            let is_read_once = |id: &NodeId| {
                let output = graph.node(*id).output(0);
                output.is_some_and(|v| readers[v.index()].len() == 1 && !graph.outputs.contains(&v))
            };
            parts.extend(own.picks.iter().copied().filter(is_read_once));
            whole.insert(*last, layer);
        }
        WholeLayers { whole, parts }
    }
}

impl WholeLayer {
    /// The layers as one, if they may be one node.
    fn of(
        joint: &JointModel,
        task: TaskId,
        found: &RowParts,
        (partition, readers): (&Partition, &Readers),
    ) -> Option<WholeLayer> {
        let net = joint.task(task);
        let coupling = net.coupling();
        let mut layers = Vec::new();
        let mut kinds = BTreeSet::new();
        for id in &found.layers {
            let (layer, per_channel) = match coupling.flows.get(id)? {
                Flow::Layer(layer) if layer.addition.is_none() => (layer, false),
                Flow::PerChannel(layer) => (layer, true),
                _ => return None,
            };
            kinds.insert(per_channel);
            layers.push(layer.clone());
        }
        let per_channel = kinds.contains(&true);
        let name = &net.graph().node(*found.join.first()?).name;
        let mut whole = WholeLayer {
            name: name.strip_suffix(".rows").unwrap_or(name).to_owned(),
            layers,
            per_channel,
            input: found.input,
            output: found.output,
            rows: found.rows.clone(),
            common: Vec::new(),
        };
        let fits = kinds.len() == 1
            && whole.has_rows_of_output(coupling, found.axis)
            && whole.has_one_owner(joint, task, readers);
        if !fits {
            return None;
        }
        whole.common = whole.common_rows(joint, task, partition)?;
        Some(whole)
    }

    /// Whether the channels of the output are those of the rows, and of the input for depthwise layers.
    fn has_rows_of_output(&self, coupling: &Coupling, axis: usize) -> bool {
        let Some(made) = coupling.axis(self.output) else { return false };
        let is_plain = made.axis == axis && made.within.is_none();
        let mut rows = made.channels.iter().zip(&self.rows);
        let same = rows.all(|(channel, (at, row))| {
            let own = self.layers.get(*at).filter(|layer| layer.out_axis == axis);
            let own = own.and_then(|layer| coupling.axis(layer.output));
            own.and_then(|own| own.channels.get(*row)) == Some(channel)
        });
        let read = coupling.axis(self.input);
        let reads = read.is_some_and(|read| read.axis == axis && read.channels == made.channels);
        is_plain && same && made.channels.len() == self.rows.len() && (reads || !self.per_channel)
    }

    /// The coupled layers.
    fn coupled<'a>(
        &'a self,
        net: &'a Task,
    ) -> impl Iterator<Item = (LayerId, &'a CoupledLayer)> + 'a {
        let all = (0..).map(LayerId).zip(&net.coupling().layers);
        all.filter(|(_, own)| self.layers.iter().any(|layer| layer.node == own.layer.node))
    }

    /// Whether all rows have the same owners, and weights that are stored as plain numbers and read once.
    fn has_one_owner(&self, joint: &JointModel, task: TaskId, readers: &Readers) -> bool {
        let net = joint.task(task);
        let is_coded = |layer: &Layer| net.graph().codes(layer.weight).is_some();
        let mut owners = Vec::new();
        for (id, own) in self.coupled(net) {
            let layer = task.layer(id);
            let is_plain = own.tied.is_none()
                && own.weights_of.is_none()
                && !own.is_repeated
                && !is_coded(&own.layer)
                && joint.based_layer(layer).is_none();
            let differ = joint.fused()[task.0][id.0].is_some_and(|number| readers.differ(number));
            let Ok(is_common) = joint.shares_bias(layer) else { return false };
            if !is_plain || differ {
                return false;
            }
            owners.push((joint.partners(layer), is_common));
        }
        !owners.is_empty() && owners.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// The rows of pieces that are not the task's own, in their order; `None` if a row is no layer's.
    fn common_rows(
        &self,
        joint: &JointModel,
        task: TaskId,
        partition: &Partition,
    ) -> Option<Vec<CommonRow>> {
        let coupling = joint.task(task).coupling();
        let channels = &coupling.axis(self.output)?.channels;
        let own = Owner::Tasks(vec![task]);
        let mut rows = Vec::new();
        for part in partition.parts(channels) {
            for position in &part.positions {
                let layer = self.layer_making(coupling, *position)?;
                if part.owner != own {
                    let number = joint.fused()[task.0][layer.0];
                    let neuron = joint.neuron(task.channel(*channels.get(*position)?));
                    let place = if neuron.is_some() { 0 } else { *position };
                    rows.push((part.owner.clone(), number, neuron, place));
                }
            }
        }
        Some(rows)
    }

    /// The layer that makes the channel at one index of the output.
    pub(crate) fn layer_making(&self, coupling: &Coupling, position: usize) -> Option<LayerId> {
        let channel = coupling.axis(self.output)?.channels.get(position)?;
        let (at, _) = self.rows.get(position)?;
        coupling.layer_making(self.layers.get(*at)?.node, channel.group)
    }
}

/// The number of a whole layer among those of its task, if layers of it are fused with others that are not
/// written as one node with the same rows.
fn unlike_others(
    joint: &JointModel,
    found: &[Vec<(RowParts, WholeLayer)>],
) -> Option<(TaskId, usize)> {
    // The places of the fused layers of a number: the task, and the whole layer there.
    let mut homes: BTreeMap<u32, BTreeSet<(TaskId, Option<usize>)>> = BTreeMap::new();
    let mut numbers: BTreeMap<(TaskId, usize), BTreeSet<u32>> = BTreeMap::new();
    for (task, whole) in joint.task_ids().zip(found) {
        let mut home: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (at, (own, _)) in whole.iter().enumerate() {
            home.extend(own.layers.iter().map(|node| (*node, at)));
        }
        let layers = joint.task(task).coupling().layers.iter().zip(&joint.fused()[task.0]);
        for (layer, number) in layers.filter_map(|(l, n)| Some((l, (*n)?))) {
            let at = home.get(&layer.layer.node).copied();
            homes.entry(number).or_default().insert((task, at));
            at.into_iter().for_each(|at| {
                numbers.entry((task, at)).or_default().insert(number);
            });
        }
    }
    let rows = |(task, at): &(TaskId, Option<usize>)| {
        found.get(task.0)?.get((*at)?).map(|(_, whole)| &whole.common)
    };
    let unlike = |((task, at), numbers): &(&(TaskId, usize), &BTreeSet<u32>)| {
        let own = rows(&(*task, Some(*at)));
        let with: BTreeSet<&(TaskId, Option<usize>)> =
            numbers.iter().filter_map(|number| homes.get(number)).flatten().collect();
        let tasks: BTreeSet<TaskId> = with.iter().map(|(task, _)| *task).collect();
        with.iter().any(|other| rows(other) != own) || tasks.len() < with.len()
    };
    numbers.iter().find(unlike).map(|(key, _)| *key)
}
