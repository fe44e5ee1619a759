//! Replaces loops that are recurrent layers by `LSTM`, `GRU` and `RNN`.
//!
//! TensorFlow and older exporters write a recurrent layer as a `Loop` or `Scan` over the steps of a sequence, with the
//! cell as its body. Channels are not followed inside sub-graphs, so such a layer could not be shared. What the body
//! computes is followed as sums of products and functions of them, and compared with the cells of the standard
//! layers. Gates may come from one product or several, in any order, and biases may be added anywhere. Steps may be
//! masked. A loop that is not exactly such a layer over the whole sequence stays.

mod activation;
mod arithmetic;
mod body;
mod carried;
mod cell;
mod constants;
mod count;
mod flags;
mod layer;
mod recognise;
mod repeated;
mod results;
mod skipped;
mod terms;
#[cfg(test)]
mod tests;
mod unrolled;

use crate::error::Result;
use crate::ir::{Model, Node, NodeId};

use self::recognise::recognise;
use self::repeated::Outside;
use super::{CanonOptions, types};

pub(super) use self::unrolled::run as unroll;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let repeats = |node: &Node| node.is("Loop") || node.is("Scan");
    let loops: Vec<NodeId> =
        graph.nodes().filter(|(_, node)| repeats(node)).map(|(id, _)| id).collect();
    let mut modified = false;
    for id in &loops {
        modified |= carried::capture_unchanged(graph, *id);
    }
    // What captured values are is known inside after types have been inferred again.
    if modified || loops.is_empty() {
        return Ok(modified);
    }
    let sizes = types::follow(graph)?;
    let scalars = repeated::scalars(graph, &sizes)?;
    for id in loops {
        let outside = Outside { graph: &*graph, sizes: &sizes, scalars: &scalars };
        if let Some(layer) = recognise(&outside, id)? {
            modified |= layer.write(graph, id).is_some();
        }
    }
    Ok(modified)
}
