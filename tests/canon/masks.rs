//! Attention of ONNX Runtime with every kind of mask.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Model, Node, Tensor, ValueId, ValueKind};

use super::Build;

const ROWS: &[(&str, Build)] = &[
    ("one number per token", per_token),
    ("ends", ends),
    ("ends and starts", ends_and_starts),
    ("ends for queries, keys and values", parts),
    ("tokens counted by the embedding", counted),
];

/// Nets with an attention layer in one node.
pub fn all() -> Vec<(&'static str, Model)> {
    let net = |(name, build): &(&'static str, Build)| {
        let mut b = GraphBuilder::new(name, 17);
        let y = build(&mut b);
        let mut model = b.build(&[y]);
        model.opsets.insert("com.microsoft".to_owned(), 1);
        (*name, model)
    };
    ROWS.iter().map(net).collect()
}

/// A node of ONNX Runtime's operator set with `outputs` outputs.
fn contrib(
    b: &mut GraphBuilder,
    op: &str,
    inputs: &[Option<ValueId>],
    outputs: usize,
) -> Vec<ValueId> {
    let outputs: Vec<ValueId> =
        (0..outputs).map(|_| b.graph().add_value("out", ValueKind::Detached, None)).collect();
    // A mask of -10000 would cost digits where it hides all tokens.
    let attributes = match op.ends_with("Attention") {
        true => vec![("num_heads", Attribute::Int(2)), ("mask_filter_value", (-2.0).into())],
        false => Vec::new(),
    };
    b.graph().add_node(Node {
        name: op.to_lowercase(),
        op: op.to_owned(),
        domain: "com.microsoft".to_owned(),
        inputs: inputs.to_vec(),
        outputs: outputs.iter().copied().map(Some).collect(),
        attributes: attributes.into_iter().map(|(name, v)| (name.to_owned(), v)).collect(),
    });
    outputs
}

/// Integers of a new input, times `factor` and raised by `shift`.
fn integers(b: &mut GraphBuilder, name: &str, dims: &str, [factor, shift]: [i64; 2]) -> ValueId {
    let x = b.typed_input(name, DataType::I64, dims);
    let [factor, shift] =
        [factor, shift].map(|number| b.constant("number", Tensor::from_i64(Vec::new(), &[number])));
    let x = b.op("Mul", "factor", &[x, factor], []);
    let x = b.op("Add", "shift", &[x, shift], []);
    b.op("Cast", "cast", &[x], [("to", i64::from(DataType::I32.code()).into())])
}

/// Attention with one matrix for queries, keys and values.
fn attention(b: &mut GraphBuilder, x: ValueId, mask: ValueId) -> ValueId {
    let (w, bias) = (b.weights("qkv", &[8, 24]), b.weights("qkv.bias", &[24]));
    contrib(b, "Attention", &[Some(x), Some(w), Some(bias), Some(mask)], 1)[0]
}

fn per_token(b: &mut GraphBuilder) -> ValueId {
    let (x, mask) = (b.input("x", "batch,4,8"), integers(b, "mask", "batch,4", [3, -1]));
    attention(b, x, mask)
}

fn ends(b: &mut GraphBuilder) -> ValueId {
    let (x, ends) = (b.input("x", "batch,4,8"), integers(b, "ends", "batch", [3, 2]));
    attention(b, x, ends)
}

fn ends_and_starts(b: &mut GraphBuilder) -> ValueId {
    let (x, ends) = (b.input("x", "batch,tokens,8"), integers(b, "ends", "batch", [-1, 4]));
    let starts = integers(b, "starts", "batch", [2, 0]);
    let bounds = b.op("Concat", "bounds", &[ends, starts], [("axis", 0.into())]);
    attention(b, x, bounds)
}

fn parts(b: &mut GraphBuilder) -> ValueId {
    let (x, ends) = (b.input("x", "batch,4,8"), integers(b, "ends", "batch", [2, 1]));
    let parts = ["q", "k", "v"].map(|name| {
        let w = b.weights(name, &[8, 8]);
        Some(b.op("MatMul", name, &[x, w], []))
    });
    let [q, k, v] = parts;
    contrib(b, "MultiHeadAttention", &[q, k, v, None, Some(ends)], 1)[0]
}

fn counted(b: &mut GraphBuilder) -> ValueId {
    let (ids, mask) =
        (integers(b, "ids", "batch,4", [1, 0]), integers(b, "mask", "batch,4", [2, -1]));
    let (words, places) = (b.weights("words", &[2, 8]), b.weights("places", &[4, 8]));
    let (scale, shift) = (b.positive("scale", &[8]), b.weights("shift", &[8]));
    let inputs =
        [Some(ids), None, Some(words), Some(places), None, Some(scale), Some(shift), Some(mask)];
    let outputs = contrib(b, "EmbedLayerNormalization", &inputs, 2);
    attention(b, outputs[0], outputs[1])
}
