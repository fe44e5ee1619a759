//! Replaces the computed bias of a convolution by an `Add` after it.
//!
//! A convolution is a layer only if its weights and its bias are constants. As an operand of an `Add`,
//! a bias that another layer computes is permuted with that layer's rows.

use crate::error::Result;
use crate::ir::{Graph, Model, Node, NodeId, Tensor, ValueKind};

use super::{CanonOptions, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        modified |= split_off(graph, id).is_some();
    }
    Ok(modified)
}

fn split_off(graph: &mut Graph, id: NodeId) -> Option<()> {
    let node = graph.node(id);
    if !node.is("Conv") && !node.is("ConvTranspose") {
        return None;
    }
    let (bias, output, name) = (node.input(2)?, node.output(0)?, node.name.clone());
    graph.initializer(node.input(1)?)?;
    let rank = types::shape(graph, node.input(0)?)?.len() as i64;
    if graph.initializer(bias).is_some() {
        return None;
    }
    let others: Vec<i64> = (0..rank).filter(|axis| *axis != 1).collect();
    let axes = Tensor::from_i64(vec![others.len()], &others);
    let axes = graph.add_initializer(&format!("{name}.axes"), axes);
    let aligned = graph.add_op("Unsqueeze", &format!("{name}.bias"), &[bias, axes], []);
    let sum = graph.add_value(&format!("{name}.product"), ValueKind::Detached, None);
    graph.edit_node(id, |node| {
        node.inputs.truncate(2);
        node.outputs = vec![Some(sum)];
    });
    graph.add_node(Node {
        name: format!("{name}.add"),
        op: "Add".to_owned(),
        inputs: vec![Some(sum), Some(aligned)],
        outputs: vec![Some(output)],
        ..Node::default()
    });
    Some(())
}
