//! Activations, normalisations and products.

use crate::ir::{Attribute, DataType, Node, ValueId};

use super::super::types;
use super::{Outputs, Parts};

/// x/2 · (1 + erf(x/√2)), of x with a bias
pub(super) fn gelu(parts: &mut Parts<'_>, node: &Node) -> Outputs {
    let x = parts.added(node.input(0)?, &[node.input(1)]);
    let scaled = parts.with_number("Div", x, std::f32::consts::SQRT_2);
    let erf = parts.op("Erf", &[scaled]);
    half_of(parts, x, erf)
}

/// x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), of x with a bias
pub(super) fn fast_gelu(parts: &mut Parts<'_>, node: &Node) -> Outputs {
    let x = parts.added(node.input(0)?, &[node.input(1)]);
    let square = parts.op("Mul", &[x, x]);
    let cube = parts.op("Mul", &[square, x]);
    let cube = parts.with_number("Mul", cube, 0.044_715);
    let sum = parts.op("Add", &[x, cube]);
    let scaled = parts.with_number("Mul", sum, 0.797_884_56);
    let tanh = parts.op("Tanh", &[scaled]);
    half_of(parts, x, tanh)
}

/// x/2 · (1 + y)
fn half_of(parts: &mut Parts<'_>, x: ValueId, y: ValueId) -> Outputs {
    let raised = parts.with_number("Add", y, 1.0);
    let product = parts.op("Mul", &[x, raised]);
    Some(vec![Some(parts.with_number("Mul", product, 0.5))])
}

/// x · sigmoid(αx)
pub(super) fn quick_gelu(parts: &mut Parts<'_>, node: &Node) -> Outputs {
    let x = node.input(0)?;
    let scaled = parts.with_number("Mul", x, node.float("alpha", 1.702));
    let gate = parts.op("Sigmoid", &[scaled]);
    Some(vec![Some(parts.op("Mul", &[x, gate]))])
}

pub(super) fn simplified_norm(parts: &mut Parts<'_>, node: &Node) -> Outputs {
    let x = node.input(0)?;
    let rank = types::shape(parts.graph, x)?.len() as i64;
    let is_last = [-1, rank - 1].contains(&node.int("axis", -1));
    let epsilon = node.float("epsilon", 1e-5);
    let scale = node.input(1).filter(|_| is_last)?;
    Some(vec![Some(parts.by_root(x, scale, epsilon))])
}

pub(super) fn skip_norm(parts: &mut Parts<'_>, node: &Node) -> Outputs {
    let sum = parts.added(node.input(0)?, &[node.input(1), node.input(4)]);
    let epsilon = node.float("epsilon", 1e-12);
    let y = parts.norm(sum, node.input(2)?, node.input(3), epsilon);
    Some(vec![Some(y), None, None, Some(sum)])
}

pub(super) fn skip_simplified_norm(parts: &mut Parts<'_>, node: &Node) -> Outputs {
    let sum = parts.added(node.input(0)?, &[node.input(1), node.input(3)]);
    let y = parts.by_root(sum, node.input(2)?, node.float("epsilon", 1e-12));
    Some(vec![Some(y), None, None, Some(sum)])
}

/// The sum of the rows of tables for tokens, positions and segments, normalised.
pub(super) fn embed_norm(parts: &mut Parts<'_>, node: &Node) -> Outputs {
    let ids = node.input(0)?;
    let tokens = parts.op("Gather", &[node.input(2)?, ids]);
    let positions = match node.input(8) {
        Some(given) => parts.op("Gather", &[node.input(3)?, given]),
        None => {
            let shape = parts.op("Shape", &[ids]);
            let [start, end, zero] = [&[1], &[2], &[0]].map(|n| parts.ints(n));
            let length = parts.op("Slice", &[shape, start, end]);
            parts.op("Slice", &[node.input(3)?, zero, length, zero])
        }
    };
    let mut sum = parts.op("Add", &[tokens, positions]);
    if let (Some(segments), Some(table)) = (node.input(1), node.input(4)) {
        let rows = parts.op("Gather", &[table, segments]);
        sum = parts.op("Add", &[sum, rows]);
    }
    let y = parts.norm(sum, node.input(5)?, node.input(6), node.float("epsilon", 1e-12));
    Some(vec![Some(y), None, Some(sum)])
}

/// A product of matrices that may be transposed, times α.
pub(super) fn product(parts: &mut Parts<'_>, node: &Node) -> Outputs {
    if node.int("transBatchA", 0) != 0 || node.int("transBatchB", 0) != 0 {
        return None;
    }
    let mut operands = Vec::new();
    for (slot, attribute) in ["transA", "transB"].iter().enumerate() {
        let mut operand = node.input(slot)?;
        if node.int(attribute, 0) != 0 {
            let rank = types::shape(parts.graph, operand)?.len();
            let mut perm: Vec<i64> = (0..rank as i64).collect();
            perm.swap(rank.checked_sub(2)?, rank - 1);
            operand = parts.op_with("Transpose", &[operand], [("perm", Attribute::Ints(perm))]);
        }
        operands.push(operand);
    }
    let product = parts.op("MatMul", &operands);
    let alpha = node.float("alpha", 1.0);
    Some(vec![Some(if alpha == 1.0 { product } else { parts.with_number("Mul", product, alpha) })])
}

/// `value` as floats.
pub(super) fn floats(parts: &mut Parts<'_>, value: ValueId) -> ValueId {
    let to = Attribute::Int(i64::from(DataType::F32.code()));
    parts.op_with("Cast", &[value], [("to", to)])
}
