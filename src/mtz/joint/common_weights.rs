//! The invariant of a joint model: fused layers have equal weights wherever they share neurons.

use std::collections::HashMap;

use crate::align::TaskLayer;
use crate::error::Result;

use super::model::{JointModel, Neuron};

impl JointModel {
    /// Whether fused layers have bit-identical weights from shared inputs to shared neurons. Biases may
    /// differ: [`JointModel::shares_bias`] tells whether they do.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] if a weight is not one of numbers in its layer's shape.
    pub fn has_common_weights(&self) -> Result<bool> {
        for layers in self.fused_with.values() {
            let layers: Vec<TaskLayer> = layers.iter().copied().collect();
            for (at, a) in layers.iter().enumerate() {
                for b in &layers[..at] {
                    if !self.agree(*a, *b)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn agree(&self, a: TaskLayer, b: TaskLayer) -> Result<bool> {
        let (rows, columns) = (self.common_rows(a, b), self.common_columns(a, b));
        if rows.is_empty() {
            return Ok(true);
        }
        let (of_a, of_b) = (self.weights(a)?, self.weights(b)?);
        let bits = |weight: Option<&f32>| weight.map(|w| w.to_bits());
        // Rows of these layers read either inputs of their own or the same untracked inputs in all
        // nets.
        let all = self.layer(a).per_channel || self.layer(a).inputs.is_none();
        Ok(rows.iter().all(|(i, j)| match all {
            true => (0..of_a.ncols().saturating_sub(1))
                .all(|c| bits(of_a.get((*i, c))) == bits(of_b.get((*j, c)))),
            false => {
                columns.iter().all(|(c, d)| bits(of_a.get((*i, *c))) == bits(of_b.get((*j, *d))))
            }
        }))
    }

    /// The rows of two layers that are one neuron.
    fn common_rows(&self, a: TaskLayer, b: TaskLayer) -> Vec<(usize, usize)> {
        let neurons = |own: TaskLayer| {
            let rows = self.neurons_of_rows(own).into_iter().enumerate();
            rows.filter_map(|(row, neuron)| Some((neuron?, row))).collect::<Vec<_>>()
        };
        let theirs: HashMap<(Neuron, usize), usize> = neurons(b).into_iter().collect();
        neurons(a).into_iter().filter_map(|(n, row)| Some((row, *theirs.get(&n)?))).collect()
    }

    /// Pairs of columns of two layers that read the same neuron with equally many weights.
    fn common_columns(&self, a: TaskLayer, b: TaskLayer) -> Vec<(usize, usize)> {
        let (of_a, of_b) = (self.columns(a), self.columns(b));
        let both = of_a.iter().filter_map(|(neuron, own)| Some((own, of_b.get(neuron)?)));
        // A neuron flattened to another number of pixels is another input.
        let alike = both.filter(|(own, theirs)| own.len() == theirs.len());
        alike.flat_map(|(own, theirs)| own.iter().copied().zip(theirs.iter().copied())).collect()
    }

    /// The columns of each shared neuron that a layer reads.
    fn columns(&self, own: TaskLayer) -> HashMap<Neuron, Vec<usize>> {
        let mut columns: HashMap<Neuron, Vec<usize>> = HashMap::new();
        let layer = self.layer(own);
        let inputs = layer.inputs.as_deref().unwrap_or_default();
        let taps = layer.layer.sizes(self.task(own.task).graph()).map_or(1, |(_, _, taps)| taps);
        for (at, channel) in inputs.iter().enumerate() {
            let neuron = self.neuron(own.task.channel(*channel));
            let known = neuron.map(|neuron| columns.entry(neuron).or_default());
            known.into_iter().for_each(|own| own.extend(at * taps..(at + 1) * taps));
        }
        columns
    }
}
