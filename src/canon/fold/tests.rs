use super::*;
use crate::ir::builder::GraphBuilder;
use crate::ir::{Attribute, DataType, ValueId};
use ndarray::{ArrayD, IxDyn};

/// The constant that one node with constant inputs folds to.
fn folded<const N: usize>(
    op: &str,
    inputs: &[Tensor],
    attributes: [(&'static str, Attribute); N],
) -> Option<Tensor> {
    let mut b = GraphBuilder::new("net", 13);
    let inputs: Vec<ValueId> = inputs.iter().map(|t| b.constant("c", t.clone())).collect();
    let y = b.op(op, "y", &inputs, attributes);
    let graph = b.build(&[y]).graph;
    value(&graph, graph.producer(y)?, &mut Budget::of(&graph))
}

fn ints(dims: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_i64(dims.to_vec(), values)
}

fn floats(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(&ArrayD::from_shape_vec(IxDyn(dims), values.to_vec()).unwrap())
}

#[test]
fn elements_are_moved() {
    let x = ints(&[2, 3], &[0, 1, 2, 3, 4, 5]);
    let list = |v: &[i64]| ints(&[v.len()], v);
    let transposed = folded("Transpose", std::slice::from_ref(&x), []);
    assert_eq!(transposed, Some(ints(&[3, 2], &[0, 3, 1, 4, 2, 5])));
    let reshaped = folded("Reshape", &[x.clone(), list(&[3, -1])], []);
    assert_eq!(reshaped, Some(ints(&[3, 2], &[0, 1, 2, 3, 4, 5])));
    let joined = folded("Concat", &[x.clone(), x.clone()], [("axis", (-1).into())]);
    assert_eq!(joined, Some(ints(&[2, 6], &[0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5])));
    let gathered = folded("Gather", &[x.clone(), ints(&[], &[-1])], [("axis", 1.into())]);
    assert_eq!(gathered, Some(ints(&[2], &[2, 5])));
    let several = folded("Gather", &[x.clone(), list(&[2, 0])], [("axis", 1.into())]);
    assert_eq!(several, Some(ints(&[2, 2], &[2, 0, 5, 3])));
    let bounds = [x.clone(), list(&[-1]), list(&[i64::MIN]), list(&[1]), list(&[-2])];
    assert_eq!(folded("Slice", &bounds, []), Some(ints(&[2, 2], &[2, 0, 5, 3])));
    let row = ints(&[1, 3], &[7, 8, 9]);
    let expanded = folded("Expand", &[row, list(&[2, 1])], []);
    assert_eq!(expanded, Some(ints(&[2, 3], &[7, 8, 9, 7, 8, 9])));
    assert_eq!(folded("Gather", &[x, list(&[2])], []), None, "out of range");
}

#[test]
fn bytes_of_any_width_are_moved() {
    for dtype in [DataType::Bool, DataType::F16, DataType::F32, DataType::F64] {
        let size = dtype.size().unwrap();
        let data: Vec<u8> = (0..2 * size as u8).collect();
        let swapped = [&data[size..], &data[..size]].concat();
        let x = Tensor { dtype, dims: vec![2], data: data.into() };
        let y = folded("Gather", &[x, ints(&[2], &[1, 0])], []).unwrap();
        assert_eq!((y.dtype, y.data.to_vec()), (dtype, swapped));
    }
}

#[test]
fn arithmetic_is_that_of_the_element_type() {
    let (a, b) = (floats(&[2], &[0.1, 1e30]), floats(&[1], &[0.2]));
    let sum = folded("Add", &[a, b], []);
    assert_eq!(sum, Some(floats(&[2], &[0.1f32 + 0.2f32, 1e30])));
    let quotient = folded("Div", &[ints(&[2], &[7, -7]), ints(&[], &[2])], []);
    assert_eq!(quotient, Some(ints(&[2], &[3, -3])));
    assert_eq!(folded("Mul", &[ints(&[], &[i64::MAX]), ints(&[], &[2])], []), None);
    assert_eq!(folded("Div", &[ints(&[], &[1]), ints(&[], &[0])], []), None);
    assert_eq!(folded("Sqrt", &[floats(&[], &[2.0])], []), Some(floats(&[], &[2f32.sqrt()])));
}

#[test]
fn types_are_converted() {
    let x = floats(&[3], &[1.75, -1.75, 0.0]);
    let to = |x: &Tensor, code: i64| folded("Cast", std::slice::from_ref(x), [("to", code.into())]);
    assert_eq!(to(&x, 7), Some(ints(&[3], &[1, -1, 0])));
    assert_eq!(to(&ints(&[2], &[3, -4]), 1), Some(floats(&[2], &[3.0, -4.0])));
    assert_eq!(to(&x, 9).unwrap().data.to_vec(), [1, 1, 0]);
    assert_eq!(to(&ints(&[1], &[300]), 3), None, "does not fit");
    assert_eq!(to(&floats(&[1], &[f32::NAN]), 7), None);
}

/// How PyTorch replaces -1 in the target of `expand`.
#[test]
fn choices_are_made() {
    let (shape, minus) = (ints(&[2], &[-1, 5]), ints(&[], &[-1]));
    let ones = folded(
        "ConstantOfShape",
        &[ints(&[1], &[2])],
        [("value", Attribute::Tensor(ints(&[1], &[1])))],
    );
    assert_eq!(ones, Some(ints(&[2], &[1, 1])));
    let open = folded("Equal", &[shape.clone(), minus], []).unwrap();
    assert_eq!((open.dtype, open.data.to_vec()), (DataType::Bool, vec![1, 0]));
    assert_eq!(folded("Where", &[open, ones.unwrap(), shape], []), Some(ints(&[2], &[1, 5])));
}

#[test]
fn norms_are_computed() {
    let x = floats(&[2, 2], &[3.0, 4.0, 6.0, 8.0]);
    let norm = folded("ReduceL2", std::slice::from_ref(&x), [("axes", [1].into())]);
    assert_eq!(norm, Some(floats(&[2, 1], &[5.0, 10.0])));
    let mean = folded("ReduceMean", &[x], [("keepdims", 0.into())]);
    assert_eq!(mean, Some(floats(&[], &[5.25])));
}

#[test]
fn operands_of_any_number_are_combined() {
    let all = [floats(&[2], &[1.0, 5.0]), floats(&[], &[3.0]), floats(&[1], &[2.0])];
    let wanted = [("Sum", [6.0, 10.0]), ("Mean", [2.0, 10.0 / 3.0]), ("Max", [3.0, 5.0])];
    for (op, wanted) in wanted {
        assert_eq!(folded(op, &all, []), Some(floats(&[2], &wanted)), "{op}");
    }
    assert_eq!(
        folded("Min", &[ints(&[2], &[1, 5]), ints(&[], &[3])], []),
        Some(ints(&[2], &[1, 3]))
    );
    assert_eq!(folded("Max", &[ints(&[1], &[4])], []), Some(ints(&[1], &[4])));
    let power = folded("Pow", &[floats(&[2], &[3.0, -2.0]), ints(&[], &[2])], []);
    assert_eq!(power, Some(floats(&[2], &[9.0, 4.0])));
}

/// As `Conv2dSame` of timm bounds its padding.
#[test]
fn bounds_hold() {
    let x = floats(&[3], &[-2.0, 0.5, 7.0]);
    let (low, high) = (floats(&[], &[0.0]), floats(&[], &[6.0]));
    let both = folded("Clip", &[x.clone(), low.clone(), high], []);
    assert_eq!(both, Some(floats(&[3], &[0.0, 0.5, 6.0])));
    assert_eq!(folded("Clip", &[x.clone(), low], []), Some(floats(&[3], &[0.0, 0.5, 7.0])));
    assert_eq!(folded("Clip", std::slice::from_ref(&x), []), Some(x.clone()));
    assert_eq!(folded("Clip", &[x], [("min", 0.0.into())]), None);
    let numbers = [ints(&[2], &[-2, 9]), ints(&[], &[0]), ints(&[], &[6])];
    assert_eq!(folded("Clip", &numbers, []), Some(ints(&[2], &[0, 6])));
}

#[test]
fn products_are_computed() {
    let a = floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let b = floats(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    let product = floats(&[2, 2], &[4.0, 5.0, 10.0, 11.0]);
    assert_eq!(folded("MatMul", &[a.clone(), b.clone()], []), Some(product));
    let wide = floats(&[1, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let stack = floats(&[2, 3, 1], &[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let stacked = folded("MatMul", &[wide, stack], []);
    assert_eq!(stacked, Some(floats(&[2, 2, 1], &[1.0, 4.0, 3.0, 6.0])));
    let factors = || {
        [("transB", 1.into()), ("alpha", Attribute::Float(2.0)), ("beta", Attribute::Float(3.0))]
    };
    let addend = floats(&[2], &[1.0, -1.0]);
    let sum = folded("Gemm", &[a.clone(), a.clone(), addend], factors());
    assert_eq!(sum, Some(floats(&[2, 2], &[31.0, 61.0, 67.0, 151.0])));
    assert_eq!(folded("MatMul", &[a.clone(), a], []), None, "does not fit");
    assert_eq!(folded("MatMul", &[b, floats(&[2], &[1.0, 1.0])], []), None, "a vector");
}

#[test]
fn large_products_stay() {
    let zeros = |dims: &[usize]| floats(dims, &vec![0.0; dims.iter().product()]);
    let (tall, flat) = (zeros(&[4096, 1]), zeros(&[1, 8192]));
    assert_eq!(folded("MatMul", &[tall, flat], []), None, "2^25 elements");
    let square = zeros(&[1024, 1024]);
    assert_eq!(folded("MatMul", &[square.clone(), square], []), None, "2^30 products");
    let (empty, narrow) = (zeros(&[1 << 30, 1, 0]), zeros(&[1, 1]));
    assert_eq!(folded("MatMul", &[narrow, empty], []), None, "broadcast to 2^30 matrices");
}

#[test]
fn tables_are_normalised() {
    let x = floats(&[2, 2], &[1.0, 3.0, 7.0, 7.0]);
    let (scale, shift) = (floats(&[2], &[2.0, 4.0]), floats(&[2], &[0.5, -0.5]));
    let epsilon = || [("epsilon", Attribute::Float(0.0)), ("axis", (-1).into())];
    let row = floats(&[1, 2], &[1.0, 3.0]);
    let normal = folded("LayerNormalization", &[row.clone(), scale.clone()], epsilon());
    assert_eq!(normal, Some(floats(&[1, 2], &[-2.0, 4.0])));
    let raised = [("epsilon", Attribute::Float(3.0)), ("axis", (-1).into())];
    let shifted = folded("LayerNormalization", &[x, scale.clone(), shift], raised);
    assert_eq!(shifted, Some(floats(&[2, 2], &[-0.5, 1.5, 0.5, -0.5])));
    assert_eq!(folded("LayerNormalization", &[row, scale], [("axis", 0.into())]), None);
}

#[test]
fn what_would_fill_memory_or_is_quantised_stays() {
    assert_eq!(folded("ConstantOfShape", &[ints(&[2], &[1 << 40, 1 << 40])], []), None);
    let several = [("value", Attribute::Tensor(ints(&[2], &[7, 8])))];
    assert_eq!(folded("ConstantOfShape", &[ints(&[1], &[3])], several), None);
    assert_eq!(folded("Expand", &[ints(&[1], &[0]), ints(&[1], &[1 << 40])], []), None);
    let weight = Tensor { dtype: DataType::I8, dims: vec![2], data: vec![1, 2].into() };
    assert_eq!(folded("DequantizeLinear", &[weight, floats(&[], &[0.5])], []), None);
}

#[test]
fn a_node_without_a_rule_costs_nothing() {
    let mut b = GraphBuilder::new("net", 14);
    let x = b.constant("x", floats(&[2], &[1.0, 2.0]));
    let axis = b.constant("axis", ints(&[], &[0]));
    let sum = b.op("CumSum", "sum", &[x, axis], []);
    let noise = b.op("RandomNormal", "noise", &[], [("shape", [1000, 1000].into())]);
    let negative = b.op("Neg", "negative", &[x], []);
    let graph = b.build(&[sum, noise, negative]).graph;
    let mut budget = Budget::of(&graph);
    let mut fold = |v: ValueId| value(&graph, graph.producer(v).unwrap(), &mut budget);
    assert_eq!((fold(sum), fold(noise)), (None, None));
    assert_eq!(budget, Budget::of(&graph));
    assert_eq!(
        value(&graph, graph.producer(negative).unwrap(), &mut budget).map(|t| t.dims),
        Some(vec![2])
    );
    assert_ne!(budget, Budget::of(&graph));
}

#[test]
fn constants_of_few_bits_become_floats_and_are_written_as_they_were() {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "n,2");
    let numbers = ndarray::arr2(&[[-128i64, 5], [0, 127], [3, -7]]).into_dyn();
    let numbers = b.constant("w", Tensor::from_ints(DataType::I8, &numbers).unwrap());
    let scale = ndarray::arr1(&[0.1f32, 0.25, 0.037]).into_dyn();
    let scale = b.constant("scale", Tensor::from_f32(&scale));
    let w = b.op("DequantizeLinear", "floats", &[numbers, scale], [("axis", 0.into())]);
    let y = b.op("Gemm", "y", &[x, w], [("transB", 1.into())]);
    let model =
        crate::canon::canonicalise(b.build(&[y]), &crate::canon::CanonOptions::default()).unwrap();
    let (_, gemm) = model.graph.nodes().next().unwrap();
    let floats = model.graph.initializer(gemm.input(1).unwrap()).unwrap().clone();
    assert_eq!(floats.to_f32().unwrap()[[2, 1]], -7.0 * 0.037);
    let bytes = crate::onnx::encode(&model).unwrap();
    let mut read = crate::onnx::decode(bytes.into(), None, "read").unwrap();
    let stored: Vec<DataType> =
        read.graph.values().filter_map(|(id, _)| Some(read.graph.initializer(id)?.dtype)).collect();
    assert!(stored.contains(&DataType::I8), "{stored:?}");
    dequantise(&mut read.graph).unwrap();
    let again = read.graph.nodes().find(|(_, n)| n.is("Gemm")).unwrap().1.input(1).unwrap();
    assert_eq!(read.graph.initializer(again), Some(&floats));
}

/// As tools for training with quantisation write weights.
#[test]
fn weights_that_a_net_rounds_are_rounded_once() {
    let weights = floats(&[2, 2], &[0.5, -1.3, 0.26, 40.0]);
    let zero = Tensor::from_ints(DataType::I8, &ndarray::arr1(&[0i64, 0]).into_dyn()).unwrap();
    let whole = |size: i64| {
        let mut b = GraphBuilder::new("net", 21);
        let inputs = [weights.clone(), floats(&[2], &[1.0, 0.25]), zero.clone()];
        let inputs = inputs.map(|tensor| b.constant("c", tensor));
        let axis = [("axis", 0.into()), ("block_size", size.into())];
        let y = b.op("QuantizeLinear", "y", &inputs, axis);
        let graph = b.build(&[y]).graph;
        quantised::integers(&graph, graph.producer(y).unwrap(), &mut Budget::of(&graph))
    };
    let found = whole(0).unwrap();
    assert_eq!((found.dtype, found.to_i64()), (DataType::I8, Some(vec![0, -1, 1, 127])));
    assert_eq!(whole(1), None, "in blocks");
}

#[test]
fn weights_of_half_precision_become_floats_and_are_written_as_they_were() {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "n,16");
    let drawn = b.weights("w", &[16, 16]);
    let drawn = b.graph().initializer(drawn).unwrap().to_f64().unwrap();
    let half = Tensor::from_f64(DataType::F16, &drawn).unwrap();
    let stored = b.constant("half", half.clone());
    let w = b.op("Cast", "wide", &[stored], [("to", 1.into())]);
    let y = b.op("Gemm", "y", &[x, w], [("transB", 1.into())]);
    let model =
        crate::canon::canonicalise(b.build(&[y]), &crate::canon::CanonOptions::default()).unwrap();
    let bytes = crate::onnx::encode(&model).unwrap();
    let mut read = crate::onnx::decode(bytes.into(), None, "read").unwrap();
    let is_half = |id| read.graph.initializer(id) == Some(&half);
    assert!(read.graph.values().any(|(id, _)| is_half(id)));
    dequantise(&mut read.graph).unwrap();
    let gemm = read.graph.nodes().find(|(_, n)| n.is("Gemm")).unwrap().1.input(1).unwrap();
    assert_eq!(read.graph.initializer(gemm).unwrap().to_f64().unwrap(), half.to_f64().unwrap());
    assert_eq!(read.graph.codes(gemm).map(|codes| codes.dtype), Some(DataType::F16));
}

#[test]
fn parts_of_constants_are_constants_unless_they_are_outputs() {
    for returned in [false, true] {
        let mut b = GraphBuilder::new("net", 17);
        let (x, w) = (b.input("x", "n,2"), b.weights("w", &[2, 5]));
        let sizes = b.constant("sizes", ints(&[2], &[2, 3]));
        let left = b.op("Split", "split", &[w, sizes], [("axis", 1.into())]);
        let right = b.graph().add_value("right", crate::ir::ValueKind::Detached, None);
        let split = b.graph().producer(left).unwrap();
        b.graph().edit_node(split, |node| node.outputs.push(Some(right)));
        let products = [left, right].map(|part| b.op("MatMul", "product", &[x, part], []));
        let outputs =
            if returned { vec![products[0], products[1], right] } else { products.to_vec() };
        let mut model = b.build(&outputs);
        let mut budget = Budget::of(&model.graph);
        assert_eq!(run(&mut model, &mut budget).unwrap(), !returned);
        let whole = model.graph.initializer(w).unwrap().clone();
        let part = model.graph.initializer(right).cloned();
        assert_eq!(part, (!returned).then(|| whole.select(1, &[2, 3, 4]).unwrap()));
        assert_eq!(model.graph.nodes().any(|(_, node)| node.is("Split")), returned);
    }
}

#[test]
fn a_convolution_of_zeros_is_its_bias() {
    let (zeros, filters) = (floats(&[1, 1, 2, 2], &[0.0; 4]), floats(&[2, 1, 3, 3], &[0.5; 18]));
    let pads = || [("pads", Attribute::Ints(vec![1; 4]))];
    let inputs = [zeros, filters.clone(), floats(&[2], &[3.0, 4.0])];
    let wanted = floats(&[1, 2, 2, 2], &[3.0, 3.0, 3.0, 3.0, 4.0, 4.0, 4.0, 4.0]);
    assert_eq!(folded("Conv", &inputs, pads()), Some(wanted));
    assert_eq!(folded("Conv", &inputs[..2], pads()), Some(floats(&[1, 2, 2, 2], &[0.0; 8])));
    let ones = floats(&[1, 1, 2, 2], &[1.0; 4]);
    assert_eq!(folded("Conv", &[ones, filters], pads()), None);
}

/// The operators between the integers of a weight in blocks and its product, as a file has them.
fn in_front_of_product(turned: bool, data_in_few_bits: bool) -> Vec<String> {
    let mut b = GraphBuilder::new("net", 21);
    let mut x = b.input("x", "n,3,32");
    if data_in_few_bits {
        let step = b.scalar("step", 0.1);
        x = b.op("QuantizeLinear", "rounded", &[x, step], []);
        x = b.op("DequantizeLinear", "data", &[x, step], []);
    }
    let dims = if turned { [4, 32] } else { [32, 4] };
    let numbers =
        ndarray::ArrayD::from_shape_fn(dims.to_vec(), |at| (at[0] * 5 + at[1]) as i64 % 8);
    let numbers = b.constant("w", Tensor::from_ints(DataType::I4, &numbers).unwrap());
    let scale = b.positive("scale", if turned { &[4, 2] } else { &[2, 4] });
    let along = [("axis", i64::from(turned).into()), ("block_size", 16.into())];
    let mut w = b.op("DequantizeLinear", "floats", &[numbers, scale], along);
    if turned {
        w = b.op("Transpose", "turned", &[w], [("perm", [1, 0].into())]);
    }
    let y = b.op("MatMul", "y", &[x, w], []);
    let model =
        crate::canon::canonicalise(b.build(&[y]), &crate::canon::CanonOptions::default()).unwrap();
    let first = stored_in_front(&model);
    let bytes = crate::onnx::encode(&model).unwrap();
    let read = crate::onnx::decode(bytes.into(), None, "read").unwrap();
    let again = crate::canon::canonicalise(read, &crate::canon::CanonOptions::default()).unwrap();
    assert_eq!(stored_in_front(&again), first);
    first
}

/// The operators in front of the second factor of the product in the file of a net.
fn stored_in_front(model: &Model) -> Vec<String> {
    let bytes = crate::onnx::encode(model).unwrap();
    let graph = crate::onnx::decode(bytes.into(), None, "read").unwrap().graph;
    let (_, product) = graph.nodes().find(|(_, node)| node.is("MatMul")).unwrap();
    let (mut ops, mut value) = (Vec::new(), product.input(1));
    while let Some(node) = value.and_then(|value| graph.producer(value)).map(|id| graph.node(id)) {
        ops.push(node.op.clone());
        value = node.input(0);
    }
    ops
}

#[test]
fn only_products_that_had_integers_in_front_of_them_have_them_again() {
    assert_eq!(in_front_of_product(false, false), ["DequantizeLinear"]);
    assert_eq!(in_front_of_product(true, false), ["Flatten", "DequantizeLinear"]);
    assert_eq!(in_front_of_product(true, true), ["DequantizeLinear"]);
}
