use super::*;
use crate::ir::builder::GraphBuilder;
use crate::ir::{Attribute, Tensor, ValueId};

/// The fault of a node whose first input has shape `data`, if any.
fn fault<const N: usize>(
    op: &str,
    data: &str,
    constants: impl Fn(&mut GraphBuilder) -> Vec<ValueId>,
    attributes: [(&'static str, Attribute); N],
) -> Option<String> {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", data);
    let inputs: Vec<ValueId> = std::iter::once(x).chain(constants(&mut b)).collect();
    let y = b.op(op, "y", &inputs, attributes);
    let graph = b.build(&[y]).graph;
    let id = graph.producer(y).unwrap();
    check(&graph, id).err().map(|e| e.to_string())
}

fn weights<'a>(shapes: &'a [&'a [usize]]) -> impl Fn(&mut GraphBuilder) -> Vec<ValueId> + 'a {
    |b| shapes.iter().map(|dims| b.weights("w", dims)).collect()
}

fn ints<'a>(lists: &'a [&'a [i64]]) -> impl Fn(&mut GraphBuilder) -> Vec<ValueId> + 'a {
    |b| {
        let tensor = |list: &&[i64]| Tensor::from_i64(vec![list.len()], list);
        lists.iter().map(|list| b.constant("c", tensor(list))).collect()
    }
}

/// Shapes of the operands of a quantised product behind the first, with single scales and zero points.
fn quantised(weight: &[usize]) -> [&[usize]; 7] {
    [&[], &[], weight, &[], &[], &[], &[]]
}

#[test]
fn layers_that_fit_pass() {
    let two = |v: i64| -> Attribute { [v, v].into() };
    let passes = [
        fault("Conv", "n,4,h,w", weights(&[&[6, 2, 3, 3], &[6]]), [("group", 2.into())]),
        fault("Conv", "n,4,8", weights(&[&[6, 4, 3]]), [("pads", two(1))]),
        fault("ConvTranspose", "n,4,h,w", weights(&[&[4, 3, 2, 2], &[6]]), [("group", 2.into())]),
        fault("MaxPool", "n,4,h,w", weights(&[]), [("kernel_shape", two(3))]),
        fault("Gemm", "n,4", weights(&[&[6, 4], &[6]]), [("transB", 1.into())]),
        fault("Gemm", "n,4", weights(&[&[4, 6], &[1, 6]]), []),
        fault("MatMul", "n,t,4", weights(&[&[4, 6]]), []),
        fault("BatchNormalization", "n,4,h", weights(&[&[4], &[4], &[4], &[4]]), []),
        fault("GroupNormalization", "n,4,h", weights(&[&[2], &[2]]), [("num_groups", 2.into())]),
        fault("LayerNormalization", "n,t,4", weights(&[&[4], &[4]]), []),
        fault("PRelu", "n,4,h,w", weights(&[&[4, 1, 1]]), []),
        fault("Add", "n,1,4", weights(&[&[7, 7, 1]]), []),
        fault("LSTM", "t,n,3", weights(&[&[1, 8, 3], &[1, 8, 2], &[1, 16]]), []),
        fault("ConvInteger", "n,4,h,w", weights(&[&[6, 2, 3, 3]]), [("group", 2.into())]),
        fault("MatMulInteger", "n,t,4", weights(&[&[4, 6], &[], &[6]]), []),
        fault("QLinearConv", "n,4,h,w", weights(&quantised(&[6, 4, 3, 3])), []),
        fault("QLinearMatMul", "n,4", weights(&quantised(&[4, 6])), []),
    ];
    assert_eq!(passes, [const { None }; 17]);
}

#[test]
fn layers_that_do_not_fit_are_refused() {
    let two = |v: i64| -> Attribute { [v, v].into() };
    let faults = [
        fault("Conv", "n,4,h,w", weights(&[&[6, 4, 3, 3], &[5]]), []),
        fault("Conv", "n,3,h,w", weights(&[&[6, 4, 3, 3]]), []),
        fault("Conv", "n,4,h", weights(&[&[6, 4, 3, 3]]), []),
        fault("Conv", "n,4,h,w", weights(&[&[5, 2, 3, 3]]), [("group", 2.into())]),
        fault("Conv", "n,4,h,w", weights(&[&[5, 4, 3, 3]]), [("group", 0.into())]),
        fault("Conv", "n,4,h,w", weights(&[&[5, 4, 3, 3]]), [("kernel_shape", two(2))]),
        fault("Conv", "n,4,h,w", weights(&[&[5, 4, 3, 3]]), [("pads", two(2))]),
        fault("Conv", "n,4,h,w", weights(&[&[5, 4, 3, 3]]), [("strides", two(0))]),
        fault("Conv", "n,4", weights(&[&[5, 4]]), []),
        fault("ConvTranspose", "n,4,h,w", weights(&[&[4, 3, 2, 2], &[4]]), []),
        fault("MaxPool", "n,4,h,w", weights(&[]), [("kernel_shape", [3].into())]),
        fault("Gemm", "n,4", weights(&[&[6, 4]]), []),
        fault("Gemm", "n,4", weights(&[&[4, 6], &[5]]), []),
        fault("Gemm", "n,4", weights(&[&[4]]), []),
        fault("MatMul", "n,t,4", weights(&[&[5, 6]]), []),
        fault("BatchNormalization", "n,4,h", weights(&[&[4], &[4], &[4], &[3]]), []),
        fault("BatchNormalization", "n,4,h", weights(&[&[4]]), []),
        fault("LayerNormalization", "n,t,4", weights(&[&[5]]), []),
        fault("PRelu", "n,4,h,w", weights(&[&[3, 1, 1]]), []),
        fault("Mul", "n,4", weights(&[&[3]]), []),
        fault("LSTM", "t,n,3", weights(&[&[1, 8, 3], &[1, 8, 2], &[1, 8]]), []),
        fault("GRU", "t,n,3", weights(&[&[1, 8, 3], &[1, 8, 2], &[1, 16]]), []),
        fault("Relu", "n,4", weights(&[&[4]]), []),
        fault("ConvInteger", "n,4,h,w", weights(&[&[]]), []),
        fault("ConvInteger", "n,3,h,w", weights(&[&[6, 4, 3, 3]]), []),
        fault("MatMulInteger", "n,4", weights(&[&[]]), []),
        fault("MatMulInteger", "n,4", weights(&[&[5, 6]]), []),
        fault("QLinearConv", "n,4,h,w", weights(&quantised(&[])), []),
        fault("QLinearConv", "n,4,h,w", weights(&[&[6, 4, 3, 3]]), []),
        fault("QLinearMatMul", "n,4", weights(&quantised(&[])), []),
    ];
    for (number, fault) in faults.iter().enumerate() {
        assert!(fault.is_some(), "case {number}");
    }
    assert_eq!(
        faults[0].as_deref(),
        Some(
            "node 'y': Conv has a bias of shape [5] where [6] is needed; the model is damaged; export it again"
        )
    );
}

#[test]
fn moves_that_fit_pass() {
    let axis = |axis: i64| [("axis", Attribute::Int(axis))];
    let passes = [
        fault("Concat", "n,4", weights(&[&[7, 4]]), axis(0)),
        fault("Split", "n,4", ints(&[&[4]]), axis(1)),
        fault("Slice", "n,4", ints(&[&[-1], &[i64::MIN], &[1], &[-1]]), []),
        fault("Gather", "n,4", ints(&[&[-4, 3]]), axis(1)),
        fault("Transpose", "n,4,5", ints(&[]), [("perm", [2, 0, 1].into())]),
        fault("Reshape", "6,4", ints(&[&[0, -1, 2]]), []),
        fault("Squeeze", "n,1,4", ints(&[&[1]]), []),
        fault("Squeeze", "3,4", ints(&[&[]]), []),
        fault("Unsqueeze", "n,4", ints(&[&[0, -1]]), []),
        fault("Unsqueeze", "n,4", ints(&[&[]]), []),
        fault("Pad", "n,4", ints(&[&[0, 1, 0, -1]]), []),
        fault("Tile", "n,4", ints(&[&[1, 2]]), []),
        fault("Expand", "n,1", ints(&[&[3, 1, 5]]), []),
        fault("ReduceSum", "n,4", ints(&[&[-1, 1]]), []),
        fault("Softmax", "n,4", ints(&[]), axis(-2)),
    ];
    assert_eq!(passes, [const { None }; 15]);
}

#[test]
fn moves_that_do_not_fit_are_refused() {
    let axis = |axis: i64| [("axis", Attribute::Int(axis))];
    let faults = [
        fault("Concat", "n,4", weights(&[&[7, 5]]), axis(0)),
        fault("Concat", "n,4", weights(&[&[7, 4]]), axis(2)),
        fault("Split", "n,4", ints(&[&[5]]), axis(1)),
        fault("Split", "n,4", ints(&[&[2, 2]]), axis(1)),
        fault("Slice", "n,4", ints(&[&[0], &[1, 2]]), []),
        fault("Slice", "n,4", ints(&[&[0], &[1], &[2]]), []),
        fault("Slice", "n,4", ints(&[&[0], &[1], &[1], &[0]]), []),
        fault("Gather", "n,4", ints(&[&[4]]), axis(1)),
        fault("Transpose", "n,4,5", ints(&[]), [("perm", [2, 0, 0].into())]),
        fault("Reshape", "6,4", ints(&[&[5, -1]]), []),
        fault("Reshape", "6,4", ints(&[&[-1, -1]]), []),
        fault("Flatten", "n,4", ints(&[]), axis(3)),
        fault("Squeeze", "n,1,4", ints(&[&[3]]), []),
        fault("Squeeze", "3,1,4", ints(&[&[]]), []),
        fault("Squeeze", "n,4", ints(&[&[]]), []),
        fault("Unsqueeze", "n,4", ints(&[&[0, 0]]), []),
        fault("Pad", "n,4", ints(&[&[0, 1, 0]]), []),
        fault("Tile", "n,4", ints(&[&[1]]), []),
        fault("Expand", "n,4", ints(&[&[3, 5]]), []),
        fault("ReduceSum", "n,4", ints(&[&[2]]), []),
        fault("Softmax", "n,4", ints(&[]), axis(2)),
    ];
    for (number, fault) in faults.iter().enumerate() {
        assert!(fault.is_some(), "case {number}");
    }
}

#[test]
fn sizes_that_are_no_whole_numbers_are_refused() {
    let float = |b: &mut GraphBuilder| vec![b.weights("w", &[2])];
    let faults = ["Split", "Reshape", "TopK", "GatherND", "Unsqueeze"]
        .map(|op| fault(op, "n,4", float, []).unwrap());
    for (op, fault) in ["Split", "Reshape", "TopK", "GatherND", "Unsqueeze"].iter().zip(faults) {
        let wanted = format!("node 'y': {op} needs whole numbers (int64) as input 1");
        assert!(fault.starts_with(&wanted), "{fault}");
    }
    assert_eq!(fault("Tile", "n,4", ints(&[&[1, 2]]), []), None);
}

#[test]
fn faults_that_runtimes_do_not_survive_are_refused() {
    let axis = |name: &'static str, axis: i64| [(name, Attribute::Int(axis))];
    let equation = |text: &str| [("equation", Attribute::Str(text.as_bytes().to_vec()))];
    let faults = [
        fault("GatherND", "n,4", ints(&[&[0]]), axis("batch_dims", -1)),
        fault("GatherND", "n,4", ints(&[&[0]]), axis("batch_dims", 1)),
        fault("OneHot", "n,4", ints(&[&[3], &[0, 1]]), axis("axis", -9)),
        fault("OneHot", "n,4", ints(&[&[-4], &[0, 1]]), axis("axis", -1)),
        fault("ReverseSequence", "n,4", ints(&[&[1]]), axis("batch_axis", 9)),
        fault("ArgMax", "n,4", ints(&[]), axis("axis", -6)),
        fault("Scan", "n,4", ints(&[]), axis("num_scan_inputs", 2)),
        fault(
            "Scan",
            "n,4",
            ints(&[]),
            [("num_scan_inputs", 1.into()), ("scan_input_axes", [2].into())],
        ),
        fault("Split", "n,4", ints(&[]), [("axis", 1.into()), ("num_outputs", 5.into())]),
        fault("Split", "n,4", ints(&[]), [("axis", 1.into()), ("split", [3].into())]),
        fault("Einsum", "n,4", ints(&[]), equation("abc->ab")),
        fault("Einsum", "n,4", ints(&[]), equation("ab,bc->ac")),
        fault("Einsum", "n,4", ints(&[]), equation("ab->aa")),
        fault("Einsum", "n,4", ints(&[]), equation("ab->ac")),
        fault("Einsum", "n,4", ints(&[]), equation(&"ab".repeat(50_000))),
    ];
    for (number, fault) in faults.iter().enumerate() {
        assert!(fault.is_some(), "case {number}");
    }
    let passes = [
        fault("GatherND", "n,4,3", ints(&[&[0]]), axis("batch_dims", 0)),
        fault("OneHot", "n,4", ints(&[&[3], &[0, 1]]), axis("axis", -3)),
        fault("OneHot", "n,4", ints(&[&[3], &[0, 1]]), axis("axis", 2)),
        fault("ReverseSequence", "n,4", ints(&[&[1]]), axis("batch_axis", 1)),
        fault("DequantizeLinear", "4", ints(&[]), axis("axis", 3)),
        fault("ArgMax", "n,4", ints(&[]), axis("axis", -2)),
        fault(
            "Scan",
            "n,4",
            ints(&[]),
            [("num_scan_inputs", 1.into()), ("scan_input_axes", [-1].into())],
        ),
        fault("Split", "n,4", ints(&[]), [("axis", 1.into()), ("num_outputs", 4.into())]),
        fault("Split", "n,4", ints(&[]), [("axis", 1.into()), ("split", [4].into())]),
        fault("Einsum", "n,4", ints(&[]), equation("...a -> a...")),
        fault("Einsum", "n,4,4", ints(&[]), equation("abb->ab")),
        fault("Einsum", "n,4", ints(&[]), equation("ba")),
    ];
    assert_eq!(passes, [const { None }; 12]);
}

#[test]
fn divisions_that_overflow_are_refused() {
    let divided = |op: &str, a: &[i64], b: &[i64]| {
        let mut builder = GraphBuilder::new("net", 13);
        let [a, b] = [builder.ints("a", a), builder.ints("b", b)];
        let y = builder.op(op, "y", &[a, b], []);
        let graph = builder.build(&[y]).graph;
        check_any_version(&graph, graph.producer(y).unwrap()).err().map(|e| e.to_string())
    };
    for op in ["Div", "Mod"] {
        let fault = divided(op, &[7, i64::MIN], &[2, -1]).unwrap();
        assert!(fault.contains("divides -9223372036854775808 by -1"), "{fault}");
        assert!(divided(op, &[7, i64::MIN], &[-1]).is_some());
        assert!(divided(op, &[-7, i64::MIN], &[-1, 2]).is_none());
    }
}

#[test]
fn attributes_of_another_kind_are_refused() {
    let list = || Attribute::Ints(Vec::new());
    let faults = [
        fault("Constant", "n,4", ints(&[]), [("value", list())]),
        fault("ConstantOfShape", "2", ints(&[]), [("value", 1.into())]),
        fault("Softmax", "n,4", ints(&[]), [("axis", list())]),
        fault("Gemm", "n,4", weights(&[&[6, 4]]), [("alpha", 1.into())]),
        fault("Transpose", "n,4", ints(&[]), [("perm", 1.into())]),
        fault("MaxPool", "n,4,h", ints(&[]), [("kernel_shape", 2.into())]),
        fault("Einsum", "n,4", ints(&[]), [("equation", list())]),
        fault("If", "n,4", ints(&[]), [("then_branch", 1.into())]),
    ];
    for fault in faults {
        let fault = fault.unwrap();
        assert!(fault.contains(" has something else than a"), "{fault}");
    }
    assert_eq!(fault("Pad", "n,4", ints(&[&[0, 1, 0, 1]]), [("value", 0.5.into())]), None);
}
