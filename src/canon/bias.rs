//! Gives every layer a bias, of zeros if it has none: a merge refits layers, and changes before a layer
//! shift its pre-activations.
//!
//! A product with more than two axes (`MatMul`) has no bias among its inputs. It is followed by an
//! `Add` of a vector, and both together are the layer.

use crate::canon::CanonOptions;
use crate::error::Result;
use crate::ir::{Graph, Model, Node, NodeId, Tensor, ValueKind};

use super::tokenwise::{Product, product};

pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &model.graph;
    let missing: Vec<(NodeId, String, Tensor)> = graph
        .nodes()
        .filter(|(_, node)| node.input(2).is_none())
        .filter_map(|(id, node)| {
            let weight = graph.initializer(node.input(1)?).filter(|w| w.dtype.is_float())?;
            Some((id, format!("{}.bias", node.name), zeros(weight, rows(node, weight)?)?))
        })
        .collect();
    let products = graph.nodes().filter_map(|(id, _)| product(graph, id));
    let bare: Vec<Product> = products.filter(|product| product.bias(graph).is_none()).collect();
    let mut modified = !missing.is_empty();
    for (id, name, zeros) in missing {
        let bias = model.graph.add_initializer(&name, zeros);
        model.graph.edit_node(id, |node| {
            node.inputs.resize(2, None);
            node.inputs.push(Some(bias));
        });
    }
    for product in bare {
        modified |= add_behind(&mut model.graph, &product).is_some();
    }
    Ok(modified)
}

/// The number of rows of a layer whose node may have a bias.
fn rows(node: &Node, weight: &Tensor) -> Option<usize> {
    // A product that is not canonical yet may have its columns on the other axis.
    if node.is("Conv") || node.is("Gemm") && node.int("transB", 0) == 1 {
        return weight.dims.first().copied();
    }
    let groups = usize::try_from(node.int("group", 1)).ok().filter(|_| node.is("ConvTranspose"))?;
    weight.dims.get(1)?.checked_mul(groups)
}

fn zeros(weight: &Tensor, rows: usize) -> Option<Tensor> {
    let data = vec![0; rows.checked_mul(weight.dtype.size()?)?].into();
    Some(Tensor { dtype: weight.dtype, dims: vec![rows], data })
}

/// Appends an `Add` of zeros to a product. Its output takes over the consumers and the name of the
/// product.
fn add_behind(graph: &mut Graph, product: &Product) -> Option<()> {
    let node = graph.node(product.node);
    let (name, output) = (node.name.clone(), node.output(0)?);
    let zeros = zeros(graph.initializer(node.input(1)?)?, product.columns)?;
    let ty = graph.value(output).ty.clone();
    let bias = graph.add_initializer(&format!("{name}.bias"), zeros);
    let value = graph.add_value(&format!("{name}.product"), ValueKind::Detached, ty);
    graph.edit_node(product.node, |node| node.outputs = vec![Some(value)]);
    graph.add_node(Node {
        name: format!("{name}.add"),
        op: "Add".to_owned(),
        inputs: vec![Some(value), Some(bias)],
        outputs: vec![Some(output)],
        ..Node::default()
    });
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn layers_without_bias_get_zeros() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,3,8,8");
        let w = b.weights("w", &[4, 3, 3, 3]);
        let y = b.op("Conv", "conv", &[x, w], []);
        let mut model = b.build(&[y]);
        assert!(run(&mut model, &CanonOptions::default()).unwrap());
        let (_, conv) = model.graph.nodes().next().unwrap();
        let bias = model.graph.initializer(conv.input(2).unwrap()).unwrap();
        assert_eq!(bias.to_f32().unwrap(), ndarray::ArrayD::<f32>::zeros(ndarray::IxDyn(&[4])));
        assert!(!run(&mut model, &CanonOptions::default()).unwrap());
    }

    #[test]
    fn transposed_convolutions_get_one_zero_per_output_channel() {
        for (dims, group) in [([4, 3, 2], 1i64), ([4, 3, 2], 2), ([4, 1, 2], 4)] {
            let mut b = GraphBuilder::new("net", 17);
            let x = b.input("x", "n,4,8");
            let w = b.weights("w", &dims);
            let y = b.op("ConvTranspose", "up", &[x, w], [("group", group.into())]);
            let mut model = b.build(&[y]);
            assert!(run(&mut model, &CanonOptions::default()).unwrap());
            let (_, up) = model.graph.nodes().next().unwrap();
            let bias = model.graph.initializer(up.input(2).unwrap()).unwrap();
            assert_eq!(bias.dims, [dims[1] * group as usize]);
        }
    }

    #[test]
    fn products_wait_for_their_canonical_form() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,3");
        let w = b.weights("w", &[3, 5]);
        let y = b.op("MatMul", "fc", &[x, w], []);
        let model = crate::canon::canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let (_, fc) = model.graph.nodes().next().unwrap();
        assert_eq!(model.graph.initializer(fc.input(2).unwrap()).unwrap().dims, [5]);
    }

    #[test]
    fn a_product_of_three_axes_gets_an_addition_of_zeros() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,t,3");
        let w = b.weights("w", &[3, 5]);
        let y = b.op("MatMul", "y", &[x, w], []);
        let model = crate::canon::canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let graph = &model.graph;
        let ops: Vec<&str> = graph.nodes().map(|(_, node)| node.op.as_str()).collect();
        assert_eq!(ops, ["MatMul", "Add"]);
        assert_eq!(graph.value(graph.outputs[0]).name, "y");
        let coupling = crate::couple::Coupling::of(graph);
        let layer = &coupling.unwrap().layers[0].layer;
        assert_eq!(layer.read_bias(graph).unwrap().unwrap().len(), 5);
    }

    #[test]
    fn zeros_behind_products_that_others_follow_stay() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,t,3");
        let w = b.weights("w", &[3, 3]);
        let y = b.op("MatMul", "y", &[x, w], []);
        let sum = b.op("Add", "sum", &[y, x], []);
        let model = crate::canon::canonicalise(b.build(&[sum]), &CanonOptions::default()).unwrap();
        let ops: Vec<&str> = model.graph.nodes().map(|(_, node)| node.op.as_str()).collect();
        assert_eq!(ops.iter().filter(|op| **op == "Add").count(), 2, "{ops:?}");
    }
}
