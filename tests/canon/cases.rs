//! Graphs as exporters write them, with the operators of their canonical form.

#[path = "branches.rs"]
mod branches;
#[path = "contractions.rs"]
mod contractions;
#[path = "contrib.rs"]
pub mod contrib;
#[path = "fused.rs"]
mod fused;
#[path = "loops.rs"]
mod loops;
#[path = "maps.rs"]
mod maps;
#[path = "masked.rs"]
pub mod masked;
#[path = "masks.rs"]
pub mod masks;
#[path = "products.rs"]
mod products;
#[path = "quantised.rs"]
pub mod quantised;
#[path = "recurrent.rs"]
mod recurrent;
#[path = "steps.rs"]
mod steps;
#[path = "windows.rs"]
mod windows;

use ndarray::arr1;
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Graph, Model, Node, Tensor, ValueId, ValueKind};

/// A model and the operators of its canonical form in topological order.
pub struct Case {
    pub name: &'static str,
    pub model: Model,
    pub operators: &'static [&'static str],
}

pub type Build = fn(&mut GraphBuilder) -> ValueId;

/// All cases: name, operator set of the original, operators of the canonical form, and the graph.
pub fn all() -> Vec<Case> {
    ROWS.iter()
        .chain(recurrent::ROWS)
        .chain(fused::ROWS)
        .chain(contractions::ROWS)
        .chain(branches::ROWS)
        .chain(loops::ROWS)
        .chain(maps::ROWS)
        .chain(products::ROWS)
        .chain(windows::ROWS)
        .map(|(name, opset, operators, build)| {
            let mut b = GraphBuilder::new(name, *opset);
            let y = build(&mut b);
            let mut model = b.build(&[y]);
            for domain in model.graph.nodes().map(|(_, node)| node.domain.clone()) {
                model.opsets.entry(domain).or_insert(1);
            }
            Case { name, model, operators }
        })
        .collect()
}

#[rustfmt::skip]
const ROWS: &[(&str, i64, &[&str], Build)] = &[
    ("batch norm behind a convolution", 13, &["Conv", "Relu"], conv_bn),
    ("batch norm behind a depthwise convolution", 13, &["Conv"], depthwise_bn),
    ("batch norm behind a grouped transposed convolution", 13,
        &["Split", "ConvTranspose", "ConvTranspose", "Concat"], transposed_bn),
    ("batch norm behind a grouped convolution", 13, &["Split", "Conv", "Conv", "Concat"], grouped_bn),
    ("several filters for each channel", 13, &["Conv", "Conv", "Concat", "Gather"], multiplier),
    ("batch norm behind a dense layer", 13, &["Gemm"], gemm_bn),
    ("batch norm before a convolution", 13, &["BatchNormalization", "Relu", "Conv"], bn_first),
    ("batch norm in two halves before a convolution", 13,
        &["BatchNormalization", "Conv"], split_bn_first),
    ("batch norm whose layer has another reader", 13,
        &["Conv", "BatchNormalization", "Add"], bn_beside_another_reader),
    ("factors and shifts behind a convolution", 13, &["Conv"], affine_chain),
    ("a constant that widens what it is added to", 13, &["Gemm", "Add"], widening_add),
    ("matrix product and bias", 13, &["Gemm", "Relu", "Gemm"], matmul_add),
    ("matrix product over three axes", 13, &["MatMul", "Add"], matmul_rank3),
    ("products of flattened tokens", 13,
        &["MatMul", "Add", "Relu", "MatMul", "Add"], flattened_tokens),
    ("products of flattened tokens of any number", 13, &["MatMul", "Add"], open_tokens),
    ("queries and keys of flattened tokens", 13, &["MatMul", "Add", "Reshape", "MatMul", "Add",
        "Mul", "Mul", "Reshape", "Add"], flat_heads),
    ("heads that are joined with a flattening", 13,
        &["Reshape", "MatMul", "Add", "Mul"], joined_heads),
    ("a scale with more axes than its integers", 13, &["Unsqueeze", "MatMul", "Add"], wide_scale),
    ("tokens that stay flat", 13, &["Reshape", "Gemm"], flat_tokens),
    ("dense layer with factors, transposed data and one bias", 13,
        &["Transpose", "Gemm"], odd_gemm),
    ("dense layer with a column for a bias", 13, &["Gemm", "Add"], gemm_column),
    ("flattening by a computed shape", 13, &["Relu", "Flatten", "Gemm"], torch_flatten),
    ("flattening by a product of extents", 13, &["Relu", "Flatten"], product_flatten),
    ("flattening by a fixed size", 13, &["GlobalAveragePool", "Flatten"], fixed_flatten),
    ("flattening in two steps", 13, &["Relu", "Flatten"], two_step_flatten),
    ("channel shuffle", 13, &["Gather"], channel_shuffle),
    ("nodes that do nothing", 13, &["Relu"], idle_nodes),
    ("transposes that cancel", 13, &["Relu", "Relu"], cancelling_transposes),
    ("transposes that join", 13, &["Relu", "Transpose"], joining_transposes),
    ("padding left to the runtime", 13,
        &["Conv", "MaxPool", "AveragePool", "Conv"], automatic_padding),
    ("a weight computed from constants", 13, &["Conv"], weight_norm),
    ("weights in nodes", 13, &["Conv", "PRelu"], weights_in_nodes),
    ("resizing to computed sizes", 13, &["Resize"], computed_sizes),
    ("one weight for two layers", 13, &["Gemm", "Gemm"], tied_weights),
    ("softmax over several axes", 11, &["Flatten", "Softmax", "Reshape"], old_softmax),
    ("softmax over the last axis", 9, &["LogSoftmax"], old_log_softmax),
    ("attributes that became inputs", 9,
        &["Slice", "Pad", "Clip", "Unsqueeze", "ReduceSum", "ReduceMean"], old_attributes),
    ("enlarging of old", 9, &["Resize"], old_upsample),
    ("resizing of old", 10, &["Resize"], old_resize),
    ("parts of old", 11, &["Split", "Mul"], old_split),
    ("dropout of old", 9, &["Conv", "Relu"], old_conv_bn),
    ("operators of old in a branch", 11, &["ReduceMean", "Greater", "If"], old_branch),
];

fn image(b: &mut GraphBuilder) -> ValueId {
    b.input("x", "batch,4,6,6")
}

fn conv(b: &mut GraphBuilder, x: ValueId, dims: &[usize], group: i64) -> ValueId {
    let w = b.weights("conv.weight", dims);
    b.op("Conv", "conv", &[x, w], [("group", group.into()), ("pads", [1, 1, 1, 1].into())])
}

fn batch_norm(b: &mut GraphBuilder, x: ValueId, channels: usize) -> ValueId {
    let scale = b.positive("scale", &[channels]);
    let shift = b.weights("shift", &[channels]);
    let mean = b.weights("mean", &[channels]);
    let variance = b.positive("variance", &[channels]);
    let epsilon = [("epsilon", Attribute::Float(1e-3))];
    b.op("BatchNormalization", "bn", &[x, scale, shift, mean, variance], epsilon)
}

fn conv_bn(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let w = b.weights("w", &[5, 4, 3, 3]);
    let bias = b.weights("b", &[5]);
    let y = b.op("Conv", "conv", &[x, w, bias], [("strides", [2, 1].into())]);
    let y = batch_norm(b, y, 5);
    b.op("Relu", "relu", &[y], [])
}

fn depthwise_bn(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let y = conv(b, x, &[4, 1, 3, 3], 4);
    batch_norm(b, y, 4)
}

fn transposed_bn(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let w = b.weights("w", &[4, 3, 2, 2]);
    let attributes = [("group", 2.into()), ("strides", [2, 2].into())];
    let y = b.op("ConvTranspose", "up", &[x, w], attributes);
    batch_norm(b, y, 6)
}

fn grouped_bn(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4,6,6");
    let y = conv(b, x, &[6, 2, 3, 3], 2);
    batch_norm(b, y, 6)
}

fn multiplier(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    conv(b, x, &[8, 1, 3, 3], 4)
}

fn gemm_bn(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,7");
    let (w, bias) = (b.weights("w", &[7, 5]), b.weights("b", &[5]));
    let y = b.op("Gemm", "fc", &[x, w, bias], []);
    batch_norm(b, y, 5)
}

fn bn_first(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let y = batch_norm(b, x, 4);
    let y = b.op("Relu", "relu", &[y], []);
    conv(b, y, &[4, 4, 3, 3], 1)
}

/// Normalisation and scaling as two layers, as in Caffe.
fn split_bn_first(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let y = batch_norm(b, x, 4);
    let (factor, shift) = (b.positive("k", &[4, 1, 1]), b.weights("s", &[4, 1, 1]));
    let y = b.op("Mul", "mul", &[y, factor], []);
    let y = b.op("Add", "add", &[y, shift], []);
    conv(b, y, &[4, 4, 3, 3], 1)
}

fn bn_beside_another_reader(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let y = conv(b, x, &[4, 4, 3, 3], 1);
    let z = batch_norm(b, y, 4);
    b.op("Add", "sum", &[y, z], [])
}

fn affine_chain(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let y = conv(b, x, &[4, 4, 3, 3], 1);
    let (factor, shift) = (b.positive("k", &[1, 4, 1, 1]), b.weights("s", &[4, 1, 1]));
    let (divisor, one) = (b.positive("d", &[4, 1, 1]), b.positive("o", &[1]));
    let y = b.op("Mul", "mul", &[factor, y], []);
    let y = b.op("Add", "add", &[y, shift], []);
    let y = b.op("Div", "div", &[y, divisor], []);
    b.op("Sub", "sub", &[y, one], [])
}

fn widening_add(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,7");
    let (w, wide) = (b.weights("w", &[7, 5]), b.weights("wide", &[2, 1, 5]));
    let y = b.op("Gemm", "fc", &[x, w], []);
    b.op("Add", "add", &[y, wide], [])
}

fn matmul_add(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,7");
    let (w, bias) = (b.weights("w", &[7, 5]), b.weights("b", &[5]));
    let y = b.op("MatMul", "matmul", &[x, w], []);
    let y = b.op("Add", "add", &[bias, y], []);
    let y = b.op("Relu", "relu", &[y], []);
    let w = b.weights("w2", &[5, 3]);
    b.op("MatMul", "last", &[y, w], [])
}

fn matmul_rank3(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4,7");
    let (w, bias) = (b.weights("w", &[7, 5]), b.weights("b", &[5]));
    let y = b.op("MatMul", "matmul", &[x, w], []);
    b.op("Add", "add", &[y, bias], [])
}

fn flattened_tokens(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4,7");
    let (w, bias, v) = (b.weights("w", &[7, 5]), b.weights("b", &[5]), b.weights("v", &[3, 5]));
    let rows = b.ints("rows", &[-1, 7]);
    let y = b.op("Reshape", "flat", &[x, rows], []);
    let y = b.op("Gemm", "first", &[y, w, bias], []);
    let y = b.op("Relu", "relu", &[y], []);
    let y = b.op("Gemm", "second", &[y, v], [("transB", 1.into())]);
    let axes = b.ints("axes", &[-1, 4, 3]);
    b.op("Reshape", "restored", &[y, axes], [])
}

fn open_tokens(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,time,7");
    let (w, bias) = (b.weights("w", &[7, 5]), b.weights("b", &[5]));
    let rows = b.ints("rows", &[-1, 7]);
    let y = b.op("Reshape", "flat", &[x, rows], []);
    let y = b.op("Gemm", "layer", &[y, w, bias], []);
    let shape = b.op("Shape", "shape", &[x], []);
    let (start, end) = (b.ints("start", &[0]), b.ints("end", &[2]));
    let leading = b.op("Slice", "leading", &[shape, start, end], []);
    let columns = b.ints("columns", &[5]);
    let target = b.op("Concat", "target", &[leading, columns], [("axis", 0.into())]);
    b.op("Reshape", "restored", &[y, target], [])
}

/// One flattening for two layers, of which one is squared before its heads are cut.
fn flat_heads(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,3,6");
    let rows = b.ints("rows", &[-1, 6]);
    let flat = b.op("Reshape", "flat", &[x, rows], []);
    let heads = b.ints("heads", &[-1, 3, 2, 4]);
    let [first, second] = ["q", "k"].map(|name| {
        let (w, bias) = (b.weights(&format!("{name}.w"), &[6, 8]), b.weights("b", &[8]));
        b.op("Gemm", name, &[flat, w, bias], [])
    });
    let half = b.scalar("half", 0.5);
    let halved = b.op("Mul", "halved", &[half, second], []);
    let squared = b.op("Mul", "squared", &[halved, second], []);
    let [first, second] = [first, squared].map(|value| b.op("Reshape", "cut", &[value, heads], []));
    b.op("Add", "sum", &[first, second], [])
}

fn joined_heads(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,3,2,4");
    let (rows, w) = (b.ints("rows", &[-1, 8]), b.weights("w", &[8, 5]));
    let flat = b.op("Reshape", "flat", &[x, rows], []);
    let y = b.op("Gemm", "layer", &[flat, w], []);
    let y = b.op("Mul", "squared", &[y, y], []);
    let target = b.ints("target", &[-1, 3, 5]);
    b.op("Reshape", "restored", &[y, target], [])
}

fn wide_scale(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,2");
    let integers = Tensor { dtype: DataType::U8, dims: vec![2, 3], data: vec![1; 6].into() };
    let integers = b.constant("integers", integers);
    let scale = b.positive("scale", &[1, 1, 3]);
    let floats = b.op("Cast", "floats", &[integers], [("to", 1.into())]);
    let weight = b.op("Mul", "weight", &[floats, scale], []);
    b.op("MatMul", "y", &[x, weight], [])
}

fn flat_tokens(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4,7");
    let (w, rows) = (b.weights("w", &[7, 5]), b.ints("rows", &[-1, 7]));
    let y = b.op("Reshape", "flat", &[x, rows], []);
    b.op("Gemm", "layer", &[y, w], [])
}

fn odd_gemm(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "7,batch");
    let (w, bias) = (b.weights("w", &[7, 5]), b.weights("b", &[1, 1]));
    let factors = [("alpha", 0.5.into()), ("beta", 2.0.into()), ("transA", 1.into())];
    b.op("Gemm", "fc", &[x, w, bias], factors)
}

fn gemm_column(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "3,7");
    let (w, bias) = (b.weights("w", &[5, 7]), b.weights("b", &[3, 1]));
    b.op("Gemm", "fc", &[x, w, bias], [("transB", 1.into())])
}

/// `x.view(x.size(0), -1)` as PyTorch exports it.
fn torch_flatten(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let y = b.op("Relu", "relu", &[x], []);
    let shape = b.op("Shape", "shape", &[y], []);
    let zero = b.constant("zero", Tensor::from_i64(vec![], &[0]));
    let batch = b.op("Gather", "gather", &[shape, zero], [("axis", 0.into())]);
    let (axes, rest) = (b.ints("axes", &[0]), b.ints("rest", &[-1]));
    let batch = b.op("Unsqueeze", "unsqueeze", &[batch, axes], []);
    let target = b.op("Concat", "concat", &[batch, rest], [("axis", 0.into())]);
    let flat = b.op("Reshape", "flat", &[y, target], []);
    let w = b.weights("w", &[5, 144]);
    b.op("Gemm", "fc", &[flat, w], [("transB", 1.into())])
}

/// The shape `[n, c·h·w]`, with all extents computed at run time.
fn product_flatten(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let y = b.op("Relu", "relu", &[x], []);
    let shape = b.op("Shape", "shape", &[y], []);
    let (zero, one, four) = (b.ints("zero", &[0]), b.ints("one", &[1]), b.ints("four", &[4]));
    let batch = b.op("Slice", "batch", &[shape, zero, one], []);
    let rest = b.op("Slice", "rest", &[shape, one, four], []);
    let rest = b.op("ReduceProd", "product", &[rest], [("keepdims", 1.into())]);
    let target = b.op("Concat", "concat", &[batch, rest], [("axis", 0.into())]);
    let target = b.op("Cast", "cast", &[target], [("to", 7.into())]);
    b.op("Reshape", "flat", &[y, target], [])
}

fn fixed_flatten(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let y = b.op("GlobalAveragePool", "pool", &[x], []);
    let target = b.ints("target", &[-1, 4]);
    b.op("Reshape", "flat", &[y, target], [])
}

fn two_step_flatten(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let y = b.op("Relu", "relu", &[x], []);
    let first = b.ints("first", &[0, 4, -1]);
    let y = b.op("Reshape", "rows", &[y, first], []);
    b.op("Flatten", "flat", &[y], [("axis", (-2).into())])
}

fn channel_shuffle(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,6,3,3");
    let (split, merge) = (b.ints("split", &[0, 2, 3, 3, 3]), b.ints("merge", &[-1, 6, 3, 3]));
    let y = b.op("Reshape", "split", &[x, split], []);
    let y = b.op("Transpose", "swap", &[y], [("perm", [0, 2, 1, 3, 4].into())]);
    b.op("Reshape", "merge", &[y, merge], [])
}

fn idle_nodes(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let y = b.op("Relu", "relu", &[x], []);
    let y = b.op("Identity", "identity", &[y], []);
    let y = b.op("Dropout", "dropout", &[y], []);
    let y = b.op("Cast", "cast", &[y], [("to", 1.into())]);
    let y = b.op("Transpose", "transpose", &[y], [("perm", [0, 1, 2, 3].into())]);
    let (pads, same) = (b.ints("pads", &[0; 8]), b.ints("same", &[0, 4, 6, -1]));
    let y = b.op("Pad", "pad", &[y, pads], []);
    let y = b.op("Reshape", "reshape", &[y, same], []);
    let (from, to) = (b.ints("from", &[0]), b.ints("to", &[i64::MAX]));
    let axes = b.ints("axes", &[2]);
    let y = b.op("Slice", "slice", &[y, from, to, axes], []);
    let y = b.op("Concat", "concat", &[y], [("axis", 1.into())]);
    let one = [("kernel_shape", Attribute::from([1, 1])), ("strides", [1, 1].into())];
    let y = b.op("MaxPool", "pool", &[y], one);
    let (one, zero) = (b.scalar("one", 1.0), b.scalar("zero", 0.0));
    let y = b.op("Div", "div", &[y, one], []);
    b.op("Add", "y", &[zero, y], [])
}

fn cancelling_transposes(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let y = b.op("Relu", "first", &[x], []);
    let y = b.op("Transpose", "there", &[y], [("perm", [0, 2, 3, 1].into())]);
    let y = b.op("Transpose", "back", &[y], [("perm", [0, 3, 1, 2].into())]);
    b.op("Relu", "second", &[y], [])
}

fn joining_transposes(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let y = b.op("Relu", "relu", &[x], []);
    let y = b.op("Transpose", "one", &[y], [("perm", [0, 2, 3, 1].into())]);
    b.op("Transpose", "two", &[y], [("perm", [3, 0, 1, 2].into())])
}

fn automatic_padding(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,4,7,9");
    let w = b.weights("w", &[4, 4, 4, 3]);
    let same = |mode: &str, strides: [i64; 2]| {
        [("auto_pad", Attribute::from(mode)), ("strides", strides.into())]
    };
    let y = b.op("Conv", "conv", &[x, w], same("SAME_LOWER", [2, 3]));
    let pool = |mode: &str| [("auto_pad", Attribute::from(mode)), ("kernel_shape", [2, 2].into())];
    let y = b.op("MaxPool", "max", &[y], pool("SAME_UPPER"));
    let y = b.op("AveragePool", "mean", &[y], pool("SAME_LOWER"));
    let w = b.weights("w2", &[4, 4, 2, 2]);
    b.op("Conv", "valid", &[y, w], same("VALID", [1, 1]))
}

/// `g·v/‖v‖`.
fn weight_norm(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let (v, g) = (b.weights("v", &[4, 4, 3, 3]), b.positive("g", &[4, 1, 1, 1]));
    let norm = b.op("ReduceL2", "norm", &[v], [("axes", [1, 2, 3].into())]);
    let unit = b.op("Div", "unit", &[v, norm], []);
    let w = b.op("Mul", "w", &[unit, g], []);
    b.op("Conv", "conv", &[x, w], [])
}

fn weights_in_nodes(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let values: Vec<f32> = (0..72).map(|i| (i % 7) as f32 * 0.1 - 0.3).collect();
    let tensor = Tensor::from_f32(&arr1(&values).into_dyn());
    let w = b.op("Constant", "w", &[], [("value", Attribute::Tensor(tensor))]);
    let shape = b.op("Constant", "shape", &[], [("value_ints", [2, 4, 3, 3].into())]);
    let w = b.op("Reshape", "shaped", &[w, shape], []);
    let y = b.op("Conv", "conv", &[x, w], []);
    let slope = b.op("Constant", "slope", &[], [("value_floats", [0.1, 0.2].into())]);
    let axes = b.ints("axes", &[1, 2]);
    let slope = b.op("Unsqueeze", "aligned", &[slope, axes], []);
    b.op("PRelu", "y", &[y, slope], [])
}

fn computed_sizes(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let shape = b.op("Shape", "shape", &[x], []);
    let (zero, two) = (b.ints("zero", &[0]), b.ints("two", &[2]));
    let kept = b.op("Slice", "kept", &[shape, zero, two], []);
    let extents = b.ints("extents", &[12, 9]);
    let sizes = b.op("Concat", "sizes", &[kept, extents], [("axis", 0.into())]);
    let y = b.graph().add_value("y", ValueKind::Detached, None);
    b.graph().add_node(Node {
        name: "resize".into(),
        op: "Resize".into(),
        inputs: vec![Some(x), None, None, Some(sizes)],
        outputs: vec![Some(y)],
        attributes: [("mode".to_owned(), "linear".into())].into(),
        ..Node::default()
    });
    y
}

fn tied_weights(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,5");
    let w = b.weights("w", &[5, 5]);
    let y = b.op("MatMul", "first", &[x, w], []);
    b.op("MatMul", "second", &[y, w], [])
}

fn old_softmax(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    b.op("Softmax", "y", &[x], [])
}

fn old_log_softmax(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,5,1,1");
    b.op("LogSoftmax", "y", &[x], [])
}

fn old_attributes(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let bounds = [("starts", [1].into()), ("ends", [5].into()), ("axes", [2].into())];
    let y = b.op("Slice", "slice", &[x], bounds);
    let widths = [("pads", [0, 0, 1, 0, 0, 0, 0, 2].into()), ("value", 0.25.into())];
    let y = b.op("Pad", "pad", &[y], widths);
    let y = b.op("Clip", "clip", &[y], [("min", (-0.5).into()), ("max", 0.5.into())]);
    let y = b.op("Unsqueeze", "unsqueeze", &[y], [("axes", [1].into())]);
    let y = b.op("Squeeze", "squeeze", &[y], [("axes", [1].into())]);
    let y = b.op("Unsqueeze", "again", &[y], [("axes", [4].into())]);
    let y = b.op("ReduceSum", "sum", &[y], [("axes", [2].into())]);
    b.op("ReduceMean", "mean", &[y], [("axes", [3].into()), ("keepdims", 0.into())])
}

fn old_upsample(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let scales = b.constant("s", Tensor::from_f32(&arr1(&[1.0, 1.0, 2.0, 1.5]).into_dyn()));
    b.op("Upsample", "y", &[x, scales], [("mode", "nearest".into())])
}

fn old_resize(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let scales = b.constant("s", Tensor::from_f32(&arr1(&[1.0, 1.0, 2.0, 3.0]).into_dyn()));
    b.op("Resize", "y", &[x, scales], [("mode", "nearest".into())])
}

fn old_split(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let graph = b.graph();
    let parts: [ValueId; 2] =
        ["a", "b"].map(|name| graph.add_value(name, ValueKind::Detached, None));
    graph.add_node(Node {
        name: "split".into(),
        op: "Split".into(),
        inputs: vec![Some(x)],
        outputs: parts.map(Some).to_vec(),
        attributes: [("axis".to_owned(), 1.into())].into(),
        ..Node::default()
    });
    b.op("Mul", "y", &parts, [])
}

fn old_conv_bn(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let y = conv(b, x, &[4, 4, 3, 3], 1);
    let y = batch_norm(b, y, 4);
    let y = b.op("Dropout", "dropout", &[y], [("ratio", 0.3.into())]);
    b.op("Relu", "y", &[y], [])
}

fn old_branch(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "2,1,5");
    let mean = b.op("ReduceMean", "mean", &[x], [("keepdims", 0.into())]);
    let zero = b.scalar("zero", 0.0);
    let positive = b.op("Greater", "positive", &[mean, zero], []);
    let branch = |name: &str, op: &str| {
        let mut graph = Graph::new(name);
        let inner = graph.add_value("x", ValueKind::Captured(x), None);
        let value = graph.add_op(op, &format!("{name}.value"), &[inner], []);
        let axes = [("axes", Attribute::from([1]))];
        let out = graph.add_op("Squeeze", &format!("{name}.out"), &[value], axes);
        graph.outputs.push(out);
        Attribute::Graph(Box::new(graph))
    };
    let branches = [("then_branch", branch("yes", "Relu")), ("else_branch", branch("no", "Neg"))];
    b.op("If", "y", &[positive], branches)
}
