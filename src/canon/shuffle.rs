//! Turns a channel shuffle into a `Gather` of channels.
//!
//! A shuffle splits the axis of channels in two, swaps the two axes, and merges them again. It only
//! permutes channels, and a `Gather` makes that visible.

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Model, NodeId, Tensor, ValueId};

use super::CanonOptions;
use super::types::{same_shape, shape};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some((data, order)) = shuffle(graph, id) else { continue };
        let name = format!("{}.channels", graph.node(id).name);
        let indices = graph.add_initializer(&name, Tensor::from_i64(vec![order.len()], &order));
        graph.edit_node(id, |node| {
            node.op = "Gather".to_owned();
            node.inputs = vec![Some(data), Some(indices)];
            node.attributes = [("axis".to_owned(), Attribute::Int(1))].into();
        });
        modified = true;
    }
    Ok(modified)
}

/// The operand and channel order of `Reshape[n,g,c/g,…] → Transpose(0,2,1,…) → Reshape[n,c,…]` that
/// ends in node `id`.
fn shuffle(graph: &Graph, id: NodeId) -> Option<(ValueId, Vec<i64>)> {
    let before = |id: NodeId, op: &str| {
        let node = graph.node(id);
        node.is(op).then(|| node.input(0))?
    };
    let swapped = before(id, "Reshape")?;
    let transpose = graph.producer(swapped)?;
    let split = before(transpose, "Transpose")?;
    let data = before(graph.producer(split)?, "Reshape")?;

    let (from, parts) = (shape(graph, data)?, shape(graph, split)?);
    let perm = graph.node(transpose).ints("perm")?;
    let swaps =
        perm.starts_with(&[0, 2, 1]) && perm.iter().skip(3).copied().eq(3..perm.len() as i64);
    let (outer, inner) = (parts.get(1)?.known()?, parts.get(2)?.known()?);
    let channels = outer.checked_mul(inner)?;
    let splits = from.first()?.is_surely(parts.first()?) && *from.get(1)? == Dim::Known(channels);
    if !swaps || !splits || !same_shape(graph, data, graph.node(id).output(0)?) {
        return None;
    }
    let order = (0..channels).map(|i| ((i % outer) * inner + i / outer) as i64).collect();
    Some((data, order))
}
