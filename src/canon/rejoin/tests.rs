use super::*;
use crate::canon::{CanonOptions, canonicalise, split_rows};
use crate::ir::builder::GraphBuilder;
use crate::ir::{Codes, DataType, Tensor};

#[test]
fn split_layers_are_found_with_the_order_of_their_rows() {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "n,4,8,8");
    let (w, d) = (b.weights("w", &[4, 4, 3, 3]), b.weights("d", &[4, 1, 3, 3]));
    let y = b.op("Conv", "conv", &[x, w], []);
    let y = b.op("Relu", "first", &[y], []);
    let z = b.op("Conv", "deep", &[y, d], [("group", 4.into())]);
    let z = b.op("Relu", "relu", &[z], []);
    let model = canonicalise(b.build(&[z]), &CanonOptions::default()).unwrap();
    let node = |name: &str| model.graph.nodes().find(|(_, n)| n.name == name).unwrap().0;
    let originals = ["conv", "deep"].map(|name| {
        let weight = model.graph.node(node(name)).input(1).unwrap();
        (name, model.graph.initializer(weight).unwrap().clone())
    });
    let parts = [vec![0, 2], vec![3, 1]];
    let all = [(node("conv"), &parts[..]), (node("deep"), &parts[..])];
    let split = split_rows(model, all).unwrap();
    let found = row_parts(&split.graph, &split.graph);
    assert_eq!(found.len(), 2);
    for own in &found {
        assert_eq!(own.rows, [(0, 0), (1, 1), (0, 1), (1, 0)]);
        assert_eq!((own.join.len(), own.layers.len()), (2, 2));
    }
    assert_eq!(found.iter().filter(|own| own.is_depthwise).count(), 1);
    let mut model = split.into_inner();
    rejoin(&mut model);
    let nodes = model.graph.nodes().map(|(_, node)| (node.name.as_str(), node.op.as_str()));
    assert_eq!(
        nodes.collect::<BTreeSet<_>>(),
        BTreeSet::from([("conv", "Conv"), ("first", "Relu"), ("deep", "Conv"), ("relu", "Relu")])
    );
    let weights = model.graph.nodes().filter_map(|(_, node)| node.input(1));
    let weights: Vec<&Tensor> = weights.filter_map(|w| model.graph.initializer(w)).collect();
    for (name, original) in &originals {
        assert!(weights.contains(&original), "{name}");
    }
}

/// Two uses of two products with biases, whose rows a `Concat` puts together, and whether another node reads a
/// weight.
fn products(is_read_otherwise: bool) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let (weights, biases) = (
        ["w.1", "w.2"].map(|name| b.weights(name, &[3, 2])),
        ["c.1", "c.2"].map(|name| b.weights(name, &[2])),
    );
    let mut outputs = Vec::new();
    for x in [b.input("x", "n,5,3"), b.input("z", "n,5,3")] {
        let parts = [0, 1].map(|part| {
            let y = b.op("MatMul", "product", &[x, weights[part]], []);
            b.op("Add", "added", &[y, biases[part]], [])
        });
        outputs.push(b.op("Concat", "rows", &parts, [("axis", 2.into())]));
    }
    if is_read_otherwise {
        outputs.push(b.op("Neg", "other", &weights[..1], []));
    }
    b.build(&outputs)
}

#[test]
fn all_uses_of_layers_read_the_same_joined_constants() {
    let mut graph = products(false).graph;
    let parts = ["w.1", "w.2"].map(|name| graph.value_named(name).unwrap());
    let stored = parts.map(|part| graph.initializer(part).unwrap().clone());
    let joined = join_layers(&mut graph, |_| true);
    assert_eq!(joined.len(), 2);
    let weight = joined.iter().find(|joined| joined.parts == parts).unwrap();
    assert_eq!((weight.axis, &weight.places), (1, &vec![vec![0, 1], vec![2, 3]]));
    let whole = graph.initializer(weight.whole).unwrap();
    for (part, places) in stored.iter().zip(&weight.places) {
        assert_eq!(whole.select(1, places).as_ref(), Some(part));
    }
    let ops: BTreeSet<(&str, &str)> =
        graph.nodes().map(|(_, node)| (node.op.as_str(), node.name.as_str())).collect();
    assert!(graph.nodes().count() == 4 && ops.iter().all(|(op, _)| *op != "Concat"), "{ops:?}");
    assert!(parts.iter().all(|part| graph.initializer(*part).is_none()));
}

#[test]
fn products_with_biases_of_several_tasks_are_computed_once() {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "n,5,3");
    let products = ["w.1", "w.2"].map(|name| {
        let weight = b.weights(name, &[3, 2]);
        b.op("MatMul", "product", &[x, weight], [])
    });
    let outputs = ["a", "b"].map(|task| {
        let parts = products.map(|product| {
            let bias = b.weights(&format!("{task}.c"), &[2]);
            b.op("Add", "added", &[product, bias], [])
        });
        b.op("Concat", "rows", &parts, [("axis", 2.into())])
    });
    let mut graph = b.build(&outputs).graph;
    assert_eq!(join_layers(&mut graph, |_| true).len(), 3);
    let mut ops: Vec<&str> = graph.nodes().map(|(_, node)| node.op.as_str()).collect();
    ops.sort_unstable();
    assert_eq!(ops, ["Add", "Add", "MatMul"]);
}

#[test]
fn layers_stay_apart_if_a_weight_is_read_otherwise_or_must_stay() {
    let mut graph = products(true).graph;
    assert!(join_layers(&mut graph, |_| true).is_empty());
    let mut graph = products(false).graph;
    let bias = graph.value_named("c.2").unwrap();
    assert!(join_layers(&mut graph, |constant| constant != bias).is_empty());
    assert_eq!(graph.nodes().filter(|(_, node)| node.is("Concat")).count(), 2);
}

/// Two products whose rows change places, with weights in 4 bits, which are added to others if there are `sums`. The
/// second one lies `off` the multiples of its scales.
fn coded(sums: bool, off: f32) -> Graph {
    let mut b = GraphBuilder::new("net", 21);
    let x = b.input("x", "n,3");
    let parts = [1, 2].map(|part| {
        let scale = ndarray::arr1(&[0.5, part as f32]);
        let off = if part == 2 { off } else { 0.0 };
        let floats =
            ndarray::Array2::from_shape_fn((3, 2), |(i, o)| (i as f32 - 1.0) * scale[o] + off);
        let codes = Codes::new(DataType::I4, 1, Tensor::from_f32(&scale.into_dyn()), None);
        let floats = Tensor::from_f32(&floats.into_dyn());
        let small = b.graph().add_stored(&format!("small.{part}"), floats, Some(codes));
        let base = b.weights(&format!("base.{part}"), &[3, 2]);
        let weight = if sums { b.op("Add", "sum", &[base, small], []) } else { small };
        b.op("MatMul", "product", &[x, weight], [])
    });
    let all = b.op("Concat", "rows", &parts, [("axis", 1.into())]);
    let order = b.ints("order", &[2, 1, 0, 3]);
    let y = b.op("Gather", "rows", &[all, order], [("axis", 1.into())]);
    b.build(&[y]).graph
}

#[test]
fn weights_in_few_bits_and_sums_keep_their_scales() {
    for sums in [false, true] {
        let mut graph = coded(sums, 0.0);
        let joined = join_layers(&mut graph, |_| true);
        assert_eq!(joined.len(), if sums { 2 } else { 1 });
        let small = joined.iter().find(|joined| graph.codes(joined.whole).is_some()).unwrap();
        assert_eq!((small.axis, &small.places), (1, &vec![vec![2, 1], vec![0, 3]]));
        let codes = graph.codes(small.whole).unwrap();
        let (numbers, _) = codes.encode(graph.initializer(small.whole).unwrap()).unwrap();
        assert_eq!(numbers.dtype, DataType::I4);
        assert_eq!(codes.scale.to_f32().unwrap().into_raw_vec_and_offset().0, [0.5, 1.0, 0.5, 2.0]);
        let ops: BTreeSet<&str> = graph.nodes().map(|(_, node)| node.op.as_str()).collect();
        assert_eq!((graph.nodes().count(), ops.contains("Add")), (1 + usize::from(sums), sums));
    }
}

#[test]
fn weights_in_few_bits_stay_apart_from_others() {
    for sums in [false, true] {
        let mut graph = coded(sums, 0.1);
        assert!(join_layers(&mut graph, |_| true).is_empty());
    }
}
