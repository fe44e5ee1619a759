//! Types of outputs: one table for the whole standard operator set, one file per family.
//!
//! A rule infers as much as it can: the element type without the rank, the rank without the extents, an
//! extent as a formula of the inputs' extents. It leaves the rest open. Inferred types hold for any
//! values of the open extents.

mod attention;
mod axes;
mod control;
mod conv;
mod einsum;
mod elementwise;
mod generate;
mod images;
mod matrix;
mod ml;
mod norm;
mod pool;
mod quantise;
mod recurrent;
mod reduce;
mod reshape;
mod scatter;
mod select;
mod sequence;
mod signal;
mod text;
mod window;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::ir::{DataType, Dim, TensorType};

use super::NodeView;

pub use einsum::implied_result;
pub use reduce::{REDUCTIONS, reduced_axes};

pub(super) use axes::{permutation, shape_range, squeezed_axes, unsqueezed_axes};
pub(super) use elementwise::broadcast;
pub(super) use images::scales;
pub(super) use reshape::{flatten_axis, target_shape};
pub(super) use select::split_sizes;

/// The domain of classical machine learning.
const MACHINE_LEARNING: &str = "ai.onnx.ml";

/// Types of the outputs of a node; missing ones are unknown.
type Rule = fn(&NodeView<'_>) -> Vec<Option<TensorType>>;

/// Operators and their common rule.
type Rows = &'static [(&'static [&'static str], Rule)];

static FAMILIES: &[Rows] = &[
    attention::RULES,
    axes::RULES,
    control::RULES,
    conv::RULES,
    einsum::RULES,
    elementwise::RULES,
    generate::RULES,
    images::RULES,
    matrix::RULES,
    norm::RULES,
    pool::RULES,
    quantise::RULES,
    recurrent::RULES,
    reduce::RULES,
    reshape::RULES,
    scatter::RULES,
    select::RULES,
    sequence::RULES,
    signal::RULES,
    text::RULES,
];

static TABLE: LazyLock<HashMap<&'static str, Rule>> = LazyLock::new(|| {
    let rows = FAMILIES.iter().copied().flatten();
    rows.flat_map(|(ops, rule)| ops.iter().map(|op| (*op, *rule))).collect()
});

/// Output types of a node; `None` for unknown ones.
pub fn infer(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let op = node.node.op.as_str();
    let rule = match node.node.domain.as_str() {
        "" => TABLE.get(op).copied(),
        MACHINE_LEARNING => {
            ml::RULES.iter().find(|(ops, _)| ops.contains(&op)).map(|(_, rule)| *rule)
        }
        _ => None,
    };
    let mut types = rule.map(|rule| rule(node)).unwrap_or_default();
    types.resize(node.node.outputs.len(), None);
    types
}

/// The only output has this type.
fn one(dtype: DataType, shape: Option<Vec<Dim>>) -> Vec<Option<TensorType>> {
    vec![Some(TensorType { dtype, shape })]
}

/// The first output has the element type of input `index`, if known, and this shape.
fn of_input(node: &NodeView<'_>, index: usize, shape: Option<Vec<Dim>>) -> Vec<Option<TensorType>> {
    vec![typed_as(node, index, shape)]
}

/// The element type of input `index` and this shape.
fn typed_as(node: &NodeView<'_>, index: usize, shape: Option<Vec<Dim>>) -> Option<TensorType> {
    Some(TensorType { dtype: node.ty(index)?.dtype, shape })
}

/// The first output is of the first input's type.
fn alike(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    vec![node.ty(0)]
}

/// The element type in attribute `name`, where the node has it.
fn named_dtype(node: &NodeView<'_>, name: &str) -> Option<DataType> {
    let code = i32::try_from(node.node.int(name, 0)).ok().filter(|code| *code > 0)?;
    Some(DataType::from_code(code))
}

/// An extent that an attribute gives.
fn extent(number: i64) -> Dim {
    usize::try_from(number).map_or(Dim::Unknown, Dim::Known)
}

/// A shape of `rank` open extents.
fn open(rank: usize) -> Vec<Dim> {
    vec![Dim::Unknown; rank]
}

/// The common extent of two values, as far as known.
fn agreed(a: &Dim, b: &Dim) -> Dim {
    let rank = |dim: &Dim| match dim {
        Dim::Known(_) => 0,
        Dim::Symbol(_) => 1,
        Dim::Formula(_) => 2,
        Dim::Unknown => 3,
    };
    if rank(b) < rank(a) { b.clone() } else { a.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_has_one_rule() {
        let rows = FAMILIES.iter().copied().flatten().map(|(ops, _)| ops.len());
        assert_eq!(rows.sum::<usize>(), TABLE.len());
    }
}
