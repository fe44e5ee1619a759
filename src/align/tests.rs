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
    typed(g)
}

fn typed(mut g: Graph) -> Graph {
    for id in g.topological_order().unwrap() {
        let types = ops::infer(&NodeView::new(&g, id, &[]));
        let output = g.node(id).output(0).unwrap();
        g.set_type(output, types[0].clone());
    }
    g
}

fn aligned(a: &[usize], b: &[usize]) -> Alignment {
    several(&[a, b])
}

fn several(widths: &[&[usize]]) -> Alignment {
    let graphs: Vec<Graph> = widths.iter().map(|w| mlp(w)).collect();
    let couplings: Vec<Coupling> = graphs.iter().map(|g| Coupling::of(g).unwrap()).collect();
    let nets = graphs.iter().zip(&couplings).map(|(graph, coupling)| Net {
        graph,
        coupling,
        shares_outputs: false,
    });
    align(&nets.collect::<Vec<_>>(), Matching::Auto)
}

#[test]
fn equal_nets_align_layer_by_layer() {
    let alignment = aligned(&[8, 6, 4, 2], &[8, 6, 4, 3]);
    assert_eq!(alignment.common().count(), 3);
    assert_eq!(alignment.groups.len(), 2);
    assert_eq!(alignment.inputs.len(), 1);
    assert_eq!(alignment.refused.len(), 2, "output layers stay task-specific");
    assert_eq!(alignment.divergences, [None]);
}

#[test]
fn widths_may_differ() {
    let alignment = aligned(&[8, 6, 4, 2], &[8, 10, 3, 2]);
    assert_eq!((alignment.common().count(), alignment.groups.len()), (3, 2));
}

#[test]
fn depths_may_differ_and_the_divergence_is_named() {
    let alignment = aligned(&[8, 6, 4, 2], &[8, 6, 6, 4, 2]);
    assert_eq!((alignment.common().count(), alignment.sites.len()), (3, 4));
    let divergence = alignment.divergences[0].as_ref().unwrap();
    assert!(divergence.a.is_some() && divergence.b.is_some());
}

#[test]
fn weights_of_another_type_do_not_correspond() {
    let graphs = [DataType::F32, DataType::F16].map(|dtype| {
        let mut graph = mlp(&[8, 6, 4, 2]);
        let values: Vec<_> = graph.values().map(|(id, _)| id).collect();
        for id in values {
            let Some(weight) = graph.initializer(id) else { continue };
            let weight = Tensor::from_f64(dtype, &weight.to_f64().unwrap()).unwrap();
            graph.set_initializer(id, weight);
        }
        graph
    });
    let couplings = graphs.each_ref().map(|graph| Coupling::of(graph).unwrap());
    let nets = [0, 1, 1].map(|net| Net {
        graph: &graphs[net],
        coupling: &couplings[net],
        shares_outputs: false,
    });
    let alignment = align(&nets, Matching::Auto);
    let members = |site: &Site| site.members().map(|m| m.task.0).collect::<Vec<_>>();
    assert!(alignment.common().all(|site| members(site) == [1, 2]));
    assert_eq!(alignment.common().count(), 3);
    let divergence = alignment.divergences[0].as_ref().unwrap();
    assert_eq!(divergence.difference, "weights of another type");
}

#[test]
fn inputs_of_different_size_correspond_in_part() {
    let alignment = aligned(&[8, 6, 2], &[9, 6, 2]);
    assert!(alignment.inputs.is_empty());
    assert_eq!(alignment.unlike_inputs, [vec![Some(GroupId(0)); 2]]);
}

#[test]
fn a_third_net_finds_its_counterparts_in_either_of_the_others() {
    let alignment = several(&[&[8, 6, 4, 2], &[8, 6, 6, 4, 2], &[8, 6, 6, 4, 3]]);
    assert_eq!(alignment.sites.len(), 4);
    let nets = |site: &Site| site.members().map(|m| m.task.0).collect::<Vec<_>>();
    let members: Vec<_> = alignment.sites.iter().map(nets).collect();
    assert_eq!(members.iter().filter(|m| **m == [0, 1, 2]).count(), 3);
    assert_eq!(members.iter().filter(|m| **m == [1, 2]).count(), 1);
    for net in 0..3 {
        let own: Vec<_> = alignment.sites.iter().filter_map(|s| s.layers[net]).collect();
        assert!(own.is_sorted(), "sites are in the order of every net");
    }
    assert_eq!(alignment.inputs, [vec![Some(GroupId(0)); 3]]);
}

/// GRUs of (inputs, units) with a layer behind each, which leads to what the next one reads.
fn recurrent(layers: &[[usize; 2]]) -> Graph {
    let mut g = Graph::new("recurrent");
    let mut dims = ["steps", "n"].map(|s| Dim::Symbol(s.into())).to_vec();
    dims.push(Dim::Known(layers[0][0]));
    let mut x = g.add_input("x", TensorType { dtype: DataType::F32, shape: Some(dims) });
    let zeros = |dims: &[usize]| Tensor::from_f32(&ndarray::ArrayD::zeros(ndarray::IxDyn(dims)));
    let axis = g.add_initializer("axis", Tensor::from_i64(vec![1], &[1]));
    for (i, [inputs, units]) in layers.iter().enumerate() {
        let sizes = [[1, 3 * units, *inputs], [1, 3 * units, *units]].map(|dims| zeros(&dims));
        let [w, r] = sizes.map(|tensor| g.add_initializer("gates", tensor));
        let b = g.add_initializer("b", zeros(&[1, 6 * units]));
        let y = g.add_op("GRU", &format!("gru{i}"), &[x, w, r, b], []);
        let y = g.add_op("Squeeze", "squeeze", &[y, axis], []);
        let next = layers.get(i + 1).map_or(2, |next| next[0]);
        let w = g.add_initializer("w", zeros(&[*units, next]));
        x = g.add_op("MatMul", &format!("fc{i}"), &[y, w], []);
    }
    g.outputs.push(x);
    typed(g)
}

#[test]
fn gates_of_equal_size_find_each_other() {
    // A's layer has equally many parameters in common with the first layer of B.
    let graphs = [recurrent(&[[4, 4]]), recurrent(&[[4, 5], [4, 4]])];
    let couplings = graphs.each_ref().map(|graph| Coupling::of(graph).unwrap());
    let [a, b] =
        [0, 1].map(|i| Net { graph: &graphs[i], coupling: &couplings[i], shares_outputs: false });
    let alignment = align(&[a, b], Matching::Auto);
    let names: Vec<&str> = alignment
        .common()
        .filter_map(|site| Some(couplings[1].layer(site.layers[1]?).name.as_str()))
        .collect();
    assert_eq!(names, ["gru1.z", "gru1.r", "gru1.h", "fc1"]);
}

/// A layer of these weights whose rows are added to the input, and a layer that reads the sum, or the input if
/// the sum is an answer.
fn residual(weight: f32, is_answer: bool) -> Graph {
    let mut g = Graph::new("residual");
    let dims = vec![Dim::Symbol("n".into()), Dim::Known(6)];
    let x = g.add_input("x", TensorType { dtype: DataType::F32, shape: Some(dims) });
    let gemm = |g: &mut Graph, name: &str, x, out: usize| {
        let w = ndarray::ArrayD::from_elem(ndarray::IxDyn(&[out, 6]), weight);
        let w = g.add_initializer("w", Tensor::from_f32(&w));
        g.add_op("Gemm", name, &[x, w], [("transB", Attribute::Int(1))])
    };
    let f = gemm(&mut g, "f", x, 6);
    let sum = g.add_op("Add", "sum", &[x, f], []);
    let y = gemm(&mut g, "y", if is_answer { x } else { sum }, 2);
    g.outputs = if is_answer { vec![sum, y] } else { vec![y] };
    typed(g)
}

#[test]
fn layers_that_write_to_an_input_correspond_by_index_unless_they_answer() {
    for is_answer in [false, true] {
        let graphs = [0.1, 0.2].map(|weight| residual(weight, is_answer));
        let couplings = graphs.each_ref().map(|graph| Coupling::of(graph).unwrap());
        let [a, b] = [0, 1].map(|i| Net {
            graph: &graphs[i],
            coupling: &couplings[i],
            shares_outputs: false,
        });
        let alignment = align(&[a, b], Matching::Search);
        let by_index = alignment.common().filter(|site| alignment.is_by_index(site)).count();
        let input = vec![Some(GroupId(0)); 2];
        assert_eq!(alignment.inputs, std::slice::from_ref(&input));
        let wanted = if is_answer { (Vec::new(), 0) } else { (vec![input], 1) };
        assert_eq!((alignment.coupled_inputs, by_index), wanted);
        let is_refused = alignment.refused.keys().any(|own| own.group == GroupId(0));
        assert_eq!(is_refused, is_answer);
    }
}
