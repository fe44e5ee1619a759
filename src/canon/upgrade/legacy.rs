//! Changes of single operators.

use crate::error::Result;
use crate::ir::{Attribute, Graph, NodeId};

use super::unsupported;

/// Names of element types before version 6, with their numbers.
const TYPE_NAMES: [(&str, i64); 12] = [
    ("FLOAT", 1),
    ("UINT8", 2),
    ("INT8", 3),
    ("UINT16", 4),
    ("INT16", 5),
    ("INT32", 6),
    ("INT64", 7),
    ("BOOL", 9),
    ("FLOAT16", 10),
    ("DOUBLE", 11),
    ("UINT32", 12),
    ("UINT64", 13),
];

/// `Cast` named its type by a string.
///
/// # Errors
/// [`crate::error::ErrorKind::Unsupported`] for a name that is no type.
pub(super) fn named_type(graph: &mut Graph, id: NodeId) -> Result<()> {
    let to = graph.node(id).str("to").map(str::to_ascii_uppercase);
    let code = TYPE_NAMES.iter().find(|(name, _)| to.as_deref() == Some(*name));
    let Some((_, code)) = code else {
        return Err(unsupported("a cast goes to an unknown type"));
    };
    set(graph, id, "to", Attribute::Int(*code));
    Ok(())
}

/// The default constants of `Selu` got more digits, so the old ones must be given.
///
/// # Errors
/// None.
pub(super) fn selu(graph: &mut Graph, id: NodeId) -> Result<()> {
    let (alpha, gamma) =
        (graph.node(id).float("alpha", 1.6732), graph.node(id).float("gamma", 1.0507));
    set(graph, id, "alpha", alpha.into());
    set(graph, id, "gamma", gamma.into());
    graph.edit_node(id, |node| drop(node.attributes.remove("consumed_inputs")));
    Ok(())
}

/// `BatchNormalization` of every position by itself was removed; only that of channels is left.
///
/// # Errors
/// [`crate::error::ErrorKind::Unsupported`] where statistics are not per channel.
pub(super) fn spatial(graph: &mut Graph, id: NodeId) -> Result<()> {
    if graph.node(id).int("spatial", 1) == 0 {
        return Err(unsupported("statistics per position are no longer in the standard"));
    }
    graph.edit_node(id, |node| drop(node.attributes.remove("spatial")));
    Ok(())
}

/// `Scatter` was renamed.
///
/// # Errors
/// None.
pub(super) fn scatter(graph: &mut Graph, id: NodeId) -> Result<()> {
    graph.edit_node(id, |node| node.op = "ScatterElements".to_owned());
    Ok(())
}

/// The default coordinates of `RoiAlign` moved by half a pixel.
///
/// # Errors
/// None.
pub(super) fn roi_coordinates(graph: &mut Graph, id: NodeId) -> Result<()> {
    set(graph, id, "coordinate_transformation_mode", "output_half_pixel".into());
    Ok(())
}

/// A split without sizes must now give the number of parts.
///
/// # Errors
/// None.
pub(super) fn equal_parts(graph: &mut Graph, id: NodeId) -> Result<()> {
    let node = graph.node(id);
    if node.input(1).is_none() {
        let parts = node.outputs.len() as i64;
        set(graph, id, "num_outputs", parts.into());
    }
    Ok(())
}

/// The modes of `GridSample` were renamed after the dimensions they work in.
///
/// # Errors
/// None.
pub(super) fn grid_mode(graph: &mut Graph, id: NodeId) -> Result<()> {
    let mode = match graph.node(id).str("mode").unwrap_or("bilinear") {
        "bilinear" => "linear",
        "bicubic" => "cubic",
        _ => return Ok(()),
    };
    set(graph, id, "mode", mode.into());
    Ok(())
}

fn set(graph: &mut Graph, id: NodeId, name: &str, value: Attribute) {
    graph.edit_node(id, |node| drop(node.attributes.insert(name.to_owned(), value)));
}
