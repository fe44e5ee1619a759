//! Splits the rows of one layer into several layers, and concatenates their outputs.
//!
//! A gated unit multiplies one half of a layer's channels by the other half, so each channel of the
//! result belongs to two rows of the layer. As rows of two layers, they are paired together, like
//! layers of a residual stream.

use crate::error::Result;
use crate::ir::{Attribute, Graph, Node, NodeId, Tensor, ValueId};

use super::row_parts::row_axis;
use super::{Canonical, rewire, settle};

/// Splits each of these nodes into several layers.
///
/// # Errors
/// As [`super::canonicalise`].
pub fn split_rows<'a>(
    model: Canonical,
    all: impl IntoIterator<Item = (NodeId, &'a [Vec<usize>])>,
) -> Result<Canonical> {
    let Canonical { mut model, had_ties } = model;
    for (node, rows) in all {
        split(&mut model.graph, node, rows);
    }
    settle(&mut model)?;
    Ok(Canonical { model, had_ties })
}

fn split(graph: &mut Graph, id: NodeId, parts: &[Vec<usize>]) -> Option<()> {
    let whole = graph.node(id).clone();
    let data = whole.input(0)?;
    let addition = addition(graph, &whole);
    let output = addition.map_or(whole.output(0)?, |(_, _, output)| output);
    // Constants by input, with the axis of rows.
    let is_depthwise = whole.int("group", 1) != 1;
    let row_axis = row_axis(&whole, is_depthwise);
    let slots = whole.inputs.iter().enumerate().skip(1);
    let constants: Vec<(usize, ValueId, usize)> = slots
        .filter_map(|(slot, value)| Some((slot, (*value)?)))
        .map(|(slot, value)| (slot, value, if slot == 1 { row_axis } else { 0 }))
        .collect();
    if constants.iter().any(|(_, value, _)| graph.initializer(*value).is_none()) {
        return None;
    }
    let axis = if whole.is("MatMul") { -1 } else { 1 };
    let mut results = Vec::new();
    for (number, rows) in (1..).zip(parts) {
        let name = format!("{}.{number}", whole.name);
        let mut inputs = vec![data];
        if is_depthwise {
            inputs[0] = gathered(graph, &name, data, rows, axis);
        }
        for (slot, constant, axis) in &constants {
            inputs.resize(*slot, data);
            let name = format!("{name}.{slot}");
            inputs.push(rewire::selected(graph, &name, *constant, (*axis, rows))?);
        }
        let result = graph.add_op(&whole.op, &name, &inputs, []);
        let part = graph.producer(result)?;
        graph.edit_node(part, |node| {
            node.attributes.clone_from(&whole.attributes);
            if is_depthwise {
                node.attributes.insert("group".to_owned(), Attribute::Int(rows.len() as i64));
            }
        });
        results.push(match addition {
            Some((id, bias, _)) => {
                let name = format!("{}.{number}", graph.node(id).name);
                let bias = rewire::selected(graph, &format!("{name}.bias"), bias, (0, rows))?;
                graph.add_op("Add", &name, &[result, bias], [])
            }
            None => result,
        });
    }
    graph.remove_node(id);
    addition.into_iter().for_each(|(id, _, _)| graph.remove_node(id));
    let order: Vec<usize> = parts.concat();
    let mut place = vec![0; order.len()];
    order.iter().enumerate().for_each(|(at, row)| place[*row] = at);
    let name = format!("{}.rows", whole.name);
    let mut joined = graph.add_op("Concat", &name, &results, [("axis", Attribute::Int(axis))]);
    if place.iter().enumerate().any(|(row, at)| row != *at) {
        joined = gathered(graph, &name, joined, &place, axis);
    }
    let last = graph.producer(joined)?;
    graph.edit_node(last, |node| node.outputs = vec![Some(output)]);
    Some(())
}

/// The node that adds the bias of a product over tokens, with this bias and its output.
fn addition(graph: &Graph, product: &Node) -> Option<(NodeId, ValueId, ValueId)> {
    let (output, weight) = (product.output(0)?, graph.initializer(product.input(1)?)?);
    let id = graph.only_use(output).filter(|_| product.is("MatMul"))?;
    let node = graph.node(id);
    let bias = node.inputs.iter().flatten().find(|input| **input != output)?;
    let vector = graph.initializer(*bias).filter(|_| node.is("Add"))?;
    let fits = vector.dims.len() == 1 && vector.dims.first() == weight.dims.get(1);
    fits.then_some((id, *bias, node.output(0)?))
}

fn gathered(graph: &mut Graph, name: &str, data: ValueId, rows: &[usize], axis: i64) -> ValueId {
    let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
    let indices = Tensor::from_i64(vec![rows.len()], &rows);
    let indices = graph.add_initializer(&format!("{name}.order"), indices);
    graph.add_op("Gather", name, &[data, indices], [("axis", Attribute::Int(axis))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn halves_become_layers_side_by_side() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,3,8,8");
        let (w, c) = (b.weights("w", &[4, 3, 3, 3]), b.weights("c", &[4]));
        let y = b.op("Conv", "conv", &[x, w, c], []);
        let z = b.op("Relu", "relu", &[y], []);
        let model = canonicalise(b.build(&[z]), &CanonOptions::default()).unwrap();
        let conv = model.graph.producer(y).unwrap();
        let parts = [vec![0, 2], vec![1, 3]];
        let split = split_rows(model, [(conv, &parts[..])]).unwrap();
        let ops: Vec<&str> = split.graph.nodes().map(|(_, n)| n.op.as_str()).collect();
        assert_eq!(ops, ["Relu", "Conv", "Conv", "Concat", "Gather"]);
        let part = split.graph.nodes().find(|(_, n)| n.name == "conv.2").unwrap().1;
        let (all, own) = (split.graph.value_named("c"), part.input(2).unwrap());
        assert!(all.is_some());
        assert_eq!(split.graph.initializer(own).unwrap().dims, [2]);
    }

    #[test]
    fn the_bias_behind_a_product_is_split_with_it() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,5,3");
        let (w, c) = (b.weights("w", &[3, 4]), b.weights("c", &[4]));
        let y = b.op("MatMul", "product", &[x, w], []);
        let z = b.op("Add", "added", &[c, y], []);
        let z = b.op("Relu", "relu", &[z], []);
        let model = canonicalise(b.build(&[z]), &CanonOptions::default()).unwrap();
        let bias = |graph: &Graph, name: &str| {
            let node = graph.nodes().find(|(_, node)| node.name == name).unwrap().1;
            let mut constants = node.reads().filter_map(|value| graph.initializer(value));
            constants.next().unwrap().to_f32().unwrap()
        };
        let (product, all) = (model.graph.producer(y).unwrap(), bias(&model.graph, "added"));
        let parts = [vec![0, 2], vec![1, 3]];
        let split = split_rows(model, [(product, &parts[..])]).unwrap();
        let ops: Vec<&str> = split.graph.nodes().map(|(_, n)| n.op.as_str()).collect();
        assert_eq!(ops, ["Relu", "MatMul", "Add", "MatMul", "Add", "Concat", "Gather"]);
        let own = bias(&split.graph, "added.2");
        assert_eq!(own.as_slice().unwrap(), [all[[1]], all[[3]]]);
    }
}
