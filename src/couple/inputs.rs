//! Finds the channel axis of a model input.

use super::End;
use super::atoms::Mark;
use super::trace::{MOST_CHANNELS, Tracer};
use crate::ir::{Consumers, Graph, Node, NodeId, Tensor, ValueId};
use crate::ops::{Labels, gates, moved_ones, normal_axis};

/// Nodes between an input and the first layer behind it.
const LONGEST_WAY: usize = 1000;

/// Operators whose channels are on axis 1. Other operators keep the axes if the rank stays the same.
const BY_CHANNELS: &[&str] = &[
    "Conv",
    "ConvTranspose",
    "Gemm",
    "Einsum",
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "LRN",
    "MaxPool",
    "AveragePool",
    "LpPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GlobalLpPool",
    "SpaceToDepth",
    "DepthToSpace",
];

impl Tracer<'_> {
    /// Begins the channels of an input, in the file's order.
    pub(super) fn enter_input(&mut self, index: usize, input: ValueId) {
        let shape = |value| self.graph.value(value).ty.as_ref()?.shape.as_ref();
        let Some(rank) = shape(input).map(Vec::len) else { return };
        let Some((value, axis)) = channel_axis(self.graph, &self.readers, input, rank) else {
            return;
        };
        let size = shape(value).and_then(|shape| shape.get(axis)?.known());
        let most = MOST_CHANNELS.min(self.room);
        let Some(size) = size.filter(|n| (1..=most).contains(n)) else { return };
        self.room -= size;
        let atoms = self.atoms.fresh(size, Mark::Input(index as u32));
        let reason = self.reason("a model input", None, Some(End::Input));
        self.atoms.freeze(&atoms, reason);
        self.labels[value.index()] = Some(Labels::along(axis, atoms));
    }
}

/// The value and axis at which the channels of a graph input begin: the axis of the input that the
/// first layer after it contracts, or axis 1 without such a layer. If a node in between adds that axis,
/// as for grey images or sounds, channels begin at the layer's input.
fn channel_axis(
    graph: &Graph,
    readers: &Consumers,
    input: ValueId,
    rank: usize,
) -> Option<(ValueId, usize)> {
    // The axis of the input at each place of the current value. Exporters squeeze, pad and transpose
    // inputs, e.g. from NHWC to NCHW, or from batch first to steps first, and write this as a reshape if
    // no element moves.
    let mut axes: Vec<Option<usize>> = (0..rank).map(Some).collect();
    let mut value = input;
    let mut steps = 0..LONGEST_WAY;
    let contracted = loop {
        let Some(_) = steps.next() else { break 1 };
        let reader = readers[value.index()].iter().copied().find(|id| !graph.node(*id).is("Shape"));
        let Some(reader) = reader else { break 1 };
        let node = graph.node(reader);
        if node.is("MatMul") && axes.len() > 3 && !has_constant(graph, node) {
            // As cached keys and values: one matrix for each head.
            break 1;
        }
        if node.is("MatMul") || !gates(&node.op).is_empty() {
            break axes.len().checked_sub(1)?;
        }
        let next = moved(graph, reader, &axes).zip(node.output(0));
        let Some((next, output)) = next else { break 1 };
        (axes, value) = (next, output);
    };
    let (value, axis) = match axes.get(contracted)? {
        Some(axis) => (input, *axis),
        None => (value, contracted),
    };
    // The first axis counts samples, unless it is moved.
    (axis != 0 || contracted != 0).then_some((value, axis))
}

fn has_constant(graph: &Graph, node: &Node) -> bool {
    node.inputs.iter().flatten().any(|value| graph.initializer(*value).is_some())
}

/// The places of axes after a node that moves them; `None` for other nodes.
fn moved(graph: &Graph, id: NodeId, axes: &[Option<usize>]) -> Option<Vec<Option<usize>>> {
    let node = graph.node(id);
    let rank = axes.len();
    let given = |rank: usize| -> Option<Vec<usize>> {
        let given = match node.ints("axes") {
            Some(axes) => axes.to_vec(),
            None => graph.initializer(node.input(1)?).and_then(Tensor::to_i64)?,
        };
        given.iter().map(|axis| normal_axis(*axis, rank)).collect()
    };
    let without = |gone: &[usize]| -> Vec<Option<usize>> {
        (0..rank).filter(|axis| !gone.contains(axis)).map(|axis| axes[axis]).collect()
    };
    match node.op.as_str() {
        "Transpose" => {
            let place = |p: &i64| axes.get(usize::try_from(*p).ok()?).copied();
            node.ints("perm")?.iter().map(place).collect()
        }
        "Squeeze" => Some(without(&given(rank)?)),
        op if op.starts_with("Reduce") && node.int("keepdims", 1) == 0 => {
            Some(without(&given(rank)?))
        }
        "Gather" if graph.initializer(node.input(1)?)?.dims.is_empty() => {
            Some(without(&[normal_axis(node.int("axis", 0), rank)?]))
        }
        "Unsqueeze" => {
            let added = graph.initializer(node.input(1)?).and_then(Tensor::to_i64)?.len();
            let new = given(rank + added)?;
            let mut old = axes.iter().copied();
            let at = |axis| if new.contains(&axis) { None } else { old.next().flatten() };
            Some((0..rank + added).map(at).collect())
        }
        "Reshape" => {
            let shape = |value| graph.value(value).ty.as_ref()?.shape.as_ref();
            let places = moved_ones(shape(node.input(0)?)?, shape(node.output(0)?)?)?;
            Some(places.into_iter().map(|place| *axes.get(place?)?).collect())
        }
        op if !BY_CHANNELS.contains(&op) => {
            let shape = graph.value(node.output(0)?).ty.as_ref()?.shape.as_ref()?;
            (shape.len() == rank).then(|| axes.to_vec())
        }
        _ => None,
    }
}
