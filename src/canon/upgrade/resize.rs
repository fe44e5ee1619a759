//! Old forms of `Upsample` and `Resize`.

use ndarray::arr1;

use crate::error::Result;
use crate::ir::{Graph, NodeId, Tensor};

use super::unsupported;

/// `Upsample` is a `Resize` that only enlarges, so its rounding is known for any scales.
///
/// # Errors
/// None.
pub(super) fn from_upsample(graph: &mut Graph, id: NodeId) -> Result<()> {
    graph.edit_node(id, |node| {
        node.op = "Resize".to_owned();
        node.attributes.insert("nearest_mode".to_owned(), "floor".into());
    });
    Ok(())
}

/// Version 11 introduced options of coordinates and rounding. Their defaults differ from the old
/// behaviour: output index over scale, rounded down when enlarging and up when shrinking.
///
/// # Errors
/// [`crate::error::ErrorKind::Unsupported`] where rounding depends on scales that are not constant
/// or do both.
pub(super) fn name_coordinates(graph: &mut Graph, id: NodeId) -> Result<()> {
    let node = graph.node(id);
    let scales = node.input(1).and_then(|s| graph.initializer(s)).and_then(|t| t.to_f32().ok());
    let rounding = match &scales {
        _ if node.attributes.contains_key("nearest_mode") => "floor",
        _ if node.str("mode").is_some_and(|m| m != "nearest") => "floor",
        Some(s) if s.iter().all(|v| *v >= 1.0) => "floor",
        Some(s) if s.iter().all(|v| *v <= 1.0) => "ceil",
        _ => return Err(unsupported("the rounding of a resize depends on computed scales")),
    };
    let roi = Tensor::from_f32(&arr1(&[]).into_dyn());
    let roi = graph.add_initializer(&format!("{}.roi", graph.node(id).name), roi);
    graph.edit_node(id, |node| {
        let scales = node.input(1);
        node.inputs.truncate(1);
        node.inputs.extend([Some(roi), scales]);
        let coordinates = ("coordinate_transformation_mode".to_owned(), "asymmetric".into());
        node.attributes.extend([coordinates, ("nearest_mode".to_owned(), rounding.into())]);
    });
    Ok(())
}

/// Before version 13, empty tensors meant omitted inputs.
///
/// # Errors
/// [`crate::error::ErrorKind::Unsupported`] for a kind of coordinates that version 13 removed.
pub(super) fn drop_empty_inputs(graph: &mut Graph, id: NodeId) -> Result<()> {
    let node = graph.node(id);
    if node.str("coordinate_transformation_mode") == Some("tf_half_pixel_for_nn") {
        return Err(unsupported(
            "the coordinates tf_half_pixel_for_nn are no longer in the standard",
        ));
    }
    let empty: Vec<bool> = node
        .inputs
        .iter()
        .map(|i| i.is_some_and(|v| graph.initializer(v).is_some_and(Tensor::is_empty)))
        .collect();
    graph.edit_node(id, |node| {
        for (input, _) in node.inputs.iter_mut().zip(empty).filter(|(_, empty)| *empty) {
            *input = None;
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Attribute;
    use crate::ir::builder::GraphBuilder;

    fn rounding(scales: &[f32], mode: &str) -> Option<String> {
        let mut b = GraphBuilder::new("net", 10);
        let x = b.input("x", "n,3,4,4");
        let s = b.constant("s", Tensor::from_f32(&arr1(scales).into_dyn()));
        let y = b.op("Resize", "y", &[x, s], [("mode", Attribute::from(mode))]);
        let mut graph = b.build(&[y]).graph;
        let id = graph.producer(y)?;
        name_coordinates(&mut graph, id).ok()?;
        graph.node(id).str("nearest_mode").map(str::to_owned)
    }

    #[test]
    fn rounding_follows_the_scales() {
        assert_eq!(rounding(&[1.0, 1.0, 2.0, 2.0], "nearest").unwrap(), "floor");
        assert_eq!(rounding(&[1.0, 1.0, 0.5, 0.6], "nearest").unwrap(), "ceil");
        assert_eq!(rounding(&[1.0, 1.0, 0.5, 2.0], "nearest"), None);
        assert_eq!(rounding(&[1.0, 1.0, 0.5, 2.0], "linear").unwrap(), "floor");
    }
}
