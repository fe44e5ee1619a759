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
        let Some((data, axis, order)) = shuffle(graph, id) else { continue };
        let name = format!("{}.channels", graph.node(id).name);
        let indices = graph.add_initializer(&name, Tensor::from_i64(vec![order.len()], &order));
        graph.edit_node(id, |node| {
            node.op = "Gather".to_owned();
            node.inputs = vec![Some(data), Some(indices)];
            node.attributes = [("axis".to_owned(), Attribute::Int(axis as i64))].into();
        });
        modified = true;
    }
    Ok(modified)
}

/// The operand, the axis and the order of its entries of `Reshape[…,g,c/g,…] → Transpose → Reshape[…,c,…]` that
/// ends in node `id`, where the transpose swaps the two axes into which one is split. Channels may come first or
/// last.
fn shuffle(graph: &Graph, id: NodeId) -> Option<(ValueId, usize, Vec<i64>)> {
    let before = |id: NodeId, op: &str| {
        let node = graph.node(id);
        node.is(op).then(|| node.input(0))?
    };
    let swapped = before(id, "Reshape")?;
    let transpose = graph.producer(swapped)?;
    let split = before(transpose, "Transpose")?;
    let data = before(graph.producer(split)?, "Reshape")?;

    let (from, parts) = (shape(graph, data)?, shape(graph, split)?);
    let place = swap(graph.node(transpose).ints("perm")?)?;
    let (outer, inner) = (parts.get(place)?.known()?, parts.get(place + 1)?.known()?);
    let channels = outer.checked_mul(inner)?;
    let axis = split_axis(&from, &parts, place)?;
    if from[axis] != Dim::Known(channels) || !same_shape(graph, data, graph.node(id).output(0)?) {
        return None;
    }
    let order = (0..channels).map(|i| ((i % outer) * inner + i / outer) as i64).collect();
    Some((data, axis, order))
}

/// The first of the two neighbouring axes that a permutation swaps, if it moves no others; never the first axis,
/// which counts samples.
fn swap(perm: &[i64]) -> Option<usize> {
    let axis = (0..perm.len()).find(|at| perm[*at] != *at as i64).filter(|axis| *axis > 0)?;
    let wanted = |at: usize| match at {
        at if at == axis => axis + 1,
        at if at == axis + 1 => axis,
        at => at,
    };
    perm.iter().enumerate().all(|(at, own)| *own == wanted(at) as i64).then_some(axis)
}

/// The axis of which `place` and the next axis of `parts` are the parts, wherever the axes behind them are merged.
/// Behind the last axis there are none, so the axes before it may be merged.
fn split_axis(from: &[Dim], parts: &[Dim], place: usize) -> Option<usize> {
    let is_alike =
        from.len() > place && from.iter().zip(&parts[..place]).all(|(a, b)| a.is_surely(b));
    match parts.len() == place + 2 {
        true => from.len().checked_sub(1).filter(|axis| *axis > 0),
        false => is_alike.then_some(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    /// The operators of a net that shuffles the last axis, and the order of its `Gather`.
    fn written(split: &[i64], perm: &[i64], back: &[i64]) -> (Vec<String>, Vec<i64>) {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "2,4,4,6");
        let (split, back) = (b.ints("split", split), b.ints("back", back));
        let y = b.op("Reshape", "parts", &[x, split], []);
        let y = b.op("Transpose", "swapped", &[y], [("perm", Attribute::Ints(perm.to_vec()))]);
        let y = b.op("Reshape", "joined", &[y, back], []);
        let mut model = b.build(&[y]);
        super::super::types::infer(&mut model.graph).unwrap();
        run(&mut model, &CanonOptions::default()).unwrap();
        let last = model.graph.node(model.graph.producer(model.graph.outputs[0]).unwrap());
        let order = last.input(1).and_then(|v| model.graph.initializer(v)?.to_i64());
        (vec![last.op.clone()], order.unwrap())
    }

    #[test]
    fn channels_may_come_last_and_positions_may_be_merged() {
        let wanted = (vec!["Gather".to_owned()], vec![0, 3, 1, 4, 2, 5]);
        assert_eq!(written(&[2, 4, 4, 2, 3], &[0, 1, 2, 4, 3], &[2, 4, 4, 6]), wanted);
        assert_eq!(written(&[2, 16, 2, 3], &[0, 1, 3, 2], &[2, 4, 4, 6]), wanted);
    }

    #[test]
    fn other_moves_of_axes_stay() {
        let (ops, _) = written(&[2, 4, 4, 2, 3], &[0, 1, 3, 2, 4], &[2, 4, 4, 6]);
        assert_eq!(ops, ["Reshape"]);
    }
}
