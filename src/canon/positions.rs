//! Turns three nodes that move channels into positions into one `DepthToSpace`.
//!
//! Exporters write a pixel shuffle as `Reshape`, `Transpose` and `Reshape`. Channels cannot be followed
//! through these nodes one at a time.

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Model, NodeId, ValueId};

use super::CanonOptions;
use super::types::shape;

/// The two orders of axes, with the axes of the block's side and of the channels before the transpose.
const ORDERS: [(&str, [i64; 6], usize, usize); 2] =
    [("CRD", [0, 1, 4, 2, 5, 3], 2, 1), ("DCR", [0, 3, 4, 1, 5, 2], 1, 3)];

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some((data, side, mode)) = spread(graph, id) else { continue };
        graph.edit_node(id, |node| {
            node.op = "DepthToSpace".to_owned();
            node.inputs = vec![Some(data)];
            node.attributes = [
                ("blocksize".to_owned(), Attribute::Int(side as i64)),
                ("mode".to_owned(), Attribute::Str(mode.as_bytes().to_vec())),
            ]
            .into();
        });
        modified = true;
    }
    Ok(modified)
}

/// The operand, the side of a block and the order of channels of the three nodes that end in node `id`.
fn spread(graph: &Graph, id: NodeId) -> Option<(ValueId, usize, &'static str)> {
    let before = |id: NodeId, op: &str| {
        let node = graph.node(id);
        node.is(op).then(|| node.input(0))?
    };
    let moved = before(id, "Reshape")?;
    let transpose = graph.producer(moved)?;
    let split = before(transpose, "Transpose")?;
    let data = before(graph.producer(split)?, "Reshape")?;
    let perm = graph.node(transpose).ints("perm")?;
    let (mode, _, side, channels) = ORDERS.into_iter().find(|(_, order, ..)| perm == *order)?;
    let (from, parts) = (shape(graph, data)?, shape(graph, split)?);
    let to = shape(graph, graph.node(id).output(0)?)?;
    let (from, parts): ([Dim; 4], [Dim; 6]) = (from.try_into().ok()?, parts.try_into().ok()?);
    let to: [Dim; 4] = to.try_into().ok()?;
    let (side, second) = (parts[side].known()?, parts[side + 1].known()?);
    let (channels, area) = (parts[channels].known()?, side.checked_mul(side)?);
    let splits = side == second
        && from[0].is_surely(&parts[0])
        && from[0].is_surely(&to[0])
        && from[1].known() == channels.checked_mul(area)
        && to[1].known() == Some(channels);
    let grows = |axis: usize| {
        let extent = from[axis].known()?;
        let same = parts[axis + 2].known()? == extent;
        (same && to[axis].known()? == extent.checked_mul(side)?).then_some(())
    };
    (splits && grows(2).is_some() && grows(3).is_some()).then_some((data, side, mode))
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn a_pixel_shuffle_is_one_node() {
        for (mode, parts, perm) in [
            ("CRD", [0, 3, 2, 2, 4, 4], [0, 1, 4, 2, 5, 3]),
            ("DCR", [0, 2, 2, 3, 4, 4], [0, 3, 4, 1, 5, 2]),
        ] {
            let mut b = GraphBuilder::new("net", 17);
            let x = b.input("x", "n,12,4,4");
            let (parts, dims) = (b.ints("parts", &parts), b.ints("dims", &[0, 3, 8, 8]));
            let y = b.op("Reshape", "split", &[x, parts], []);
            let y = b.op("Transpose", "moved", &[y], [("perm", perm.into())]);
            let y = b.op("Reshape", "y", &[y, dims], []);
            let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
            let nodes: Vec<_> = model.graph.nodes().map(|(_, node)| node).collect();
            assert_eq!(nodes.len(), 1);
            assert_eq!((nodes[0].op.as_str(), nodes[0].str("mode")), ("DepthToSpace", Some(mode)));
        }
    }
}
