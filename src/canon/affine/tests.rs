use super::*;
use crate::ir::builder::GraphBuilder;
use crate::ir::{DataType, ValueId};
use ndarray::arr1;

fn folded(b: GraphBuilder, outputs: &[ValueId], options: CanonOptions) -> (Graph, bool) {
    let mut model = b.build(outputs);
    super::super::settle(&mut model).unwrap();
    let modified = run(&mut model, &options).unwrap();
    super::super::settle(&mut model).unwrap();
    (model.graph, modified)
}

fn vector(b: &mut GraphBuilder, name: &str, values: &[f64], dtype: DataType) -> ValueId {
    b.constant(name, Tensor::from_f64(dtype, &arr1(values).into_dyn()).unwrap())
}

fn floats(graph: &Graph, name: &str) -> Vec<f32> {
    let value = graph.value_named(name).unwrap();
    graph.initializer(value).unwrap().to_f32().unwrap().into_iter().collect()
}

/// `y = 2·x₀, 3·x₁` with a dense layer called `fc`.
fn diagonal(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "n,2");
    let w = ndarray::arr2(&[[2.0f32, 0.0], [0.0, 3.0]]).into_dyn();
    let w = b.constant("w", Tensor::from_f32(&w));
    b.op("Gemm", "fc", &[x, w], [("transB", 1.into())])
}

#[test]
fn a_layer_subtracted_from_a_constant_changes_sign() {
    let mut b = GraphBuilder::new("net", 13);
    let y = diagonal(&mut b);
    let c = vector(&mut b, "c", &[5.0, 7.0], DataType::F32);
    let y = b.op("Sub", "y", &[c, y], []);
    let (graph, _) = folded(b, &[y], CanonOptions::default());
    assert_eq!(graph.nodes().count(), 1);
    assert_eq!(floats(&graph, "w"), [-2.0, 0.0, 0.0, -3.0]);
    assert_eq!(floats(&graph, "fc.bias"), [5.0, 7.0]);
    assert_eq!(graph.value(graph.outputs[0]).name, "y");
}

#[test]
fn a_layer_with_another_reader_or_an_output_of_its_own_stays() {
    let mut b = GraphBuilder::new("net", 13);
    let hidden = diagonal(&mut b);
    let c = vector(&mut b, "c", &[5.0, 7.0], DataType::F32);
    let y = b.op("Add", "y", &[hidden, c], []);
    assert!(!folded(b, &[y, hidden], CanonOptions::default()).1);
}

#[test]
fn a_normalisation_that_divides_by_zero_stays() {
    let mut b = GraphBuilder::new("net", 13);
    let y = diagonal(&mut b);
    let zero = vector(&mut b, "zero", &[0.0, 0.0], DataType::F32);
    let one = vector(&mut b, "one", &[1.0, 1.0], DataType::F32);
    let inputs = [y, one, zero, zero, zero];
    let y = b.op("BatchNormalization", "y", &inputs, [("epsilon", 0.0.into())]);
    assert!(!folded(b, &[y], CanonOptions::default()).1);
}

/// Two layers with the same weight, each with a factor of its own behind it.
fn scaled_twice(factors: [f64; 2]) -> (Graph, bool) {
    let mut b = GraphBuilder::new("net", 13);
    let first = diagonal(&mut b);
    let [x, w] = ["x", "w"].map(|name| b.graph().value_named(name).unwrap());
    let second = b.op("Gemm", "second", &[x, w], [("transB", 1.into())]);
    let layers = [("one", first, factors[0]), ("two", second, factors[1])];
    let outputs = layers.map(|(name, layer, factor)| {
        let c = vector(&mut b, &format!("{name}.c"), &[factor, factor], DataType::F32);
        b.op("Mul", name, &[layer, c], [])
    });
    folded(b, &outputs, CanonOptions::default())
}

#[test]
fn what_follows_a_weight_in_all_places_is_folded_in_all() {
    let (graph, modified) = scaled_twice([2.0, 2.0]);
    assert!(modified);
    let gemms: Vec<_> = graph.nodes().map(|(_, node)| node).collect();
    assert_eq!(gemms.iter().map(|node| node.op.as_str()).collect::<Vec<_>>(), ["Gemm", "Gemm"]);
    for node in gemms {
        let weight = graph.initializer(node.input(1).unwrap()).unwrap().to_f32().unwrap();
        assert_eq!(weight.into_iter().collect::<Vec<_>>(), [4.0, 0.0, 0.0, 6.0]);
    }
}

#[test]
fn what_follows_a_weight_in_one_place_stays_behind_it() {
    let (graph, modified) = scaled_twice([2.0, 3.0]);
    assert!(!modified);
    assert_eq!(graph.nodes().count(), 4);
    assert_eq!(floats(&graph, "w"), [2.0, 0.0, 0.0, 3.0]);
}

#[test]
fn weights_keep_their_element_type() {
    for dtype in [DataType::F16, DataType::BF16, DataType::F64] {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.typed_input("x", dtype, "n,2");
        let w = ndarray::arr2(&[[2.0, 0.0], [0.0, 3.0]]).into_dyn();
        let w = b.constant("w", Tensor::from_f64(dtype, &w).unwrap());
        let y = b.op("Gemm", "fc", &[x, w], [("transB", 1.into())]);
        let c = vector(&mut b, "c", &[0.5], dtype);
        let y = b.op("Mul", "y", &[y, c], []);
        let (graph, _) = folded(b, &[y], CanonOptions::default());
        let w = graph.initializer(graph.value_named("w").unwrap()).unwrap();
        assert_eq!((w.dtype, floats(&graph, "w")), (dtype, vec![1.0, 0.0, 0.0, 1.5]));
    }
}

#[test]
fn factors_and_shifts_that_overflow_the_layer_stay() {
    for (dtype, w, op, c) in [
        (DataType::F16, 3.0, "Mul", 30000.0),
        (DataType::F16, 3.0, "Add", 65504.0),
        (DataType::BF16, 3.0, "Mul", 3e38),
        (DataType::F32, 3.0, "Mul", 3e38),
    ] {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.typed_input("x", dtype, "n,1");
        let w = ndarray::arr2(&[[w]]).into_dyn();
        let w = b.constant("w", Tensor::from_f64(dtype, &w).unwrap());
        let bias = vector(&mut b, "bias", &[1000.0], dtype);
        let y = b.op("Gemm", "fc", &[x, w, bias], [("transB", 1.into())]);
        let c = vector(&mut b, "c", &[c], dtype);
        let y = b.op(op, "y", &[y, c], []);
        assert!(!folded(b, &[y], CanonOptions::default()).1, "{op} in {dtype:?}");
    }
}

#[test]
fn normalisation_per_task_stays_and_takes_what_follows() {
    let mut b = GraphBuilder::new("net", 13);
    let y = diagonal(&mut b);
    let [scale, shift, mean, variance] = ["scale", "shift", "mean", "variance"]
        .map(|n| vector(&mut b, n, &[1.0, 2.0], DataType::F32));
    let y = b.op("BatchNormalization", "bn", &[y, scale, shift, mean, variance], []);
    let k = vector(&mut b, "k", &[3.0, 3.0], DataType::F32);
    let y = b.op("Mul", "y", &[y, k], []);
    let per_task = CanonOptions { batchnorm: BatchNorm::PerTask, ..CanonOptions::default() };
    let (graph, _) = folded(b, &[y], per_task);
    let operators: Vec<&str> = graph.nodes().map(|(_, n)| n.op.as_str()).collect();
    assert_eq!(operators, ["Gemm", "BatchNormalization"]);
    assert_eq!(floats(&graph, "w"), [2.0, 0.0, 0.0, 3.0]);
    assert_eq!(
        (floats(&graph, "scale"), floats(&graph, "shift")),
        (vec![3.0, 6.0], vec![3.0, 6.0])
    );
}
