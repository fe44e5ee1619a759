//! Turns a `Resize` to given sizes into one by scales, if that is exactly the same, or into one that names
//! the axes that it changes.
//!
//! Sizes include the batch and the channels; scales stay valid if either changes, and so do sizes of other
//! axes.

use ndarray::arr1;

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Model, NodeId, Size, Tensor, ValueId};
use crate::ops::{Sizes, constant_sizes, crops, normal_axis, stretches};

use super::{CanonOptions, rewire, types};

/// The first operator set whose `Resize` may name axes.
const NAMES_AXES: i64 = 18;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let names_axes = model.opset() >= NAMES_AXES;
    let graph = &mut model.graph;
    let known = types::follow(graph)?;
    let mut modified = false;
    for id in graph.topological_order()? {
        match (scales(graph, id, &known), changed_axes(graph, id, &known)) {
            (Some(scales), _) => by_scales(graph, id, &scales),
            (None, Some(axes)) if names_axes => by_axes(graph, id, &axes),
            _ => continue,
        }
        modified = true;
    }
    Ok(modified)
}

fn by_scales(graph: &mut Graph, id: NodeId, scales: &[f32]) {
    let constant = floats(graph, &format!("{}.scales", graph.node(id).name), scales);
    graph.edit_node(id, |node| {
        node.inputs.truncate(2);
        node.inputs.resize(2, None);
        node.inputs.push(Some(constant));
        node.attributes.remove("axes");
    });
}

fn by_axes(graph: &mut Graph, id: NodeId, axes: &Axes) {
    let name = graph.node(id).name.clone();
    let places: Vec<i64> = axes.changed.iter().map(|axis| *axis as i64).collect();
    let sizes = match &axes.numbers {
        Some(numbers) => rewire::ints(graph, &format!("{name}.sizes"), numbers),
        None => {
            let places = rewire::ints(graph, &format!("{name}.axes"), &places);
            graph.add_op("Gather", &format!("{name}.sizes"), &[axes.sizes, places], [])
        }
    };
    let region = axes.region.as_ref().map(|own| floats(graph, &format!("{name}.region"), own));
    graph.edit_node(id, |node| {
        node.inputs = vec![node.input(0), region, None, Some(sizes)];
        node.attributes.insert("axes".to_owned(), Attribute::Ints(places));
    });
}

fn floats(graph: &mut Graph, name: &str, numbers: &[f32]) -> ValueId {
    graph.add_initializer(name, Tensor::from_f32(&arr1(numbers).into_dyn()))
}

/// The elements of a vector of sizes, as far as they are known.
fn elements(graph: &Graph, sizes: ValueId, known: &[Option<Sizes>]) -> Option<Vec<Option<Size>>> {
    let followed = known.get(sizes.index())?.clone();
    Some(followed.or_else(|| constant_sizes(graph, sizes))?.elements)
}

/// One scale per axis of the operand, if the node is a resize in another form.
fn scales(graph: &Graph, id: NodeId, known: &[Option<Sizes>]) -> Option<Vec<f32>> {
    let node = graph.node(id);
    if !node.is("Resize") || crops(node) || !stretches(node) {
        return None;
    }
    let from = types::shape(graph, node.input(0)?)?;
    let axes: Vec<usize> = match node.ints("axes") {
        Some(axes) => axes.iter().map(|a| normal_axis(*a, from.len())).collect::<Option<_>>()?,
        None => (0..from.len()).collect(),
    };
    let given: Vec<f32> = match (node.input(2), node.input(3)) {
        (_, Some(sizes)) => {
            let sizes = elements(graph, sizes, known)?;
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

/// The axes that a resize to sizes changes.
struct Axes {
    changed: Vec<usize>,
    /// The sizes of all axes.
    sizes: ValueId,
    /// Those of the changed axes, if they are known.
    numbers: Option<Vec<i64>>,
    /// Where the changed axes begin and end, if a part of the operand is resized.
    region: Option<Vec<f32>>,
}

/// The axes that a resize changes, if it is told the sizes of others, too.
fn changed_axes(graph: &Graph, id: NodeId, known: &[Option<Sizes>]) -> Option<Axes> {
    let node = graph.node(id);
    let sizes = node.input(3).filter(|_| node.is("Resize"))?;
    if !stretches(node) || node.ints("axes").is_some() {
        return None;
    }
    let wanted = elements(graph, sizes, known)?;
    let from = types::shape(graph, node.input(0)?)?;
    let region: Option<Vec<f32>> = match crops(node) {
        true => Some(graph.initializer(node.input(1)?)?.to_f32().ok()?.into_iter().collect()),
        false => None,
    };
    if wanted.len() != from.len() || region.as_ref().is_some_and(|r| r.len() != 2 * from.len()) {
        return None;
    }
    let stays = |axis: &usize| {
        let is_all = region.as_ref().is_none_or(|r| (r[*axis], r[axis + from.len()]) == (0.0, 1.0));
        let size = wanted[*axis].clone();
        is_all && size.is_some_and(|size| from[*axis].is_surely(&size.dim()))
    };
    let changed: Vec<usize> = (0..from.len()).filter(|axis| !stays(axis)).collect();
    let numbers = changed.iter().map(|axis| wanted[*axis].as_ref()?.value()).collect();
    let ends = |start: usize| changed.iter().map(move |axis| axis + start);
    let region = region.map(|all| ends(0).chain(ends(from.len())).map(|at| all[at]).collect());
    let is_told_more = (1..from.len()).contains(&changed.len());
    is_told_more.then_some(Axes { changed, sizes, numbers, region })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::canonicalise;
    use crate::ir::Node;
    use crate::ir::builder::GraphBuilder;

    /// The only `Resize` of a net in canonical form, whose maps of 5 × 10 become those of 3 × 6.
    fn resized(opset: i64, target: &[i64], attributes: &[(&str, Attribute)]) -> (Node, Graph) {
        let mut b = GraphBuilder::new("net", opset);
        let x = b.input("x", "2,4,5,10");
        let region = b.constant(
            "region",
            Tensor::from_f32(&arr1(&[0.0, 0.0, 0.25, 0.0, 1.0, 1.0, 0.75, 1.0]).into_dyn()),
        );
        let sizes = b.ints("sizes", target);
        let y = b.op("Resize", "y", &[x, region, sizes], []);
        let id = b.graph().producer(y).unwrap();
        b.graph().edit_node(id, |node| {
            node.inputs = vec![Some(x), Some(region), None, Some(sizes)];
            node.attributes.extend(attributes.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        });
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap().into_inner();
        let node = model.graph.nodes().find(|(_, node)| node.is("Resize")).unwrap().1.clone();
        (node, model.graph)
    }

    fn numbers(graph: &Graph, node: &Node, slot: usize) -> Vec<f32> {
        let tensor = graph.initializer(node.input(slot).unwrap()).unwrap();
        match tensor.to_i64() {
            Some(whole) => whole.into_iter().map(|number| number as f32).collect(),
            None => tensor.to_f32().unwrap().into_iter().collect(),
        }
    }

    #[test]
    fn sizes_that_no_scales_hold_exactly_are_those_of_the_axes_that_change() {
        let (node, graph) = resized(18, &[2, 4, 3, 6], &[]);
        assert_eq!(node.ints("axes"), Some([2, 3].as_slice()));
        assert_eq!(numbers(&graph, &node, 3), [3.0, 6.0]);
        let (node, graph) = resized(17, &[2, 4, 3, 6], &[]);
        assert_eq!((node.ints("axes"), numbers(&graph, &node, 3).len()), (None, 4));
    }

    #[test]
    fn sizes_that_scales_hold_exactly_become_scales() {
        for opset in [13, 18] {
            let (node, graph) = resized(opset, &[2, 4, 10, 15], &[]);
            assert_eq!((node.ints("axes"), node.inputs.len()), (None, 3));
            assert_eq!(numbers(&graph, &node, 2), [1.0, 1.0, 2.0, 1.5]);
        }
    }

    #[test]
    fn a_region_is_that_of_the_axes_that_change() {
        let crops = ("coordinate_transformation_mode", "tf_crop_and_resize".into());
        let (node, graph) = resized(18, &[2, 4, 5, 10], &[crops]);
        assert_eq!(node.ints("axes"), Some([2].as_slice()));
        assert_eq!(numbers(&graph, &node, 1), [0.25, 0.75]);
        assert_eq!(numbers(&graph, &node, 3), [5.0]);
    }

    #[test]
    fn one_ratio_of_all_axes_is_left() {
        let keeps = ("keep_aspect_ratio_policy", "not_larger".into());
        let (node, graph) = resized(18, &[2, 4, 3, 6], &[keeps]);
        assert_eq!((node.ints("axes"), numbers(&graph, &node, 3).len()), (None, 4));
    }
}
