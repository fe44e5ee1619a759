//! Stores large constants of one number as the number and a shape.

use crate::canon::filled;
use crate::ir::{Attribute, Graph, Node, Tensor};

/// Replaces the constants by nodes.
pub(super) fn fill(graph: &mut Graph) {
    for (id, number) in filled(graph) {
        let Some(tensor) = graph.initializer(id) else { continue };
        let (ty, name) = (tensor.ty(), graph.value(id).name.clone());
        let extents: Vec<i64> = tensor.dims.iter().map(|extent| *extent as i64).collect();
        let shape = Tensor::from_i64(vec![extents.len()], &extents);
        let shape = graph.add_initializer(&format!("{name}.shape"), shape);
        let value = [("value", Attribute::Tensor(number))];
        let node = Node::standard("ConstantOfShape", &format!("{name}.filled"), &[shape], value);
        graph.add_node(Node { outputs: vec![Some(id)], ..node });
        graph.set_type(id, Some(ty));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::compute_filled;
    use crate::ir::builder::GraphBuilder;
    use ndarray::{ArrayD, IxDyn};

    #[test]
    fn constants_of_one_number_are_stored_as_a_shape_unless_layers_read_them() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,2048");
        let same = |dims: &[usize]| Tensor::from_f32(&ArrayD::from_elem(IxDyn(dims), 0.5));
        let (halves, weight) =
            (b.constant("halves", same(&[2048])), b.constant("w", same(&[3, 2048])));
        let few = b.constant("few", same(&[16]));
        let y = b.op("Add", "sum", &[x, halves], []);
        let y = b.op("Gemm", "layer", &[y, weight], [("transB", 1.into())]);
        let z = b.op("Mul", "scaled", &[few, few], []);
        let mut graph = b.build(&[y, z]).graph;
        fill(&mut graph);
        assert!(graph.initializer(halves).is_none() && graph.producer(halves).is_some());
        assert!(graph.initializer(weight).is_some() && graph.initializer(few).is_some());
        compute_filled(&mut graph).unwrap();
        assert_eq!(graph.initializer(halves), Some(&same(&[2048])));
    }
}
