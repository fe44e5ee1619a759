//! Folds products of constants.
//!
//! Nets compute biases of positions by a perceptron from a constant table of coordinates, and keys of
//! relative positions by a projection of a constant table.

use ndarray::{Array2, ArrayD, Axis, Ix2, Ix3, IxDyn};

use crate::ir::{Node, Tensor};

use super::LARGEST_GROWN;
use super::movement::{broadcast_dims, product};

/// The operators of this file.
pub(super) const OPS: &[&str] = &["MatMul", "Gemm"];

/// Extents of a product: stacks of [rows, inner] times [inner, columns].
struct Extents {
    stacks: Vec<usize>,
    rows: usize,
    inner: usize,
    columns: usize,
}

impl Extents {
    /// Those of a node with two matrices or stacks of them; `None` if they do not fit.
    fn of(node: &Node, a: &Tensor, b: &Tensor) -> Option<Extents> {
        let ([left @ .., rows, inner], [right @ .., depth, columns]) = (&*a.dims, &*b.dims) else {
            return None;
        };
        let turn = |name: &str, pair: (usize, usize)| match is_turned(node, name) {
            true => (pair.1, pair.0),
            false => pair,
        };
        let (rows, inner) = turn("transA", (*rows, *inner));
        let (depth, columns) = turn("transB", (*depth, *columns));
        let stacks = broadcast_dims(left, right)?;
        let is_plain = node.op == "MatMul" || (left.is_empty() && right.is_empty());
        (inner == depth && is_plain).then_some(Extents { stacks, rows, inner, columns })
    }

    /// The number of elements of the result.
    fn results(&self) -> Option<usize> {
        product(&self.stacks)?.checked_mul(self.rows)?.checked_mul(self.columns)
    }
}

/// Whether a `Gemm` transposes an operand.
fn is_turned(node: &Node, name: &str) -> bool {
    node.op == "Gemm" && node.int(name, 0) != 0
}

/// The products of elements that a node computes; none for other operators.
pub(super) fn work(node: &Node, inputs: &[&Tensor]) -> u64 {
    let count = || {
        let [a, b, ..] = inputs else { return None };
        let extents = OPS.contains(&node.op.as_str()).then(|| Extents::of(node, a, b))??;
        Some(extents.results()? as u64).map(|n| n.saturating_mul(extents.inner as u64))
    };
    count().unwrap_or(0)
}

/// The result of a product of floats, if the node is one.
pub(super) fn value(node: &Node, inputs: &[&Tensor]) -> Option<Tensor> {
    let ([a, b], addend) = match (node.op.as_str(), inputs) {
        ("MatMul", [a, b]) => ([a, b], None),
        ("Gemm", [a, b, addend @ ..]) => ([a, b], addend.first()),
        _ => return None,
    };
    let extents = Extents::of(node, a, b)?;
    extents.results().filter(|n| *n <= a.len().max(b.len()).max(LARGEST_GROWN))?;
    let result = match node.op.as_str() {
        "MatMul" => stacked(&extents, &a.to_f64().ok()?, &b.to_f64().ok()?)?,
        _ => {
            let matrix = |tensor: &Tensor, name: &str| -> Option<Array2<f64>> {
                let matrix = tensor.to_f64().ok()?.into_dimensionality::<Ix2>().ok()?;
                Some(if is_turned(node, name) { matrix.reversed_axes() } else { matrix })
            };
            let product = matrix(a, "transA")?.dot(&matrix(b, "transB")?);
            added(node, product, addend.copied())?
        }
    };
    Tensor::from_f64(a.dtype, &result).ok()
}

/// The products of all stacked matrices.
fn stacked(extents: &Extents, a: &ArrayD<f64>, b: &ArrayD<f64>) -> Option<ArrayD<f64>> {
    let Extents { stacks, rows, inner, columns } = extents;
    let count = product(stacks)?;
    let matrices = |array: &ArrayD<f64>, height: usize, width: usize| {
        let wide = [stacks.as_slice(), &[height, width]].concat();
        product(&wide).filter(|n| *n <= array.len().max(LARGEST_GROWN))?;
        let all = array.broadcast(IxDyn(&wide))?.to_owned();
        let flat = all.into_shape_with_order(IxDyn(&[count, height, width])).ok()?;
        flat.into_dimensionality::<Ix3>().ok()
    };
    let (a, b) = (matrices(a, *rows, *inner)?, matrices(b, *inner, *columns)?);
    let pairs = a.axis_iter(Axis(0)).zip(b.axis_iter(Axis(0)));
    let elements: Vec<f64> = pairs.flat_map(|(a, b)| a.dot(&b).into_iter()).collect();
    let dims = [stacks.as_slice(), &[*rows, *columns]].concat();
    ArrayD::from_shape_vec(IxDyn(&dims), elements).ok()
}

/// A `Gemm`'s product with its factors and its addend.
fn added(node: &Node, product: Array2<f64>, addend: Option<&Tensor>) -> Option<ArrayD<f64>> {
    let factor = |name: &str| f64::from(node.float(name, 1.0));
    let product = product * factor("alpha");
    let Some(addend) = addend else { return Some(product.into_dyn()) };
    let addend = addend.to_f64().ok()? * factor("beta");
    let product = product.into_dyn();
    let addend = addend.broadcast(product.raw_dim())?.to_owned();
    Some(product + addend)
}
