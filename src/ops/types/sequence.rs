//! Sequences and optional values: the types of their elements follow from the nodes that insert them.

use crate::ir::{DataType, Dim, Node, TensorType, ValueId};

use super::super::{NodeView, normal_axis};
use super::{Rows, one};

pub(super) const RULES: Rows = &[
    (&["SequenceAt"], |node| vec![node.node.input(0).and_then(|s| element(node, s, LONGEST))]),
    (&["SequenceLength"], |_| one(DataType::I64, Some(Vec::new()))),
    (&["ConcatFromSequence"], joined),
    (&["OptionalGetElement"], |node| vec![node.node.input(0).and_then(|o| content(node, o))]),
    (&["OptionalHasElement"], |_| one(DataType::Bool, Some(Vec::new()))),
    // Outputs that are not tensors.
    (
        &[
            "Optional",
            "SequenceConstruct",
            "SequenceEmpty",
            "SequenceErase",
            "SequenceInsert",
            "SequenceMap",
            "SplitToSequence",
        ],
        |_| Vec::new(),
    ),
];

/// Limit of the length of followed chains of insertions.
const LONGEST: usize = 64;

fn producer<'a>(node: &'a NodeView<'_>, value: ValueId) -> Option<&'a Node> {
    let producer = node.graph.node(node.graph.producer(value)?);
    producer.domain.is_empty().then_some(producer)
}

/// The common type of all elements of a sequence.
fn element(node: &NodeView<'_>, sequence: ValueId, steps: usize) -> Option<TensorType> {
    if let Some(declared) = &node.graph.value(sequence).element {
        return Some(declared.clone());
    }
    let steps = steps.checked_sub(1)?;
    let from = producer(node, sequence)?;
    let tensor = |index: usize| node.type_of(from.input(index)?);
    match from.op.as_str() {
        "Identity" | "SequenceErase" => element(node, from.input(0)?, steps),
        "SequenceConstruct" => {
            let types: Option<Vec<TensorType>> = (0..from.inputs.len()).map(tensor).collect();
            types?.into_iter().reduce(common)
        }
        "SequenceInsert" => {
            let inserted = tensor(1);
            match element(node, from.input(0)?, steps) {
                Some(before) => inserted.map(|inserted| common(before, inserted)),
                None if is_empty(node, from.input(0)?) => inserted,
                None => inserted.map(|inserted| TensorType { shape: None, ..inserted }),
            }
        }
        "SplitToSequence" => split(node, from),
        _ => None,
    }
}

fn is_empty(node: &NodeView<'_>, sequence: ValueId) -> bool {
    producer(node, sequence).is_some_and(|from| from.op == "SequenceEmpty")
}

/// The common type of two types.
fn common(a: TensorType, b: TensorType) -> TensorType {
    let shape = match (a.shape, b.shape) {
        (Some(a), Some(b)) if a.len() == b.len() => {
            let same = |(a, b): (&Dim, &Dim)| if a.is_surely(b) { a.clone() } else { Dim::Unknown };
            Some(a.iter().zip(&b).map(same).collect())
        }
        _ => None,
    };
    TensorType { dtype: a.dtype, shape }
}

/// The type of the parts of a split: one entry each without a size, else that size if it divides the
/// extent.
fn split(node: &NodeView<'_>, from: &Node) -> Option<TensorType> {
    let ty = node.type_of(from.input(0)?)?;
    let shape = ty.shape.and_then(|mut shape| {
        let axis = normal_axis(from.int("axis", 0), shape.len())?;
        let sizes =
            from.input(1).map(|sizes| node.graph.initializer(sizes).and_then(|t| t.to_i64()));
        let own = shape.get_mut(axis)?;
        match sizes {
            None if from.int("keepdims", 1) == 0 => drop(shape.remove(axis)),
            None => *own = Dim::Known(1),
            Some(sizes) => {
                let sizes = sizes.unwrap_or_default();
                let equal = sizes.iter().all(|size| Some(size) == sizes.first());
                let each = sizes.first().copied().filter(|each| *each > 0 && equal);
                let divides = |each: i64| {
                    sizes.len() > 1 || own.known().is_some_and(|n| n as i64 % each == 0)
                };
                *own = match each.filter(|each| divides(*each)) {
                    Some(each) => super::extent(each),
                    None => Dim::Unknown,
                };
            }
        }
        Some(shape)
    });
    Some(TensorType { dtype: ty.dtype, shape })
}

fn joined(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let joined = node.node.input(0).and_then(|sequence| {
        let part = element(node, sequence, LONGEST)?;
        let new = node.node.int("new_axis", 0) != 0;
        let shape = part.shape.and_then(|mut shape| {
            let rank = shape.len().checked_add(usize::from(new))?;
            let axis = normal_axis(node.node.int("axis", 0), rank)?;
            match new {
                true => shape.insert(axis, Dim::Unknown),
                false => *shape.get_mut(axis)? = Dim::Unknown,
            }
            Some(shape)
        });
        Some(TensorType { dtype: part.dtype, shape })
    });
    vec![joined]
}

/// The type of an optional value's content.
fn content(node: &NodeView<'_>, optional: ValueId) -> Option<TensorType> {
    match producer(node, optional) {
        Some(from) if from.op == "Optional" => node.type_of(from.input(0)?),
        // A plain tensor is passed on; sequences have no type here.
        _ => node.type_of(optional).or_else(|| {
            let value = node.graph.value(optional);
            value.element.clone().filter(|_| value.foreign_type.is_some())
        }),
    }
}
