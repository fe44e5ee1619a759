//! Turns `auto_pad` into explicit padding if the padding is known.
//!
//! Gradients and comparisons with layers of other models need explicit padding.

use crate::error::Result;
use crate::ir::{Attribute, Graph, Model, NodeId};
use crate::ops::same_pads;

use super::{CanonOptions, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        if let Some(pads) = explicit(graph, id) {
            graph.edit_node(id, |node| {
                node.attributes.remove("auto_pad");
                node.attributes.insert("pads".to_owned(), Attribute::Ints(pads));
            });
            modified = true;
        }
    }
    Ok(modified)
}

/// The explicit padding of the node's `auto_pad`. Nodes with `ceil_mode` stay, since runtimes disagree
/// about its meaning together with `auto_pad`.
fn explicit(graph: &Graph, id: NodeId) -> Option<Vec<i64>> {
    let node = graph.node(id);
    let windowed = ["Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"];
    if !windowed.iter().any(|op| node.is(op)) || node.int("ceil_mode", 0) != 0 {
        return None;
    }
    let shape = types::shape(graph, node.input(0)?)?;
    let spatial = shape.get(2..)?;
    match node.str("auto_pad")? {
        "NOTSET" | "" => {
            node.ints("pads").map_or(Some(vec![0; 2 * spatial.len()]), |p| Some(p.to_vec()))
        }
        "VALID" => Some(vec![0; 2 * spatial.len()]),
        // A transposed convolution pads its output, by another formula.
        mode if !node.is("ConvTranspose") => {
            let kernel = kernel(graph, id)?;
            let at = |name: &str, i: usize| -> Option<usize> {
                node.ints(name).map_or(Some(1), |v| usize::try_from(*v.get(i)?).ok())
            };
            let pads: Option<Vec<(usize, usize)>> = (0..spatial.len())
                .map(|i| {
                    let span = kernel.get(i)?.checked_sub(1)?.checked_mul(at("dilations", i)?)?;
                    let stride = at("strides", i)?;
                    same_pads(
                        spatial[i].known(),
                        span.checked_add(1)?,
                        stride,
                        mode == "SAME_LOWER",
                    )
                })
                .collect();
            let pads = pads?;
            let (before, behind) = (pads.iter().map(|p| p.0), pads.iter().map(|p| p.1));
            before.chain(behind).map(|p| i64::try_from(p).ok()).collect()
        }
        _ => None,
    }
}

fn kernel(graph: &Graph, id: NodeId) -> Option<Vec<usize>> {
    let node = graph.node(id);
    match node.ints("kernel_shape") {
        Some(kernel) => kernel.iter().map(|k| usize::try_from(*k).ok()).collect(),
        None => types::shape(graph, node.input(1)?)?.get(2..)?.iter().map(|d| d.known()).collect(),
    }
}
