//! Weights and outputs in types of few bits.

use ndarray::ArrayD;

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{DataType, Node, Tensor, ValueId, ValueKind};

use super::net::{Pattern, dense, relu, transpose};

/// The patterns of this file; they need operator set 21.
pub const PATTERNS: &[Pattern] = &[
    ("weights in four bits", four_bits),
    ("weights in blocks", blocks),
    TURNED_BLOCKS,
    ("weights in blocks that are joined", joined_blocks),
    ("features in eight bits by their range", by_range),
    ("outputs of every whole number", whole_numbers),
    ("names of classes", names),
];

/// Weights that ONNX Runtime would multiply by rounded data if nothing stood before the product.
pub const TURNED_BLOCKS: Pattern = ("weights in blocks behind a transpose", turned_blocks);

/// Drawn codes of four bits.
fn codes(b: &mut GraphBuilder, dims: &[usize]) -> ValueId {
    let floats = b.weights("drawn", dims);
    let floats = b.graph().initializer(floats).unwrap().to_f32().unwrap();
    let codes: ArrayD<i64> = floats.mapv(|w| (w * 100.0) as i64 % 8);
    b.constant("codes", Tensor::from_ints(DataType::I4, &codes).unwrap())
}

fn features(b: &mut GraphBuilder, x: ValueId, w: ValueId) -> ValueId {
    let bias = b.weights("bias", &[8]);
    let x = b.op("Gemm", "layer", &[x, w, bias], [("transB", 1.into())]);
    relu(b, x)
}

fn scores(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let (w, bias) = (b.weights("head.w", &[5, 8]), b.weights("head.b", &[5]));
    b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])
}

fn four_bits(b: &mut GraphBuilder) -> Vec<ValueId> {
    let mut x = b.input("x", "n,6");
    for inputs in [6, 8] {
        let (codes, steps) = (codes(b, &[8, inputs]), b.positive("steps", &[8]));
        let w = b.op("DequantizeLinear", "w", &[codes, steps], [("axis", 0.into())]);
        x = features(b, x, w);
    }
    vec![scores(b, x)]
}

/// One step for each four inputs of a row, then, with the inputs first, for each two of them.
fn blocks(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,8");
    let (first, steps) = (codes(b, &[8, 8]), b.positive("steps", &[8, 2]));
    let along = [("axis", 1.into()), ("block_size", 4.into())];
    let w = b.op("DequantizeLinear", "w", &[first, steps], along);
    let x = features(b, x, w);
    let (second, steps) = (codes(b, &[8, 8]), b.positive("steps", &[4, 8]));
    let along = [("axis", 0.into()), ("block_size", 2.into())];
    let w = b.op("DequantizeLinear", "w", &[second, steps], along);
    let x = b.op("MatMul", "product", &[x, w], []);
    let x = relu(b, x);
    vec![scores(b, x)]
}

/// Weights over tokens in blocks of 16 inputs, outputs first.
fn in_blocks(b: &mut GraphBuilder, outputs: usize, inputs: usize) -> ValueId {
    let (codes, steps) =
        (codes(b, &[outputs, inputs]), b.positive("steps", &[outputs, inputs / 16]));
    let along = [("axis", 1.into()), ("block_size", 16.into())];
    b.op("DequantizeLinear", "w", &[codes, steps], along)
}

fn over_tokens(b: &mut GraphBuilder, x: ValueId, w: ValueId, outputs: usize) -> ValueId {
    let y = b.op("MatMul", "layer", &[x, w], []);
    let bias = b.weights("bias", &[outputs]);
    let y = b.op("Add", "biased", &[y, bias], []);
    relu(b, y)
}

fn turned_blocks(b: &mut GraphBuilder) -> Vec<ValueId> {
    let mut x = b.input("x", "n,4,32");
    for [outputs, inputs] in [[16, 32], [8, 16]] {
        let w = in_blocks(b, outputs, inputs);
        let w = transpose(b, w, &[1, 0]);
        x = over_tokens(b, x, w, outputs);
    }
    vec![dense(b, "head", x, [8, 5])]
}

fn joined_blocks(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,4,32");
    let parts = [10, 6].map(|outputs| in_blocks(b, outputs, 32));
    let w = b.op("Concat", "joined", &parts, [("axis", 0.into())]);
    let w = transpose(b, w, &[1, 0]);
    let x = over_tokens(b, x, w, 16);
    let x = dense(b, "second", x, [16, 8]);
    let x = relu(b, x);
    vec![dense(b, "head", x, [8, 5])]
}

/// What dynamic quantisation becomes in canonical form.
fn by_range(b: &mut GraphBuilder) -> Vec<ValueId> {
    let mut x = b.input("x", "n,6");
    for inputs in [6, 8] {
        let w = b.weights("w", &[8, inputs]);
        let y = features(b, x, w);
        x = rounded(b, y);
    }
    vec![scores(b, x)]
}

/// Rounds features to 256 steps between their extremes.
fn rounded(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let parts =
        ["codes", "step", "zero"].map(|name| b.graph().add_value(name, ValueKind::Detached, None));
    b.graph().add_node(Node {
        name: "rounded".to_owned(),
        op: "DynamicQuantizeLinear".to_owned(),
        inputs: vec![Some(x)],
        outputs: parts.map(Some).to_vec(),
        ..Node::default()
    });
    b.op("DequantizeLinear", "floats", &parts, [])
}

fn whole_numbers(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,6");
    let w = b.weights("w", &[8, 6]);
    let x = features(b, x, w);
    let scores = scores(b, x);
    let sizes = b.op("Abs", "sizes", &[scores], []);
    let types = [DataType::I8, DataType::U8, DataType::I16, DataType::U16, DataType::I32];
    let types = types.into_iter().chain([DataType::U32, DataType::U64, DataType::F16]);
    let casts =
        types.map(|ty| b.op("Cast", "cast", &[sizes], [("to", i64::from(ty.code()).into())]));
    let casts: Vec<ValueId> = casts.collect();
    [vec![scores], casts].concat()
}

fn names(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,6");
    let w = b.weights("w", &[8, 6]);
    let x = features(b, x, w);
    let scores = scores(b, x);
    let keepdims = [("axis", 1.into()), ("keepdims", 0.into())];
    let best = b.op("ArgMax", "best", &[scores], keepdims);
    // Texts are held as the field `string_data` of the standard's message, whose number is 6.
    let texts = ["cat", "dog", "cow", "hen", ""].map(|name| {
        let head = [6 << 3 | 2, u8::try_from(name.len()).unwrap()];
        [&head, name.as_bytes()].concat()
    });
    let names = Tensor { dtype: DataType::STRING, dims: vec![5], data: texts.concat().into() };
    let names = b.constant("names", names);
    vec![scores, b.op("Gather", "name", &[names, best], [])]
}
