//! Channels that begin at a value that no layer, only operators without weights, computes from model inputs.
//!
//! Spectra, softmaxes over positions and similar operators lose the channels of an input. No layer
//! produces their output, so its channels have the same order in all nets, like those of an input.

use super::End;
use super::atoms::Mark;
use super::trace::{MOST_CHANNELS, Tracer};
use crate::ir::{Graph, NodeId, ValueId};
use crate::ops::{Atom, Flow, Labels, Layer, LayerKind};

impl Tracer<'_> {
    /// Notes whether the outputs of a node depend on a layer.
    pub(super) fn learn(&mut self, id: NodeId, flow: &Flow) {
        let node = self.graph.node(id);
        let is_layer = matches!(flow, Flow::Layer(_) | Flow::PerChannel(_) | Flow::Recurrent(_));
        if is_layer || node.reads().any(|value| self.learned.contains(&value)) {
            self.learned.extend(node.outputs.iter().flatten());
        }
        // The node that adds its bias is a part of the layer, and is not visited.
        if let Flow::Layer(layer) = flow {
            self.learned.insert(layer.output);
        }
    }

    /// Starts new channels at the input of a layer with `inputs` inputs, if the input has none yet and no
    /// layer comes before it.
    pub(super) fn begin_before(&mut self, layer: &Layer, inputs: usize) {
        let value = layer.input;
        let is_known = self.labels[value.index()].is_some()
            || self.learned.contains(&value)
            || self.is_alone();
        let is_constant = self.graph.initializer(value).is_some();
        let is_table = matches!(layer.kind, LayerKind::Table { .. });
        let fits = self.extent(value, layer.in_axis) == Some(inputs);
        let has_room = (1..=MOST_CHANNELS.min(self.room)).contains(&inputs);
        if is_known || is_constant || is_table || !fits || !has_room {
            return;
        }
        self.room -= inputs;
        if self.begin_queries(value, layer.in_axis, inputs) {
            return;
        }
        let atoms = self.atoms.fresh(inputs, Mark::Unlearned(value));
        let reason = self.reason("computed from a model input", None, Some(End::Input));
        match is_uniform(self.graph, value) {
            true => self.uniform.push((atoms.clone(), reason)),
            false => self.atoms.freeze(&atoms, reason),
        }
        self.labels[value.index()] = Some(Labels::along(layer.in_axis, atoms));
    }

    /// Freezes channels that are the same number everywhere, as the zeros that a state begins with, unless a layer
    /// makes them elsewhere: they may stand in any order.
    pub(super) fn freeze_uniform(&mut self) {
        for (atoms, reason) in std::mem::take(&mut self.uniform) {
            let is_alone = |atom: &Atom| !self.atoms.is_produced(*atom);
            let others: Vec<Atom> = atoms.into_iter().filter(is_alone).collect();
            self.atoms.freeze(&others, reason);
        }
    }

    /// The known extent of a value along an axis.
    pub(super) fn extent(&self, value: ValueId, axis: usize) -> Option<usize> {
        let shape = self.graph.value(value).ty.as_ref()?.shape.as_ref()?;
        shape.get(axis)?.known()
    }
}

/// Operators that keep a value uniform.
const MOVES: &[&str] =
    &["Cast", "Expand", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"];

/// Whether all elements of a computed value are surely the same number.
fn is_uniform(graph: &Graph, mut value: ValueId) -> bool {
    while let Some(node) = graph.producer(value).map(|id| graph.node(id)) {
        match node.input(0).filter(|_| MOVES.iter().any(|op| node.is(op))) {
            Some(input) => value = input,
            None => return node.is("ConstantOfShape"),
        }
    }
    graph.initializer(value).is_some_and(|tensor| tensor.len() == 1)
}
