//! Attributes that became inputs.

use ndarray::{ArrayD, arr0};

use crate::error::Result;
use crate::ir::{Attribute, DataType, Graph, Node, NodeId, Tensor};
use crate::ops::REDUCTIONS;

use super::super::types;
use super::unsupported;

/// Moves attributes of a node to the inputs at the given positions. A missing attribute leaves its
/// input out, and so does an empty list of axes where that means the same.
///
/// # Errors
/// [`crate::error::ErrorKind::Unsupported`] for an attribute of a kind that a tensor cannot hold.
pub(super) fn to_inputs(
    graph: &mut Graph,
    id: NodeId,
    places: &[(&'static str, usize)],
) -> Result<()> {
    for (name, position) in places {
        let Some(attribute) = graph.node(id).attributes.get(*name) else { continue };
        if means_nothing(graph.node(id), name, attribute) {
            graph.edit_node(id, |node| drop(node.attributes.remove(*name)));
            continue;
        }
        let tensor = tensor(graph, id, attribute)?;
        let constant = graph.add_initializer(&format!("{}.{name}", graph.node(id).name), tensor);
        graph.edit_node(id, |node| {
            node.attributes.remove(*name);
            node.inputs.resize(node.inputs.len().max(position + 1), None);
            node.inputs[*position] = Some(constant);
        });
    }
    Ok(())
}

/// Whether an attribute says no more than its absence. Runtimes disagree about an empty list as an input.
fn means_nothing(node: &Node, name: &str, attribute: &Attribute) -> bool {
    let is_empty = matches!(attribute, Attribute::Ints(all) if all.is_empty());
    is_empty && name == "axes" && (node.is("Squeeze") || REDUCTIONS.contains(&node.op.as_str()))
}

fn tensor(graph: &Graph, id: NodeId, attribute: &Attribute) -> Result<Tensor> {
    match attribute {
        Attribute::Int(v) => Ok(Tensor::from_i64(vec![1], &[*v])),
        Attribute::Ints(v) => Ok(Tensor::from_i64(vec![v.len()], v)),
        // Scales of a resize, which are floats for data of any type.
        Attribute::Floats(v) => Ok(Tensor::from_f32(&ArrayD::from_shape_fn(vec![v.len()], |i| {
            v.get(i[0]).copied().unwrap_or(1.0)
        }))),
        // Bounds and padding values, which have the type of the data.
        Attribute::Float(v) => {
            let data = graph.node(id).input(0).and_then(|v| types::of(graph, v));
            let dtype = data.map(|t| t.dtype).filter(|d| d.is_float()).unwrap_or(DataType::F32);
            Tensor::from_f64(dtype, &arr0(f64::from(*v)).into_dyn())
        }
        _ => Err(unsupported("an attribute has the wrong type")),
    }
}
