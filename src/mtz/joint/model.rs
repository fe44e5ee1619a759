//! The joint model: task nets and which of their neurons are shared.
//!
//! A shared neuron has bit-identical weights (from shared inputs, and bias) in every task's net that
//! has it, so each task stays a plain net that can be run, saved or merged further at any time.

use std::collections::{BTreeMap, BTreeSet};

use crate::canon::Canonical;
use crate::couple::{Channel, CoupledLayer, Coupling, GroupId, LayerId};
use crate::error::Result;
use crate::ir::Model;

use super::tied::coupled;

/// Names a neuron that several tasks share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Neuron(pub u32);

/// One task of a joint model.
#[derive(Debug, Clone)]
pub struct Task {
    /// Name; prefix of the task's outputs.
    pub name: String,
    /// The task's net, canonical, with its current weights.
    pub model: Model,
    /// Channel structure of the net.
    pub coupling: Coupling,
}

impl Task {
    /// A task from a canonical model.
    ///
    /// # Errors
    /// As [`Coupling::of`].
    pub fn new(name: impl Into<String>, model: Model) -> Result<Self> {
        let coupling = Coupling::of(&model.graph)?;
        Ok(Task { name: name.into(), model, coupling })
    }

    /// A task of a net that is merged for the first time.
    ///
    /// # Errors
    /// As [`Task::new`].
    pub fn fresh(name: impl Into<String>, model: Canonical) -> Result<Self> {
        let (model, coupling) = coupled(model)?;
        Ok(Task { name: name.into(), model, coupling })
    }
}

/// Task nets and their shared neurons.
#[derive(Debug, Clone)]
pub struct JointModel {
    /// The tasks.
    pub tasks: Vec<Task>,
    neurons: u32,
    /// Per task, group and channel.
    sharing: Sharing,
    fused: Fused,
    /// The layers that have each of those numbers.
    fused_with: BTreeMap<u32, BTreeSet<(usize, LayerId)>>,
}

/// The shared neuron of each channel, per task and group.
pub type Sharing = Vec<Vec<Vec<Option<Neuron>>>>;

/// A number per task and layer, the same for layers whose weights were fused with each other; `None`
/// for a layer with weights of its own.
pub type Fused = Vec<Vec<Option<u32>>>;

impl JointModel {
    /// A joint model in which nothing is shared yet.
    pub fn new(tasks: Vec<Task>) -> Self {
        let sharing = tasks
            .iter()
            .map(|t| t.coupling.groups.iter().map(|g| vec![None; g.size]).collect())
            .collect();
        let fused = tasks.iter().map(|t| vec![None; t.coupling.layers.len()]).collect();
        JointModel { tasks, neurons: 0, sharing, fused, fused_with: BTreeMap::new() }
    }

    /// A joint model with the given sharing and fused layers; `None` if a neuron is twice in one group
    /// or among the inputs of a layer, or a number is missing or too many.
    pub fn with_sharing(tasks: Vec<Task>, sharing: Sharing, fused: Fused) -> Option<Self> {
        let mut neurons = 0;
        for (task, groups) in tasks.iter().zip(&sharing) {
            let own = groups.iter().flatten().flatten().map(|n| n.0.saturating_add(1));
            neurons = neurons.max(own.max().unwrap_or(0));
            if !are_told_apart(task, groups) {
                return None;
            }
        }
        // Neurons are counted from 0 without gaps, which bounds tables indexed by them.
        let total: usize = sharing.iter().flatten().map(Vec::len).sum();
        let layers = tasks.iter().map(|t| t.coupling.layers.len());
        let sound = neurons as usize <= total && fused.iter().map(Vec::len).eq(layers);
        let mut fused_with: BTreeMap<u32, BTreeSet<(usize, LayerId)>> = BTreeMap::new();
        for (task, numbers) in fused.iter().enumerate() {
            for (layer, number) in numbers.iter().enumerate() {
                let layers = number.map(|number| fused_with.entry(number).or_default());
                layers.map(|layers| layers.insert((task, LayerId(layer))));
            }
        }
        sound.then_some(JointModel { tasks, neurons, sharing, fused, fused_with })
    }

    /// The shared neuron of each channel of each group of a task.
    pub fn sharing(&self, task: usize) -> &[Vec<Option<Neuron>>] {
        &self.sharing[task]
    }

    /// Makes channel `a` of task `task_a` and channel `b` of task `task_b` one neuron, together with
    /// all channels that either is one neuron with already.
    pub fn share(&mut self, (task_a, a): (usize, Channel), (task_b, b): (usize, Channel)) {
        let neuron = match (self.neuron(task_a, a), self.neuron(task_b, b)) {
            (Some(kept), Some(given_up)) => {
                let all = self.sharing.iter_mut().flatten().flatten();
                all.filter(|n| **n == Some(given_up)).for_each(|n| *n = Some(kept));
                kept
            }
            (Some(neuron), None) | (None, Some(neuron)) => neuron,
            (None, None) => {
                self.neurons += 1;
                Neuron(self.neurons - 1)
            }
        };
        self.sharing[task_a][a.group.0][a.index] = Some(neuron);
        self.sharing[task_b][b.group.0][b.index] = Some(neuron);
    }

    /// Makes the channels of each neuron the same one again, as [`JointModel::neurons_of`] gave them.
    pub fn share_all(&mut self, neurons: &[Vec<(usize, Channel)>]) {
        for pair in neurons.iter().flat_map(|owners| owners.windows(2)) {
            self.share(pair[0], pair[1]);
        }
    }

    /// Takes a task's group out of all neurons that it shares.
    pub fn unshare(&mut self, task: usize, group: GroupId) {
        let gone: BTreeSet<Neuron> =
            self.sharing[task][group.0].iter_mut().filter_map(Option::take).collect();
        let owners = self.owners();
        let alone = |n: &Neuron| gone.contains(n) && owners[n.0 as usize].len() < 2;
        let left = self.sharing.iter_mut().flatten().flatten();
        left.filter(|n| n.as_ref().is_some_and(alone)).for_each(|n| *n = None);
    }

    /// Counts neurons from 0 without gaps again, in the same order.
    pub fn renumber(&mut self) {
        let used: BTreeSet<Neuron> =
            self.sharing.iter().flatten().flatten().flatten().copied().collect();
        let numbers: BTreeMap<Neuron, Neuron> = used.into_iter().zip((0..).map(Neuron)).collect();
        let all = self.sharing.iter_mut().flatten().flatten();
        all.for_each(|n| *n = n.and_then(|n| numbers.get(&n).copied()));
        self.neurons = numbers.len() as u32;
    }

    /// The neurons of some tasks' groups: of each, the channels that are it, in the given order.
    pub fn neurons_of(&self, groups: &[(usize, GroupId)]) -> Vec<Vec<(usize, Channel)>> {
        let mut neurons: Vec<Vec<(usize, Channel)>> = Vec::new();
        let mut known: BTreeMap<Neuron, usize> = BTreeMap::new();
        for (task, group) in groups {
            for (index, neuron) in self.sharing[*task][group.0].iter().enumerate() {
                let channel = (*task, Channel { group: *group, index });
                match neuron.and_then(|n| known.get(&n)) {
                    Some(place) => neurons[*place].push(channel),
                    None => {
                        neuron.map(|n| known.insert(n, neurons.len()));
                        neurons.push(vec![channel]);
                    }
                }
            }
        }
        neurons
    }

    /// Notes that layers of different tasks have equal weights wherever neurons are shared.
    pub fn fuse(&mut self, layers: &[(usize, LayerId)]) {
        let next = self.fused_with.last_key_value().map_or(0, |(last, _)| last + 1);
        for (task, layer) in layers {
            self.unfuse(*task, *layer);
            self.fused[*task][layer.0] = Some(next);
        }
        self.fused_with.insert(next, layers.iter().copied().collect());
    }

    /// Notes that a layer has weights of its own.
    pub fn unfuse(&mut self, task: usize, layer: LayerId) {
        let Some(number) = self.fused[task][layer.0].take() else { return };
        if let Some(layers) = self.fused_with.get_mut(&number) {
            layers.remove(&(task, layer));
            if layers.is_empty() {
                self.fused_with.remove(&number);
            }
        }
    }

    /// The layers whose weights were fused with those of a layer, itself included, in order.
    fn together(&self, task: usize, layer: LayerId) -> Vec<(usize, LayerId)> {
        let layers = self.fused[task][layer.0].and_then(|number| self.fused_with.get(&number));
        layers.map_or_else(|| vec![(task, layer)], |layers| layers.iter().copied().collect())
    }

    /// Which layers of each task were fused with each other.
    pub fn fused(&self) -> &Fused {
        &self.fused
    }

    /// The tasks, ascending, whose weights were fused with those of a layer; none but its own where
    /// it has weights of its own.
    pub fn partners(&self, task: usize, layer: LayerId) -> Vec<usize> {
        let mut tasks: Vec<usize> =
            self.together(task, layer).into_iter().map(|(t, _)| t).collect();
        tasks.dedup();
        tasks
    }

    /// Whether the shared neurons of a layer have the same bias in every task whose weights were fused
    /// with it. Layers of one node hold their biases in one vector and give one answer.
    ///
    /// # Errors
    /// As [`crate::ops::Layer::read_bias`].
    pub fn shares_bias(&self, task: usize, layer: LayerId) -> Result<bool> {
        let layers = &self.tasks[task].coupling.layers;
        let own = &layers[layer.0].layer;
        for (id, other) in layers.iter().enumerate() {
            let same = other.layer.node == own.node && other.layer.kind == own.kind;
            if same && !self.has_common_bias(task, LayerId(id))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_common_bias(&self, task: usize, layer: LayerId) -> Result<bool> {
        let own = self.biases(task, layer)?;
        for (partner, other) in self.together(task, layer).into_iter().filter(|(t, _)| *t != task) {
            let theirs = self.biases(partner, other)?;
            let differs =
                |(neuron, bias): (&Neuron, &u32)| theirs.get(neuron).is_some_and(|b| b != bias);
            if own.iter().any(differs) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The bits of the bias of each shared neuron of a layer.
    fn biases(&self, task: usize, layer: LayerId) -> Result<BTreeMap<Neuron, u32>> {
        let net = &self.tasks[task];
        let layer = net.coupling.layer(layer);
        let biases = layer.layer.read_bias(&net.model.graph)?.unwrap_or_default();
        let neuron = |(channel, bias): (&Channel, &f32)| {
            self.neuron(task, *channel).map(|neuron| (neuron, bias.to_bits()))
        };
        Ok(layer.outputs.iter().zip(&biases).filter_map(neuron).collect())
    }

    /// The tasks, ascending, that have each shared neuron among some `channels` of the layers whose
    /// weights were fused with those of a layer, itself included.
    pub(crate) fn holders(
        &self,
        (task, layer): (usize, LayerId),
        channels: fn(&CoupledLayer) -> &[Channel],
    ) -> BTreeMap<Neuron, Vec<usize>> {
        let mut holders: BTreeMap<Neuron, Vec<usize>> = BTreeMap::new();
        for (other, id) in self.together(task, layer) {
            for channel in channels(self.tasks[other].coupling.layer(id)) {
                let Some(neuron) = self.neuron(other, *channel) else { continue };
                let tasks = holders.entry(neuron).or_default();
                if tasks.last() != Some(&other) {
                    tasks.push(other);
                }
            }
        }
        holders
    }

    /// The shared neuron that a task's channel is, if any.
    pub fn neuron(&self, task: usize, channel: Channel) -> Option<Neuron> {
        self.sharing[task][channel.group.0][channel.index]
    }

    /// The tasks that have `neuron`, ascending.
    pub(crate) fn owners(&self) -> Vec<Vec<usize>> {
        let mut owners = vec![Vec::new(); self.neurons as usize];
        for (task, groups) in self.sharing.iter().enumerate() {
            for neuron in groups.iter().flatten().flatten() {
                let tasks: &mut Vec<usize> = &mut owners[neuron.0 as usize];
                if tasks.last() != Some(&task) {
                    tasks.push(task);
                }
            }
        }
        owners
    }
}

/// Whether no neuron is twice in one group, or among the groups that one layer reads.
fn are_told_apart(task: &Task, sharing: &[Vec<Option<Neuron>>]) -> bool {
    let repeats = |groups: &BTreeSet<GroupId>| {
        let own = groups.iter().filter_map(|group| sharing.get(group.0));
        let mut own: Vec<Neuron> = own.flatten().flatten().copied().collect();
        own.sort_unstable();
        own.windows(2).any(|pair| pair[0] == pair[1])
    };
    let one = (0..sharing.len()).map(|group| BTreeSet::from([GroupId(group)]));
    let layers = task.coupling.layers.iter();
    let read = layers.map(|l| l.inputs.iter().flatten().map(|c| c.group).collect());
    !one.chain(read).any(|groups| repeats(&groups))
}
