//! Layers that were fused with each other: their tasks, biases and shared neurons.

use std::collections::BTreeMap;

use crate::align::{Alignment, TaskId, TaskLayer};
use crate::couple::{Channel, CoupledLayer, LayerId};
use crate::error::Result;

use super::model::{Fused, JointModel, Neuron};

impl JointModel {
    /// Marks layers of different tasks as fused, with the layers that repeat them: those at one site with each
    /// other.
    pub(crate) fn fuse_uses(&mut self, alignment: &Alignment, layers: &[TaskLayer]) {
        self.fuse(layers);
        if !layers.iter().any(|own| self.layer(*own).is_repeated) {
            return;
        }
        for site in alignment.sites.iter().filter(|site| site.repeats) {
            let is_use = |own: &TaskLayer| layers.contains(&self.first_use(*own));
            let uses: Vec<TaskLayer> = site.members().filter(is_use).collect();
            if !uses.is_empty() {
                self.fuse(&uses);
            }
        }
    }

    /// Marks layers of different tasks as fused: their weights are equal wherever neurons are shared.
    pub(crate) fn fuse(&mut self, layers: &[TaskLayer]) {
        let next = self.fused_with.last_key_value().map_or(0, |(last, _)| last + 1);
        for layer in layers {
            self.based.remove(layer);
            self.unfuse(*layer);
            self.fused[layer.task.0][layer.layer.0] = Some(next);
        }
        self.fused_with.insert(next, layers.iter().copied().collect());
    }

    /// Marks a layer, and those that repeat it, as not fused.
    pub(crate) fn unfuse(&mut self, layer: TaskLayer) {
        self.leave(layer);
        for later in self.later_uses(layer) {
            self.leave(later);
        }
    }

    fn leave(&mut self, layer: TaskLayer) {
        let Some(number) = self.fused[layer.task.0][layer.layer.0].take() else { return };
        if let Some(layers) = self.fused_with.get_mut(&number) {
            layers.remove(&layer);
            if layers.is_empty() {
                self.fused_with.remove(&number);
            }
        }
    }

    /// The fused layers of each task.
    pub fn fused(&self) -> &Fused {
        &self.fused
    }

    /// The layer that a layer repeats, or itself.
    pub(crate) fn first_use(&self, own: TaskLayer) -> TaskLayer {
        own.task.layer(self.task(own.task).coupling().first_use(own.layer))
    }

    /// The later layers of its task that repeat a layer.
    pub(crate) fn later_uses(&self, own: TaskLayer) -> Vec<TaskLayer> {
        match self.layer(own).is_repeated {
            true => {
                let later = self.task(own.task).coupling().later_uses(own.layer);
                later.map(|id| own.task.layer(id)).collect()
            }
            false => Vec::new(),
        }
    }

    /// The layers that were fused with a layer or the one that it repeats, that one included, in order.
    pub(crate) fn together(&self, layer: TaskLayer) -> Vec<TaskLayer> {
        let layer = self.first_use(layer);
        let number = self.fused[layer.task.0][layer.layer.0];
        let layers = number.and_then(|number| self.fused_with.get(&number));
        layers.map_or_else(|| vec![layer], |layers| layers.iter().copied().collect())
    }

    /// The tasks, ascending, whose layers were fused with a layer; only its own task if it was not
    /// fused.
    pub fn partners(&self, layer: TaskLayer) -> Vec<TaskId> {
        let mut tasks: Vec<TaskId> = self.together(layer).into_iter().map(|l| l.task).collect();
        tasks.dedup();
        tasks
    }

    /// Whether the shared neurons of a layer have the same bias in all fused tasks. Layers of one
    /// node store their biases in one vector, so they have one answer.
    ///
    /// # Errors
    /// As [`crate::ops::Layer::read_bias`].
    pub fn shares_bias(&self, layer: TaskLayer) -> Result<bool> {
        let own = &self.layer(layer).layer;
        let layers = &self.task(layer.task).coupling().layers;
        // Layers of one node stand one after the other.
        let is_of_node = |at: &usize| layers[*at].layer.node == own.node;
        let before = (0..layer.layer.0).rev().take_while(is_of_node);
        let behind = (layer.layer.0..layers.len()).take_while(is_of_node);
        for at in before.chain(behind).filter(|at| layers[*at].layer.kind == own.kind) {
            if !self.has_common_bias(layer.task.layer(LayerId(at)))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_common_bias(&self, layer: TaskLayer) -> Result<bool> {
        let own = self.biases(layer)?;
        for other in self.together(layer).into_iter().filter(|l| l.task != layer.task) {
            let theirs = self.biases(other)?;
            let differs =
                |(row, bias): (&(Neuron, usize), &u32)| theirs.get(row).is_some_and(|b| b != bias);
            if own.iter().any(differs) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The bits of the bias of each row of a layer that is a shared neuron.
    fn biases(&self, own: TaskLayer) -> Result<BTreeMap<(Neuron, usize), u32>> {
        let layer = &self.layer(own).layer;
        let biases = layer.read_bias(self.task(own.task).graph())?.unwrap_or_default();
        let rows = self.neurons_of_rows(own).into_iter().zip(&biases);
        Ok(rows.filter_map(|(row, bias)| Some((row?, bias.to_bits()))).collect())
    }

    /// For each shared neuron, the tasks, ascending, that have it among some `channels` of the layers
    /// fused with a layer, itself included.
    pub(crate) fn holders(
        &self,
        layer: TaskLayer,
        channels: fn(&CoupledLayer) -> &[Channel],
    ) -> BTreeMap<Neuron, Vec<TaskId>> {
        let mut holders: BTreeMap<Neuron, Vec<TaskId>> = BTreeMap::new();
        for other in self.together(layer) {
            for channel in channels(self.layer(other)) {
                let Some(neuron) = self.neuron(other.task.channel(*channel)) else { continue };
                let tasks = holders.entry(neuron).or_default();
                if tasks.last() != Some(&other.task) {
                    tasks.push(other.task);
                }
            }
        }
        holders
    }
}
