//! Operators that compute element by element, and others that keep the shape of their operand.

use crate::ir::{DataType, Dim, Size, TensorType};

use super::super::{NodeView, aligned_axis};
use super::{Rows, alike, named_dtype, one, typed_as};

pub(super) const RULES: Rows = &[
    (
        &[
            "Abs",
            "Acos",
            "Acosh",
            "Asin",
            "Asinh",
            "Atan",
            "Atanh",
            "BitwiseNot",
            "Ceil",
            "Celu",
            "Clip",
            "Cos",
            "Cosh",
            "CumProd",
            "CumSum",
            "Elu",
            "Erf",
            "Exp",
            "Floor",
            "Gelu",
            "HardSigmoid",
            "HardSwish",
            "Hardmax",
            "Identity",
            "LeakyRelu",
            "Log",
            "LogSoftmax",
            "Mish",
            "Neg",
            "Not",
            "Reciprocal",
            "Relu",
            "ReverseSequence",
            "Round",
            "Selu",
            "Shrink",
            "Sigmoid",
            "Sign",
            "Sin",
            "Sinh",
            "Softmax",
            "Softplus",
            "Softsign",
            "Sqrt",
            "Swish",
            "SwiGLU",
            "Tan",
            "Tanh",
            "ThresholdedRelu",
            "Trilu",
        ],
        alike,
    ),
    (
        &[
            "Add",
            "BitShift",
            "BitwiseAnd",
            "BitwiseOr",
            "BitwiseXor",
            "Div",
            "Max",
            "Mean",
            "Min",
            "Mod",
            "Mul",
            "PRelu",
            "Pow",
            "StringConcat",
            "Sub",
            "Sum",
        ],
        arithmetic,
    ),
    (
        &["And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Or", "Xor"],
        comparison,
    ),
    (&["Where"], choice),
    (&["IsInf", "IsNaN", "RegexFullMatch"], test),
    (&["Cast", "BitCast"], cast),
    (&["CastLike"], cast_like),
    (&["Bernoulli", "EyeLike", "RandomNormalLike", "RandomUniformLike"], random_like),
    (&["Dropout"], dropout),
];

/// Operands are broadcast. The first one gives the element type, since an exponent may have another one.
fn arithmetic(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    vec![typed_as(node, 0, broadcast_inputs(node))]
}

fn comparison(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    one(DataType::Bool, broadcast_inputs(node))
}

fn choice(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = broadcast_inputs(node);
    vec![typed_as(node, 1, shape.clone()).or_else(|| typed_as(node, 2, shape))]
}

fn test(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    one(DataType::Bool, node.shape(0))
}

fn cast(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    vec![named_dtype(node, "to").map(|dtype| TensorType { dtype, shape: node.shape(0) })]
}

fn cast_like(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    vec![typed_as(node, 1, node.shape(0))]
}

fn random_like(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = node.shape(0);
    match named_dtype(node, "dtype") {
        Some(dtype) => one(dtype, shape),
        None => vec![typed_as(node, 0, shape)],
    }
}

fn dropout(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let mask = TensorType { dtype: DataType::Bool, shape: node.shape(0) };
    vec![node.ty(0), Some(mask)]
}

/// The shape that all inputs broadcast to; `None` if a rank is not known.
fn broadcast_inputs(node: &NodeView<'_>) -> Option<Vec<Dim>> {
    let shapes: Option<Vec<Vec<Dim>>> =
        (0..node.node.inputs.len()).map(|i| node.shape(i)).collect();
    shapes.map(|shapes| broadcast(&shapes))
}

/// The shape that operands broadcast to.
pub(in crate::ops) fn broadcast(shapes: &[Vec<Dim>]) -> Vec<Dim> {
    let rank = shapes.iter().map(Vec::len).max().unwrap_or(0);
    let extents = |axis: usize| {
        let own = move |shape: &Vec<Dim>| {
            aligned_axis(axis, rank, shape.len()).and_then(|own| shape.get(own).cloned())
        };
        shapes.iter().filter_map(own)
    };
    (0..rank).map(|axis| extents(axis).fold(Dim::Known(1), |all, own| wider(&all, &own))).collect()
}

/// The extent that two extents broadcast to. A fixed extent other than 1 decides.
///
/// So does an extent beside one that caps it, as that of the first positions of a table: where the cap
/// makes a difference, the extents must not be broadcast, unless the cap is 1.
fn wider(a: &Dim, b: &Dim) -> Dim {
    let caps = |a: &Dim, b: &Dim| Size::of(a).zip(Size::of(b)).is_some_and(|(a, b)| a.caps(&b));
    match (a, b) {
        (Dim::Known(1), other) | (other, Dim::Known(1)) => other.clone(),
        (Dim::Known(n), _) | (_, Dim::Known(n)) => Dim::Known(*n),
        (a, b) if a.is_surely(b) || caps(b, a) => a.clone(),
        (a, b) if caps(a, b) => b.clone(),
        _ => Dim::Unknown,
    }
}
