//! Quantised layers, as ONNX Runtime's quantiser writes them.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Model, Tensor, ValueId};

use super::image;

/// Models whose integer operators become float operators in canonical form.
pub fn all() -> Vec<(&'static str, Model)> {
    type Build = fn(&mut GraphBuilder) -> ValueId;
    let cases: [(&str, Build); 7] = [
        ("QLinearConv", convolution),
        ("QLinearMatMul", product),
        ("MatMulInteger", dynamic_product),
        ("ConvInteger", dynamic_convolution),
        ("ConvInteger", biased_convolution),
        ("Cast", converted),
        ("Cast", converted_table),
    ];
    let model = |(name, build): (&'static str, fn(&mut GraphBuilder) -> ValueId)| {
        let mut b = GraphBuilder::new(name, 13);
        let y = build(&mut b);
        (name, b.build(&[y]))
    };
    cases.into_iter().map(model).collect()
}

/// Codes of weights. Those with a sign have seven bits: on processors without instructions for products of
/// bytes, ONNX Runtime adds two products with codes of eight bits in sixteen bits, which saturate.
fn codes(b: &mut GraphBuilder, name: &str, dtype: DataType, dims: &[usize]) -> ValueId {
    let count: usize = dims.iter().product();
    let code = |i: usize| match dtype {
        DataType::I8 => ((i * 37 % 127) as i8 - 63).to_ne_bytes()[0],
        _ => (i * 37 % 251) as u8,
    };
    let data: Vec<u8> = (0..count).map(code).collect();
    b.constant(name, Tensor { dtype, dims: dims.to_vec(), data: data.into() })
}

fn zero(b: &mut GraphBuilder, name: &str, dtype: DataType, code: u8) -> ValueId {
    b.constant(name, Tensor { dtype, dims: Vec::new(), data: vec![code].into() })
}

/// The data with its scale and zero point.
fn quantised(b: &mut GraphBuilder, x: ValueId) -> [ValueId; 3] {
    let (scale, zero) = (b.scalar("x.scale", 1.0 / 127.0), zero(b, "x.zero", DataType::U8, 128));
    [b.op("QuantizeLinear", "x.codes", &[x, scale, zero], []), scale, zero]
}

/// Dequantises a result with this scale.
fn floats(
    b: &mut GraphBuilder,
    op: &str,
    inputs: &[ValueId],
    attributes: [(&'static str, Attribute); 1],
) -> ValueId {
    let (scale, zero) = (b.scalar("y.scale", 0.11), zero(b, "y.zero", DataType::U8, 100));
    let bias = inputs.get(6).copied();
    let operands = [&inputs[..6], &[scale, zero], &bias.into_iter().collect::<Vec<_>>()].concat();
    let y = match op {
        "QLinearConv" => b.op(op, "y.codes", &operands, attributes),
        _ => b.op(op, "y.codes", &operands, []),
    };
    b.op("DequantizeLinear", "y", &[y, scale, zero], [])
}

fn convolution(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let data = quantised(b, x);
    let weight = codes(b, "w", DataType::I8, &[5, 4, 3, 3]);
    let scales = b.positive("w.scale", &[5]);
    let zeros = Tensor { dtype: DataType::I8, dims: vec![5], data: vec![0; 5].into() };
    let zeros = b.constant("w.zero", zeros);
    let bias: Vec<u8> = (0..5).flat_map(|i: i32| (100 * i - 150).to_le_bytes()).collect();
    let bias =
        b.constant("bias", Tensor { dtype: DataType::I32, dims: vec![5], data: bias.into() });
    let inputs = [&data[..], &[weight, scales, zeros, bias]].concat();
    floats(b, "QLinearConv", &inputs, [("pads", [1, 1, 1, 1].into())])
}

fn product(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,6");
    let data = quantised(b, x);
    let weight = codes(b, "w", DataType::U8, &[6, 5]);
    let (scale, zero) = (b.scalar("w.scale", 0.013), zero(b, "w.zero", DataType::U8, 120));
    let inputs = [&data[..], &[weight, scale, zero]].concat();
    floats(b, "QLinearMatMul", &inputs, [("unused", 0.into())])
}

/// Weights that are converted to floats, without an operator for it.
fn converted(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,6");
    let weight = codes(b, "w", DataType::U8, &[6, 5]);
    let (zero, scale) = (b.scalar("w.zero", 120.0), b.positive("w.scale", &[1, 5]));
    let floats = b.op("Cast", "floats", &[weight], [("to", 1.into())]);
    let shifted = b.op("Sub", "shifted", &[floats, zero], []);
    let weight = b.op("Mul", "weight", &[shifted, scale], []);
    b.op("MatMul", "y", &[x, weight], [])
}

/// A table whose rows are converted once they are picked.
fn converted_table(b: &mut GraphBuilder) -> ValueId {
    let ids = b.typed_input("ids", DataType::I64, "batch,4");
    let table = codes(b, "table", DataType::I8, &[9, 6]);
    let scale = b.positive("scale", &[6]);
    let rows = b.op("Gather", "rows", &[table, ids], []);
    let floats = b.op("Cast", "floats", &[rows], [("to", 1.into())]);
    let rows = b.op("Mul", "scaled", &[scale, floats], []);
    let weight = b.weights("w", &[6, 5]);
    b.op("MatMul", "y", &[rows, weight], [])
}

fn dynamic_product(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,6");
    let weight = codes(b, "w", DataType::U8, &[6, 5]);
    let y = dynamic(b, "MatMulInteger", x, weight, None);
    let bias = b.weights("bias", &[5]);
    b.op("Add", "y", &[y, bias], [])
}

fn dynamic_convolution(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let weight = codes(b, "w", DataType::U8, &[5, 4, 3, 3]);
    dynamic(b, "ConvInteger", x, weight, None)
}

/// With a bias in whole steps of the product of both scales, as older quantisers add it. Steps are small, so that
/// what rounding takes away is less than that of floats.
fn biased_convolution(b: &mut GraphBuilder) -> ValueId {
    let x = image(b);
    let small = b.scalar("small", 1e-3);
    let x = b.op("Mul", "small", &[x, small], []);
    let weight = codes(b, "w", DataType::U8, &[5, 4, 3, 3]);
    let bias = b.weights("bias", &[5]);
    dynamic(b, "ConvInteger", x, weight, Some(bias))
}

/// The product of data, quantised dynamically by its range, with a weight: as integers, then as floats.
fn dynamic(
    b: &mut GraphBuilder,
    op: &str,
    x: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
) -> ValueId {
    let data = b.op("DynamicQuantizeLinear", "x.codes", &[x], []);
    let id = b.graph().producer(data).unwrap();
    let [scale, zero] = ["x.scale", "x.zero"].map(|name| {
        let value = b.op("Identity", name, &[data], []);
        let idle = b.graph().producer(value).unwrap();
        b.graph().remove_node(idle);
        b.graph().edit_node(id, |node| node.outputs.push(Some(value)));
        value
    });
    let weight_zero = self::zero(b, "w.zero", DataType::U8, 120);
    let weight_scale = b.scalar("w.scale", 0.013);
    let mut integers = b.op(op, "integers", &[data, weight, zero, weight_zero], []);
    if let Some(bias) = bias {
        let step = b.op("Mul", "step", &[scale, weight_scale], []);
        let steps = b.op("Div", "steps", &[bias, step], []);
        let whole = b.op("Floor", "whole", &[steps], []);
        let whole = b.op("Cast", "codes", &[whole], [("to", 6.into())]);
        let shape = b.ints("shape", &[1, -1, 1, 1]);
        let whole = b.op("Reshape", "maps", &[whole, shape], []);
        integers = b.op("Add", "biased", &[integers, whole], []);
    }
    let floats = b.op("Cast", "floats", &[integers], [("to", 1.into())]);
    let factor = b.op("Mul", "factor", &[scale, weight_scale], []);
    b.op("Mul", "product", &[floats, factor], [])
}
