//! The joint model: task nets and which of their neurons are shared.
//!
//! A shared neuron has bit-identical weights from shared inputs in every task whose layer was fused, so
//! each task stays a plain net that can be run, saved or merged further at any time. Only this crate
//! changes weights or sharing.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array2, ArrayView2};

use crate::align::{TaskGroup, TaskId, TaskLayer};
use crate::couple::{ChannelGroup, CoupledLayer, GroupId, LayerId};
use crate::error::Result;
use crate::ir::{Codes, Model};

use super::grid::{Grid, Rounding};
use super::matrix;
use super::sum::Based;
use super::task::Task;

/// Names a neuron that several tasks share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Neuron(pub u32);

/// Task nets and their shared neurons.
#[derive(Debug, Clone)]
pub struct JointModel {
    pub(super) tasks: Vec<Task>,
    pub(super) neurons: u32,
    /// Per task, group and channel.
    pub(super) sharing: Sharing,
    pub(super) fused: Fused,
    /// The layers of each number in `fused`.
    pub(super) fused_with: BTreeMap<u32, BTreeSet<TaskLayer>>,
    /// Layers whose weights are those of other tasks and a difference.
    pub(super) based: BTreeMap<TaskLayer, Based>,
}

/// The shared neuron of each channel, per task and group.
pub type Sharing = Vec<Vec<Vec<Option<Neuron>>>>;

/// A number per task and layer, equal for layers that were fused with each other; `None` for a layer
/// that was not fused.
pub type Fused = Vec<Vec<Option<u32>>>;

impl JointModel {
    /// A joint model that shares nothing yet.
    pub fn new(tasks: Vec<Task>) -> Self {
        let sharing = tasks
            .iter()
            .map(|t| t.coupling().groups.iter().map(|g| vec![None; g.size]).collect())
            .collect();
        let fused = tasks.iter().map(|t| vec![None; t.coupling().layers.len()]).collect();
        JointModel {
            tasks,
            neurons: 0,
            sharing,
            fused,
            fused_with: BTreeMap::new(),
            based: BTreeMap::new(),
        }
    }

    /// A joint model with the given sharing and fused layers; `None` if a neuron occurs twice in one
    /// group or among the inputs of a layer, or if lengths do not fit.
    pub(crate) fn with_sharing(tasks: Vec<Task>, sharing: Sharing, fused: Fused) -> Option<Self> {
        let mut neurons = 0;
        for (task, groups) in tasks.iter().zip(&sharing) {
            let own = groups.iter().flatten().flatten().map(|n| n.0.saturating_add(1));
            neurons = neurons.max(own.max().unwrap_or(0));
            if !are_told_apart(task, groups) {
                return None;
            }
        }
        // Neurons are numbered from 0 without gaps, so tables indexed by them stay small.
        let total: usize = sharing.iter().flatten().map(Vec::len).sum();
        let sizes = |t: &Task| t.coupling().groups.iter().map(|g| g.size).collect::<Vec<_>>();
        let sizes = tasks.iter().map(sizes);
        let layers = tasks.iter().map(|t| t.coupling().layers.len());
        let sound = neurons as usize <= total
            && sizes.eq(sharing.iter().map(|own| own.iter().map(Vec::len).collect::<Vec<_>>()))
            && fused.iter().map(Vec::len).eq(layers);
        let mut fused_with: BTreeMap<u32, BTreeSet<TaskLayer>> = BTreeMap::new();
        for (task, numbers) in (0..).map(TaskId).zip(&fused) {
            for (layer, number) in (0..).map(LayerId).zip(numbers) {
                let layers = number.map(|number| fused_with.entry(number).or_default());
                layers.map(|layers| layers.insert(task.layer(layer)));
            }
        }
        let based = BTreeMap::new();
        sound.then_some(JointModel { tasks, neurons, sharing, fused, fused_with, based })
    }

    /// The tasks, in their order.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The numbers of the tasks.
    pub fn task_ids(&self) -> impl Iterator<Item = TaskId> + use<> {
        (0..self.tasks.len()).map(TaskId)
    }

    /// A task.
    pub fn task(&self, id: TaskId) -> &Task {
        &self.tasks[id.0]
    }

    /// A layer of a task.
    pub fn layer(&self, own: TaskLayer) -> &CoupledLayer {
        self.task(own.task).layer(own.layer)
    }

    /// A group of a task.
    pub fn group(&self, own: TaskGroup) -> &ChannelGroup {
        self.task(own.task).coupling().group(own.group)
    }

    /// A task in which a neuron occurs twice in one group or among the inputs of one layer, so that its
    /// weights could not be told apart.
    pub(crate) fn confused(&self) -> Option<&Task> {
        let mut tasks = self.tasks.iter().zip(&self.sharing);
        tasks.find(|(task, sharing)| !are_told_apart(task, sharing)).map(|(task, _)| task)
    }

    /// Renames a task.
    pub fn rename(&mut self, task: TaskId, name: impl Into<String>) {
        self.tasks[task.0].name = name.into();
    }

    /// A layer's [matrix].
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] if the weight is not one of numbers in the layer's shape.
    pub(crate) fn weights(&self, own: TaskLayer) -> Result<Array2<f32>> {
        matrix::read(self.layer(own), self.task(own.task).graph())
    }

    /// Writes a layer's weights; returns whether that changed any. The caller writes equal weights
    /// between shared inputs and shared neurons into all layers that are fused with this one.
    ///
    /// # Errors
    /// As [`JointModel::weights`].
    pub(crate) fn write(&mut self, own: TaskLayer, weights: ArrayView2<f32>) -> Result<bool> {
        self.write_rounded(own, weights, &Rounding::Own)
    }

    /// Writes a layer's weights as [`Self::write`] does, but rounded in the given way. Layers that round otherwise would
    /// not have the same weights any more.
    ///
    /// # Errors
    /// As [`JointModel::weights`].
    pub(crate) fn write_rounded(
        &mut self,
        own: TaskLayer,
        weights: ArrayView2<f32>,
        rounding: &Rounding,
    ) -> Result<bool> {
        let task = &mut self.tasks[own.task.0];
        let layer = task.coupling().layer(own.layer).clone();
        let changed = matrix::write_rounded(&layer, &mut task.model.graph, weights, rounding)?;
        if changed {
            self.based.remove(&own);
        }
        Ok(changed)
    }

    /// Whether the same weights are rounded alike in all these layers.
    pub(crate) fn round_alike(&self, layers: impl IntoIterator<Item = TaskLayer>) -> bool {
        let grid = |own: TaskLayer| matrix::grid(self.layer(own), self.task(own.task).graph());
        let mut grids = layers.into_iter().map(grid);
        let first = grids.next();
        grids.all(|grid| Some(grid) == first)
    }

    /// Makes products of corresponding layers read their weights alike: as the nets had them if all are
    /// [direct](Codes::direct), else none directly. A common weight is read in one way.
    pub(crate) fn read_alike(&mut self, layers: &[TaskLayer]) {
        let codes = |joint: &JointModel, own: &TaskLayer| {
            joint.task(own.task).graph().codes(joint.layer(*own).layer.weight).cloned()
        };
        if layers.iter().all(|own| codes(self, own).is_some_and(|codes| codes.direct)) {
            return;
        }
        for own in layers {
            if let Some(codes) = codes(self, own) {
                let weight = self.layer(*own).layer.weight;
                let graph = &mut self.model_mut(own.task).graph;
                graph.set_codes(weight, Codes { direct: false, ..codes });
            }
        }
    }

    /// The place of each column of a layer in the blocks that it is stored in; `None` without blocks.
    pub(crate) fn places(&self, own: TaskLayer) -> Option<Vec<usize>> {
        let (layer, graph) = (self.layer(own), self.task(own.task).graph());
        matrix::grid(layer, graph).filter(Grid::has_blocks)?;
        let (_, inputs, _) = layer.layer.sizes(graph).ok()?;
        let places = graph.codes(layer.layer.weight)?.places.clone();
        Some(places.unwrap_or_else(|| (0..inputs).collect()))
    }

    /// The net of a task, for changing constants. The caller changes the constants of fused layers
    /// alike.
    pub(crate) fn model_mut(&mut self, task: TaskId) -> &mut Model {
        &mut self.tasks[task.0].model
    }
}

/// Whether no neuron occurs twice in one group, or twice among the inputs of one layer.
fn are_told_apart(task: &Task, sharing: &[Vec<Option<Neuron>>]) -> bool {
    let repeats = |groups: &BTreeSet<GroupId>| {
        let own = groups.iter().filter_map(|group| sharing.get(group.0));
        let mut own: Vec<Neuron> = own.flatten().flatten().copied().collect();
        own.sort_unstable();
        own.windows(2).any(|pair| pair[0] == pair[1])
    };
    let one = (0..sharing.len()).map(|group| BTreeSet::from([GroupId(group)]));
    let layers = task.coupling().layers.iter();
    let read = layers.map(|l| l.inputs.iter().flatten().map(|c| c.group).collect());
    !one.chain(read).any(|groups| repeats(&groups))
}
