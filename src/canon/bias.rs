//! Gives every layer a bias, zero where it had none: a merge refits layers, and what changed before
//! a layer shifts its pre-activations.

use crate::canon::CanonOptions;
use crate::error::Result;
use crate::ir::{Model, NodeId, Tensor};

pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &model.graph;
    let missing: Vec<(NodeId, String, Tensor)> = graph
        .nodes()
        .filter(|(_, node)| node.input(2).is_none())
        // A product that is not in canonical form yet has its columns elsewhere.
        .filter(|(_, node)| node.is("Conv") || (node.is("Gemm") && node.int("transB", 0) == 1))
        .filter_map(|(id, node)| {
            let weight = graph.initializer(node.input(1)?)?;
            let (rows, size) = (*weight.dims.first()?, weight.dtype.size()?);
            let data = vec![0; rows.checked_mul(size)?].into();
            let zeros = Tensor { dtype: weight.dtype, dims: vec![rows], data };
            weight.dtype.is_float().then(|| (id, format!("{}.bias", node.name), zeros))
        })
        .collect();
    let modified = !missing.is_empty();
    for (id, name, zeros) in missing {
        let bias = model.graph.add_initializer(&name, zeros);
        model.graph.edit_node(id, |node| {
            node.inputs.resize(2, None);
            node.inputs.push(Some(bias));
        });
    }
    Ok(modified)
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
    fn products_wait_for_their_canonical_form() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,3");
        let w = b.weights("w", &[3, 5]);
        let y = b.op("MatMul", "fc", &[x, w], []);
        let model = crate::canon::canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let (_, fc) = model.graph.nodes().next().unwrap();
        assert_eq!(model.graph.initializer(fc.input(2).unwrap()).unwrap().dims, [5]);
    }
}
