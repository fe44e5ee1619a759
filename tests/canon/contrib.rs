//! Quantised operators of ONNX Runtime's own operator set.

use ndarray::{ArrayD, IxDyn};

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Graph, Model, Node, Tensor, ValueId, ValueKind};

/// A name, and how a net is built.
type Row = (&'static str, fn(&mut GraphBuilder) -> ValueId);

const ROWS: &[Row] = &[
    ("DynamicQuantizeMatMul", by_range),
    ("DynamicQuantizeMatMul", with_one_zero_point),
    ("MatMulIntegerToFloat", to_float),
    ("MatMulIntegerToFloat", with_one_scale),
    ("QAttention", attention),
    ("MatMulNBits", blocks),
    ("MatMulNBits", partial_blocks),
    ("MatMulNBits", bytes),
    ("GatherBlockQuantized", rows),
    ("MatMulNBits", blocks_in_a_branch),
];

/// Nets whose layers are in one of these operators.
pub fn all() -> Vec<(&'static str, Model)> {
    let net = |(name, build): &Row| {
        let mut b = GraphBuilder::new(name, 17);
        let y = build(&mut b);
        let mut model = b.build(&[y]);
        model.opsets.insert("com.microsoft".to_owned(), 1);
        (*name, model)
    };
    ROWS.iter().map(net).collect()
}

/// A node with `outputs` outputs.
fn node(
    b: &mut GraphBuilder,
    (domain, op): (&str, &str),
    inputs: &[Option<ValueId>],
    outputs: usize,
    attributes: &[(&str, i64)],
) -> Vec<ValueId> {
    let outputs: Vec<ValueId> =
        (0..outputs).map(|_| b.graph().add_value("out", ValueKind::Detached, None)).collect();
    b.graph().add_node(Node {
        name: op.to_lowercase(),
        op: op.to_owned(),
        domain: domain.to_owned(),
        inputs: inputs.to_vec(),
        outputs: outputs.iter().copied().map(Some).collect(),
        attributes: attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Attribute::Int(*value)))
            .collect(),
    });
    outputs
}

fn runtime(
    b: &mut GraphBuilder,
    op: &str,
    inputs: &[Option<ValueId>],
    attributes: &[(&str, i64)],
) -> ValueId {
    node(b, ("com.microsoft", op), inputs, 1, attributes)[0]
}

/// Codes of seven bits with a sign, or of all bits without.
fn codes(b: &mut GraphBuilder, dtype: DataType, dims: &[usize]) -> ValueId {
    let count: usize = dims.iter().product();
    let code = |i: usize| match dtype {
        DataType::I8 => (i * 37 % 127) as i64 - 63,
        _ => (i * 37 % 251) as i64,
    };
    let codes = ArrayD::from_shape_vec(IxDyn(dims), (0..count).map(code).collect()).unwrap();
    b.constant("codes", Tensor::from_ints(dtype, &codes).unwrap())
}

/// Weights of eight bits with a scale and a zero point for each column.
fn weight(b: &mut GraphBuilder, dims: [usize; 2]) -> [ValueId; 3] {
    let zeros = ArrayD::from_shape_fn(IxDyn(&dims[1..]), |at| at[0] as i64 % 3 - 1);
    let zeros = Tensor::from_ints(DataType::I8, &zeros).unwrap();
    let scale = steps(b, &dims[1..]);
    [codes(b, DataType::I8, &dims), scale, b.constant("zeros", zeros)]
}

fn steps(b: &mut GraphBuilder, dims: &[usize]) -> ValueId {
    let steps = b.positive("steps", dims);
    let small = b.graph().initializer(steps).unwrap().to_f32().unwrap() / 100.0;
    b.graph().set_initializer(steps, Tensor::from_f32(&small));
    steps
}

/// Data with their scale and zero point.
fn rounded(b: &mut GraphBuilder, x: ValueId) -> [Option<ValueId>; 3] {
    let parts = node(b, ("", "DynamicQuantizeLinear"), &[Some(x)], 3, &[]);
    [0, 1, 2].map(|part| Some(parts[part]))
}

fn by_range(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,3,6");
    let [weight, scale, zeros] = weight(b, [6, 5]);
    let bias = b.weights("bias", &[5]);
    let inputs = [x, weight, scale, zeros, bias].map(Some);
    runtime(b, "DynamicQuantizeMatMul", &inputs, &[])
}

fn to_float(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,3,6");
    let [x, x_scale, x_zero] = rounded(b, x);
    let [weight, scale, zeros] = weight(b, [6, 5]).map(Some);
    let bias = Some(b.weights("bias", &[5]));
    let inputs = [x, weight, x_scale, scale, x_zero, zeros, bias];
    runtime(b, "MatMulIntegerToFloat", &inputs, &[])
}

fn with_one_zero_point(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,3,6");
    let [weight, scale, _] = weight(b, [6, 5]);
    let zero = Tensor::from_ints(DataType::I8, &ndarray::arr0(2i64).into_dyn()).unwrap();
    let inputs = [x, weight, scale, b.constant("zero", zero)].map(Some);
    runtime(b, "DynamicQuantizeMatMul", &inputs, &[])
}

fn with_one_scale(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,3,6");
    let [x, x_scale, x_zero] = rounded(b, x);
    let [weight, _, zeros] = weight(b, [6, 5]).map(Some);
    let scale = Some(b.scalar("scale", 0.005));
    let inputs = [x, weight, x_scale, scale, x_zero, zeros];
    runtime(b, "MatMulIntegerToFloat", &inputs, &[])
}

fn attention(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "batch,3,8");
    let [x, x_scale, x_zero] = rounded(b, x);
    let [weight, ..] = weight(b, [8, 24]).map(Some);
    let (scale, bias) = (Some(b.scalar("scale", 0.005)), Some(b.weights("bias", &[24])));
    let zero = Tensor::from_ints(DataType::I8, &ndarray::arr0(2i64).into_dyn()).unwrap();
    let zero = Some(b.constant("zero", zero));
    let inputs = [x, weight, bias, x_scale, scale, None, x_zero, zero];
    runtime(b, "QAttention", &inputs, &[("num_heads", 2)])
}

/// A product with weights of this many inputs and outputs, in blocks of 16 inputs.
fn packed(b: &mut GraphBuilder, bits: i64, [inputs, outputs]: [usize; 2], zeros: bool) -> ValueId {
    let x = b.input("x", &format!("batch,3,{inputs}"));
    let (blocks, per_byte) = (inputs.div_ceil(16), 8 / bits as usize);
    let weight = codes(b, DataType::U8, &[outputs, blocks, 16 / per_byte]);
    let scale = steps(b, &[outputs, blocks]);
    let zeros = zeros.then(|| codes(b, DataType::U8, &[outputs, blocks.div_ceil(per_byte)]));
    let sizes = [("K", inputs as i64), ("N", outputs as i64), ("bits", bits), ("block_size", 16)];
    runtime(b, "MatMulNBits", &[Some(x), Some(weight), Some(scale), zeros], &sizes)
}

fn blocks(b: &mut GraphBuilder) -> ValueId {
    packed(b, 4, [48, 5], true)
}

fn partial_blocks(b: &mut GraphBuilder) -> ValueId {
    packed(b, 4, [40, 5], false)
}

fn bytes(b: &mut GraphBuilder) -> ValueId {
    packed(b, 8, [32, 6], true)
}

/// A table in blocks, and a layer.
fn rows(b: &mut GraphBuilder) -> ValueId {
    let ids = b.typed_input("ids", DataType::I64, "batch,4");
    let table = codes(b, DataType::U8, &[9, 16]);
    let scale = steps(b, &[9, 2]);
    let sizes = [("block_size", 16), ("gather_axis", 0), ("quantize_axis", 1), ("bits", 4)];
    let inputs = [table, ids, scale].map(Some);
    let x = runtime(b, "GatherBlockQuantized", &inputs, &sizes);
    let weight = b.weights("w", &[32, 5]);
    b.op("MatMul", "y", &[x, weight], [])
}

/// A product in the branch that is always taken.
fn blocks_in_a_branch(b: &mut GraphBuilder) -> ValueId {
    let product = blocks(b);
    let id = b.graph().producer(product).unwrap();
    let node = b.graph().node(id).clone();
    b.graph().remove_node(id);
    let mut branch = Graph::new("branch");
    let mut captured = |input: &Option<ValueId>| {
        let value = (*input)?;
        let name = b.graph().value(value).name.clone();
        Some(branch.add_value(&name, ValueKind::Captured(value), None))
    };
    let inputs: Vec<Option<ValueId>> = node.inputs.iter().map(&mut captured).collect();
    let output = branch.add_value("inside", ValueKind::Detached, None);
    branch.add_node(Node { inputs, outputs: vec![Some(output)], ..node });
    branch.outputs = vec![output];
    let truth = Tensor::from_ints(DataType::Bool, &ndarray::arr0(1i64).into_dyn()).unwrap();
    let condition = b.constant("always", truth);
    let chosen = b.graph().add_value("chosen", ValueKind::Detached, None);
    let branches = ["then_branch", "else_branch"]
        .map(|name| (name.to_owned(), Attribute::Graph(Box::new(branch.clone()))));
    b.graph().add_node(Node {
        name: "choice".to_owned(),
        op: "If".to_owned(),
        inputs: vec![Some(condition)],
        outputs: vec![Some(chosen)],
        attributes: branches.into(),
        ..Node::default()
    });
    chosen
}
