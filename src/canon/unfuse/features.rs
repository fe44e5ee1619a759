//! Features that are picked by their numbers.

use crate::ir::{Attribute, ValueId};

use super::attention::ints;
use super::{Site, types};

/// Picks along the last axis. A vector counts as one row.
pub(super) fn picked(site: &mut Site<'_>) -> Option<ValueId> {
    let mut data = site.input(0)?;
    let rank = types::shape(site.graph, data)?.len();
    let numbers = site.input(1)?;
    let flat = ints(site, &[-1]);
    let numbers = site.op("Reshape", &[numbers, flat]);
    match rank {
        0 => return None,
        1 => {
            let first = ints(site, &[0]);
            data = site.op("Unsqueeze", &[data, first]);
        }
        _ => {}
    }
    let axis = Attribute::Int(rank.max(2) as i64 - 1);
    let attributes = [("axis".to_owned(), axis)].into();
    Some(site.add("Gather", &[Some(data), Some(numbers)], attributes))
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise, types};
    use crate::ir::builder::{GraphBuilder, shape};
    use crate::ir::{Model, Tensor};

    /// A net that picks features of a value with these extents.
    fn net(dims: &str, numbers: Tensor) -> Model {
        let mut b = GraphBuilder::new("net", 17);
        let (x, numbers) = (b.input("x", dims), b.constant("numbers", numbers));
        let y = b.op("ArrayFeatureExtractor", "picked", &[x, numbers], []);
        let graph = b.graph();
        let node = graph.producer(y).unwrap();
        graph.edit_node(node, |node| node.domain = "ai.onnx.ml".to_owned());
        let y = b.op("Relu", "y", &[y], []);
        let mut model = b.build(&[y]);
        model.opsets.insert("ai.onnx.ml".to_owned(), 1);
        model
    }

    #[test]
    fn picked_features_are_gathered_along_the_last_axis() {
        for (dims, axes, wanted) in [
            ("n,4", vec![2], "n,2"),
            ("n,4", vec![1, 2], "n,2"),
            ("n,3,4", vec![2, 1], "n,3,2"),
            ("n", vec![2], "1,2"),
        ] {
            let model = net(dims, Tensor::from_i64(axes, &[2, 0]));
            let model = canonicalise(model, &CanonOptions::default()).unwrap();
            let operators: Vec<&str> =
                model.graph.nodes().map(|(_, node)| node.op.as_str()).collect();
            assert!(operators.contains(&"Gather"), "{operators:?}");
            assert!(!operators.contains(&"ArrayFeatureExtractor"), "{operators:?}");
            let found = types::shape(&model.graph, model.graph.outputs[0]);
            assert_eq!(found, Some(shape(wanted)), "{dims}");
        }
    }
}
