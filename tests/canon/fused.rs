//! Fused operators of ONNX Runtime's optimiser, and other operators that canonical form splits into
//! several.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, ValueId};

use super::{Build, image};

#[rustfmt::skip]
pub const ROWS: &[(&str, i64, &[&str], Build)] = &[
    ("a convolution fused with an activation", 13, &["Conv", "Relu"], relu_conv),
    ("a convolution fused with a sum and a leaky activation", 13,
        &["Conv", "Conv", "Add", "LeakyRelu"], residual_conv),
    ("a convolution fused with bounds", 13, &["Conv", "Clip"], clipped_conv),
    ("a convolution fused with a hard sigmoid", 13, &["Conv", "HardSigmoid"], gated_conv),
    ("a dense layer fused with an activation", 13, &["Gemm", "LeakyRelu"], gemm),
    ("a product of a transposed weight", 13, &["Gemm"], transposed_weight),
    ("a product of transposed values", 13, &["Relu", "Transpose", "MatMul", "Mul"], product),
    ("dense layers of several axes", 13,
        &["MatMul", "Add", "Reshape", "Relu", "Reshape", "MatMul", "Add"], named_axes),
    ("GELU behind a bias", 13, &["Add", "Mul", "Erf", "Add", "Mul", "Mul"], bias_gelu),
    ("GELU by tanh", 13,
        &["Add", "Mul", "Mul", "Add", "Mul", "Mul", "Tanh", "Add", "Mul", "Mul"], fast_gelu),
    ("GELU by a logistic function", 13, &["Mul", "Sigmoid", "Mul"], quick_gelu),
    ("layer normalisation of a sum that goes on", 13,
        &["Relu", "Add", "Add", "ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add",
            "Add"], skip),
];

/// A node of ONNX Runtime's operator set.
fn fused<const N: usize>(
    b: &mut GraphBuilder,
    op: &str,
    inputs: &[ValueId],
    attributes: [(&'static str, Attribute); N],
) -> ValueId {
    let y = b.op(op, &op.to_lowercase(), inputs, attributes);
    let id = b.graph().producer(y).unwrap();
    b.graph().edit_node(id, |node| node.domain = "com.microsoft".to_owned());
    y
}

fn layer(b: &mut GraphBuilder) -> [ValueId; 3] {
    [image(b), b.weights("w", &[5, 4, 3, 3]), b.weights("bias", &[5])]
}

fn relu_conv(b: &mut GraphBuilder) -> ValueId {
    let inputs = layer(b);
    fused(b, "FusedConv", &inputs, [("activation", "Relu".into()), ("strides", [2, 2].into())])
}

fn residual_conv(b: &mut GraphBuilder) -> ValueId {
    let [x, w, bias] = layer(b);
    let other = b.op("Conv", "other", &[x, w, bias], []);
    let attributes =
        [("activation", "LeakyRelu".into()), ("activation_params", Attribute::from([0.2]))];
    let second = b.weights("v", &[5, 4, 3, 3]);
    fused(b, "FusedConv", &[x, second, bias, other], attributes)
}

fn clipped_conv(b: &mut GraphBuilder) -> ValueId {
    let bounds = Attribute::from([-0.5, 0.5]);
    let inputs = layer(b);
    let attributes = [("activation", "Clip".into()), ("activation_params", bounds)];
    fused(b, "FusedConv", &inputs, attributes)
}

fn gated_conv(b: &mut GraphBuilder) -> ValueId {
    let slope = Attribute::from([0.3, 0.4]);
    let inputs = layer(b);
    let attributes = [("activation", "HardSigmoid".into()), ("activation_params", slope)];
    fused(b, "FusedConv", &inputs, attributes)
}

fn gemm(b: &mut GraphBuilder) -> ValueId {
    let inputs = [b.input("x", "batch,6"), b.weights("w", &[6, 5]), b.weights("bias", &[5])];
    let attributes = [("activation", "LeakyRelu".into()), ("activation_alpha", 0.3.into())];
    fused(b, "FusedGemm", &inputs, attributes)
}

fn transposed_weight(b: &mut GraphBuilder) -> ValueId {
    let inputs = [b.input("x", "batch,6"), b.weights("w", &[5, 6])];
    fused(b, "FusedMatMul", &inputs, [("transB", 1.into()), ("alpha", 0.5.into())])
}

fn product(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,2,3,4");
    let y = b.op("Relu", "y", &[x], []);
    fused(b, "FusedMatMul", &[x, y], [("transB", 1.into()), ("alpha", 0.25.into())])
}

/// Attention layers as Keras writes them.
fn named_axes(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,3,8");
    let (up, bias, down) =
        (b.weights("up", &[8, 2, 4]), b.weights("bias", &[2, 4]), b.weights("down", &[2, 4, 5]));
    let equation = |text: &'static str| [("equation", text.into())];
    let y = b.op("Einsum", "apart", &[x, up], equation("abc,cde->abde"));
    let y = b.op("Add", "sum", &[y, bias], []);
    let y = b.op("Relu", "relu", &[y], []);
    b.op("Einsum", "y", &[y, down], equation("abcd,cde->abe"))
}

fn bias_gelu(b: &mut GraphBuilder) -> ValueId {
    let inputs = [b.input("x", "batch,3,4"), b.weights("bias", &[4])];
    fused(b, "BiasGelu", &inputs, [])
}

fn fast_gelu(b: &mut GraphBuilder) -> ValueId {
    let inputs = [b.input("x", "batch,3,4"), b.weights("bias", &[4])];
    fused(b, "FastGelu", &inputs, [])
}

fn quick_gelu(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,3,4");
    fused(b, "QuickGelu", &[x], [("alpha", 1.5.into())])
}

fn skip(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,3,4");
    let y = b.op("Relu", "y", &[x], []);
    let [scale, shift, bias] = ["scale", "shift", "bias"].map(|name| b.weights(name, &[4]));
    let inputs = [x, y, scale, shift, bias];
    let normal = fused(b, "SkipLayerNormalization", &inputs, [("epsilon", 1e-5.into())]);
    let sum = b.op("Identity", "sum", &[normal], []);
    let (idle, id) = (b.graph().producer(sum).unwrap(), b.graph().producer(normal).unwrap());
    b.graph().remove_node(idle);
    b.graph().edit_node(id, |node| node.outputs.extend([None, None, Some(sum)]));
    b.op("Add", "end", &[normal, sum], [])
}
