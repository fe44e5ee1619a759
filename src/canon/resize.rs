//! Turns a `Resize` to given sizes into one by scales, if that is exactly the same.
//!
//! Sizes include the batch and the channels; scales stay valid if either changes.

use ndarray::arr1;

use crate::error::Result;
use crate::ir::{Dim, Graph, Model, NodeId, Size, Tensor};
use crate::ops::{Sizes, constant_sizes, normal_axis};

use super::CanonOptions;
use super::types;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let known = types::follow(graph)?;
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some(scales) = scales(graph, id, &known) else { continue };
        let tensor = Tensor::from_f32(&arr1(&scales).into_dyn());
        let constant = graph.add_initializer(&format!("{}.scales", graph.node(id).name), tensor);
        graph.edit_node(id, |node| {
            node.inputs.truncate(2);
            node.inputs.resize(2, None);
            node.inputs.push(Some(constant));
            node.attributes.remove("axes");
        });
        modified = true;
    }
    Ok(modified)
}

/// One scale per axis of the operand, if the node is a resize in another form.
fn scales(graph: &Graph, id: NodeId, known: &[Option<Sizes>]) -> Option<Vec<f32>> {
    let node = graph.node(id);
    let crops = node.str("coordinate_transformation_mode") == Some("tf_crop_and_resize");
    let stretches = node.str("keep_aspect_ratio_policy").is_none_or(|p| p == "stretch");
    if !node.is("Resize") || crops || !stretches {
        return None;
    }
    let from = types::shape(graph, node.input(0)?)?;
    let axes: Vec<usize> = match node.ints("axes") {
        Some(axes) => axes.iter().map(|a| normal_axis(*a, from.len())).collect::<Option<_>>()?,
        None => (0..from.len()).collect(),
    };
    let given: Vec<f32> = match (node.input(2), node.input(3)) {
        (_, Some(sizes)) => {
            let followed = known.get(sizes.index())?.clone();
            let sizes = followed.or_else(|| constant_sizes(graph, sizes))?.elements;
            let pairs = axes.iter().map(|a| from.get(*a)).zip(&sizes);
            pairs.map(|(dim, size)| ratio(dim?, size.as_ref()?)).collect::<Option<_>>()?
        }
        (Some(scales), None) if node.ints("axes").is_some() => {
            graph.initializer(scales)?.to_f32().ok()?.into_iter().collect()
        }
        _ => return None,
    };
    let mut scales = vec![1.0; from.len()];
    for (axis, scale) in axes.iter().zip(&given) {
        *scales.get_mut(*axis)? = *scale;
    }
    (axes.len() == given.len()).then_some(scales)
}

/// The scale that takes an extent to a size, if `f32` holds it exactly.
fn ratio(dim: &Dim, size: &Size) -> Option<f32> {
    if dim.is_surely(&size.clone().dim()) {
        return Some(1.0);
    }
    let (from, to) = (dim.known()? as f64, size.value()? as f64);
    let ratio = (to / from) as f32;
    (f64::from(ratio) * from == to && ratio > 0.0).then_some(ratio)
}
