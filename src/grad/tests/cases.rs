//! One small net, or several, for every rule.

use crate::ir::builder::GraphBuilder;
use crate::ir::{Attribute, DataType, Tensor, ValueId};

use super::{Build, recurrent, variable};

/// Operator, operator set, net.
pub(super) type Case = (&'static str, i64, Build);

pub(super) const CASES: &[Case] = &[
    // Recurrent layers.
    ("LSTM", 14, recurrent::lstm),
    ("LSTM", 13, recurrent::last_step),
    ("GRU", 14, recurrent::gru),
    ("GRU", 14, recurrent::gru_that_resets_last),
    ("RNN", 14, recurrent::rnn),
    // Layers.
    ("Gemm", 13, |b| gemm(b, 0, 0, &[4, 3], &[3, 5], &[5])),
    ("Gemm", 13, |b| gemm(b, 0, 1, &[4, 3], &[5, 3], &[4, 1])),
    ("Gemm", 13, |b| gemm(b, 1, 0, &[3, 4], &[3, 5], &[])),
    ("Gemm", 13, |b| gemm(b, 1, 1, &[3, 4], &[5, 3], &[4, 5])),
    ("MatMul", 13, |b| binary(b, "MatMul", &[4, 3], &[3, 2])),
    ("MatMul", 13, |b| binary(b, "MatMul", &[2, 4, 3], &[3, 2])),
    ("MatMul", 13, |b| binary(b, "MatMul", &[2, 4, 3], &[2, 3, 2])),
    ("MatMul", 13, |b| binary(b, "MatMul", &[2, 1, 4, 3], &[5, 3, 2])),
    ("MatMul", 13, |b| binary(b, "MatMul", &[3, 4], &[2, 4, 2])),
    ("Conv", 13, |b| conv(b, "Conv", &[2, 2, 5, 4], &[3, 2, 3, 2], [])),
    ("Conv", 13, |b| {
        let window = [ints("strides", &[2, 1]), ints("pads", &[1, 0, 2, 1])];
        conv(b, "Conv", &[2, 3, 6, 5], &[2, 3, 3, 3], window)
    }),
    ("Conv", 13, |b| {
        let window = [ints("dilations", &[2, 2]), ints("pads", &[2, 2, 2, 2])];
        conv(b, "Conv", &[1, 9, 5, 5], &[2, 9, 3, 3], window)
    }),
    ("Conv", 13, |b| {
        let window = [ints("strides", &[1, 2]), ints("pads", &[1, 0, 0, 2])];
        conv(b, "Conv", &[2, 8, 3, 4], &[3, 8, 2, 3], window)
    }),
    ("Conv", 13, |b| {
        let window = [ints("strides", &[2, 1]), ints("pads", &[0, 1, 1, 0])];
        conv(b, "Conv", &[2, 8, 4, 3], &[3, 8, 2, 3], window)
    }),
    ("Conv", 13, |b| conv(b, "Conv", &[2, 2, 6, 6], &[2, 2, 2, 3], [ints("strides", &[3, 2])])),
    ("Conv", 13, |b| conv(b, "Conv", &[1, 2, 4, 4, 3], &[2, 2, 2, 2, 2], [])),
    ("Conv", 13, |b| conv(b, "Conv", &[2, 8, 6], &[2, 8, 3], [ints("pads", &[1, 1])])),
    ("Conv", 13, |b| conv(b, "Conv", &[2, 8, 3, 3], &[4, 8, 1, 1], [])),
    ("Conv", 13, |b| conv(b, "Conv", &[1, 8, 21, 21], &[1, 8, 2, 1], [])),
    ("Conv", 13, |b| {
        conv(b, "Conv", &[1, 2, 15, 15], &[1, 2, 3, 3], [ints("pads", &[1, 1, 1, 1])])
    }),
    ("Conv", 13, |b| {
        let window = [("group", Attribute::Int(2)), ints("strides", &[2, 2])];
        conv(b, "Conv", &[2, 4, 5, 5], &[6, 2, 2, 2], window)
    }),
    ("Conv", 13, |b| {
        let window = [("group", Attribute::Int(3)), ints("pads", &[1, 1, 1, 1])];
        conv(b, "Conv", &[2, 3, 4, 4], &[3, 1, 3, 3], window)
    }),
    ("Conv", 13, |b| conv(b, "Conv", &[2, 3, 4, 4], &[4, 3, 1, 1], [])),
    ("Conv", 13, |b| conv(b, "Conv", &[2, 3, 4, 4], &[4, 3, 1, 1], [ints("strides", &[2, 2])])),
    ("Conv", 13, |b| conv(b, "Conv", &[2, 2, 7], &[3, 2, 3], [ints("pads", &[1, 1])])),
    ("ConvTranspose", 13, |b| {
        let window = [
            ints("strides", &[2, 2]),
            ints("pads", &[1, 0, 0, 1]),
            ints("output_padding", &[1, 0]),
        ];
        conv(b, "ConvTranspose", &[2, 3, 3, 4], &[3, 2, 3, 2], window)
    }),
    ("ConvTranspose", 13, |b| {
        conv(b, "ConvTranspose", &[1, 4, 3, 3], &[4, 1, 2, 2], [("group", Attribute::Int(2))])
    }),
    ("ConvTranspose", 13, |b| {
        let window = [("group", Attribute::Int(3)), ints("strides", &[2, 1])];
        conv(b, "ConvTranspose", &[2, 3, 3, 3], &[3, 1, 2, 2], window)
    }),
    ("ConvTranspose", 13, |b| {
        conv(b, "ConvTranspose", &[2, 2, 3, 3], &[2, 8, 2, 2], [ints("pads", &[1, 0, 0, 1])])
    }),
    // Activations.
    ("Relu", 13, |b| unary(b, "Relu", [])),
    ("LeakyRelu", 13, |b| unary(b, "LeakyRelu", [("alpha", 0.2.into())])),
    ("PRelu", 16, |b| binary(b, "PRelu", &[2, 3, 4], &[3, 1])),
    ("ThresholdedRelu", 13, |b| unary(b, "ThresholdedRelu", [("alpha", 0.7.into())])),
    ("Elu", 13, |b| unary(b, "Elu", [("alpha", 0.8.into())])),
    ("Selu", 13, |b| unary(b, "Selu", [])),
    ("Celu", 13, |b| unary(b, "Celu", [("alpha", 0.7.into())])),
    ("Sigmoid", 13, |b| unary(b, "Sigmoid", [])),
    ("Tanh", 13, |b| unary(b, "Tanh", [])),
    ("Clip", 13, |b| {
        let (x, low, high) = (wide(b), b.scalar("low", -1.3), b.scalar("high", 0.9));
        vec![b.op("Clip", "y", &[x, low, high], [])]
    }),
    ("HardSigmoid", 13, |b| unary(b, "HardSigmoid", [("alpha", 0.3.into())])),
    ("HardSwish", 14, |b| unary(b, "HardSwish", [])),
    ("Softplus", 13, |b| unary(b, "Softplus", [])),
    ("Softsign", 13, |b| unary(b, "Softsign", [])),
    ("Mish", 18, |b| unary(b, "Mish", [])),
    ("Swish", 24, |b| unary(b, "Swish", [("alpha", 1.5.into())])),
    ("Gelu", 20, |b| unary(b, "Gelu", [])),
    ("Gelu", 20, |b| unary(b, "Gelu", [("approximate", "tanh".into())])),
    // Elementary functions.
    ("Exp", 13, |b| unary(b, "Exp", [])),
    ("Log", 13, |b| positive_unary(b, "Log")),
    ("Sqrt", 13, |b| positive_unary(b, "Sqrt")),
    ("Reciprocal", 13, |b| positive_unary(b, "Reciprocal")),
    ("Neg", 13, |b| unary(b, "Neg", [])),
    ("Abs", 13, |b| unary(b, "Abs", [])),
    ("Erf", 13, |b| unary(b, "Erf", [])),
    ("Sin", 13, |b| unary(b, "Sin", [])),
    ("Cos", 13, |b| unary(b, "Cos", [])),
    // Arithmetic.
    ("Add", 13, |b| binary(b, "Add", &[2, 3, 4], &[3, 1])),
    ("Sub", 13, |b| binary(b, "Sub", &[3, 1], &[2, 3, 4])),
    ("Mul", 13, |b| binary(b, "Mul", &[2, 3, 4], &[4])),
    ("Mul", 13, |b| {
        let x = wide(b);
        vec![b.op("Mul", "y", &[x, x], [])]
    }),
    ("Div", 13, |b| {
        let (x, y) = (variable(b, &[2, 3], -1.0, 1.0), variable(b, &[3], 0.5, 2.0));
        vec![b.op("Div", "y", &[x, y], [])]
    }),
    ("Pow", 13, |b| {
        let (x, y) = (variable(b, &[2, 3], 0.5, 2.0), variable(b, &[3], -1.0, 3.0));
        vec![b.op("Pow", "y", &[x, y], [])]
    }),
    ("Pow", 13, |b| {
        let (x, two) = (wide(b), b.constant("two", Tensor::from_i64(vec![], &[2])));
        vec![b.op("Pow", "y", &[x, two], [])]
    }),
    ("Sum", 13, |b| three(b, "Sum")),
    ("Mean", 13, |b| three(b, "Mean")),
    ("Max", 13, |b| three(b, "Max")),
    ("Min", 13, |b| three(b, "Min")),
    ("Where", 13, |b| {
        let (x, y) = (variable(b, &[2, 3], -1.0, 1.0), variable(b, &[3], -1.0, 1.0));
        let zero = b.scalar("zero", 0.0);
        let chosen = b.op("Greater", "chosen", &[x, zero], []);
        vec![b.op("Where", "y", &[chosen, y, x], [])]
    }),
    // Normalisation.
    ("BatchNormalization", 15, |b| {
        let x = variable(b, &[2, 3, 4], -1.0, 1.0);
        let (scale, bias) = (variable(b, &[3], 0.5, 2.0), variable(b, &[3], -1.0, 1.0));
        let (mean, variance) = (b.weights("mean", &[3]), b.positive("variance", &[3]));
        vec![b.op("BatchNormalization", "y", &[x, scale, bias, mean, variance], [])]
    }),
    ("InstanceNormalization", 13, |b| {
        let x = variable(b, &[2, 3, 4, 2], -1.0, 1.0);
        let (scale, bias) = (variable(b, &[3], 0.5, 2.0), variable(b, &[3], -1.0, 1.0));
        vec![b.op("InstanceNormalization", "y", &[x, scale, bias], [])]
    }),
    ("LayerNormalization", 17, |b| {
        let x = variable(b, &[3, 2, 4], -1.0, 1.0);
        let (scale, bias) = (variable(b, &[2, 4], 0.5, 2.0), variable(b, &[2, 4], -1.0, 1.0));
        vec![b.op("LayerNormalization", "y", &[x, scale, bias], [("axis", 1.into())])]
    }),
    ("RMSNormalization", 23, |b| {
        let (x, scale) = (variable(b, &[3, 2, 4], -1.0, 1.0), variable(b, &[4], 0.5, 2.0));
        vec![b.op("RMSNormalization", "y", &[x, scale], [("epsilon", 0.1.into())])]
    }),
    ("LRN", 13, |b| {
        let x = variable(b, &[2, 5, 3, 2], -1.0, 1.0);
        let attributes = [("size", 3.into()), ("alpha", 0.5.into()), ("bias", 2.0.into())];
        vec![b.op("LRN", "y", &[x], attributes)]
    }),
    ("Softmax", 13, |b| unary(b, "Softmax", [("axis", 1.into())])),
    ("LogSoftmax", 13, |b| unary(b, "LogSoftmax", [])),
    // Pooling and reductions.
    ("MaxPool", 13, |b| pool(b, "MaxPool", [ints("strides", &[2, 2])])),
    ("MaxPool", 13, |b| {
        let window = [ints("strides", &[1, 2]), ints("pads", &[1, 0, 1, 1])];
        pool(b, "MaxPool", window)
    }),
    ("MaxPool", 13, |b| {
        pool(b, "MaxPool", [ints("strides", &[3, 3]), ("ceil_mode", Attribute::Int(1))])
    }),
    ("AveragePool", 13, |b| pool(b, "AveragePool", [ints("strides", &[2, 2])])),
    ("AveragePool", 13, |b| pool(b, "AveragePool", [ints("pads", &[1, 1, 0, 1])])),
    ("AveragePool", 13, |b| {
        let window = [ints("pads", &[1, 1, 0, 1]), ("count_include_pad", Attribute::Int(1))];
        pool(b, "AveragePool", window)
    }),
    ("GlobalAveragePool", 13, |b| global(b, "GlobalAveragePool")),
    ("GlobalMaxPool", 13, |b| global(b, "GlobalMaxPool")),
    ("ReduceMean", 18, |b| reduce(b, "ReduceMean", 1)),
    ("ReduceMean", 13, |b| unary(b, "ReduceMean", [ints("axes", &[0]), ("keepdims", 0.into())])),
    ("ReduceMean", 13, |b| {
        let x = open(b);
        vec![b.op("ReduceMean", "y", &[x], [ints("axes", &[1])])]
    }),
    ("ReduceSum", 13, |b| reduce(b, "ReduceSum", 0)),
    ("ReduceMax", 18, |b| reduce(b, "ReduceMax", 0)),
    ("ReduceMin", 18, |b| reduce(b, "ReduceMin", 1)),
    ("ReduceL1", 18, |b| reduce(b, "ReduceL1", 1)),
    ("ReduceL2", 18, |b| reduce(b, "ReduceL2", 0)),
    // Shapes.
    ("Identity", 13, |b| unary(b, "Identity", [])),
    ("Cast", 13, |b| unary(b, "Cast", [("to", i64::from(DataType::F32.code()).into())])),
    ("Flatten", 13, |b| {
        let x = variable(b, &[2, 3, 2], -1.0, 1.0);
        vec![b.op("Flatten", "y", &[x], [])]
    }),
    ("Reshape", 13, |b| with_ints(b, "Reshape", &[2, 6], &[3, -1])),
    ("Squeeze", 13, |b| with_ints(b, "Squeeze", &[2, 1, 3], &[1])),
    ("Unsqueeze", 13, |b| with_ints(b, "Unsqueeze", &[2, 3], &[1])),
    ("Expand", 13, |b| {
        let (x, shape) = (variable(b, &[2, 1, 3], -1.0, 1.0), b.ints("shape", &[4, 2, 2, 1]));
        vec![b.op("Expand", "y", &[x, shape], [])]
    }),
    ("Transpose", 13, |b| {
        let x = variable(b, &[2, 3, 4], -1.0, 1.0);
        vec![b.op("Transpose", "y", &[x], [ints("perm", &[2, 0, 1])])]
    }),
    ("Pad", 13, |b| with_ints(b, "Pad", &[2, 3], &[0, 1, 2, 0])),
    ("Resize", 13, |b| resize(b, "asymmetric", "floor", 3.0)),
    ("Resize", 13, |b| resize(b, "half_pixel", "round_prefer_floor", 2.0)),
    ("Concat", 13, |b| {
        let (x, y) = (variable(b, &[2, 3], -1.0, 1.0), variable(b, &[2, 2], -1.0, 1.0));
        vec![b.op("Concat", "y", &[x, y], [("axis", (-1).into())])]
    }),
    ("Split", 13, |b| split(b, &[1, 3], true)),
    ("Split", 13, |b| split(b, &[2, 2], false)),
    ("Slice", 13, |b| slice(b, 1, 4, 1)),
    ("Slice", 13, |b| slice(b, -1, -6, -2)),
    ("Slice", 13, |b| {
        let x = open(b);
        let bounds = [-3, -1, 1].map(|n| b.ints("bound", &[n]));
        let y = b.op("Slice", "y", &[x, bounds[0], bounds[1], bounds[2]], []);
        let shape = b.ints("shape", &[2, 2, 3]);
        vec![b.op("Reshape", "shaped", &[y, shape], [])]
    }),
    ("Gather", 13, |b| {
        let (x, first) = (open(b), b.constant("first", Tensor::from_i64(Vec::new(), &[0])));
        vec![b.op("Gather", "y", &[x, first], [("axis", 1.into())])]
    }),
    ("Gather", 13, |b| {
        let x = variable(b, &[2, 3, 4], -2.0, 2.0);
        let last = b.constant("last", Tensor::from_i64(Vec::new(), &[-1]));
        vec![b.op("Gather", "y", &[x, last], [("axis", 1.into())])]
    }),
    ("Gather", 13, |b| {
        let (x, at) = (variable(b, &[2, 4], -1.0, 1.0), b.ints("at", &[3, 0, 3, 1, 3]));
        vec![b.op("Gather", "y", &[x, at], [("axis", 1.into())])]
    }),
];

fn ints(name: &'static str, values: &[i64]) -> (&'static str, Attribute) {
    (name, Attribute::Ints(values.to_vec()))
}

/// Enough points on both sides of the kinks at −3, 0 and 3.
fn wide(b: &mut GraphBuilder) -> ValueId {
    variable(b, &[4, 6], -3.7, 3.9)
}

fn unary<const N: usize>(
    b: &mut GraphBuilder,
    op: &str,
    attributes: [(&'static str, Attribute); N],
) -> Vec<ValueId> {
    let x = wide(b);
    vec![b.op(op, "y", &[x], attributes)]
}

fn positive_unary(b: &mut GraphBuilder, op: &str) -> Vec<ValueId> {
    let x = variable(b, &[2, 3], 0.5, 3.0);
    vec![b.op(op, "y", &[x], [])]
}

/// A value [2, 5, 3] of which the second extent is known only at run time.
fn open(b: &mut GraphBuilder) -> ValueId {
    let (x, ones) = (variable(b, &[2, 15], -1.0, 1.0), b.ints("ones", &[1; 5]));
    let found = b.op("NonZero", "found", &[ones], []);
    let places = b.op("Shape", "places", &[found], []);
    let bounds = [1, 2, 0].map(|n| b.ints("bound", &[n]));
    let count = b.op("Slice", "count", &[places, bounds[0], bounds[1], bounds[2]], []);
    let (two, three) = (b.ints("two", &[2]), b.ints("three", &[3]));
    let target = b.op("Concat", "target", &[two, count, three], [("axis", 0.into())]);
    b.op("Reshape", "open", &[x, target], [])
}

fn binary(b: &mut GraphBuilder, op: &str, left: &[usize], right: &[usize]) -> Vec<ValueId> {
    let (x, y) = (variable(b, left, -1.0, 1.0), variable(b, right, -0.9, 1.1));
    vec![b.op(op, "y", &[x, y], [])]
}

fn three(b: &mut GraphBuilder, op: &str) -> Vec<ValueId> {
    let (x, y) = (variable(b, &[2, 3], -1.0, 1.0), variable(b, &[3], -0.93, 1.07));
    let z = variable(b, &[2, 1], -0.71, 0.77);
    vec![b.op(op, "y", &[x, y, z], [])]
}

fn gemm(
    b: &mut GraphBuilder,
    trans_a: i64,
    trans_b: i64,
    left: &[usize],
    right: &[usize],
    bias: &[usize],
) -> Vec<ValueId> {
    let (x, w) = (variable(b, left, -1.0, 1.0), variable(b, right, -1.0, 1.0));
    let c = variable(b, bias, -1.0, 1.2);
    let attributes = [
        ("transA", trans_a.into()),
        ("transB", trans_b.into()),
        ("alpha", 0.7.into()),
        ("beta", 1.3.into()),
    ];
    vec![b.op("Gemm", "y", &[x, w, c], attributes)]
}

fn conv<const N: usize>(
    b: &mut GraphBuilder,
    op: &str,
    data: &[usize],
    weight: &[usize],
    attributes: [(&'static str, Attribute); N],
) -> Vec<ValueId> {
    let (x, w) = (variable(b, data, -1.0, 1.0), variable(b, weight, -1.0, 1.0));
    let group = attributes.iter().find_map(|(name, value)| match value {
        Attribute::Int(n) if *name == "group" => Some(*n as usize),
        _ => None,
    });
    let rows = if op == "Conv" { weight[0] } else { weight[1] * group.unwrap_or(1) };
    let bias = variable(b, &[rows], -1.0, 1.0);
    vec![b.op(op, "y", &[x, w, bias], attributes)]
}

fn pool<const N: usize>(
    b: &mut GraphBuilder,
    op: &str,
    attributes: [(&'static str, Attribute); N],
) -> Vec<ValueId> {
    let x = variable(b, &[2, 3, 4, 4], -1.0, 1.0);
    let y = b.op(op, "y", &[x], attributes);
    let node = b.graph().producer(y).unwrap();
    b.graph().edit_node(node, |node| {
        node.attributes.insert("kernel_shape".to_owned(), Attribute::Ints(vec![2, 2]));
    });
    vec![y]
}

fn global(b: &mut GraphBuilder, op: &str) -> Vec<ValueId> {
    let x = variable(b, &[2, 3, 4, 2], -1.0, 1.0);
    vec![b.op(op, "y", &[x], [])]
}

fn reduce(b: &mut GraphBuilder, op: &str, keep: i64) -> Vec<ValueId> {
    let (x, axes) = (variable(b, &[2, 3, 4], -1.0, 1.0), b.ints("axes", &[-1, 1]));
    vec![b.op(op, "y", &[x, axes], [("keepdims", keep.into())])]
}

fn with_ints(b: &mut GraphBuilder, op: &str, dims: &[usize], values: &[i64]) -> Vec<ValueId> {
    let (x, values) = (variable(b, dims, -1.0, 1.0), b.ints("values", values));
    vec![b.op(op, "y", &[x, values], [])]
}

fn resize(b: &mut GraphBuilder, coordinates: &str, rounding: &str, scale: f32) -> Vec<ValueId> {
    let x = variable(b, &[1, 2, 3, 2], -1.0, 1.0);
    let scales = ndarray::arr1(&[1.0, 1.0, scale, 1.0]).into_dyn();
    let scales = b.constant("scales", Tensor::from_f32(&scales));
    let attributes = [
        ("coordinate_transformation_mode", coordinates.into()),
        ("nearest_mode", rounding.into()),
        ("mode", "nearest".into()),
    ];
    let y = b.op("Resize", "y", &[x, scales], attributes);
    let node = b.graph().producer(y).unwrap();
    b.graph().edit_node(node, |node| node.inputs.insert(1, None));
    vec![y]
}

/// The parts of a split; the loss reads `both`, or the second one only.
fn split(b: &mut GraphBuilder, sizes: &[i64], both: bool) -> Vec<ValueId> {
    let (x, sizes) = (variable(b, &[3, 4], -1.0, 1.0), b.ints("sizes", sizes));
    let first = b.op("Split", "first", &[x, sizes], [("axis", 1.into())]);
    let second = b.graph().add_value("second", crate::ir::ValueKind::Detached, None);
    let node = b.graph().producer(first).unwrap();
    b.graph().edit_node(node, |node| node.outputs.push(Some(second)));
    if both { vec![first, second] } else { vec![second] }
}

fn slice(b: &mut GraphBuilder, start: i64, end: i64, step: i64) -> Vec<ValueId> {
    let x = variable(b, &[2, 5], -1.0, 1.0);
    let bounds = [("start", start), ("end", end), ("axis", 1), ("step", step)];
    let bounds = bounds.map(|(name, value)| b.ints(name, &[value]));
    vec![b.op("Slice", "y", &[x, bounds[0], bounds[1], bounds[2], bounds[3]], [])]
}
