use super::*;
use crate::ir::{Attribute, DataType, Dim, Tensor, TensorType};
use crate::ops::{self, NodeView};

fn mlp(widths: &[usize]) -> Graph {
    let mut g = Graph::new("mlp");
    let dims = vec![Dim::Symbol("n".into()), Dim::Known(widths[0])];
    let mut x = g.add_input("x", TensorType { dtype: DataType::F32, shape: Some(dims) });
    for (i, pair) in widths.windows(2).enumerate() {
        let zeros = ndarray::ArrayD::zeros(ndarray::IxDyn(&[pair[1], pair[0]]));
        let w = g.add_initializer("w", Tensor::from_f32(&zeros));
        x = g.add_op("Gemm", &format!("fc{i}"), &[x, w], [("transB", Attribute::Int(1))]);
        if i + 2 < widths.len() {
            x = g.add_op("Relu", "relu", &[x], []);
        }
    }
    g.outputs.push(x);
    for id in g.topological_order().unwrap() {
        let types = ops::infer(&NodeView::new(&g, id, &[]));
        let output = g.node(id).output(0).unwrap();
        g.set_type(output, types[0].clone());
    }
    g
}

fn aligned(a: &[usize], b: &[usize]) -> Alignment {
    let (ga, gb) = (mlp(a), mlp(b));
    let (ca, cb) = (Coupling::of(&ga).unwrap(), Coupling::of(&gb).unwrap());
    align(Net { graph: &ga, coupling: &ca }, Net { graph: &gb, coupling: &cb })
}

#[test]
fn equal_nets_align_layer_by_layer() {
    let alignment = aligned(&[8, 6, 4, 2], &[8, 6, 4, 3]);
    assert_eq!(alignment.layers.len(), 3);
    assert_eq!(alignment.groups.len(), 2);
    assert_eq!(alignment.inputs.len(), 1);
    assert_eq!(alignment.refused.len(), 1, "output layers stay task-specific");
    assert_eq!(alignment.divergence, None);
}

#[test]
fn widths_may_differ() {
    let alignment = aligned(&[8, 6, 4, 2], &[8, 10, 3, 2]);
    assert_eq!((alignment.layers.len(), alignment.groups.len()), (3, 2));
}

#[test]
fn depths_may_differ_and_the_divergence_is_named() {
    let alignment = aligned(&[8, 6, 4, 2], &[8, 6, 6, 4, 2]);
    assert_eq!(alignment.layers.len(), 3);
    let divergence = alignment.divergence.unwrap();
    assert!(divergence.a.is_some() && divergence.b.is_some());
}

#[test]
fn inputs_of_different_size_are_not_shared() {
    assert!(aligned(&[8, 6, 2], &[9, 6, 2]).inputs.is_empty());
}
