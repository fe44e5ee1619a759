//! Puts the channels that become positions of one channel side by side.
//!
//! In mode DCR of `DepthToSpace`, as TensorFlow writes it, the channels of a block are far from each other, so that
//! they do not move as one. In this pass the layer before it computes them in the order of mode CRD.

use crate::error::Result;
use crate::ir::{Attribute, Consumers, Graph, Model, NodeId};

use super::CanonOptions;
use super::features::{Features, by_channel};
use super::types::shape;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let order = graph.topological_order()?;
    let mut readers = graph.consumers();
    let mut modified = false;
    for id in &order {
        if put_together(graph, &readers, &order, *id).is_some() {
            modified = true;
            readers = graph.consumers();
        }
    }
    Ok(modified)
}

/// Turns mode DCR of node `id` into CRD.
fn put_together(
    graph: &mut Graph,
    readers: &Consumers,
    order: &[NodeId],
    id: NodeId,
) -> Option<()> {
    let node = graph.node(id);
    let are_apart = node.is("DepthToSpace") && node.str("mode").is_none_or(|mode| mode == "DCR");
    let data = node.input(0).filter(|_| are_apart)?;
    let side = usize::try_from(node.int("blocksize", 0)).ok()?;
    let all = shape(graph, data)?.get(1)?.known()?;
    let positions = side.checked_mul(side).filter(|count| *count > 1 && all % count == 0)?;
    let name = node.name.clone();
    let features = Features::before(graph, readers, order, (id, 1))?;
    let moved = features.moved(graph, &by_channel(positions, all / positions))?;
    moved.into_iter().for_each(|constant| constant.store(graph, readers, &name));
    let mode = Attribute::Str(b"CRD".to_vec());
    graph.edit_node(id, |node| {
        node.attributes.insert("mode".to_owned(), mode);
    });
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn a_layer_computes_the_channels_of_a_block_side_by_side() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,3,4,4");
        let (w, bias) = (b.weights("w", &[12, 3, 1, 1]), b.weights("b", &[12]));
        let slope = b.weights("slope", &[12, 1, 1]);
        let x = b.op("Conv", "conv", &[x, w, bias], []);
        let x = b.op("PRelu", "bent", &[x, slope], []);
        let y = b.op("DepthToSpace", "y", &[x], [("blocksize", 2.into())]);
        let net = b.build(&[y]);
        let before: Vec<_> = ["w", "b", "slope"].map(|name| constant(&net.graph, name)).into();
        let model = canonicalise(net, &CanonOptions::default()).unwrap();
        let node = model.graph.nodes().find(|(_, node)| node.is("DepthToSpace")).unwrap().1;
        assert_eq!(node.str("mode"), Some("CRD"));
        let order = [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11];
        for (name, old) in ["w", "b", "slope"].iter().zip(before) {
            let new = constant(&model.graph, name);
            let width = old.len() / 12;
            let moved: Vec<f32> =
                order.iter().flat_map(|o| old[o * width..(o + 1) * width].to_vec()).collect();
            assert_eq!(new, moved, "{name}");
        }
    }

    fn constant(graph: &crate::ir::Graph, name: &str) -> Vec<f32> {
        let tensor = graph.initializer(graph.value_named(name).unwrap()).unwrap();
        tensor.to_f32().unwrap().iter().copied().collect()
    }

    #[test]
    fn channels_that_go_elsewhere_stay() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,3,4,4");
        let w = b.weights("w", &[12, 3, 1, 1]);
        let x = b.op("Conv", "conv", &[x, w], []);
        let y = b.op("DepthToSpace", "y", &[x], [("blocksize", 2.into())]);
        let z = b.op("Relu", "z", &[x], []);
        let model = canonicalise(b.build(&[y, z]), &CanonOptions::default()).unwrap();
        let node = model.graph.nodes().find(|(_, node)| node.is("DepthToSpace")).unwrap().1;
        assert_ne!(node.str("mode"), Some("CRD"));
    }
}
