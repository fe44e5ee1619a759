//! Inputs that must be integers by the standard: sizes, axes and positions.

use crate::ir::DataType;
use crate::ops::REDUCTIONS;

use super::Operands;

/// Per operator, the inputs that must be integers.
const WHOLE: &[(&[&str], &[usize])] = &[
    (&["ConstantOfShape"], &[0]),
    (
        &[
            "CenterCropPad",
            "Expand",
            "Gather",
            "GatherElements",
            "GatherND",
            "Reshape",
            "ScatterElements",
            "ScatterND",
            "Split",
            "Squeeze",
            "Tile",
            "TopK",
            "Unsqueeze",
        ],
        &[1],
    ),
    (REDUCTIONS, &[1]),
    (&["Pad"], &[1, 3]),
    (&["Resize"], &[3]),
    (&["Slice"], &[1, 2, 3, 4]),
];

/// The fault of the first input that is not of such a type.
pub(super) fn other_type(operands: &Operands<'_>) -> Option<String> {
    let op = operands.0.node.op.as_str();
    let (_, slots) = WHOLE.iter().find(|(ops, _)| ops.contains(&op))?;
    let other = |slot: &&usize| {
        let ty = operands.0.ty(**slot);
        ty.is_some_and(|ty| !matches!(ty.dtype, DataType::I64 | DataType::I32))
    };
    let slot = slots.iter().find(other)?;
    Some(format!("needs whole numbers (int64) as input {slot}"))
}
