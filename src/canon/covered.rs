//! Makes an axis that the window of a convolution covers the axis of its channels.
//!
//! Nets over texts and sounds put features on a spatial axis, beside one added channel, and cover it with
//! the window. The features are channels of the layer before, so they belong on the axis of channels.

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Model, NodeId};

use super::CanonOptions;
use super::rewire::added;
use super::types::shape;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        if let Some(axis) = covered(graph, id) {
            modified |= turned(graph, id, axis).is_some();
        }
    }
    Ok(modified)
}

/// The spatial axis, counted among them, that the window of a convolution with one added input channel
/// covers.
fn covered(graph: &Graph, id: NodeId) -> Option<usize> {
    let node = graph.node(id);
    let input = node.input(0).filter(|_| node.is("Conv") && node.int("group", 1) == 1)?;
    let before = graph.node(graph.producer(input)?);
    let (source, extents) = (shape(graph, before.input(0)?)?, shape(graph, input)?);
    let is_added = ["Unsqueeze", "Reshape"].iter().any(|op| before.is(op))
        && extents.get(1) == Some(&Dim::Known(1))
        && source.len() + 1 == extents.len();
    let weight = graph.initializer(node.input(1)?).filter(|_| is_added)?;
    let spatial = extents.len().checked_sub(2)?;
    let number = |name: &str, at: usize, default: i64| {
        node.ints(name).map_or(Some(default), |own| own.get(at).copied())
    };
    let plain = node.str("auto_pad").is_none_or(|mode| mode == "NOTSET");
    let is_covered = |axis: &usize| {
        let (kernel, extent) = (weight.dims.get(axis + 2), extents[axis + 2].known());
        let is_whole = extent.is_some_and(|n| n > 1) && kernel.copied() == extent;
        let unpadded = [*axis, axis + spatial].iter().all(|at| number("pads", *at, 0) == Some(0));
        is_whole && unpadded && number("dilations", *axis, 1) == Some(1)
    };
    (0..spatial).rev().find(is_covered).filter(|_| plain && weight.dims.len() == spatial + 2)
}

/// Exchanges the axis of channels with spatial axis `axis`, of the input and of the weights.
fn turned(graph: &mut Graph, id: NodeId, axis: usize) -> Option<()> {
    let node = graph.node(id);
    let (input, weight, name) = (node.input(0)?, node.input(1)?, node.name.clone());
    let rank = shape(graph, input)?.len();
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(1, axis + 2);
    let [input, weight] = [(input, "channels"), (weight, "weight")].map(|(value, what)| {
        let perm = [("perm", Attribute::Ints(perm.clone()))];
        added(graph, "Transpose", &format!("{name}.{what}"), &[value], perm)
    });
    graph.edit_node(id, |node| {
        node.inputs[0] = Some(input);
        node.inputs[1] = Some(weight);
        for attribute in ["kernel_shape", "strides"] {
            if let Some(Attribute::Ints(own)) = node.attributes.get_mut(attribute)
                && let Some(extent) = own.get_mut(axis)
            {
                *extent = 1;
            }
        }
    });
    Some(())
}
