//! Statistics over channels, and over the depths of heads, which depend on no order.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Tensor, ValueId};

use super::heads::{self, behind, queries_keys_values};
use super::net::{Pattern, conv, images, relu, reshape, rest, transpose};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("attention by cosines", cosines),
    ("queries and keys of length one", unit_lengths),
    ("queries and keys by their root mean squares", root_mean_squares),
    ("queries and keys with equal statistics", equal_statistics),
    ("linear attention", linear_attention),
    ("scales of heads", scaled_heads),
    ("channels divided by their norm", norm),
    ("channels of length one", unit_channels),
    ("channels less the logarithm of their sum", logarithms),
    ("products of pairs of channels", pairs),
    ("groups of two sizes", groups_of_two_sizes),
];

/// Attention whose queries and keys are changed before they meet.
fn attention(
    b: &mut GraphBuilder,
    changed: fn(&mut GraphBuilder, ValueId) -> ValueId,
) -> Vec<ValueId> {
    let (x, [q, k, v]) = queries_keys_values(b);
    let [q, k] = [q, k].map(|x| changed(b, x));
    let k = transpose(b, k, &[0, 1, 3, 2]);
    heads::attention(b, x, [q, k, v])
}

/// As `torch.nn.functional.normalize` along an axis.
fn normalised(b: &mut GraphBuilder, x: ValueId, axis: i64) -> ValueId {
    let norm = b.op("ReduceL2", "norm", &[x], [("axes", [axis].into())]);
    let least = b.scalar("least", 1e-12);
    let norm = b.op("Clip", "bound", &[norm, least], []);
    let shape = b.op("Shape", "shape", &[x], []);
    let norm = b.op("Expand", "wide", &[norm, shape], []);
    b.op("Div", "normal", &[x, norm], [])
}

fn cosines(b: &mut GraphBuilder) -> Vec<ValueId> {
    attention(b, |b, x| normalised(b, x, -1))
}

fn unit_lengths(b: &mut GraphBuilder) -> Vec<ValueId> {
    attention(b, |b, x| b.op("LpNormalization", "normal", &[x], [("axis", (-1).into())]))
}

fn root_mean_squares(b: &mut GraphBuilder) -> Vec<ValueId> {
    attention(b, |b, x| {
        let two = b.scalar("two", 2.0);
        let square = b.op("Pow", "square", &[x, two], []);
        let mean = b.op("ReduceMean", "mean", &[square], [("axes", [-1].into())]);
        let little = b.scalar("little", 1e-5);
        let mean = b.op("Add", "positive", &[mean, little], []);
        let root = b.op("Sqrt", "root", &[mean], []);
        b.op("Div", "normal", &[x, root], [])
    })
}

/// As a layer normalisation without numbers of its own.
fn equal_statistics(b: &mut GraphBuilder) -> Vec<ValueId> {
    attention(b, |b, x| {
        let ones = Tensor::from_f32(&ndarray::ArrayD::ones(vec![4]));
        let ones = b.constant("ones", ones);
        b.op("LayerNormalization", "normal", &[x, ones], [("axis", (-1).into())])
    })
}

/// Queries are weighted over depths, keys over tokens.
fn linear_attention(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, [q, k, v]) = queries_keys_values(b);
    let q = b.op("Softmax", "queries", &[q], [("axis", (-1).into())]);
    let k = b.op("Softmax", "keys", &[k], [("axis", 2.into())]);
    let k = transpose(b, k, &[0, 1, 3, 2]);
    let context = b.op("MatMul", "context", &[k, v], []);
    let mixed = b.op("MatMul", "mixed", &[q, context], []);
    behind(b, x, mixed)
}

/// As in nets that learn how sharp each head looks.
fn scaled_heads(b: &mut GraphBuilder) -> Vec<ValueId> {
    attention(b, |b, x| {
        let scale = b.positive("scale", &[2, 1, 1]);
        b.op("Mul", "scaled", &[x, scale], [])
    })
}

fn norm(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = normalised(b, x, 1);
    vec![rest(b, x, 6)]
}

fn unit_channels(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let x = b.op("LpNormalization", "normal", &[x], [("axis", 1.into()), ("p", 1.into())]);
    vec![rest(b, x, 6)]
}

fn logarithms(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "first", x, 6, 3);
    let sum = b.op("ReduceLogSumExp", "sum", &[x], [("axes", [1].into())]);
    let x = b.op("Sub", "less", &[x, sum], []);
    vec![rest(b, x, 6)]
}

/// Each pair of rows of the first layer becomes one channel.
fn pairs(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "double", x, 12, 3);
    let x = reshape(b, x, &[0, 6, 2, 8, 8]);
    let x = b.op("ReduceProd", "pairs", &[x], [("axes", [2].into()), ("keepdims", 0.into())]);
    vec![rest(b, x, 6)]
}

/// As in networks that generate pictures: the groups of joined maps are larger than those of each.
fn groups_of_two_sizes(b: &mut GraphBuilder) -> Vec<ValueId> {
    let grouped = |b: &mut GraphBuilder, x: ValueId, channels: i64| {
        let (groups, back) = (b.ints("groups", &[0, 2, -1]), b.ints("back", &[-1, channels, 8, 8]));
        let x = b.op("Reshape", "cut", &[x, groups], []);
        let (one, zero) = (b.positive("one", &[2]), b.weights("zero", &[2]));
        let x = b.op("InstanceNormalization", "normal", &[x, one, zero], []);
        let x = b.op("Reshape", "joined", &[x, back], []);
        relu(b, x)
    };
    let x = images(b);
    let first = conv(b, "first", x, 4, 3);
    let x = grouped(b, first, 4);
    let x = conv(b, "second", x, 4, 4);
    let x = b.op("Concat", "both", &[x, first], [("axis", 1.into())]);
    let x = grouped(b, x, 8);
    vec![rest(b, x, 8)]
}
