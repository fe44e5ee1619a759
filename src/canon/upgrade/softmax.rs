//! Before version 13, `Softmax` ran over all axes from `axis` on together.

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Node, NodeId, Tensor, ValueId, ValueKind};
use crate::ops::normal_axis;

use super::super::types;
use super::unsupported;

/// Rewrites a softmax over several axes as one over their flattening.
///
/// # Errors
/// [`crate::error::ErrorKind::Unsupported`] for an axis out of range.
pub(super) fn on_one_axis(graph: &mut Graph, id: NodeId) -> Result<()> {
    let node = graph.node(id);
    let axis = node.int("axis", 1);
    let shape = node.input(0).and_then(|x| types::shape(graph, x));
    let single = match &shape {
        Some(shape) => {
            let axis = normal_axis(axis, shape.len());
            let axis = axis.ok_or_else(|| unsupported("the axis of a softmax is out of range"))?;
            only_wide_axis(shape, axis)
        }
        None => None,
    };
    match single {
        Some(axis) => {
            graph.edit_node(id, |n| {
                n.attributes.insert("axis".to_owned(), Attribute::Int(axis as i64));
            });
        }
        None => by_flattening(graph, id, axis),
    }
    Ok(())
}

/// The only axis from `axis` on whose extent is not 1.
fn only_wide_axis(shape: &[Dim], axis: usize) -> Option<usize> {
    let mut wide = (axis..shape.len()).filter(|i| shape.get(*i) != Some(&Dim::Known(1)));
    match (wide.next(), wide.next()) {
        (None, _) => Some(axis),
        (only, None) => only,
        _ => None,
    }
}

/// `Reshape(Softmax(Flatten(x)), Shape(x))`; the node keeps its id, operator and name.
fn by_flattening(graph: &mut Graph, id: NodeId, axis: i64) {
    let node = graph.node(id);
    let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { return };
    let name = node.name.clone();
    let flat = graph.add_op("Flatten", &format!("{name}.flat"), &[x], [("axis", axis.into())]);
    let shape = static_shape(graph, id, x)
        .unwrap_or_else(|| graph.add_op("Shape", &format!("{name}.shape"), &[x], []));
    let soft = graph.add_value(&format!("{name}.soft"), ValueKind::Detached, None);
    graph.edit_node(id, |n| {
        n.inputs = vec![Some(flat)];
        n.outputs = vec![Some(soft)];
        n.attributes.insert("axis".to_owned(), Attribute::Int(-1));
    });
    let reshape = graph.add_node(Node {
        name: format!("{name}.unflat"),
        op: "Reshape".to_owned(),
        inputs: vec![Some(soft), Some(shape)],
        outputs: vec![Some(y)],
        ..Node::default()
    });
    let inserted = [graph.producer(flat), graph.producer(shape), Some(id), Some(reshape)];
    for node in inserted.into_iter().flatten() {
        types::infer_node(graph, node);
    }
}

/// The original shape as a constant, if all its extents except the first are known.
fn static_shape(graph: &mut Graph, id: NodeId, x: ValueId) -> Option<ValueId> {
    let shape = types::shape(graph, x)?;
    let rest: Option<Vec<i64>> = shape.iter().skip(1).map(|d| Some(d.known()? as i64)).collect();
    let target: Vec<i64> = std::iter::once(-1).chain(rest?).collect();
    let name = format!("{}.shape", graph.node(id).name);
    Some(graph.add_initializer(&name, Tensor::from_i64(vec![target.len()], &target)))
}
