//! Operators that compute element by element.
//!
//! Floats are computed in `f64` and rounded once. For sums, products, quotients and square roots of
//! `f32`, this gives the same bits as `f32` arithmetic. Integers that overflow are not folded.

use std::cmp::Ordering;

use ndarray::{ArrayD, IxDyn};

use crate::ir::{DataType, Node, Tensor};

use super::movement::{broadcast_dims, product};
use super::{LARGEST_GROWN, functions};

/// The operators of this file.
pub(super) const OPS: &[&str] = &[
    "Cast",
    "Where",
    "Clip",
    "IsNaN",
    "Neg",
    "Abs",
    "Sqrt",
    "Reciprocal",
    "Exp",
    "Log",
    "Sin",
    "Cos",
    "Floor",
    "Ceil",
    "Round",
    "Sign",
    "Relu",
    "LeakyRelu",
    "Elu",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Softplus",
    "Softsign",
    "Not",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Mod",
    "Max",
    "Min",
    "Sum",
    "Mean",
    "PRelu",
    "And",
    "Or",
    "Xor",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Equal",
    "Less",
    "Greater",
    "LessOrEqual",
    "GreaterOrEqual",
];

/// Elements of a tensor in the widest type of their kind.
#[derive(Clone)]
enum Elements {
    Float(ArrayD<f64>),
    Int(ArrayD<i64>),
}

/// The result of an element-wise node, if it is one of these.
pub(super) fn value(node: &Node, inputs: &[&Tensor]) -> Option<Tensor> {
    let wide: Option<Vec<Elements>> = inputs.iter().map(|t| elements(t)).collect();
    let (wide, dtype) = (wide?, inputs.first()?.dtype);
    match (node.op.as_str(), wide.as_slice()) {
        ("Cast", [x]) => cast(x, DataType::from_code(i32::try_from(node.int("to", 0)).ok()?)),
        ("Where", [Elements::Int(condition), a, b]) => {
            encode(inputs.get(1)?.dtype, select(condition, a, b)?)
        }
        ("Clip", [x, bounds @ ..]) => encode(dtype, clip(node, x, bounds)?),
        ("IsNaN", [Elements::Float(a)]) => {
            Tensor::from_ints(DataType::Bool, &a.mapv(|v| i64::from(v.is_nan())))
        }
        ("Sum" | "Mean" | "Max" | "Min", all) => encode(dtype, several(node, all)?),
        (_, [x]) => encode(dtype, unary(node, x)?),
        (op, [a, b]) if holds(op).is_some() => encode(DataType::Bool, compare(holds(op)?, a, b)?),
        ("Pow", [base @ Elements::Float(_), Elements::Int(exponent)]) => {
            let exponent = Elements::Float(exponent.mapv(|v| v as f64));
            encode(dtype, binary(node, base, &exponent)?)
        }
        (_, [a, b]) => encode(dtype, binary(node, a, b)?),
        _ => None,
    }
}

fn elements(tensor: &Tensor) -> Option<Elements> {
    if tensor.dtype.is_float() {
        return tensor.to_f64().ok().map(Elements::Float);
    }
    ArrayD::from_shape_vec(IxDyn(&tensor.dims), tensor.to_i64()?).ok().map(Elements::Int)
}

fn encode(dtype: DataType, elements: Elements) -> Option<Tensor> {
    match elements {
        Elements::Float(array) => Tensor::from_f64(dtype, &array).ok(),
        Elements::Int(array) => Tensor::from_ints(dtype, &array),
    }
}

fn cast(x: &Elements, to: DataType) -> Option<Tensor> {
    match (x, to.is_float()) {
        (Elements::Float(a), true) => Tensor::from_f64(to, a).ok(),
        (Elements::Int(a), true) => Tensor::from_f64(to, &a.mapv(|v| v as f64)).ok(),
        (Elements::Float(a), false) if to == DataType::Bool => {
            Tensor::from_ints(to, &a.mapv(|v| i64::from(v != 0.0)))
        }
        (Elements::Float(a), false) if a.iter().all(|v| v.abs() < 2f64.powi(53)) => {
            Tensor::from_ints(to, &a.mapv(|v| v as i64))
        }
        (Elements::Float(_), false) => None,
        (Elements::Int(a), false) => Tensor::from_ints(to, a),
    }
}

fn unary(node: &Node, x: &Elements) -> Option<Elements> {
    Some(match x {
        Elements::Float(a) => Elements::Float(a.mapv(functions::of_float(node)?)),
        Elements::Int(a) => {
            let compute = functions::of_int(&node.op)?;
            let values: Option<Vec<i64>> = a.iter().map(|v| compute(*v)).collect();
            Elements::Int(ArrayD::from_shape_vec(a.raw_dim(), values?).ok()?)
        }
    })
}

/// Both operands, broadcast to their common shape.
fn aligned<A: Clone, B: Clone>(a: &ArrayD<A>, b: &ArrayD<B>) -> Option<(ArrayD<A>, ArrayD<B>)> {
    let dims = broadcast_dims(a.shape(), b.shape())?;
    let largest = a.len().max(b.len()).max(LARGEST_GROWN);
    product(&dims).filter(|n| *n <= largest)?;
    let dims = IxDyn(&dims);
    Some((a.broadcast(dims.clone())?.to_owned(), b.broadcast(dims)?.to_owned()))
}

fn binary(node: &Node, a: &Elements, b: &Elements) -> Option<Elements> {
    match (a, b) {
        (Elements::Float(a), Elements::Float(b)) => {
            let compute = functions::of_floats(node)?;
            let (a, b) = aligned(a, b)?;
            let result = ndarray::Zip::from(&a).and(&b).map_collect(|a, b| compute(*a, *b));
            Some(Elements::Float(result))
        }
        (Elements::Int(a), Elements::Int(b)) => {
            let compute = functions::of_ints(node)?;
            let (a, b) = aligned(a, b)?;
            let values: Option<Vec<i64>> = a.iter().zip(&b).map(|(a, b)| compute(*a, *b)).collect();
            ArrayD::from_shape_vec(a.raw_dim(), values?).ok().map(Elements::Int)
        }
        _ => None,
    }
}

/// The result of an operator with any number of operands.
fn several(node: &Node, operands: &[Elements]) -> Option<Elements> {
    let (first, others) = operands.split_first()?;
    let all = others.iter().try_fold(first.clone(), |all, next| binary(node, &all, next))?;
    match (node.op.as_str(), all) {
        ("Mean", Elements::Float(sum)) => Some(Elements::Float(sum / operands.len() as f64)),
        ("Mean", Elements::Int(_)) => None,
        (_, all) => Some(all),
    }
}

/// Elements between bounds, either of which may be absent.
fn clip(node: &Node, x: &Elements, bounds: &[Elements]) -> Option<Elements> {
    // Before operator set 11, bounds are attributes.
    if ["min", "max"].iter().any(|bound| node.attributes.contains_key(*bound)) {
        return None;
    }
    let mut bounds = bounds.iter();
    [("Max", node.input(1)), ("Min", node.input(2))].into_iter().try_fold(
        x.clone(),
        |x, (op, bound)| match bound {
            Some(_) => binary(&Node { op: op.to_owned(), ..Node::default() }, &x, bounds.next()?),
            None => Some(x),
        },
    )
}

/// The orders of two elements in which a comparison holds.
fn holds(op: &str) -> Option<fn(Ordering) -> bool> {
    Some(match op {
        "Equal" => Ordering::is_eq,
        "Less" => Ordering::is_lt,
        "Greater" => Ordering::is_gt,
        "LessOrEqual" => Ordering::is_le,
        "GreaterOrEqual" => Ordering::is_ge,
        _ => return None,
    })
}

fn compare(holds: fn(Ordering) -> bool, a: &Elements, b: &Elements) -> Option<Elements> {
    fn each<T: Clone + PartialOrd>(
        a: &ArrayD<T>,
        b: &ArrayD<T>,
        holds: fn(Ordering) -> bool,
    ) -> Option<ArrayD<i64>> {
        let (a, b) = aligned(a, b)?;
        Some(
            ndarray::Zip::from(&a)
                .and(&b)
                .map_collect(|a, b| i64::from(a.partial_cmp(b).is_some_and(holds))),
        )
    }
    match (a, b) {
        (Elements::Float(a), Elements::Float(b)) => each(a, b, holds),
        (Elements::Int(a), Elements::Int(b)) => each(a, b, holds),
        _ => None,
    }
    .map(Elements::Int)
}

fn select(condition: &ArrayD<i64>, a: &Elements, b: &Elements) -> Option<Elements> {
    fn each<T: Clone>(c: &ArrayD<i64>, a: &ArrayD<T>, b: &ArrayD<T>) -> Option<ArrayD<T>> {
        let (a, b) = aligned(a, b)?;
        let (c, a) = aligned(c, &a)?;
        let (_, b) = aligned(&c, &b)?;
        Some(
            ndarray::Zip::from(&c)
                .and(&a)
                .and(&b)
                .map_collect(|c, a, b| if *c != 0 { a.clone() } else { b.clone() }),
        )
    }
    match (a, b) {
        (Elements::Float(a), Elements::Float(b)) => each(condition, a, b).map(Elements::Float),
        (Elements::Int(a), Elements::Int(b)) => each(condition, a, b).map(Elements::Int),
        _ => None,
    }
}
